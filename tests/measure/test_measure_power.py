"""Power before anything is asked: against simulation, against the formula's limits, and from a pilot."""

import numpy as np
import pytest
from crossed_model import draw

from aftertune.measure.arrays import fold, layout
from aftertune.measure.contrasts import MeanT, mover
from aftertune.measure.crossed import two_way
from aftertune.measure.power import (
    Assumptions,
    Spread,
    assumed_spread,
    pilot_spread,
    plateau,
    power,
    smallest_change,
)

SPREAD = Spread(behaviors=0.1, seeds=0.04**2, both=0.11)


# The floor with infinite behaviors, (t_.975 + t_.8) SD / sqrt(S) with S - 1 degrees of freedom; its second term stands for
# the noncentral t, which is why the last digits differ.
@pytest.mark.golden
@pytest.mark.parametrize(
    ("seeds", "sd", "floor"),
    [(5, 0.04, 0.066), (8, 0.04, 0.046), (10, 0.02, 0.020), (20, 0.1, 0.066)],
)
def test_the_floor_that_no_number_of_behaviors_passes(seeds, sd, floor):
    spread = Spread(behaviors=0.1, seeds=sd**2, both=0.11)
    assert smallest_change(spread, 10**6, seeds) == pytest.approx(floor, abs=0.0025)


def test_more_of_anything_finds_more():
    for n, seeds in ((50, 3), (100, 5), (400, 10), (100, 1)):
        assert power(SPREAD, 0.10, n, seeds) < power(SPREAD, 0.15, n, seeds)
        assert power(SPREAD, 0.10, n, seeds) < power(SPREAD, 0.10, 2 * n, seeds)
        assert power(SPREAD, 0.10, n, max(2, seeds)) < power(SPREAD, 0.10, n, seeds + 5)
        found = smallest_change(SPREAD, n, seeds)
        assert power(SPREAD, found, n, seeds) == pytest.approx(0.80, abs=1e-6)
    assert power(SPREAD, 1e-9, 100, 5) == pytest.approx(0.05, abs=0.02)
    assert power(SPREAD, 0.9, 5000, 20) == pytest.approx(1.0)


def test_three_seeds_plateau():
    assert plateau(SPREAD, 0.10, 3) < 0.8 < plateau(SPREAD, 0.10, 5)
    assert power(SPREAD, 0.10, 100_000, 3) <= plateau(SPREAD, 0.10, 3) + 1e-6
    assert smallest_change(Spread(behaviors=0, seeds=0.5**2, both=0), 100, 2) > 1, (
        "no change of a rate is found"
    )


def test_a_pilot_gives_back_what_it_was_drawn_with():
    rng = np.random.default_rng(4)
    n, seeds = 600, 40
    changes = (
        0.1
        + np.sqrt(SPREAD.behaviors) * rng.normal(size=(n, 1))
        + np.sqrt(SPREAD.seeds) * rng.normal(size=seeds)
        + np.sqrt(SPREAD.both) * rng.normal(size=(n, seeds))
    )
    found = pilot_spread(changes)
    assert found.behaviors == pytest.approx(SPREAD.behaviors, rel=0.15)
    assert found.seeds == pytest.approx(SPREAD.seeds, rel=0.6)
    assert found.both == pytest.approx(SPREAD.both, rel=0.05)
    single = pilot_spread(changes[:, :1])
    assert (single.seeds, single.both) == (0.0, 0.0)
    assert single.behaviors == pytest.approx(SPREAD.behaviors + SPREAD.both, rel=0.2)


def test_assumptions_answer_to_tasks_and_samples():
    one, four = (assumed_spread(Assumptions(), tasks) for tasks in (1, 4))
    assert four.behaviors < one.behaviors
    assert four.both < one.both
    assert one.seeds == pytest.approx(0.04**2)
    assert assumed_spread(Assumptions(), samples=5).both < one.both


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "n", "seeds", "sd_seed", "tasks"),
    [
        (0.10, 0.20, 50, 3, 0.4, 1),
        (0.10, 0.20, 100, 5, 0.4, 1),
        (0.10, 0.20, 250, 3, 0.4, 1),
        (0.05, 0.15, 100, 3, 0.4, 1),
        (0.30, 0.40, 100, 5, 0.4, 1),
        (0.10, 0.20, 120, 3, 0.4, 4),
        (0.10, 0.20, 100, 1, 0.0, 1),
        (0.10, 0.20, 100, 10, 0.4, 1),
        (0.10, 0.20, 100, 5, 0.8, 1),
    ],
)
def test_power_is_that_of_a_simulation(before, after, n, seeds, sd_seed, tasks):
    """Of the two-way t; what is printed (MOVER-Wilson) finds more where there are three seeds, never much less."""
    rng = np.random.default_rng(16)
    many = draw(rng, before, after, 2000, 300, tasks=tasks, sd_seed=sd_seed)
    truth = pilot_spread(many[1][:, :, 0].mean(axis=1) - many[0].mean(axis=(1, 2))[:, None])
    part = layout(
        np.repeat(np.arange(n), tasks), np.tile(np.arange(tasks), n), np.ones(n * tasks, bool), {}
    )
    ones, found, printed = np.ones((n * tasks, seeds)), 0, 0
    for _ in range(1000):
        base, tuned = draw(rng, before, after, n, seeds, tasks=tasks, sd_seed=sd_seed)
        change = tuned[:, :, 0].mean(axis=1) - base.mean(axis=(1, 2))[:, None]
        found += MeanT(x=two_way(change)).interval(0.05)[0] > 0
        arms = tuned[:, :, 0].reshape(-1, seeds).astype(float), base.reshape(-1, 1).astype(float)
        printed += (
            mover(fold(part, arms[0], ones), fold(part, arms[1], ones[:, :1])).interval(0.05)[0] > 0
        )
    planned = power(truth, after - before, n, seeds)
    assert planned == pytest.approx(found / 1000, abs=0.05)
    assert printed / 1000 > planned - 0.10
    rough = assumed_spread(
        Assumptions(base_rate=before, rise=after - before, seed_sd=truth.seeds**0.5), tasks
    )
    assert power(rough, after - before, n, seeds) == pytest.approx(planned, abs=0.06)
