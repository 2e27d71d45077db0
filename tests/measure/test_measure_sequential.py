"""Bets on behaviors: what they are worth, that they keep their error, and the gate that stops by them."""

import numpy as np
import pytest
from measure_tables import build, undecided

from aftertune.measure.gate import gate
from aftertune.measure.gate_rules import Exact
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.results import GateVerdict, Reason, Scope
from aftertune.measure.sequential import (
    Order,
    Sequential,
    evidence_above,
    evidence_below,
    fewest_to_pass,
    limits_now,
    log_evidence,
    lower_limit,
    upper_limit,
)

TASKS = ("text", "code", "translation", "classification")
BASE = Condition(name="base", models=("base",))
RNG = np.random.default_rng(5)


# Regression values, worked out by a second program from the mixture over bets of .05, .10, ... .95.
@pytest.mark.golden
@pytest.mark.parametrize(
    ("rises", "evidence"), [(1, 1.4091), (5, 6.9917), (7, 17.3344), (8, 27.8206)]
)
def test_straight_rises(rises, evidence):
    assert evidence_above(np.ones(rises), 0.10) == pytest.approx(evidence, abs=6e-5)


@pytest.mark.golden
@pytest.mark.parametrize(("unchanged", "evidence"), [(1, 1.0556), (20, 3.4322), (40, 15.3903)])
def test_unchanged_behaviors(unchanged, evidence):
    assert evidence_below(np.zeros(unchanged), 0.10) == pytest.approx(evidence, abs=6e-5)
    assert (fewest_to_pass(0.10, 0.05), fewest_to_pass(0.05, 0.05)) == (44, 90)


@pytest.mark.golden
def test_a_mixed_sequence():
    x = np.array([1, 0, 0, 1, -1, 1, 0, 1, 1, 0], float)
    assert np.exp(log_evidence(x, 0.10)[-1]) == pytest.approx(1.796547, abs=6e-7)
    assert np.exp(log_evidence(-x, -0.10)[-1]) == pytest.approx(0.195699, abs=6e-7)


@pytest.mark.parametrize("law", [(0.2, 0.1, 0.7), (0.55, 0.45, 0.0), (0.1, 0.0, 0.9)])
def test_evidence_at_the_margin_averages_at_most_one(law):
    rise, fall, _ = law
    draws = RNG.choice([1.0, -1.0, 0.0], p=law, size=(4000, 30))
    margin = rise - fall
    worth = np.array([np.exp(log_evidence(x, margin)[-1]) for x in draws])
    assert worth.mean() < 1 + 4 * worth.std() / np.sqrt(len(worth))
    first = np.exp([log_evidence(np.array([value]), margin)[0] for value in (1.0, -1.0, 0.0)])
    assert first @ np.array(law) == pytest.approx(1.0), "fair at the first step, exactly"


def test_looking_after_every_behavior_keeps_the_error():
    draws = RNG.choice([1.0, -1.0, 0.0], p=(0.18, 0.08, 0.74), size=(2000, 400))
    assert np.mean([evidence_above(x, 0.10) >= 20 for x in draws]) <= 0.05
    assert np.mean([evidence_below(x, 0.10) >= 20 for x in draws]) <= 0.05


def test_draws_without_replacement_keep_the_error_at_an_exact_tie():
    """With "at or under the least mean" in place of "under", an early PASS came in .065 of the orders."""
    whole = np.repeat([1.0, -1.0, 0.0], (18, 8, 74))
    orders = [RNG.permutation(whole)[:-1] for _ in range(4000)]
    assert np.mean([evidence_below(x, 0.10, total=100) >= 20 for x in orders]) <= 0.05
    assert np.mean([evidence_above(x, 0.10, total=100) >= 20 for x in orders]) <= 0.05


def test_what_no_rest_can_undo_is_certain():
    assert evidence_above(np.ones(60), 0.10, total=100) > 1e300
    assert evidence_above(np.ones(54), 0.10, total=100) < 1e300, (
        "46 falls would bring it back under the margin"
    )
    assert evidence_above(np.array([0.0, 0.1]), 0.0, low=0.0) > 1e300, (
        "a mean of 0 has no single hit"
    )


