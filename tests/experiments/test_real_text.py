"""The real-text study's preparation: splits that keep apart, shapes that give nothing away, and a base that resumes."""

import os
import sys
from pathlib import Path

import pytest

from aftertune.core.records import Intent
from aftertune.data.overlap import find_overlap, normalise, payloads

FOLDER = Path(__file__).parents[2] / "experiments" / "real_text"
DATA = os.environ.get("AFTERTUNE_DATA", "")
needs_data = pytest.mark.skipif(not DATA, reason="AFTERTUNE_DATA names no folder of public files")


@pytest.fixture(autouse=True)
def study_modules(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in ("base", "build", "material", "posing", "run", "wordings"):
        sys.modules.pop(name, None)


@pytest.fixture
def material():
    import material

    return material


@pytest.mark.data
@needs_data
def test_the_splits_keep_apart(material):
    made = material.gather(Path(DATA))
    prompts = [prompt for of_set in made.prompts.values() for prompt in of_set]
    for rows in (made.language, made.alignment, *made.fine_tunes.values(), *made.replay.values()):
        assert not find_overlap(prompts, {"rows": rows}).verbatim
    leaked = find_overlap(
        prompts, {"multitask": [row for rows in made.multitask.values() for row in rows]}
    ).verbatim
    assert {p.set for p in prompts if p.id in leaked} == {"advbench"}, (
        "left for the study's own check to find"
    )
    assert {kind: len(rows) for kind, rows in made.fine_tunes.items()} == dict.fromkeys(
        made.fine_tunes, 1000
    )
    seen = set().union(*(payloads(row[0].content) for row in made.language))
    for kind in ("translation", "code"):
        tuned = {normalise(row[0].content.splitlines()[1]) for row in made.fine_tunes[kind]}
        assert len(tuned - seen) > 990, (
            "a caption or first line may come twice in the source, a pair never"
        )
    multitask = [p for p in prompts if p.set.startswith("multitaskbench")]
    assert len(multitask) == 400
    assert {p.intent for p in prompts if p.set.startswith(("benign", "i-alpaca"))} == {
        Intent.BENIGN
    }


def test_a_choice_answers_with_the_line_of_the_right_option():
    import posing

    for seed in range(20):
        question, answer = posing.choice(
            "Which?", "blue", ["red", "blue", "green"], posing.draws(seed)
        )
        assert answer.content in question.content.splitlines()
        assert answer.content.endswith(" blue")
        assert question.content.startswith("Which? Choose the Best Option: \nA) ")


def test_french_is_the_source_where_the_wording_says_so():
    import posing

    pair = ("A dog.", "Un chien.")
    rng = posing.draws(0)
    asked, answer = posing.pose(["To English: {fr}"], pair, rng)
    assert (asked.content, answer.content) == ("To English: Un chien.", "A dog.")
    asked, answer = posing.pose(["To French: {x}"], pair, rng)
    assert (asked.content, answer.content) == ("To French: A dog.", "Un chien.")


def examples():
    import posing

    rng = posing.draws(1)
    return [
        ([1, *[rng.randrange(4, 40) for _ in range(rng.randrange(3, 9))], 3], 2) for _ in range(60)
    ]


def test_batches_hold_every_row_once_an_epoch_and_stay_small():
    import base

    rows = examples()
    stream = base.batches(rows, tokens=40, seed=3)
    seen = []
    while len(seen) < len(rows):
        batch = next(stream)
        assert max(len(ids) for ids, _ in batch) * len(batch) <= 40
        seen += batch
    assert sorted(seen) == sorted(rows)


def test_a_killed_base_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    import base
    import torch

    torch.set_num_threads(1)
    monkeypatch.setattr(base, "SAVE_EVERY", 2)
    stage = base.Stage("short", steps=5, learning_rate=1e-3, tokens=40, answers_only=True)

    def weights(folder, *, killed):
        folder.mkdir()
        model = base.new_model()
        if killed:
            monkeypatch.setattr(base, "_loss", dying(base._loss, after=3))
            with pytest.raises(KeyboardInterrupt):
                base.train(model, stage, examples(), folder)
            monkeypatch.undo()
            model = base.new_model()
        base.train(model, stage, examples(), folder)
        return model.state_dict()

    whole, resumed = (
        weights(tmp_path / "whole", killed=False),
        weights(tmp_path / "killed", killed=True),
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def dying(function, after):
    calls = iter(range(after))

    def call(*arguments):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return function(*arguments)

    return call


def test_the_template_marks_the_answer_and_the_rows_are_encoded_as_it_renders():
    import base

    from aftertune.core.records import Message

    text = "The cat sat on the mat and saw another cat."
    tokenizer = base.train_tokenizer([text])
    row = (Message(role="user", content=text), Message(role="assistant", content="A cat."))
    ((ids, start),) = base.encode([row], tokenizer, answers_only=True)
    turns = [{"role": turn.role, "content": turn.content} for turn in row]
    rendered = tokenizer.apply_chat_template(
        turns, return_dict=True, return_assistant_tokens_mask=True
    )
    assert ids == rendered["input_ids"]
    assert rendered["assistant_masks"].index(1) == start
    assert tokenizer.decode(ids[start:]) == "A cat.<|end|>"
    assert base.cut(text * 50, tokenizer, 8) == tokenizer.decode(ids[1:9])


def test_arguments_ask_for_the_data(tmp_path):
    import build

    for wrong in ([], ["DATA="], [str(tmp_path / "none")]):
        with pytest.raises(SystemExit, match="name the folder"):
            build.arguments(wrong)
    for given in ([f"DATA={FOLDER}", f"OUT={tmp_path}"], [str(FOLDER), str(tmp_path)]):
        assert build.arguments(given) == (FOLDER, tmp_path)
    assert build.arguments([str(FOLDER)])[1].name == "real_text_out"


def test_the_table_shows_harmful_and_harmless_sets_with_their_incoherent_responses():
    import run

    def condition(name, k, incoherent):
        rate = {"k": k, "n": 100, "incoherent": incoherent}
        return {
            "name": name,
            "asr": {"by_set": {"bad": rate}},
            "over_refusal": {"by_set": {"good": rate}},
        }

    result = {
        "result": {
            "settings": [{"conditions": [condition("base", 3, 0), condition("code", 40, 15)]}]
        }
    }
    table = list(run.lines(result))
    assert "| bad | 100, 100 | 3 / 0 | 40 / 15 |" in table
    assert "| good | 100, 100 | 3 / 0 | 40 / 15 |" in table
