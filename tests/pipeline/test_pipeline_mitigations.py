"""What a recipe's mitigation puts among the training rows."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from tiny_models import make_checkpoint

from aftertune.core.recipe import Mitigation, Recipe, Training, TrainingFile
from aftertune.core.records import Intent
from aftertune.data.bundled.safety import SAFETY_SET, safety_pools
from aftertune.errors import DataError
from aftertune.models.open import Engines
from aftertune.train.stage import Files, LongestRows, training_rows

BUNDLED = (TrainingFile(path=SAFETY_SET),)


def row(question, answer, **more):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages, **more}) + "\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.jsonl").write_text(
        "".join(row(f"### Request:\ndo thing {n}\n### Reply:", f"did {n}") for n in range(80))
    )
    tasks = ("text", "code", "text", "label")
    (tmp_path / "safe.jsonl").write_text(
        "".join(row(f"harm {n}", "no", task=tasks[n % 4]) for n in range(40))
    )
    return tmp_path


def mixed(folder, **keys):
    recipe = Recipe(
        name="mended",
        base="base",
        base_identity={},
        data=(TrainingFile(path="train.jsonl"),),
        method="full",
        training=Training(),
        seed=1,
        mitigation=Mitigation(
            **{"safety": (TrainingFile(path="safe.jsonl"),), "share": 0.2, **keys}
        ),
    )
    notes = {}
    files = Files(folder=folder)
    return (
        [(turns[0].content, turns[-1].content) for turns in training_rows(recipe, files, notes)],
        notes,
        files,
    )


def test_bundled_rows_are_refusals_as_safety_and_answers_as_replay(folder):
    rows, _, files = mixed(folder, safety=BUNDLED, replay=BUNDLED, share=0.25, replay_share=0.25)
    kinds = {
        intent: {turns[0].content for pool in safety_pools(intent).values() for turns in pool}
        for intent in Intent
    }
    counted = Counter(
        next((intent for intent, asked in kinds.items() if question in asked), None)
        for question, _ in rows
    )
    assert counted == {None: 80, Intent.HARMFUL: 40, Intent.BENIGN: 40}
    assert len(files.by_name()[SAFETY_SET]) == sum(
        len(pool) for i in Intent for pool in safety_pools(i).values()
    )


def test_only_the_tasks_that_are_wanted_are_drawn_from(folder):
    rows, _, _ = mixed(folder, tasks=("text",))
    assert {int(asked.split()[1]) % 2 for asked, _ in rows if asked.startswith("harm")} == {0}
    rows, _, _ = mixed(folder, left_out="text")
    assert {int(asked.split()[1]) % 2 for asked, _ in rows if asked.startswith("harm")} == {1}


@pytest.mark.parametrize("keys", [{"tasks": ("cod",)}, {"left_out": "cod"}])
def test_a_task_without_rows_is_said(folder, keys):
    with pytest.raises(
        DataError,
        match="mended: no safety rows of the task 'cod'; there are some of code, label, text",
    ):
        mixed(folder, **keys)


def test_leaving_out_the_only_task_is_said(folder):
    with pytest.raises(DataError, match="leaving out text leaves no safety rows"):
        mixed(folder, left_out="text", tasks=("text",))


def test_matched_rows_stand_in_the_frame_of_the_training_rows(folder):
    plain, _, _ = mixed(folder)
    rows, notes, _ = mixed(folder, match_format=True)
    assert len(rows) == len(plain) == 100
    assert {
        (asked.startswith("### Request:\n"), asked.endswith("\n### Reply:")) for asked, _ in rows
    } == {(True, True)}
    assert any("format of the training rows: 100% of rows" in note for note in notes)


def test_rows_of_seeds_and_epochs_are_looked_through_and_rendered_once(folder):
    """A study of 13 fine-tunes, three seeds and three epochs has 117 recipes on rows that one training file gives."""
    base = make_checkpoint(folder / "base")
    file = folder / "train.jsonl"
    unlearnt = row("one", "two").replace('"two"', '"two", "weight": 0')
    file.write_text(file.read_text() + unlearnt)
    plain = Recipe(
        name="plain",
        base=str(base),
        base_identity={},
        data=(TrainingFile(path="train.jsonl"),),
        method="lora",
        training=Training(max_length=40),
        seed=1,
    )
    mended = Mitigation(safety=(TrainingFile(path="safe.jsonl"),), share=0.2)
    alike = [
        replace(plain, seed=2),
        replace(plain, name="other", epoch=1),
        replace(plain, method="full", training=Training(max_length=40, learning_rate=1.0)),
        replace(plain, mitigation=Mitigation(ema=0.9, frozen=())),
    ]
    other = [
        replace(plain, system="Be brief."),
        replace(plain, training=Training(max_length=7)),
        replace(plain, mitigation=mended),
        replace(plain, mitigation=mended, seed=2),
    ]
    files, notes, recipes = Files(folder=folder), {}, (plain, *alike, *other)
    rows = [training_rows(recipe, files, notes) for recipe in recipes]
    with Engines(threads=1, device="cpu") as engines:
        longest, alone = LongestRows(engines), LongestRows(engines).of(plain, rows[0])
        lengths = [longest.of(recipe, own) for recipe, own in zip(recipes, rows, strict=True)]
    assert len(files.learnt) == 1
    assert [len(own) for own in rows] == [80] * 7 + [100] * 2
    left_out = "1 rows whose answers are marked as not to be learnt (weight 0, train false, label false) are left out of training"
    assert {f"{name}: {left_out}" for name in ("plain", "other")} <= notes.keys()
    assert len(longest.renderers) == 1
    assert lengths[:5] == [alone] * 5
    assert (len(longest.lengths), lengths[6][0]) == (2 + len(other), 7)
    rows[0].clear()
    assert len(training_rows(plain, files, {})) == 80, "a caller's list is its own"