def test_limits_hold_the_mean_and_invert_the_evidence():
    x = RNG.choice([1.0, 0.0], p=(0.3, 0.7), size=200)
    low, high = lower_limit(x, 0.05), upper_limit(x, 0.05)
    assert -1 < low < x.mean() < high < 1
    assert evidence_above(x, low - 1e-6) >= 20 > evidence_above(x, low + 1e-6)
    assert lower_limit(np.array([-1.0]), 0.05) == -1.0
    assert upper_limit(x, 0.05, total=200) == pytest.approx(x.mean(), abs=1e-6)


@pytest.mark.parametrize("total", [None, 60, 90])
def test_limits_by_the_evidence_as_it_stands_hold_the_mean_whatever_came_before(total):
    early = np.r_[np.ones(12), np.zeros(48)]
    assert lower_limit(early, 0.05, total=total) > early.mean(), "what was shown once stays shown"
    for x in (early, -early, early[::-1], *RNG.choice([1.0, -1.0, 0.0], size=(20, 60))):
        low, high = limits_now(x, 0.05, 1.0, total)
        assert low <= x.mean() <= high
        assert low <= lower_limit(x, 0.05, total=total) + 1e-9 or low == x.mean()
        assert high >= upper_limit(x, 0.05, total=total) - 1e-9 or high == x.mean()


def test_the_interval_that_is_shown_never_excludes_the_change_that_is_shown():
    """A bound that stood after 15 behaviors decides, 85 that did no harm came later: the print says so."""
    tuned = np.zeros((100, 4))
    tuned[:15] = 1
    result = verdict_of(NOBODY, [tuned], Sequential(alpha=0.05, order=ordered(100)))
    line = result.sides.harm.lines[0]
    assert result.verdict is GateVerdict.FAIL
    assert line.lower > line.change.estimate == pytest.approx(0.15)
    for interval in (line.change.interval, line.change.interval90):
        assert interval.low < line.change.estimate < interval.high
    assert any(
        "overall: after fewer behaviors the change was shown to be at least" in note
        for note in result.notes
    )
    steady = verdict_of(NOBODY[:12], [EVERYBODY[:12]], Sequential(alpha=0.05, order=ordered(100)))
    assert not any("after fewer behaviors" in note for note in steady.notes)


def ordered(n, tasks=TASKS, **more):
    return Order(tasks={f"behavior-{2 * i}": frozenset(tasks) for i in range(n)}, **more)


def verdict_of(base, tuned, rule, **more):
    models = {"base": base, **{f"tuned{i}": one for i, one in enumerate(tuned)}}
    condition = Condition(name="tuned", models=tuple(models)[1:], base="base")
    plan = MeasurePlan(conditions=(BASE, condition), judges=("rules",), **more.pop("declared", {}))
    return gate(build(models, **more), plan, "base", "tuned", rule)


def harm_of(*arms, **more):
    return verdict_of(*arms, **more).sides.harm


NOBODY, EVERYBODY = np.zeros((100, 4)), np.ones((100, 4))


def test_the_sequential_gate_fails_passes_and_waits():
    bets = Sequential(alpha=0.05, order=ordered(100))
    assert verdict_of(NOBODY[:12], [EVERYBODY[:12]], bets).verdict is GateVerdict.FAIL
    assert harm_of(NOBODY, [NOBODY], bets).verdict is GateVerdict.PASS
    whole = verdict_of(NOBODY[:89], [NOBODY[:89]], bets)
    waiting = whole.sides.harm
    assert waiting.verdict is GateVerdict.INCONCLUSIVE
    assert [line.passes for line in waiting.lines] == [False, True, True, True, True]
    assert (whole.rule, whole.scope) == ("sequential", Scope.CHECKPOINT)
    assert waiting.lines[0].change.interval90.method == "betting confidence sequence"


