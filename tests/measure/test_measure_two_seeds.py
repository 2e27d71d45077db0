"""Two training seeds: they often look alike by chance, and no interval may then speak of behaviors alone."""

import numpy as np
import pytest
from crossed_model import location
from scipy.special import expit

from aftertune.measure.arrays import fold, layout
from aftertune.measure.contrasts import MeanT, ceiling, mover, one_sided, unshared
from aftertune.measure.crossed import half_width_squared, two_way
from aftertune.measure.rates import rate_limits

REPLICATES = 1000
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
    for _ in range(REPLICATES):
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
    assert (covered / REPLICATES >= 0.93 - 2 * np.sqrt(0.95 * 0.05 / REPLICATES)).all()


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
        errors += one_sided(change, 0.05)[0] > margin, ceiling(change, 0.05) <= margin
    assert (errors / REPLICATES <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / REPLICATES)).all()


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
    assert covered / REPLICATES >= 0.93 - 2 * np.sqrt(0.95 * 0.05 / REPLICATES)
