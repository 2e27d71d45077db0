"""Arms that go nearly parallel over behaviors: what few training seeds leave open must not be paired away."""

import numpy as np
import pytest
from crossed_model import location
from scipy.special import expit
from scipy.stats import t

from aftertune.measure.arrays import fold, layout
from aftertune.measure.contrasts import mover, p_value

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
