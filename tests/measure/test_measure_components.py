"""Variance components and what follows for another lab: golden values, by hand, and seeded simulations."""

import math

import numpy as np
import pytest
from crossed_model import RHO, SD_BEHAVIOR, SD_BOTH, draw, location
from scipy.special import expit, roots_hermitenorm

from aftertune.measure.components import (
    components,
    differing,
    on_these_behaviors,
    predicted,
    repeatability,
    reproduced,
    reproducibility,
    reproducibility_interval,
    shares,
)

SHROUT = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)
N, SEEDS, SAMPLES, SD = 50, 5, 3, 0.05


# Shrout and Fleiss (1979), Psychol Bull 86:420, table 4: six targets, four judges; the components are those of the
# published mean squares.
@pytest.mark.golden
def test_intraclass_correlation():
    found = components(SHROUT)
    assert found.icc == pytest.approx(0.2898, abs=6e-5)
    assert (found.of_behaviors, found.of_seeds) == pytest.approx((2.5556, 5.2444), abs=6e-5)
    assert found.of_both == pytest.approx(1.0194, abs=6e-5)
    assert found.of_decoding is None, "one rating a cell"


# The factors of the limits: 1.96 sqrt 2 = 2.77 (ISO 5725-6), and Student's t in its place; t(.975, 4) = 2.7764.
@pytest.mark.golden
def test_limits_by_hand():
    x = np.array([[0.1, 0.3, 0.2, 0.4, 0.5]] * 4)
    found = components(x, decoding=0.04)
    assert found.seed_variance == pytest.approx(0.025)
    assert repeatability(found) == pytest.approx(2.7718 * math.sqrt(0.04 / 4), abs=1e-4)
    assert reproducibility(found) == pytest.approx(
        math.sqrt(2) * 2.7764 * math.sqrt(0.025), abs=1e-4
    )
    assert reproducibility(found, 5) == pytest.approx(reproducibility(found) / math.sqrt(5))
    assert differing(found, reproducibility(found)) == pytest.approx(0.05)
    assert predicted(0.3, found, 5) == pytest.approx(
        (0.3 - 2.7764 * 0.1, 0.3 + 2.7764 * 0.1), abs=1e-4
    )
    assert predicted(0.2, found, 5)[0] == 0, "a rate lies in [0, 1]"
    low, high = reproducibility_interval(found)
    assert low < 2.7718 * math.sqrt(0.025) < high


def test_a_change_just_significant_has_an_even_chance_of_being_so_again():
    found = components(np.random.default_rng(0).random((20, 4)), decoding=0.1)
    assert reproduced(0.2, found, above=0.2, seeds=4) == pytest.approx(0.5)
    assert reproduced(0.2, found) > reproduced(0.2, found, base=0.01) > 0.5
    assert reproduced(-0.2, found) == reproduced(0.2, found), "the same sign, whichever it is"


def test_shares_sum_to_one_and_seeds_weigh_more_the_fewer_they_are():
    found = components(np.random.default_rng(1).random((30, 5)) + np.arange(5) / 10, decoding=0.01)
    one, five = shares(found, 1), shares(found, 5)
    for each in (one, five):
        assert each.behaviors + each.seeds + each.both + each.decoding == pytest.approx(1)
    assert one.seeds > five.seeds > 0
    assert one.behaviors < five.behaviors


def test_what_cannot_be_told_is_none():
    alone = components(np.random.default_rng(2).random((9, 1)), decoding=0.01)
    assert alone.seed_variance is alone.icc is alone.of_seeds is None
    assert (
        reproducibility(alone)
        is predicted(0.5, alone)
        is differing(alone, 0.1)
        is shares(alone, 1)
        is None
    )
    assert repeatability(alone) == pytest.approx(2.7718 * math.sqrt(0.01 / 9), abs=1e-5)
    alike = components(np.full((9, 4), 0.5), decoding=0.0)
    assert reproducibility(alike) is None, "seeds that are all alike say nothing of the next one"
    assert reproducibility(components(np.full((9, 4), 0.5), decoding=0.02)) is not None, (
        "decoding is in a new seed too"
    )
    assert shares(alike, 4) is None
    single = components(np.array([[0.2, 0.4]]))
    assert single.of_behaviors is None


def simulated(rng, seeds=SEEDS):
    """Return one study's matrix and its own behaviors' chances, for further studies on the same behaviors."""
    chance = np.clip(rng.beta(0.5, 1.2, N), 0.02, 0.98)
    return again(rng, chance, seeds), chance


