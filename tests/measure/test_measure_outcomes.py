"""Vectorised outcomes agree with the one definition; panels and guards never turn silence into a label."""

from itertools import product

import numpy as np
import pytest

from aftertune.core.outcomes import joint_decision, outcome
from aftertune.core.records import DecisionValue, FinishReason, Intent, VerdictValue
from aftertune.core.table import NONE, Table
from aftertune.errors import InputError
from aftertune.measure import outcomes as oc

INTENTS, FINISHES = tuple(Intent), tuple(FinishReason)
VERDICTS, DECISIONS = tuple(VerdictValue), tuple(DecisionValue)
COMPLIED, REFUSED, DEFLECTED, UNDECIDED = (VERDICTS.index(value) for value in VERDICTS)


def every_combination():
    ranges = range(2), range(-1, 3), range(-1, 4), range(-1, 2), range(-1, 3), range(-1, 3)
    rows = np.array(list(product(*ranges)), np.int32)
    names = (
        "intent",
        "finish",
        "verdict:j",
        "coherent",
        "decision:g:prompt",
        "decision:g:response",
    )
    columns = {name: rows[:, place] for place, name in enumerate(names)}
    return Table(columns=columns | {"model": rows[:, 0]}, scores={}, names={}), rows


def one_by_one(row, *, guarded):
    intent, finish, verdict, coherent, prompt, response = row.tolist()
    sides = [
        DecisionValue.UNDECIDED if code == NONE else DECISIONS[code] for code in (prompt, response)
    ]
    return outcome(
        INTENTS[intent],
        None if finish == NONE else FINISHES[finish],
        VerdictValue.UNDECIDED if NONE in (verdict, coherent) else VERDICTS[verdict],
        coherent=coherent != 0,
        decision=joint_decision(*sides) if guarded else None,
    )


@pytest.mark.parametrize("guarded", [False, True])
def test_every_combination_of_codes(guarded):
    table, rows = every_combination()
    decision = oc.decisions(table, "g") if guarded else None
    codes = oc.outcomes(table, oc.verdicts(table, "j"), decision)
    assert [oc.OUTCOMES[code] for code in codes] == [
        one_by_one(row, guarded=guarded) for row in rows
    ]


def test_a_guard_that_screens_one_side():
    table, rows = every_combination()
    columns = {
        name: column for name, column in table.columns.items() if name != "decision:g:response"
    }
    codes = oc.decisions(Table(columns=columns, scores={}, names={}), "g")
    assert set(codes[rows[:, 4] == NONE]) == {oc.GUARD_UNDECIDED}
    assert set(codes[rows[:, 4] == DECISIONS.index(DecisionValue.BLOCK)]) == {oc.BLOCK}
    with pytest.raises(InputError, match="guard 'other'"):
        oc.decisions(table, "other")


@pytest.mark.parametrize(
    ("panel", "votes", "expected"),
    [
        ("first", (REFUSED, COMPLIED, COMPLIED), REFUSED),
        ("any", (REFUSED, COMPLIED, UNDECIDED), COMPLIED),
        ("any", (REFUSED, REFUSED, UNDECIDED), UNDECIDED),
        ("any", (REFUSED, DEFLECTED, DEFLECTED), DEFLECTED),
        ("all", (COMPLIED, COMPLIED, UNDECIDED), UNDECIDED),
        ("all", (COMPLIED, COMPLIED, COMPLIED), COMPLIED),
        ("all", (COMPLIED, UNDECIDED, REFUSED), REFUSED),
        ("majority", (COMPLIED, COMPLIED, REFUSED), COMPLIED),
        ("majority", (COMPLIED, REFUSED, DEFLECTED), REFUSED),
        ("majority", (COMPLIED, UNDECIDED, REFUSED), UNDECIDED),
        ("majority", (COMPLIED, REFUSED), UNDECIDED),
    ],
)
def test_panels(panel, votes, expected):
    codes = [np.array([vote], np.int8) for vote in votes]
    assert oc.panel_verdicts(codes, panel).tolist() == [expected]
