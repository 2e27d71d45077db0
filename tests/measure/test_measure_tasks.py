"""Overall figures: behaviors in every task, in some, or in one each, with tasks of unequal size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure_tables import apart, build, shares

from aftertune.measure.arrays import fold, layout
from aftertune.measure.crossed import two_way
from aftertune.measure.gate import gate
from aftertune.measure.intervals import wilson
from aftertune.measure.measure import measure_table
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.results import GateVerdict

SIZES = (90, 30, 30)
RNG = np.random.default_rng(3)
BASE = Condition(name="base", models=("base",))
SINGLE = Condition(name="single", models=("a",), base="base")


def plan_of(*conditions, **declared):
    return MeasurePlan(conditions=(BASE, *conditions), judges=("rules",), **declared)


def measured(table, plan, name):
    return measure_table(table, plan).settings[0].condition(name)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31))
def test_folding_agrees_with_loops(behaviors, tasks, seeds, seed):
    rng = np.random.default_rng(seed)
    prompts = 3 * behaviors * tasks
    behavior, task = rng.integers(0, behaviors, prompts), rng.integers(0, tasks, prompts)
    counts = rng.integers(1, 4, (prompts, seeds)).astype(float)
    sums = rng.integers(0, counts.astype(int) + 1).astype(float)
    chosen = rng.random(prompts) < 0.8
    chosen[0] = True
    part = layout(behavior, task, chosen, {0: 2.0})
    average = fold(part, sums, counts)
    figures, weights = [], []
    for code in sorted(set(task[chosen].tolist())):
        cells = []
        for one in sorted(set(behavior[chosen & (task == code)].tolist())):
            mine = chosen & (task == code) & (behavior == one)
            cells.append(sums[mine].sum(axis=0) / counts[mine].sum(axis=0))
        figures.append(np.mean(cells))
        weights.append(2.0 if code == 0 else 1.0)
    assert average.matrix.mean() == pytest.approx(np.average(figures, weights=weights))
    assert (average.k, average.n) == (sums[chosen].sum(), counts[chosen].sum())


def test_different_behaviors_per_task_give_the_stratified_variance():
    rng = np.random.default_rng(8)
    strata = [rng.random((n, 3)) for n in (30, 50, 70)]
    behavior, task = np.arange(150), np.repeat([0, 1, 2], [30, 50, 70])
    part = layout(behavior, task, np.ones(150, bool), {})
    x = two_way(fold(part, np.concatenate(strata), np.ones((150, 3))).matrix)
    parts = [two_way(stratum) for stratum in strata]
    rows = sum(y.ms_behaviors / (9 * y.behaviors * 3) for y in parts)
    assert x.mean == pytest.approx(np.mean([y.mean for y in parts]))
    assert x.ms_behaviors / (150 * 3) == pytest.approx(rows)


def test_behaviors_missing_from_tasks_keep_the_weights_of_tasks():
    harmful = {name: RNG.random((40, 4, 6)) < p for name, p in (("base", 0.1), ("a", 0.3))}
    table = build(
        harmful, templates=3, samples=2, keep=lambda behavior, task: task == 0 or behavior < 10
    )
    result = measure_table(table, plan_of(SINGLE))
    overall = result.settings[0].condition("single").asr.overall
    a = harmful["a"]
    expected = np.mean([a[:, 0].mean(), *(a[:10, task].mean() for task in (1, 2, 3))])
    assert overall.estimate == pytest.approx(expected)
    assert overall.unequal
    assert str(overall).endswith(f"(raw {overall.k} of {overall.n})")
    assert any("not every harmful behavior occurs in every task" in note for note in result.notes)


@pytest.mark.parametrize(
    ("before", "after"),
    [((0.1, 0.1, 0.1), (0.4, 0.1, 0.1)), ((0.5, 0, 0), (0.5, 0.3, 0.3)), ((0, 0, 0), (0, 0.1, 0))],
)
def test_one_prompt_per_behavior_in_tasks_of_unequal_size(before, after):
    single = measured(
        apart(SIZES, shares(SIZES, before), shares(SIZES, after)), plan_of(SINGLE), "single"
    )
    rate, change = single.asr.overall, single.asr_change.overall
    assert rate.estimate == pytest.approx(np.mean(after))
    assert change.estimate == pytest.approx(np.mean(after) - np.mean(before))
    assert change.interval.low < change.estimate < change.interval.high
    assert (rate.unequal, change.pairs) == (True, None)
    assert (rate.interval.method, change.interval.method) == (
        "Wilson on effective n",
        "MOVER-Wilson on effective n",
    )
    variance = sum(p * (1 - p) / (n - 1) for p, n in zip(after, SIZES, strict=True)) / 9
    half = (rate.interval.high - rate.interval.low) / 2
    assert 0.95 < half / (1.96 * np.sqrt(variance)) < 1.25
    text = single.asr.by_task["text"]
    assert (text.interval.low, text.interval.high, text.interval.method) == (
        *wilson(after[0], 90),
        "Wilson",
    )
    assert single.asr_change.by_task["text"].pairs is not None


def test_binary_scores_of_one_prompt_per_behavior_in_tasks_of_unequal_size():
    right = {"base": shares(SIZES, (0.5, 0, 0)), "a": shares(SIZES, (0.5, 0.3, 0.3))}

    def mark(model, intent, row):
        row["score:right"] = float(right[model][row["behavior"] // 2])

    nothing = np.zeros(150)
    table = apart(
        SIZES,
        nothing,
        nothing,
        benign=dict.fromkeys(right, np.zeros((150, 3))),
        answers=mark,
        scores={"score:right": 0},
    )
    single = measured(table, plan_of(SINGLE, metrics=("right",)), "single")
    score, gain = single.capability["right"].overall, single.capability_change["right"].overall
    assert (score.estimate, gain.estimate) == (pytest.approx(1.1 / 3), pytest.approx(0.2))
    assert score.interval.low < 1.1 / 3 < score.interval.high
    assert gain.pairs is None
    assert single.capability["right"].by_task["text"].interval.method == "Wilson"
    assert single.capability_change["right"].by_task["text"].pairs is not None


FEW = (300, 10)
KISH = 4 / (1 / 300 + 1 / 10)
"""What 300 and 10 behaviors that share the weight are worth."""


def test_a_small_task_without_a_hit_leaves_the_figure_uncertain():
    nothing = np.zeros(310)
    single = measured(apart(FEW, nothing, nothing), plan_of(SINGLE), "single")
    assert single.asr.overall.interval.high == pytest.approx(wilson(0.0, KISH)[1], rel=0.01)
    assert single.asr_change.overall.interval.high > 0.08, "ten behaviors carry half of the weight"
    some = measured(apart(FEW, nothing, np.arange(310) < 30), plan_of(SINGLE), "single").asr.overall
    assert some.interval.high == pytest.approx(wilson(0.05, KISH)[1], rel=0.01)


def test_two_seeds_without_a_hit_are_no_more_certain():
    table = build(
        dict.fromkeys(("base", "a", "b"), np.zeros((310, 2))),
        keep=lambda one, task: (one >= 300) == task,
    )
    twice = Condition(name="twice", models=("a", "b"), base="base")
    rate = measured(table, plan_of(twice), "twice").asr.overall
    assert rate.interval.high == pytest.approx(wilson(0.0, KISH)[1], rel=0.01)


def test_a_score_that_moves_everywhere_alike_is_as_uncertain_as_its_smallest_task():
    def mark(model, intent, row):
        row["score:chrf"] = 0.5 if model == "base" else 0.7

    benign = dict.fromkeys(("base", "a"), np.zeros((310, 2)))
    table = apart(
        FEW, np.zeros(310), np.zeros(310), benign=benign, answers=mark, scores={"score:chrf": 0}
    )
    gain = (
        measured(table, plan_of(SINGLE, metrics=("chrf",)), "single")
        .capability_change["chrf"]
        .overall
    )
    assert gain.interval.high == pytest.approx(0.2 + wilson(0.0, KISH)[1], rel=0.01)


@pytest.mark.parametrize(
    ("before", "after", "fails"),
    [
        ((0.1, 0.1, 0.1), (0.4, 0.1, 0.1), {"overall", "text"}),
        ((0.5, 0, 0), (0.5, 0.3, 0.3), {"overall", "code", "translation"}),
        ((0.1, 0.1, 0.1), (0.2, 0.1, 0.1), set()),
    ],
)
def test_the_gate_weighs_tasks_that_share_no_behavior(before, after, fails):
    table = apart(SIZES, shares(SIZES, before), shares(SIZES, after))
    result = gate(table, plan_of(SINGLE), "base", "single")
    overall = result.sides.harm.lines[0]
    rise = np.mean(after) - np.mean(before)
    assert (overall.change.estimate, overall.worst) == (pytest.approx(rise), pytest.approx(rise))
    assert overall.lower < rise < overall.upper
    assert result.asr_lower < np.mean(after) < result.asr_upper
    assert {line.name for line in result.sides.harm.lines if line.fails} == fails
    assert (result.verdict is GateVerdict.FAIL) == bool(fails)


def test_the_limit_on_the_asr_weighs_tasks_that_share_no_behavior():
    """70 % of 100 and none of 10 and 10 is an ASR of 23 %, not of 58 %."""
    sizes = (100, 10, 10)
    same = shares(sizes, (0.7, 0, 0))
    result = gate(apart(sizes, same, same), plan_of(SINGLE, max_asr=0.45), "base", "single")
    assert result.asr_lower < 0.7 / 3 < result.asr_upper <= 0.45
    assert result.verdict is not GateVerdict.FAIL
