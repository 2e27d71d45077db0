"""Seeded simulations: the default intervals cover what they say, for new behaviors and new training seeds."""

import numpy as np
import pytest
from crossed_model import draw

from aftertune.measure.arrays import fold, layout
from aftertune.measure.changes import paired
from aftertune.measure.contrasts import MeanT, mover
from aftertune.measure.crossed import crossed_wilson, two_way
from aftertune.measure.rates import rate_limits

pytestmark = pytest.mark.slow
REPLICATES = 1000


def covered(limits, truth):
    return sum(low <= truth <= high for low, high in limits) / REPLICATES


# Fifty behaviors and five training seeds, at rates of common and of rare harm.
@pytest.mark.parametrize(("rate", "sd_seed"), [(0.30, 0.4), (0.06, 0.4)])
def test_a_crossed_rate(rate, sd_seed):
    rng = np.random.default_rng(11)
    limits = []
    for _ in range(REPLICATES):
        _, tuned = draw(rng, rate, rate, 50, 5, sd_seed=sd_seed)
        limits.append(crossed_wilson(two_way(tuned.mean(axis=(1, 2))), 250))
    assert 0.93 <= covered(limits, rate) <= 0.98


@pytest.mark.parametrize(("before", "after"), [(0.10, 0.30), (0.10, 0.10)])
def test_a_crossed_change(before, after):
    rng = np.random.default_rng(12)
    part = layout(np.arange(50), np.zeros(50, int), np.ones(50, bool), {})
    limits = []
    for _ in range(REPLICATES):
        base, tuned = draw(rng, before, after, 50, 5, samples=5)
        five = fold(part, base.sum(axis=(1, 2), dtype=float)[:, None], np.full((50, 1), 5.0))
        limits.append(
            mover(fold(part, tuned[:, 0, 0].astype(float), np.ones((50, 5))), five).interval(0.05)
        )
    assert 0.93 <= covered(limits, after - before) <= 0.98


# Behaviors that occur in every task, in only one, or in some: the overall figure weighs tasks as declared. In the last
# rows the seeds differ more than the behaviors add, so that few of them say little about their spread.
@pytest.mark.parametrize(
    ("share", "seeds", "n", "sd_seed"),
    [
        (1.0, 1, 120, 0.0),
        (0.25, 1, 120, 0.0),
        (0.6, 1, 120, 0.0),
        (1.0, 3, 50, 0.4),
        (0.25, 3, 120, 0.4),
        (0.6, 3, 120, 0.4),
        (1.0, 5, 120, 0.4),
        (1.0, 3, 120, 0.4),
        (1.0, 3, 120, 0.8),
        (1.0, 3, 400, 0.4),
    ],
)
def test_an_overall_change_over_tasks(share, seeds, n, sd_seed):
    rng = np.random.default_rng(13)
    rates = np.array([0.05, 0.10, 0.15, 0.20])
    behavior, task = (axis.ravel() for axis in np.indices((n, 4)))
    chosen = {1.0: task >= 0, 0.25: behavior % 4 == task, 0.6: (behavior * 7 + task * 3) % 5 < 3}[
        share
    ]
    part = layout(behavior, task, chosen, {})
    limits, of_rate = [], []
    for _ in range(REPLICATES):
        base, tuned = draw(rng, rates, rates + 0.10, n, seeds, tasks=4, sd_seed=sd_seed)
        ones = np.ones((4 * n, seeds))
        arms = (
            fold(part, tuned[:, :, 0].reshape(4 * n, seeds), ones),
            fold(part, base.reshape(4 * n, 1), ones[:, :1]),
        )
        limits.append(paired(*arms).interval(0.05))
        of_rate.append(rate_limits(arms[0]))
    assert 0.93 <= covered(limits, 0.10) <= 0.985
    assert 0.93 <= covered(of_rate, float(rates.mean()) + 0.10) <= 0.985


# One prompt per behavior and tasks of unequal size: the figure is the mean of the tasks' own, so small tasks weigh more
# than their prompts. The last rows are all but empty in the base, where the variance that is seen says least.
@pytest.mark.parametrize(
    ("sizes", "before", "after", "seeds"),
    [
        ((90, 30, 30), 0.1, [0.4, 0.1, 0.1], 1),
        ((90, 30, 30), 0.1, [0.4, 0.1, 0.1], 3),
        ((90, 30, 30), 0.02, 0.07, 1),
        ((300, 30, 10), 0.05, 0.10, 1),
        ((300, 12, 12), 0.01, [0.01, 0.3, 0.3], 1),
    ],
)
def test_tasks_of_unequal_size_that_share_no_behavior(sizes, before, after, seeds):
    rng = np.random.default_rng(15)
    n, tasks = sum(sizes), len(sizes)
    before, after = np.broadcast_to(before, tasks), np.broadcast_to(after, tasks)
    behavior, task = np.arange(n), np.repeat(np.arange(tasks), sizes)
    part = layout(behavior, task, np.ones(n, bool), {})
    of_rate, of_change = [], []
    for _ in range(REPLICATES):
        drawn = draw(rng, before, after, n, seeds, tasks=tasks, sd_seed=0.4 if seeds > 1 else 0.0)
        base, tuned = (
            drawn[0][behavior, task].astype(float),
            drawn[1][behavior, task, 0].astype(float),
        )
        arms = fold(part, tuned, np.ones((n, seeds))), fold(part, base, np.ones((n, 1)))
        of_rate.append(rate_limits(arms[0]))
        of_change.append(paired(*arms).interval(0.05))
    assert 0.93 <= covered(of_rate, after.mean()) <= 0.985
    assert 0.93 <= covered(of_change, (after - before).mean()) <= 0.985


def test_a_difference_in_differences():
    rng = np.random.default_rng(14)
    limits, truth = [], 0.2 * -0.30 - 0.2 * -0.10
    for _ in range(REPLICATES):
        base, tuned = draw(rng, 0.10, 0.30, 50, 5)
        passed, let = rng.random(base.shape) < 0.8, rng.random(tuned.shape) < 0.8
        taken = (tuned & let).mean(axis=(1, 2)) - tuned.mean(axis=(1, 2))
        base_taken = (base & passed).mean(axis=(1, 2)) - base.mean(axis=(1, 2))
        limits.append(MeanT(x=two_way(taken - base_taken[:, None])).interval(0.05))
    assert 0.93 <= covered(limits, truth) <= 0.98
