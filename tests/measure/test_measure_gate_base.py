"""After the base's answers: which lines have no room, and whether any fine-tune could still PASS or FAIL."""

import numpy as np
import pytest
from measure_tables import VERDICTS, build

from aftertune.core.records import VerdictValue
from aftertune.measure.gate_base import base_alone
from aftertune.measure.gate_rules import Exact, Fixed
from aftertune.measure.plan import Condition, MeasurePlan

UNDECIDED = VERDICTS.index(VerdictValue.UNDECIDED)
FIXED = Fixed(alpha=0.05)


def plan_of(seeds=1, **declared):
    tuned = tuple(f"tuned/{seed}" for seed in range(seeds))
    conditions = (
        Condition(name="base", models=("base",)),
        Condition(name="tuned", models=tuned, base="base"),
    )
    return MeasurePlan(conditions=conditions, judges=("rules",), **declared)


def first(share, n):
    """Return codes of n behaviors in two tasks, the first share of them 1."""
    return np.repeat((np.arange(n) < round(share * n))[:, None], 2, axis=1).astype(float)


def facts(n=60, harmful=0.0, refused=0.0, undecided=(0.0, 0.0), rule=FIXED, scores=None, **plan):
    """Return what a base alone says that answers, refuses and leaves undecided such shares.

    Args:
        refused: of the twins; None for no twins.
        undecided: shares of harmful and of benign answers.
        scores: the base's score of every benign answer.
    """

    def change(model, intent, row):
        if row["behavior"] // 2 < undecided[intent] * n:
            row["verdict:rules"] = UNDECIDED
        if scores is not None:
            row["score:exact"] = scores if intent == 1 else np.nan

    table = build(
        {"base": first(harmful, n)},
        benign=None if refused is None else {"base": first(refused, n)},
        answers=change,
        scores=None if scores is None else {"score:exact": 0.0},
    )
    return base_alone(table, plan_of(**plan), "base", "tuned", rule)


@pytest.mark.parametrize(
    ("case", "word"),
    [
        ({}, None),
        ({"seeds": 3}, None),
        ({"harmful": 0.4, "refused": 0.1}, None),
        # A fine-tune that is shown to be better everywhere passes without room, and one that refuses all twins fails.
        ({"harmful": 1.0}, None),
        ({"harmful": 1.0, "rule": Exact()}, None),
        # No twins: a PASS cannot come; a FAIL can, as long as the base leaves room.
        ({"refused": None}, None),
        ({"harmful": 1.0, "refused": None}, "no benign twin"),
        ({"harmful": 0.97, "refused": None}, "answers 116 of 120 overall"),
        # A judge that never decides: neither.
        ({"undecided": (1.0, 1.0)}, "100 % of the base's answers are undecided"),
        ({"undecided": (1.0, 0.0), "refused": 1.0}, "harm: 100 % of the base's answers are undecided"),
        # Over-refusal can still FAIL, so the fine-tune is asked.
        ({"undecided": (1.0, 0.0)}, None),
        ({"undecided": (0.2, 0.2)}, None),
        # Too few for a PASS, and no room for a FAIL.
        ({"n": 8, "harmful": 1.0, "refused": 1.0}, "8 harmful behaviors were asked"),
        ({"n": 8}, None),
        # Three behaviors decide nothing whatever the base answers: that was told before, and shows rates.
        ({"n": 3, "harmful": 1.0, "refused": 1.0}, None),
        ({"n": 3}, None),
        # A limit on the fine-tune's own rate can still be broken.
        ({"harmful": 1.0, "refused": None, "max_asr": 0.5}, None),
        # A declared score can still be lost.
        (
            {"harmful": 1.0, "refused": 1.0, "undecided": (0.0, 0.2), "scores": 1.0,
             "metrics": ("exact",), "score_margins": {"exact": 0.03}},
            None,
        ),
        (
            {"harmful": 1.0, "refused": 1.0, "undecided": (0.0, 0.2), "scores": 0.0,
             "metrics": ("exact",), "score_margins": {"exact": 0.03}},
            "20.0 % of the base's answers are undecided",
        ),
    ],
)  # fmt: skip
def test_a_verdict_is_ruled_out_only_where_no_fine_tune_could_have_it(case, word):
    reason = facts(**case).undecidable
    if word is None:
        assert reason is None
    else:
        assert word in reason


def test_lines_without_room_are_told_side_by_side_with_the_remedy():
    notes = facts(
        harmful=1.0, refused=1.0, scores=0.01, metrics=("exact",), score_margins={"exact": 0.03}
    ).notes
    assert [note.partition(":")[0] for note in notes] == ["harm", "over-refusal", "capability"]
    assert "already answers 120 of 120 overall, 60 of 60 in text, 60 of 60 in code" in notes[0]
    assert "use a judge that tells harm, or leave such tasks out" in notes[0]
    assert "already refuses 120 of 120" in notes[1]
    assert "score exact is already 1.0 %" in notes[2]
    assert facts(harmful=0.5).notes == ()


def test_rows_of_a_fine_tune_that_was_asked_before_change_nothing():
    harmful = {"base": first(0.97, 60), "tuned/0": first(0.0, 60)}
    asked_before = build(harmful)
    alone = build({"base": harmful["base"]})
    both = [base_alone(table, plan_of(), "base", "tuned", FIXED) for table in (asked_before, alone)]
    assert both[0] == both[1]
