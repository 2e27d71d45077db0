"""One training seed: what supposed spreads of seeds make of its intervals."""

import numpy as np
import pytest
from crossed_model import draw
from measure_tables import build

from aftertune.measure.averaging import fold, layout
from aftertune.measure.measure import measure
from aftertune.measure.one_seed import widened
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.rates import paired, rate_limits

BASE = Condition(name="base", models=("base",))


def measured(*tuned):
    rare = np.repeat((np.arange(60) % 12 == 0)[:, None], 4, axis=1)
    often = np.repeat((np.arange(60) % 3 == 0)[:, None], 4, axis=1)
    table = build({"base": rare, **dict.fromkeys(tuned, often)})
    plan = MeasurePlan(
        conditions=(BASE, Condition(name="tuned", models=tuned, base="base")), judges=("rules",)
    )
    return measure(table, plan).settings[0]


def test_a_known_spread_widens_by_the_rule_of_independent_parts():
    tuned = measured("a").condition("tuned")
    change, rate = tuned.asr_change.overall, tuned.asr.overall
    assert [line.seed_sd for line in tuned.if_seeds_vary] == [0.02, 0.05, 0.10]
    for line in tuned.if_seeds_vary:
        seeds = 1.959964 * line.seed_sd
        assert line.asr_change[1] - change.estimate == pytest.approx(
            np.hypot(change.interval.high - change.estimate, seeds)
        )
        assert rate.estimate - line.asr[0] == pytest.approx(
            min(rate.estimate, np.hypot(rate.estimate - rate.interval.low, seeds))
        )


def test_several_seeds_and_a_base_suppose_nothing():
    assert measured("a", "b").condition("tuned").if_seeds_vary == ()
    assert measured("a").condition("base").if_seeds_vary == ()


# As an interval about the recipe, the checkpoint's own covers as little as .43; with the true spread it holds.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "n", "sd_seed"),
    [(0.1, 0.3, 50, 0.4), (0.1, 0.3, 250, 0.8), (0.02, 0.02, 250, 0.8)],
)
def test_with_the_true_spread_one_seed_covers_its_recipe(before, after, n, sd_seed):
    rng = np.random.default_rng(17)
    spread = draw(rng, after, after, 3000, 400, sd_seed=sd_seed)[1].mean(axis=(0, 1, 2)).std(ddof=1)
    part, ones, covered = (
        layout(np.arange(n), np.zeros(n, int), np.ones(n, bool), {}),
        np.ones((n, 1)),
        np.zeros(2),
    )
    for _ in range(1000):
        base, tuned = (
            each.reshape(n, 1).astype(float)
            for each in draw(rng, before, after, n, 1, sd_seed=sd_seed)
        )
        arms = fold(part, tuned, ones), fold(part, base, ones)
        change = paired(*arms)
        figures = (
            (arms[0].two_way.mean, rate_limits(arms[0]), after),
            (change.estimate, change.interval(0.05), after - before),
        )
        limits = [(*widened(estimate, own, spread), truth) for estimate, own, truth in figures]
        covered += [low <= truth <= high for low, high, truth in limits]
    assert (covered / 1000 >= 0.93).all()
