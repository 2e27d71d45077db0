"""Coverage of the crossed intervals in simulations: many designs, two training seeds, and nearly parallel arms."""

import numpy as np
import pytest
from crossed_model import draw, location
from scipy.special import expit
from scipy.stats import t

from aftertune.measure.arrays import fold, layout
from aftertune.measure.changes import paired
from aftertune.measure.contrasts import MeanT, ceiling, mover, p_value, unshared
from aftertune.measure.crossed import crossed_wilson, half_width_squared, two_way
from aftertune.measure.rates import rate_limits

REPLICATES = 1000


def covered(limits, truth):
    return sum(low <= truth <= high for low, high in limits) / REPLICATES


# Fifty behaviors and five training seeds, at rates of common and of rare harm.
@pytest.mark.slow
@pytest.mark.parametrize(("rate", "sd_seed"), [(0.30, 0.4), (0.06, 0.4)])
def test_a_crossed_rate(rate, sd_seed):
    rng = np.random.default_rng(11)
    limits = []
    for _ in range(REPLICATES):
        _, tuned = draw(rng, rate, rate, 50, 5, sd_seed=sd_seed)
        limits.append(crossed_wilson(two_way(tuned.mean(axis=(1, 2))), 250))
    assert 0.93 <= covered(limits, rate) <= 0.98


@pytest.mark.slow
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
@pytest.mark.slow
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
@pytest.mark.slow
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


@pytest.mark.slow
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


STUDIES = 1000
NOISY, SURE = (0.7, 0.7, 1), (0.2, 0.98, 12)
"""Standard deviation of behavior x seed on the logit scale, correlation of the arms, responses a cell."""


def studies(rng, n, seeds, rates, sd_seed, kind, *, base_seeds=1):
    """Yield (tuned, base) as averages over ``n`` behaviors."""
    inner, rho, responses = kind
    part = layout(np.arange(n), np.zeros(n, int), np.ones(n, bool), {})
    sds = (sd_seed if base_seeds > 1 else 0.0), sd_seed
    places = [
        location(rate, np.sqrt(4 + sd**2 + inner**2)) for rate, sd in zip(rates, sds, strict=True)
    ]
    for _ in range(STUDIES):
        own, other = 2.0 * rng.normal(size=(2, n, 1))
        effects = own, rho * own + np.sqrt(1 - rho**2) * other
        arms = [
            rng.binomial(
                responses,
                expit(place + effect + sd * rng.normal(size=s) + inner * rng.normal(size=(n, s))),
            ).astype(float)
            for place, effect, sd, s in zip(places, effects, sds, (base_seeds, seeds), strict=True)
        ]
        base, tuned = (fold(part, hits, np.full(hits.shape, float(responses))) for hits in arms)
        yield tuned, base


def test_two_seeds_that_look_alike_still_count():
    noise = np.random.default_rng(3).normal(size=(400, 2))
    noise -= noise.mean(axis=0)
    alike, same = (two_way(0.5 + 0.1 * noise + np.array([-gap, gap])) for gap in (0.003, 0.0))
    assert 0.25 * alike.ms_interaction < alike.ms_seeds < alike.ms_interaction
    assert half_width_squared(alike) > 4 * 1.96**2 * alike.variance
    assert half_width_squared(same) == pytest.approx(1.97**2 * same.variance, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [NOISY, SURE])
@pytest.mark.parametrize(
    ("rates", "sd_seed"), [((0.2, 0.2), 0.6), ((0.1, 0.3), 0.4), ((0.1, 0.3), 0.9)]
)
@pytest.mark.parametrize("n", [40, 150, 400])
def test_two_seeds_are_covered(n, rates, sd_seed, kind):
    covered = np.zeros(3)
    for tuned, base in studies(np.random.default_rng(21), n, 2, rates, sd_seed, kind):
        paired = MeanT(x=two_way(tuned.matrix - base.matrix))
        for place, (limits, truth) in enumerate(
            (
                (rate_limits(tuned), rates[1]),
                (mover(tuned, base).interval(0.05), rates[1] - rates[0]),
                (paired.interval(0.05), rates[1] - rates[0]),
            )
        ):
            covered[place] += limits[0] <= truth <= limits[1]
    assert (covered / STUDIES >= 0.93 - 2 * np.sqrt(0.95 * 0.05 / STUDIES)).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [NOISY, SURE])