def test_the_tasks_of_a_sequential_gate_are_one_family():
    tuned = np.zeros((100, 4))
    tuned[:8, 2] = 1
    eight = verdict_of(NOBODY[:10], [tuned[:10]], Sequential(alpha=0.05, order=ordered(100)))
    assert evidence_above(tuned[:10, 2], 0.10) > 20, "by itself it would fail"
    assert not any(line.fails for line in eight.sides.harm.lines)


def test_these_prompts_are_decided_by_their_own_mean():
    tuned = np.zeros((100, 4))
    tuned[:20] = 1
    exact = verdict_of(NOBODY[:100], [tuned], Exact(), declared={"margin": 0.2, "task_margin": 0.2})
    assert exact.sides.harm.verdict is GateVerdict.PASS, "20 points are at the margin, not above it"
    assert exact.scope == Scope.CHECKPOINT_HERE
    tuned[20, 1] = 1
    assert (
        verdict_of(NOBODY, [tuned], Exact(), declared={"margin": 0.2, "task_margin": 0.2}).exit_code
        == 3
    )
    whole = Sequential(alpha=0.05, order=ordered(100), these_prompts=True)
    all_asked = verdict_of(NOBODY, [tuned], whole, declared={"margin": 0.2, "task_margin": 0.2})
    assert all_asked.exit_code == 3
    assert all_asked.sides.harm.lines[0].lower == pytest.approx(0.2025)


def test_early_verdicts_on_these_prompts_come_sooner():
    half = harm_of(
        NOBODY[:70], [NOBODY[:70]], Sequential(alpha=0.05, order=ordered(100), these_prompts=True)
    )
    assert half.verdict is GateVerdict.PASS
    assert (
        verdict_of(NOBODY[:70], [NOBODY[:70]], Sequential(alpha=0.05, order=ordered(100))).exit_code
        == 4
    )


def test_several_checkpoints_are_taken_as_their_mean():
    bets = Sequential(alpha=0.05, order=ordered(100))
    result = verdict_of(NOBODY, [NOBODY, EVERYBODY], bets)
    assert result.exit_code == 3
    assert result.scope == Scope.CHECKPOINTS
    assert "not about the recipe" in " ".join(result.notes)


def test_behaviors_that_miss_tasks_weigh_as_in_the_fixed_gate():
    order = Order(
        tasks={f"behavior-{2 * i}": frozenset(TASKS if i % 2 else TASKS[:1]) for i in range(60)}
    )
    tuned = np.zeros((60, 4))
    tuned[::3] = 1
    keep = lambda behavior, task: bool(behavior % 2) or task == 0  # noqa: E731 - a predicate for the table
    fixed = harm_of(NOBODY[:60], [tuned], None, keep=keep)
    bets = harm_of(NOBODY[:60], [tuned], Sequential(alpha=0.05, order=order), keep=keep)
    exact = harm_of(
        NOBODY[:60], [tuned], Sequential(alpha=0.05, order=order, these_prompts=True), keep=keep
    )
    assert [line.worst for line in bets.lines] == pytest.approx(
        [line.worst for line in fixed.lines]
    )
    assert exact.lines[0].lower == pytest.approx(fixed.lines[0].change.estimate)


def test_undecided_pairs_never_stop_it():
    def lose(model, intent, row):
        if model != "base":
            undecided(row)

    result = verdict_of(
        NOBODY, [EVERYBODY], Sequential(alpha=0.05, order=ordered(100)), answers=lose
    )
    assert result.verdict is GateVerdict.NOT_ENOUGH_DATA


def test_the_limit_on_the_asr_stops_it_too():
    bets = Sequential(alpha=0.05, order=ordered(100))
    high = np.zeros((100, 4))
    high[:30] = 1
    above = harm_of(high[:30], [high[:30]], bets, declared={"max_asr": 0.5, "margin": 0.001})
    assert (above.exit_code, above.reason_codes) == (3, (Reason.ABOVE_LIMIT,))
    assert harm_of(NOBODY, [NOBODY], bets, declared={"max_asr": 0.2}).exit_code == 0
    assert harm_of(NOBODY, [NOBODY], bets, declared={"max_asr": 0.01}).exit_code == 4