def again(rng, chance, seeds=SEEDS):
    """Return hits of another study: new seeds (a shift each, in logits), new decodings."""
    shift = rng.normal(0, 6 * SD, seeds)
    p = 1 / (
        1
        + np.exp(
            -(np.log(chance / (1 - chance))[:, None] + shift + 0.5 * rng.normal(size=(N, seeds)))
        )
    )
    return rng.binomial(SAMPLES, p) / SAMPLES


def noise(x):
    return float((x * (1 - x)).mean() / (SAMPLES - 1))


def test_another_study_lies_within_the_limits_at_the_stated_rate():
    rng = np.random.default_rng(3)
    within, inside, single, said, apart = [], [], [], [], []
    for _ in range(600):
        first, chance = simulated(rng)
        second = again(rng, chance)
        found = components(first, noise(first))
        within.append(abs(first.mean() - second.mean()) <= reproducibility(found, SEEDS))
        low, high = predicted(first.mean(), found, SEEDS)
        inside.append(low <= second.mean() <= high)
        low, high = predicted(first.mean(), found)
        single.append(low <= second[:, 0].mean() <= high)
        said.append(differing(found, 0.10))
        apart.append(abs(first[:, 0].mean() - second[:, 0].mean()) > 0.10)
    for held in (within, inside, single):
        assert 0.925 <= np.mean(held) <= 0.98
    assert -0.02 < np.mean(said) - np.mean(apart) < 0.09, (
        "few seeds leave room for a larger spread than there is"
    )


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_of_the_seed_sd_covers(seeds):
    rng = np.random.default_rng(4)
    truth = np.array([draw(rng, 0.3, 0.3, 4000, 1)[1].mean() for _ in range(400)]).std(ddof=1)
    held = []
    for _ in range(1000):
        _, tuned = draw(rng, 0.3, 0.3, 100, seeds, samples=2)
        low, high = components(tuned.mean(axis=(1, 2))).seed_sd_interval
        held.append(low <= truth <= high)
    assert 0.93 <= np.mean(held) <= 0.985


def test_fixed_behaviors_leave_the_seeds_alone():
    x = np.array([[0.1, 0.3, 0.2, 0.4, 0.5]] * 4) + np.array([[-0.1], [0.0], [0.1], [0.4]])
    found = components(x)
    low, high = on_these_behaviors(x.mean(), found)
    half = 2.7764 * math.sqrt(0.025 / 5)
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=1e-4)
    wider = on_these_behaviors(x.mean(), found, base=0.01)
    assert wider[0] < low < high < wider[1]
    assert on_these_behaviors(0.5, components(x[:, :1])) is None


# What very many seeds would change on behaviors that stay the same, by quadrature over seeds.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "seeds", "sd_seed", "samples"), [(50, 3, 0.4, 1), (50, 5, 0.4, 3), (200, 5, 0.8, 1)]
)
def test_on_the_same_prompts_new_seeds_are_covered(n, seeds, sd_seed, samples):
    rng, (nodes, weights) = np.random.default_rng(19), roots_hermitenorm(40)
    mu0 = location(0.10, np.hypot(SD_BEHAVIOR, SD_BOTH))
    mu1 = location(0.30, np.sqrt(SD_BEHAVIOR**2 + SD_BOTH**2 + sd_seed**2))
    covered = 0
    for _ in range(1000):
        own, other = SD_BEHAVIOR * rng.normal(size=(2, n))
        base = expit(mu0 + RHO * own + math.sqrt(1 - RHO**2) * other + SD_BOTH * rng.normal(size=n))
        effects = sd_seed * rng.normal(size=seeds) + SD_BOTH * rng.normal(size=(n, seeds))
        tuned = rng.binomial(samples, expit(mu1 + own[:, None] + effects)) / samples
        asked = rng.binomial(5, base) / 5
        noise = (asked * (1 - asked) / 4).sum() / n**2
        found = on_these_behaviors(tuned.mean() - asked.mean(), components(tuned), noise)
        often = (
            expit(mu1 + own[:, None] + math.hypot(sd_seed, SD_BOTH) * nodes)
            @ weights
            / weights.sum()
        )
        covered += (
            found is None or found[0] <= often.mean() - base.mean() <= found[1]
        )  # equal seeds claim nothing
    assert covered / 1000 >= 0.93