@pytest.mark.parametrize(
    ("rates", "seeds", "sd_seed"),
    [((0.02, 0.07), 2, 0.9), ((0.1, 0.15), 2, 0.4), ((0.02, 0.07), 3, 0.9)],
)
@pytest.mark.parametrize("n", [150, 400])
def test_the_gate_keeps_its_errors_with_few_seeds(n, rates, seeds, sd_seed, kind):
    margin, errors = rates[1] - rates[0], np.zeros(2)
    for tuned, base in studies(np.random.default_rng(22), n, seeds, rates, sd_seed, kind):
        change = mover(tuned, base)
        errors += change.interval(0.10)[0] > margin, ceiling(change, 0.05) <= margin
    assert (errors / STUDIES <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / STUDIES)).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [NOISY, SURE])
@pytest.mark.parametrize(("seeds", "others"), [(5, 2), (2, 5), (3, 2), (2, 2)])
def test_two_fine_tunes_of_unequal_seeds_are_covered(seeds, others, kind):
    covered = 0
    for one, other in studies(
        np.random.default_rng(23), 150, seeds, (0.2, 0.3), 0.9, kind, base_seeds=others
    ):
        low, high = unshared(one, other).interval(0.05)
        covered += low <= 0.10 <= high
    assert covered / STUDIES >= 0.93 - 2 * np.sqrt(0.95 * 0.05 / STUDIES)


PART = layout(np.arange(40), np.zeros(40, int), np.ones(40, bool), {})
BASE = np.tile([0.0, 0.1, 0.3, 0.1], 10)[:, None]
SHIFTS = np.array([0.35, 0.36, 0.37])


@pytest.fixture(scope="module")
def change():
    """Every behavior rises alike, and only three training seeds differ."""
    tuned, base = (
        fold(PART, 10 * shares, np.full(shares.shape, 10.0)) for shares in (BASE + SHIFTS, BASE)
    )
    return mover(tuned, base)


def test_a_change_is_about_as_open_as_its_seeds(change):
    low, high = change.interval(0.05)
    seeds_alone = 0.9 * t.isf(0.025, 2) * SHIFTS.std(ddof=1) / np.sqrt(3)
    assert change.r > 0.9
    assert low <= change.estimate - seeds_alone
    assert change.estimate + seeds_alone <= high


def test_a_p_value_is_the_first_alpha_from_above_that_holds_nothing(change):
    p = p_value(change)
    seeds_alone = 2 * t.sf(change.estimate / (SHIFTS.std(ddof=1) / np.sqrt(3)), 2)
    assert seeds_alone / 10 < p < 10 * seeds_alone
    assert change.interval(p * (1 - 1e-6))[0] <= 0
    assert all(change.interval(alpha)[0] > 0 for alpha in np.geomspace(p * (1 + 1e-6), 0.999, 40))


# No change, 150 behaviors, 3 training seeds that differ by 3 points, 12 responses each: .925 with a correlation that
# stands for the whole half width, however much of it the seeds make.
@pytest.mark.slow
def test_parallel_arms_are_covered():
    rng, n, sd, inner = np.random.default_rng(31), 150, 0.3, 0.2
    part = layout(np.arange(n), np.zeros(n, int), np.ones(n, bool), {})
    base_mu, tuned_mu = location(0.2, 2.0), location(0.2, np.sqrt(2.0**2 + sd**2 + inner**2))
    covered = 0
    for _ in range(1000):
        behavior, other = 2.0 * rng.normal(size=(2, n, 1))
        effect = 0.98 * behavior + np.sqrt(1 - 0.98**2) * other
        tuned = rng.binomial(
            12, expit(tuned_mu + effect + sd * rng.normal(size=3) + inner * rng.normal(size=(n, 3)))
        )
        arms = (tuned, rng.binomial(12, expit(base_mu + behavior)))
        low, high = mover(
            *(fold(part, hits.astype(float), np.full(hits.shape, 12.0)) for hits in arms)
        ).interval(0.05)
        covered += low <= 0 <= high
    assert 0.935 <= covered / 1000 <= 0.98
