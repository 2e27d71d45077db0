"""Decoding these checkpoints anew on these prompts: only repeats vary, and the interval covers what very many would give."""

import numpy as np
import pytest
from measure_tables import build
from scipy.special import expit

from aftertune.measure.cells import tally
from aftertune.measure.consistency import consistency, parts
from aftertune.measure.measure import ASR
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.pooling import pool
from aftertune.measure.redecoding import redecoded_limits
from aftertune.measure.results import Scope


def plan(seeds):
    tuned = tuple(f"a{seed}" for seed in range(seeds))
    base, other = (
        Condition(name="base", models=("base",)),
        Condition(name="a", models=tuned, base="base"),
    )
    return MeasurePlan(conditions=(base, other), judges=("rules",))


def study(rng, mean, sd, n, seeds, repeats):
    """Return a table of repeats of one task, and the true probabilities of base and fine-tune."""
    effect = sd * rng.normal(size=(n, 1))
    true = {"base": expit(mean - 0.7 + effect[:, 0])}
    true |= {
        f"a{seed}": expit(mean + effect[:, 0] + 0.5 * rng.normal(size=n)) for seed in range(seeds)
    }
    drawn = {name: rng.random((n, 1, repeats)) < p[:, None, None] for name, p in true.items()}
    return build(drawn, samples=repeats), true


def entry(table, seeds):
    return next(
        one
        for one in consistency(table, plan(seeds)).entries
        if one.condition == "a" and one.task is None
    )


def covered(count, mean, sd, n, seeds, repeats):
    """Return how often the intervals of the rate and of the change cover."""
    rng, hits = np.random.default_rng(51), []
    for _ in range(count):
        table, true = study(rng, mean, sd, n, seeds, repeats)
        found, p0 = entry(table, seeds), true["base"].mean()
        p1 = np.mean([true[f"a{seed}"].mean() for seed in range(seeds)])
        pairs = ((found.redecoded, p1), (found.redecoded_change, p1 - p0))
        hits.append([each.low <= truth <= each.high for each, truth in pairs])
    return np.mean(hits, axis=0)


def test_its_scope_is_the_narrowest_and_so_is_its_interval():
    rng = np.random.default_rng(2)
    for seeds, scope in (
        (1, Scope.CHECKPOINT_HERE),
        (3, Scope.CHECKPOINTS_HERE),
    ):
        table, _ = study(rng, -1, 2, 40, seeds, 4)
        found = entry(table, seeds)
        assert found.redecoded.scope == found.redecoded_change.scope == scope
        assert found.redecoded.low < found.rate.estimate < found.redecoded.high
        assert (
            found.redecoded.high - found.redecoded.low
            < found.rate.interval.high - found.rate.interval.low
        )


def test_one_answer_of_each_prompt_says_nothing_of_others():
    table, _ = study(np.random.default_rng(2), -1, 2, 40, 1, 1)
    found = entry(table, 1)
    assert (found.redecoded, found.redecoded_change) == (None, None)


def test_where_nothing_flipped_the_responses_count():
    yes = np.zeros((20, 1, 3))
    yes[:5] = 1
    cells = tally(build({"base": yes, "a0": yes}, samples=3), plan(1))
    pooled = pool(cells, [0], {})
    p, (low, high) = redecoded_limits(pooled, next(parts(pooled))[1], ASR.hit)
    assert p == 0.25
    assert (low, high) == pytest.approx((0.158, 0.372), abs=0.001)


def test_it_covers_here():
    assert (covered(40, -1, 2, 40, 2, 2) >= 0.8).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mean", "sd", "n", "seeds", "repeats"),
    [
        (-2, 2, 50, 1, 2),
        (-2, 2, 50, 1, 5),
        (-4, 4, 50, 1, 2),
        (-2, 2, 100, 3, 3),
        (-1, 8, 50, 1, 2),
    ],
)
def test_it_covers_what_very_many_decodings_give(mean, sd, n, seeds, repeats):
    assert (covered(1000, mean, sd, n, seeds, repeats) >= 0.93).all()
