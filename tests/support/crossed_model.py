"""The logit model of the simulations: behaviors x training seeds, with a base of correlated behavior effects."""

from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, roots_hermitenorm

SD_BEHAVIOR, SD_SEED, SD_BOTH, RHO = 2.0, 0.4, 0.7, 0.7
_NODES, _WEIGHTS = roots_hermitenorm(80)


@cache
def location(mean, sd):
    """Return the mu with E[expit(mu + sd Z)] = mean, Z standard normal."""

    def excess(mu):
        return float((_WEIGHTS * expit(mu + sd * _NODES)).sum() / _WEIGHTS.sum()) - mean

    return brentq(excess, -30, 30)


def draw(rng, p0, p1, n, seeds, *, tasks=1, samples=1, sd_seed=SD_SEED):
    """Return base (n, tasks, samples) and tuned (n, tasks, samples, seeds) draws of 0/1 with population rates p0, p1.

    ``p0`` and ``p1`` are one rate, or one per task; a behavior's effect is half shared between its tasks.
    """
    p0, p1 = np.broadcast_to(p0, tasks), np.broadcast_to(p1, tasks)
    mu0 = np.array([location(p, np.hypot(SD_BEHAVIOR, SD_BOTH)) for p in p0])
    mu1 = np.array([location(p, np.sqrt(SD_BEHAVIOR**2 + SD_BOTH**2 + sd_seed**2)) for p in p1])
    shared = rng.normal(size=(2, n, 1)) * np.sqrt(0.5 if tasks > 1 else 1.0)
    own = rng.normal(size=(2, n, tasks)) * np.sqrt(0.5 if tasks > 1 else 0.0)
    effect = (shared + own) * SD_BEHAVIOR
    base_effect = RHO * effect[0] + np.sqrt(1 - RHO**2) * effect[1]
    base = expit(mu0 + base_effect + SD_BOTH * rng.normal(size=(n, tasks)))
    seed = sd_seed * rng.normal(size=seeds)
    tuned = expit(
        mu1[:, None] + effect[0][..., None] + seed + SD_BOTH * rng.normal(size=(n, tasks, seeds))
    )
    base_draws = rng.random((n, tasks, samples)) < base[..., None]
    tuned_draws = rng.random((n, tasks, samples, seeds)) < tuned[:, :, None, :]
    return base_draws, tuned_draws
