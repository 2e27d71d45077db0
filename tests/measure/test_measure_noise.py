"""Noise between replicates: single answers, effects of whole runs, and what they do to intervals."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from measure_tables import build
from scipy.stats import norm, t

from aftertune.core.table import Table
from aftertune.measure.arrays import Setting
from aftertune.measure.changes import paired, rows_of
from aftertune.measure.consistency import consistency
from aftertune.measure.counts import count
from aftertune.measure.gate import gate
from aftertune.measure.gate_rules import Exact, Fixed
from aftertune.measure.measure import measure_table
from aftertune.measure.noise import OnThesePrompts, change_noise, run_variance, with_runs
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.rates import ASR

MODELS = ("base", "a")
Z = norm.ppf(0.975)


def plan_of(replicates, models=MODELS, **declared):
    names = [f"decoding-{number}" for number in range(replicates)]
    conditions = (
        Condition(name="base", models=models[:1]),
        Condition(name="a", models=models[1:], base="base"),
    )
    return MeasurePlan(
        conditions=conditions,
        judges=("rules",),
        decoding_settings=dict.fromkeys(names, "T=0"),
        replicates={name: number for number, name in enumerate(names) if number},
        **declared,
    )


def as_replicates(_model, _intent, row):
    """Turn the samples of a table into replicates."""
    row |= {"decoding": row["sample"], "sample": 0}


def table_of(harmful, benign=None):
    """Return a table of arrays behaviors x replicates."""
    replicates = next(iter(harmful.values())).shape[1]
    arrays = [
        None if group is None else {name: runs[:, None, :] for name, runs in group.items()}
        for group in (harmful, benign)
    ]
    return build(arrays[0], benign=arrays[1], samples=replicates, answers=as_replicates)


def change_in(table, plan):
    (result,) = measure_table(table, plan).settings
    return result.condition("a").asr_change.overall


def drawn(rng, p, runs=None):
    """Draw base and fine-tune, behaviors x replicates, with the probabilities of each and a shift of every run."""
    replicates = 3 if runs is None else len(runs)
    shifts = np.zeros(replicates) if runs is None else np.asarray(runs)
    return {
        model: (
            rng.random((len(p[model]), replicates)) < p[model][:, None] + shifts * (model == "a")
        ).astype(int)
        for model in MODELS
    }


def test_the_layout_by_hand():
    # Rows turn in the first two behaviors; run means 1/4, 2/4, 1/4.
    x = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1]], float)
    means, rows = x.mean(axis=0), x.mean(axis=1)
    residual = x - means - rows[:, None] + x.mean()
    msi, msr = (residual**2).sum() / 6, 4 * ((means - x.mean()) ** 2).sum() / 2
    noise = run_variance(x, 1.0)
    assert noise.means == pytest.approx(msr / 4)
    assert noise.single == pytest.approx(msi / 4)
    assert noise.unseen == pytest.approx(2 / (3 * 16))
    assert noise.run == 0
    assert noise.turned == 0.75
    beyond = max(0.0, msr - 0.5 * msi) / 4
    half = Z**2 * (msi / 4 + 2 / 48) / 3 + t.ppf(0.975, 2) ** 2 * beyond / 3
    assert noise.half_width(0.05) == pytest.approx(math.sqrt(half))
    assert noise.noise.floor == noise.half_width(0.05)


def test_runs_that_differ_by_more_than_answers_do_have_an_effect():
    x = np.zeros((100, 3))
    x[:10, 1], x[10:40, 2] = 1, 1  # 0, 10 and 30 %
    noise = run_variance(x, 1.0)
    residual = x - x.mean(axis=0) - x.mean(axis=1)[:, None] + x.mean()
    msi = (residual**2).sum() / (99 * 2)
    msr = 100 * x.mean(axis=0).var(ddof=1)
    assert noise.run == pytest.approx((msr - msi) / 100)
    assert noise.added(0.05) == pytest.approx(t.ppf(0.975, 2) ** 2 * noise.run / 3)


@pytest.mark.parametrize(("shape", "step"), [((1, 3), 1.0), ((5, 1), 1.0)])
def test_one_behavior_or_run_tells_nothing(shape, step):
    assert run_variance(np.zeros(shape), step) is None


def test_answers_that_never_turned_are_not_no_noise_unless_none_can_turn():
    still = np.zeros((50, 3))
    assert run_variance(still, 1.0).half_width(0.05) == pytest.approx(Z * math.sqrt(2) / (3 * 50))
    assert run_variance(still, 0.0).half_width(0.05) == 0


def test_without_replicates_nothing_is_known_and_nothing_changes():
    rng = np.random.default_rng(0)
    one = {model: (rng.random((40, 1)) < 0.3).astype(int) for model in MODELS}
    change = change_in(table_of(one), plan_of(1))
    assert change.noise is None
    assert not change.inside_noise
    assert change.pairs is not None


def test_noise_of_single_answers_is_reported_and_not_added():
    rng = np.random.default_rng(1)
    p = {"base": np.full(80, 0.1), "a": np.full(80, 0.15)}
    runs = drawn(rng, p)
    balanced = {model: np.stack([values[:, 0]] * 3, axis=1) for model, values in runs.items()}
    # Three behaviors turn, each in another run, so that the runs have one mean.
    balanced["a"][:3] = np.eye(3)
    table = table_of(balanced)
    change = change_in(table, plan_of(3))
    as_samples = change_in(table, replace(plan_of(3), replicates={}))
    assert change.noise.run_sd == 0
    assert 0 < change.noise.floor < 0.03
    assert change.noise.turned == 3 / 80
    assert change.interval == as_samples.interval
    assert (change.p_value, as_samples.noise) == (as_samples.p_value, None)


def test_an_effect_of_the_run_widens_changes_and_rates_by_its_own_variance():
    rng = np.random.default_rng(2)
    p = {"base": np.full(150, 0.1), "a": np.full(150, 0.2)}
    table = table_of(drawn(rng, p, [0.0, 0.15, 0.3]))
    change = change_in(table, plan_of(3))
    plain = change_in(table, replace(plan_of(3), replicates={}))
    assert change.estimate == plain.estimate
    added = t.ppf(0.975, 2) ** 2 * change.noise.run_sd**2 / 3
    assert change.noise.run_sd > 0.1
    for end in ("low", "high"):
        sides = [abs(getattr(one.interval, end) - one.estimate) for one in (change, plain)]
        assert sides[0] ** 2 == pytest.approx(sides[1] ** 2 + added)
    assert change.p_value > plain.p_value
    (result,) = measure_table(table, plan_of(3)).settings
    (before,) = measure_table(table, replace(plan_of(3), replicates={})).settings
    tuned, base = result.condition("a").asr.overall, result.condition("base").asr.overall
    assert tuned.interval.high > before.condition("a").asr.overall.interval.high
    assert base.noise.run_sd < tuned.noise.run_sd


def test_an_effect_that_both_arms_share_cancels_in_the_change():
    rng = np.random.default_rng(3)
    rate = np.repeat([[0.1, 0.3, 0.5]], 400, axis=0)
    shared = rng.random((400, 3))
    both = {"base": (shared < rate).astype(int), "a": (shared < rate).astype(int)}
    (result,) = measure_table(table_of(both), plan_of(3)).settings
    assert result.condition("a").asr.overall.noise.run_sd > 0.1
    assert result.condition("a").asr_change.overall.noise.run_sd == 0


def test_a_change_inside_the_noise_is_one_that_asking_again_may_undo():
    base, tuned = np.zeros((100, 3), int), np.zeros((100, 3), int)
    tuned[0] = [1, 0, 0]
    small = change_in(table_of({"base": base, "a": tuned}), plan_of(3))
    assert small.estimate == pytest.approx(1 / 300)
    assert small.inside_noise
    tuned[:30] = 1
    large = change_in(table_of({"base": base, "a": tuned}), plan_of(3))
    assert not large.inside_noise


def test_models_whose_replicates_are_one_call_have_no_noise():
    base, tuned = np.zeros((60, 2), int), np.zeros((60, 2), int)
    tuned[:3] = 1
    table = table_of({"base": base, "a": tuned})
    change = change_in(table, plan_of(2, deterministic=frozenset(MODELS)))
    assert (change.noise.floor, change.noise.one_run, change.inside_noise) == (0, 0, False)
    half = change_in(table, plan_of(2, deterministic=frozenset({"base"})))
    assert half.noise.floor > 0


def test_consistency_reports_it_and_the_limit_of_repeating_holds_the_run():
    rng = np.random.default_rng(4)
    p = {"base": np.full(150, 0.1), "a": np.full(150, 0.2)}
    table = table_of(drawn(rng, p, [0.0, 0.15, 0.3]))
    with_runs, without = (
        {entry.condition: entry for entry in consistency(table, plan).entries if entry.task is None}
        for plan in (plan_of(3), replace(plan_of(3), replicates={}))
    )
    noise = with_runs["a"].rate.noise
    assert noise.run_sd > 0.1
    limits = [entries["a"].limits.repeatability for entries in (with_runs, without)]
    assert limits[0] ** 2 == pytest.approx(
        limits[1] ** 2 + 2 * Z**2 * noise.run_sd**2 / 3, rel=1e-4
    )
    assert with_runs["a"].flips.decoding == without["a"].flips.decoding


def test_replicates_of_draws_are_no_further_draws():
    # Two draws that always differ, each the same in every replicate: turning is certain, whatever the replicates.
    def answers(_model, _intent, row):
        row |= {"decoding": row["sample"] // 2, "sample": row["sample"] % 2}

    values = np.tile([0, 1], (30, 1, 3))
    table = build(dict.fromkeys(MODELS, values), samples=6, answers=answers)
    entry = next(e for e in consistency(table, plan_of(3)).entries if e.condition == "a")
    assert entry.flips.decoding == 1.0
    assert entry.components.of_decoding == pytest.approx(0.5 * 0.5 / (2 - 1))


@pytest.mark.parametrize("limit", [None, 0.5])
def test_these_prompts_have_noise_for_their_whole_interval(limit):
    rng = np.random.default_rng(5)
    p = {"base": np.full(120, 0.05), "a": np.full(120, 0.1)}
    harmful = drawn(rng, p)
    table = table_of(harmful, {model: np.zeros((120, 3), int) for model in MODELS})
    plan = plan_of(3, max_asr=limit)
    told = gate(table, plan, "base", "a", Exact(alpha=plan.alpha))
    line = told.sides.harm.lines[0]
    difference = (harmful["a"] - harmful["base"]).astype(float)
    noise = run_variance(difference, 1.0)
    assert line.change.estimate == pytest.approx(difference.mean())
    assert line.lower == pytest.approx(difference.mean() - noise.half_width(0.10))
    assert line.upper == pytest.approx(difference.mean() + noise.half_width(0.10))
    assert line.change.interval.high == pytest.approx(difference.mean() + noise.half_width(0.05))
    rate = run_variance(harmful["a"].astype(float), 1.0)
    assert told.asr_upper == pytest.approx(harmful["a"].mean() + rate.half_width(0.10))
    means = gate(table, replace(plan, replicates={}), "base", "a", Exact(alpha=plan.alpha))
    assert means.sides.harm.lines[0].upper == pytest.approx(difference.mean())


def test_the_gate_of_prompts_like_these_holds_the_effect_of_the_run():
    rng = np.random.default_rng(6)
    p = {"base": np.full(150, 0.1), "a": np.full(150, 0.12)}
    table = table_of(drawn(rng, p, [0.0, 0.1, 0.2]), drawn(rng, p))
    plan = plan_of(3)
    told, plain = (
        gate(table, one, "base", "a", Fixed(alpha=0.05)).sides.harm.lines[0]
        for one in (plan, replace(plan, replicates={}))
    )
    added = t.ppf(0.95, 2) ** 2 * told.change.noise.run_sd**2 / 3
    assert added > 0
    for end, at in (("lower", told.change.estimate), ("upper", told.worst)):
        sides = [abs(getattr(one, end) - at) for one in (told, plain)]
        assert sides[0] ** 2 == pytest.approx(sides[1] ** 2 + added)


# Coverage


def fast_table(values):
    """Return the table of models x behaviors x replicates, one row an answer, made of arrays."""
    model, behavior, replicate = (place.ravel() for place in np.indices(values.shape))
    zeros = np.zeros(values.size, np.int32)
    columns = {
        "model": model, "prompt": behavior, "behavior": behavior, "pair": behavior, "decoding": replicate,
        "verdict:rules": np.where(values.ravel(), 0, 1), "coherent": zeros + 1,
        **dict.fromkeys(("template", "task", "set", "hazard", "harm_basis", "system", "intent", "sample", "finish"), zeros),
    }  # fmt: skip
    names = {
        name: tuple(f"{name}-{i}" for i in range(int(column.max()) + 1))
        for name, column in columns.items()
    }
    names["model"] = ("base", *(f"a{i}" for i in range(1, len(values))))
    columns = {name: column.astype(np.int32) for name, column in columns.items()}
    return Table(columns=columns, scores={}, names=names)


LEVELS = np.array([-1.3, -0.9])
"""Means of the margins by which base and fine-tune stay clear of complying: some 10 and 18 % of the prompts are beyond 0."""


def coverage(rng, *, behaviors, replicates, turning, run_sd, draws, here):
    """Return the share of intervals that hold the truth, and their mean half width in points.

    A model complies where its margin to a prompt (standard normal about its level; correlation .7 between models) plus the
    effect of the run plus the noise of the single answer is above 0. Both are normal, so every expectation is exact.

    Args:
        rng: draws.
        behaviors: number of them.
        replicates: number of runs.
        turning: standard deviation of a single answer's noise.
        run_sd: standard deviation of the effect of a run on a model.
        draws: studies.
        here: whether the truth is that of these very prompts.
    """
    plan, held, widths = plan_of(replicates, models=("base", "a1")), 0, []
    spread = math.hypot(turning, run_sd)
    base_rate, tuned_rate = norm.cdf(LEVELS / math.hypot(1.0, spread))
    for _ in range(draws):
        x, y = rng.normal(size=(2, behaviors))
        margins = LEVELS[:, None] + np.stack([x, 0.7 * x + math.sqrt(0.51) * y])
        runs = rng.normal(0, run_sd, (2, 1, replicates))
        answers = margins[:, :, None] + runs + rng.normal(0, turning, (2, behaviors, replicates))
        counted = count(fast_table(answers > 0), plan)
        arms = Setting(counted=counted, code=0, weights={}).arms(("a1",), ("base",))
        part = arms.tuned.overall(harmful=True)
        base = arms.base.fold(part, ASR.hit)
        contrast = paired(arms.tuned.fold(part, ASR.hit), base)
        noise = change_noise(arms, base, rows_of(part, ASR.hit))
        if here:
            truth = float(np.diff(norm.cdf(margins / spread).mean(axis=1))[0])
            low, high = OnThesePrompts(estimate=contrast.estimate, runs=noise).interval(0.05)
        else:
            truth = tuned_rate - base_rate
            low, high = with_runs(contrast, noise).interval(0.05)
        held += low - 1e-12 <= truth <= high + 1e-12
        widths.append(100 * (high - low) / 2)
    return held / draws, float(np.mean(widths))


DESIGNS = [
    (behaviors, replicates, turning, run_sd)
    for behaviors, turning in ((60, 0.1), (150, 0.1), (150, 0.4), (400, 0.1))
    for replicates in (2, 3, 5)
    for run_sd in (0.0, 0.05, 0.1, 0.3)
]
"""An effect of 0.1 moves a rate of 10 to 18 % by some 2 points, as public reports say of GPUs."""


@pytest.mark.slow
@pytest.mark.parametrize("here", [True, False], ids=["these prompts", "prompts like these"])
def test_intervals_cover_with_and_without_an_effect_of_the_run(here):
    rng = np.random.default_rng(20)
    shares = {}
    for behaviors, replicates, turning, run_sd in DESIGNS:
        covered, width = coverage(
            rng, behaviors=behaviors, replicates=replicates, turning=turning, run_sd=run_sd, draws=600, here=here,
        )  # fmt: skip
        shares[behaviors, replicates, turning, run_sd] = covered
        sys.stdout.write(
            f"{behaviors} behaviors, {replicates} replicates, noise {turning}, run {run_sd}: {covered:.3f}, +-{width:.1f} points\n"
        )
    assert min(shares.values()) > 0.90
    assert 0.94 < np.mean(list(shares.values())) < 0.985


def test_intervals_of_these_prompts_cover():
    """The same for one design of each kind, in short."""
    rng = np.random.default_rng(21)
    for run_sd in (0.0, 0.2):
        covered, _ = coverage(
            rng, behaviors=100, replicates=3, turning=0.2, run_sd=run_sd, draws=150, here=True
        )
        assert covered > 0.9
