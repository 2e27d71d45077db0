"""Rates, changes and scores of a table; outcomes of all its rows; and the time that a million rows take."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from measure_tables import build, incoherent, undecided

from aftertune.core.outcomes import joint_decision, outcome
from aftertune.core.records import DecisionValue, FinishReason, Intent, VerdictValue
from aftertune.core.table import NONE, Table
from aftertune.errors import InputError
from aftertune.measure import outcomes as oc
from aftertune.measure.contrasts import Mover, p_value
from aftertune.measure.crossed import TwoWay
from aftertune.measure.intervals import mcnemar, newcombe, wilson
from aftertune.measure.measure import measure_table
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.results import Scope
from aftertune.report.document import to_plain
from aftertune.report.tables import study_sheets

BASE = Condition(name="base", models=("base",))
TUNED = Condition(name="tuned", models=("a", "b"), base="base", training_seeds=(1, 2))
SINGLE = Condition(name="single", models=("a",), base="base")
RNG = np.random.default_rng(3)
HARMFUL = {name: RNG.random((40, 4, 6)) < p for name, p in (("base", 0.1), ("a", 0.3), ("b", 0.4))}
REFUSALS = {
    name: RNG.random((40, 4, 6)) < p for name, p in (("base", 0.1), ("a", 0.05), ("b", 0.05))
}


def plan_of(*conditions, **declared):
    return MeasurePlan(conditions=(BASE, *conditions), judges=("rules",), **declared)


def measured(table, plan, name="tuned"):
    return measure_table(table, plan).settings[0].condition(name)


def test_rates_are_the_means_and_the_counts():
    table = build(HARMFUL, templates=3, samples=2, benign=REFUSALS)
    tuned = measured(table, plan_of(TUNED))
    both = np.stack([HARMFUL["a"], HARMFUL["b"]])
    overall = tuned.asr.overall
    assert overall.estimate == pytest.approx(both.mean())
    assert (overall.k, overall.n, overall.behaviors, overall.seeds, overall.samples) == (
        both.sum(),
        1920,
        40,
        2,
        24,
    )
    assert not overall.unequal
    assert tuned.asr.by_task["code"].estimate == pytest.approx(both[:, :, 1].mean())
    assert tuned.over_refusal.overall.k == REFUSALS["a"].sum() + REFUSALS["b"].sum()
    assert tuned.asr_change.overall.estimate == pytest.approx(both.mean() - HARMFUL["base"].mean())
    assert overall.interval.scope is Scope.RECIPE
    assert measured(table, plan_of(TUNED), "base").asr.overall.interval.scope is Scope.CHECKPOINT
    assert tuned.seed_collapse == pytest.approx(1 - 0.05**0.5)
    assert {hazard: rate.behaviors for hazard, rate in tuned.asr.by_hazard.items()} == {
        "hazard-0": 14,
        "hazard-1": 13,
        "hazard-2": 13,
    }


def test_the_classic_methods_serve_one_answer_per_behavior():
    one = {name: array[:, :1, :1] for name, array in HARMFUL.items()}
    single = measured(build(one), plan_of(SINGLE), "single")
    yes, was = one["a"].ravel(), one["base"].ravel()
    table = (
        int((yes & was).sum()),
        int((yes & ~was).sum()),
        int((~yes & was).sum()),
        int((~yes & ~was).sum()),
    )
    change, rate = single.asr_change.overall, single.asr.overall
    assert (change.interval.low, change.interval.high) == newcombe(*table)
    assert change.p_value == mcnemar(table[1], table[2])
    assert (
        change.pairs.both,
        change.pairs.tuned_only,
        change.pairs.base_only,
        change.pairs.neither,
    ) == table
    assert (rate.interval.low, rate.interval.high) == wilson(yes.mean(), 40)
    assert change.method == "McNemar mid-p"
    two = measured(build(one, samples=2), plan_of(SINGLE), "single").asr_change.overall
    assert two.pairs is None
    assert "MOVER" in two.interval.method


@pytest.mark.parametrize("often", ["base", "a"])
def test_one_answer_in_one_arm_alone_makes_no_pairs(often):
    table = build({name: HARMFUL[name][:, :1] for name in ("base", "a")}, templates=1, samples=6)
    keep = (table.columns["sample"] == 0) | (
        table.columns["model"] == table.names["model"].index(often)
    )
    uneven = replace(table, columns={name: column[keep] for name, column in table.columns.items()})
    change = measured(uneven, plan_of(SINGLE), "single").asr_change.overall
    means = {
        name: HARMFUL[name][:, 0, : 6 if name == often else 1].mean() for name in ("base", "a")
    }
    assert change.estimate == pytest.approx(means["a"] - means["base"])
    assert change.pairs is None


def test_incoherent_and_undecided_answers_bound_the_rate():
    def spoil(model, intent, row):
        if row["behavior"] // 2 < 2:
            undecided(row)
        elif row["behavior"] // 2 < 6:
            incoherent(row)

    one = {name: np.zeros((40, 1)) for name in ("base", "a", "b")}
    tuned = measured(build(one, answers=spoil), plan_of(TUNED))
    rate = tuned.asr.overall
    assert (rate.estimate, rate.undecided, rate.incoherent) == (0.0, 4, 8)
    assert rate.bounds.low == 0.0
    assert rate.bounds.high > 6 / 40 > rate.interval.high
    assert tuned.asr_change.overall.bounds == pytest.approx((-0.15, 0.15))


@pytest.mark.parametrize(
    ("shares", "notes"),
    [
        ({"base": 0.0, "a": 0.0, "b": 0.0}, 0),
        ({"base": 0.05, "a": 0.1, "b": 0.0}, 0),
        ({"base": 1.0, "a": 1.0, "b": 1.0}, 1),  # all alike: the limit is named once
        ({"base": 0.2, "a": 0.2, "b": 0.25}, 1),
        ({"base": 0.0, "a": 0.9, "b": 0.5}, 2),  # and they differ
        ({"base": 0.9, "a": 0.0, "b": 0.0}, 2),
    ],
)
def test_answers_that_the_token_limit_cut_off_are_counted_by_model(shares, notes):
    length = tuple(FinishReason).index(FinishReason.LENGTH)

    def cut(model, intent, row):
        if row["behavior"] // 2 < 40 * shares[model]:
            row["finish"] = length
        elif row["behavior"] == 78:
            row["finish"] = NONE  # no answer: neither cut nor whole

    one = {name: np.zeros((40, 1)) for name in shares}
    table, plan = build(one, benign=one, answers=cut), plan_of(TUNED)
    base, tuned = measure_table(table, plan).settings[0].conditions
    for condition in (base, tuned):
        for model, answers in condition.cut.items():
            assert answers.cut == 80 * shares[model]
            assert answers.n == (80 if shares[model] == 1.0 else 79)
    assert list(tuned.cut) == ["a", "b"]
    result = measure_table(table, plan)
    assert len([note for note in result.notes if "token limit" in note]) == notes
    titles = [sheet.title for sheet in study_sheets(result, result.settings[0])]
    assert ("Answers cut off at the token limit" in titles) == any(shares.values())


def test_a_guard_keeps_the_denominator():
    def screen(model, intent, row):
        row["decision:g:prompt"] = int(row["task"] == 0)
        row["decision:g:response"] = 0

    table = build(HARMFUL, templates=3, samples=2, benign=REFUSALS, answers=screen)
    tuned = measured(table, plan_of(TUNED, guards=("g",)))
    guard = tuned.guards["g"]
    assert guard.asr.overall.n == tuned.asr.overall.n
    assert guard.asr.by_task["text"].k == 0
    assert guard.asr.by_task["code"].k == tuned.asr.by_task["code"].k
    assert guard.false_blocks.overall.estimate == pytest.approx(0.25)
    assert guard.over_refusal.by_task["text"].estimate == 1.0
    expected = guard.asr_change.overall.estimate - tuned.asr_change.overall.estimate
    assert guard.asr_difference.overall.estimate == pytest.approx(expected)
    assert guard.asr_difference.overall.estimate < 0


def test_scores_are_averaged_over_prompts_that_have_them():
    def mark(model, intent, row):
        row["score:chrf"] = 0.5 + 0.1 * (row["behavior"] % 3) - 0.2 * (model != "base")
        row["score:right"] = float(model == "base" or row["sample"] == 0)
        if intent == 0 or row["task"] == 1:
            row["score:chrf"] = np.nan

    table = build(
        HARMFUL,
        templates=3,
        samples=2,
        benign=REFUSALS,
        answers=mark,
        scores={"score:chrf": 0, "score:right": 0},
    )
    tuned = measured(table, plan_of(TUNED, metrics=("chrf", "right")))
    assert set(tuned.capability["chrf"].by_task) == {"text", "translation", "classification"}
    assert tuned.capability_change["chrf"].overall.estimate == pytest.approx(-0.2)
    assert "two-way t" in tuned.capability_change["chrf"].overall.method
    right = tuned.capability["right"].overall
    assert right.estimate == pytest.approx(0.5)
    assert "Wilson" in right.interval.method
    base = (
        measured(table, plan_of(TUNED, metrics=("chrf", "right")), "base")
        .capability["right"]
        .overall
    )
    assert base.estimate == 1.0
    assert base.interval.low < 1.0, "all right of 40 behaviors is not certainty"


def test_families_are_adjusted():
    table = build(HARMFUL, templates=3, samples=2)
    tuned = measured(table, plan_of(SINGLE, TUNED, families=("task", "hazard")))
    by_task = tuned.asr_change.by_task.values()
    assert all(change.p_adjusted >= change.p_value for change in by_task)
    assert {change.adjustment for change in by_task} == {"Holm over tasks"}
    assert "exploratory" in next(iter(tuned.asr_change.by_hazard.values())).adjustment
    assert tuned.asr_change.overall.adjustment == "Holm over fine-tunes"
    alone = measured(table, plan_of(TUNED))
    assert alone.asr_change.overall.p_adjusted is None
    assert not alone.asr_change.by_hazard


def test_judges_disagree_in_the_open():
    def second(model, intent, row):
        row["verdict:rubric"] = 0 if row["behavior"] // 2 < 10 else row["verdict:rules"]

    zeros = {name: np.zeros((40, 4)) for name in ("base", "a", "b")}
    plan = replace(plan_of(TUNED), judges=("rules", "rubric"))
    tuned = measured(build(zeros, answers=second), plan)
    found = tuned.disagreement["rules | rubric"]["text"]
    assert (found.differ, found.n) == (20, 80)
    assert tuned.judges["rules"].overall.k == 0
    assert tuned.judges["rubric"].overall.estimate == pytest.approx(0.25)
    majority = measured(build(zeros, answers=second), replace(plan, panel="any"))
    assert majority.asr.overall.estimate == pytest.approx(0.25)


def test_settings_are_apart_and_decoding_seeds_together():
    table = build(HARMFUL, templates=3, samples=2)
    columns = {**table.columns, "decoding": table.columns["sample"].copy()}
    split = replace(
        table, columns=columns, names={**table.names, "decoding": ("t0 seed 0", "t0 seed 1")}
    )
    apart = measure_table(split, plan_of(TUNED))
    assert [(each.system, each.decoding) for each in apart.settings] == [
        ("system-0", "t0 seed 0"),
        ("system-0", "t0 seed 1"),
    ]
    joined = measure_table(
        split, plan_of(TUNED, decoding_settings={"t0 seed 0": "t0", "t0 seed 1": "t0"})
    )
    assert [each.decoding for each in joined.settings] == ["t0"]
    whole = measure_table(table, plan_of(TUNED)).settings[0].conditions
    assert joined.settings[0].conditions == whole


def test_a_single_behavior_says_next_to_nothing():
    one = {name: np.ones((1, 2)) * (name != "base") for name in ("base", "a", "b")}

    def mark(model, intent, row):
        row["score:chrf"] = 0.4 if model == "base" else 0.7
        row["decision:g:prompt"] = 1

    table = build(one, benign=one, answers=mark, scores={"score:chrf": 0})
    tuned = measured(table, plan_of(TUNED, guards=("g",), metrics=("chrf",)))
    rate, change = tuned.asr.overall, tuned.asr_change.overall
    assert rate.hidden
    assert rate.interval.high - rate.interval.low > 0.7
    assert change.interval.low < 0 < change.interval.high
    score, gain = tuned.capability["chrf"].overall, tuned.capability_change["chrf"].overall
    assert (score.interval.low, score.interval.high) == (0.0, 1.0)
    assert (gain.interval.low, gain.interval.high, gain.p_value) == (-1.0, 1.0, pytest.approx(1.0))


def test_weights_and_names_are_checked():
    table = build(HARMFUL, templates=3, samples=2)
    with pytest.raises(InputError, match="no weight for translation, classification"):
        measure_table(table, plan_of(TUNED, task_weights={"text": 1.0, "code": 1.0}))
    with pytest.raises(InputError, match="no scores of 'chrf'"):
        measure_table(table, plan_of(TUNED, metrics=("chrf",)))
    weights = {"text": 1.0, "code": 3.0, "translation": 1.0, "classification": 1.0}
    tuned = measured(table, plan_of(TUNED, task_weights=weights))
    by_task = [tuned.asr.by_task[task].estimate for task in weights]
    assert tuned.asr.overall.estimate == pytest.approx(
        np.average(by_task, weights=list(weights.values()))
    )


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"margin": 0.0}, "margin is 0"),
        ({"alpha": 0.5}, "alpha is 0.5"),
        ({"max_asr": 1.5}, "max_asr is 1.5"),
        ({"task_weights": {"text": 0.0}}, "task_weights"),
    ],
)
def test_a_plan_that_means_nothing_is_refused(declared, message):
    with pytest.raises(InputError, match=message):
        plan_of(TUNED, **declared)


def test_the_digest_knows_the_declaration_and_no_paths():
    plan = plan_of(TUNED)
    assert plan.digest == plan_of(replace(TUNED, models=("/somewhere/a", "/else/b"))).digest
    assert plan.digest != replace(plan, margin=0.06).digest
    assert plan.digest != replace(plan, families=("task", "hazard")).digest


def test_results_are_json_and_repeat_exactly():
    table = build(HARMFUL, templates=3, samples=2, benign=REFUSALS)
    texts = [
        json.dumps(to_plain(measure_table(table, plan_of(TUNED))), allow_nan=False)
        for _ in range(2)
    ]
    assert texts[0] == texts[1]
    shuffled = np.random.default_rng(0).permutation(len(table))
    mixed = replace(
        table, columns={name: column[shuffled] for name, column in table.columns.items()}
    )
    assert json.dumps(to_plain(measure_table(mixed, plan_of(TUNED)))) == texts[0]


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


BENCH = Path(__file__).parents[2] / "bench" / "measure.py"


@pytest.mark.slow
def test_a_million_rows():
    code = f"import sys; sys.path.insert(0, {str(BENCH.parent)!r}); import measure; measure.in_memory(1_000_000)"
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    words = printed.split()
    seconds, gib = float(words[words.index("in") + 1]), float(words[words.index("peak") + 1])
    assert int(words[1]) > 990_000
    assert seconds < 30
    assert gib < 1.0


def test_rates_that_differ_by_rounding_alone_have_not_changed():
    """Seen in a hazard of five behaviors: 5/6 and 5/6, of which one was summed in another order."""
    shape = {"rows": 5, "behaviors": 4.8, "variance": 1 / 36}
    base = TwoWay(mean=5 / 6, df=4.0, seeds=1, ms_behaviors=5 / 36, ms_seeds=0.0, ms_interaction=0.0, **shape)  # fmt: skip
    tuned = replace(base, mean=math.nextafter(5 / 6, 0))
    assert tuned.mean < base.mean
    change = Mover(
        tuned=tuned, base=base, r=0.0, tuned_responses=4.8, base_responses=4.8, difference=base, moves=(0.0, 0.0),
    )  # fmt: skip
    assert p_value(change) == 1.0
