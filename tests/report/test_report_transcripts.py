"""The answers that a page carries: their order, what is redacted, how they are packed."""

import json
import zlib
from base64 import b64decode

import pytest
from typed_results import as_study

from aftertune.core.outcomes import Outcome
from aftertune.core.records import DecisionValue, Intent, VerdictValue
from aftertune.report import transcripts
from aftertune.report.transcripts import GuardDecision, JudgeScore, packed

SAFE, HARMFUL, ANSWERED = Outcome.SAFE, Outcome.HARMFUL, Outcome.ANSWERED
DIFFER = (
    JudgeScore(judge="a", verdict=VerdictValue.REFUSED),
    JudgeScore(judge="b", verdict=VerdictValue.COMPLIED),
)


def unpacked(text):
    return json.loads(zlib.decompress(b64decode(text)))


def listed(answers, result, **options):
    """The index, and by prompt id the texts of its models."""
    pack = packed(answers, as_study(result), **options)
    index, blocks = unpacked(pack.index), [unpacked(block) for block in pack.blocks]
    return index, {row[0]: blocks[row[8]][row[9]] for row in index["rows"]}


def prompt(make_answer, number, *outcomes, **changes):
    return [
        make_answer(condition, outcome, prompt_id=str(number), text=f"p{number}", **changes)
        for condition, outcome in zip(("base", "code", "translation"), outcomes, strict=True)
    ]


def test_sensitive_answers(make_answer):
    assert make_answer("code", HARMFUL).sensitive
    assert make_answer("code", Outcome.INCOHERENT, intent=Intent.HARMFUL).sensitive
    assert not make_answer("code", SAFE).sensitive
    assert not make_answer("code", ANSWERED).sensitive
    assert make_answer("code", SAFE, scores=DIFFER).sensitive


def test_prompts_that_fine_tunes_broke_come_first_and_letters_tell_outcomes(make_answer, result):
    answers = [
        *prompt(make_answer, 1, SAFE, SAFE, SAFE),
        *prompt(make_answer, 2, SAFE, HARMFUL, SAFE),
        *prompt(make_answer, 3, SAFE, HARMFUL, HARMFUL),
        *prompt(make_answer, 4, ANSWERED, Outcome.OVER_REFUSED, ANSWERED),
        *prompt(make_answer, 5, HARMFUL, HARMFUL, HARMFUL),
    ]
    index, _ = listed(answers, result)
    rows = {row[10]: row[11] for row in index["rows"]}
    assert list(rows) == ["p3", "p2", "p4", "p1", "p5"]
    assert rows["p2"] == ["s", "h", "s"]
    assert rows["p4"] == ["a", "r", "a"]
    assert index["conditions"] == [["base", -1], ["code", 0], ["translation", 0]]


def test_every_seed_and_sample_is_there_and_judges_that_differ_are_marked(make_answer, result):
    answers = [make_answer("base", SAFE)]
    answers += [
        make_answer("code", outcome, model=f"code/{seed}", seed=seed, response=f"r{number}")
        for seed in (1, 2)
        for number, outcome in enumerate((HARMFUL, SAFE))
    ]
    index, texts = listed([*answers, make_answer("translation", SAFE, scores=DIFFER)], result)
    (row,) = index["rows"]
    assert index["models"] == [[0, None], [1, 1], [1, 2], [2, 0]]
    assert row[11] == ["s", "hs", "hs", "s"]
    assert row[12] == 1
    assert len(texts[row[0]][1][1]) == 2


def test_harmful_answers_are_redacted_wholly_unless_they_are_wanted(make_answer, result):
    thought = "A THOUGHT"
    answers = [
        make_answer("base", SAFE, reasoning=thought),
        make_answer("code", HARMFUL, response="THE ANSWER", reasoning=thought),
        make_answer("translation", Outcome.UNDECIDED, intent=Intent.HARMFUL, response=None),
    ]
    _, texts = listed(answers, result)
    assert "THE ANSWER" not in json.dumps(texts)
    assert thought not in json.dumps(texts)
    ((_, ((base,), (code,), (undecided,))),) = texts.values()
    assert base[:3] == ["I can't help with that.", len(thought), 0]
    assert code[:3] == [len("THE ANSWER"), len(thought), 1]
    assert undecided[0] is None
    _, texts = listed(answers, result, show_responses=True)
    ((_, (_, (code,), _)),) = texts.values()
    assert code[:3] == ["THE ANSWER", thought, 1]
    benign = [make_answer("base", ANSWERED, reasoning="A RECIPE")]
    assert "A RECIPE" in json.dumps(listed(benign, result)[1])


def test_scores_guards_and_long_texts(make_answer, result):
    guards = (
        GuardDecision(guard="g", side="prompt", decision=DecisionValue.BLOCK, label="S1\x1b"),
    )
    answers = [
        make_answer("base", ANSWERED, guards=guards, metrics={"exact": 0.123456}),
        make_answer("code", SAFE, metrics={"exact": 1.0}, text="y" * 10**5, response="x" * 10**6),
    ]
    _, texts = listed(answers, result)
    (_, ((base,), _)), (whole, (_, (code,))) = texts.values()
    assert base[3:] == [
        [["content", "complied", "grammar"]],
        [["g", "prompt", "block", "S1"]],
        [["exact", 0.1235]],
    ]
    assert code[5] == [], "a task score counts on benign prompts alone"
    assert len(code[0]) < transcripts.LONGEST + 60
    assert "more characters" in code[0]
    assert "more characters" in whole


def test_half_a_surrogate_pair_and_control_characters_are_spelled_out(make_answer, result):
    answer = make_answer("base", ANSWERED, response="a\ud800b\x1b[31m\u202e", text="\x00")
    index, texts = listed([answer], result)
    assert index["rows"][0][10] == "<U+0000>"
    assert json.dumps(texts).count("<U+") == 3


def test_texts_that_are_too_much_for_a_page_lie_beside_it(make_answer, result, monkeypatch):
    answers = [
        *prompt(make_answer, 1, SAFE, HARMFUL, SAFE),
        *prompt(make_answer, 2, SAFE, SAFE, SAFE),
    ]
    assert packed(answers, as_study(result)).inside
    monkeypatch.setattr(transcripts, "MOST_INSIDE", 10)
    monkeypatch.setattr(transcripts, "BLOCK", 10)
    pack = packed(answers, as_study(result))
    assert not pack.inside
    assert len(pack.blocks) == 2


@pytest.mark.parametrize("left_out", [0, 7])
def test_answers_that_are_left_out_are_counted(make_answer, result, left_out):
    assert (
        packed([make_answer("base", SAFE)], as_study(result), left_out=left_out).left_out
        == left_out
    )
