"""Whether the order of several models would come out again."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aftertune.measure.crossed import Matrix, two_way

FEWEST = 4
"""Models from which on an order is worth speaking of."""


def dependability(models: Sequence[Matrix]) -> float:
    """Return Phi: the share of the spread between the models' rates that is theirs and not the design's.

    Args:
        models: a matrix (the same behaviors x its own training seeds) each.

    Source: Brennan (2001), Generalizability Theory: ``between / (between + V)``, V the variance of a mean over new
    behaviors and seeds. The between-model variance is freed of the seeds' alone, as the behaviors are shared.
    """
    found = [two_way(matrix) for matrix in models]
    of_seeds = float(np.mean([x.ms_seeds / (x.rows * x.seeds) for x in found]))
    between = max(0.0, float(np.var([x.mean for x in found], ddof=1)) - of_seeds)
    error = float(np.mean([x.variance for x in found]))
    return between / (between + error) if between > 0 else 0.0


def rank_agreement(models: Sequence[Matrix], draws: int = 500, seed: int = 0) -> float:
    """Return Kendall's tau between two orders of the models, each from training seeds drawn anew; the mean of many."""
    rng = np.random.default_rng(seed)
    first, second = (
        np.stack([_redrawn(matrix, rng, draws) for matrix in models], axis=1) for _ in range(2)
    )
    one, other = np.triu_indices(len(models), 1)
    signs = [np.sign(means[:, one] - means[:, other]) for means in (first, second)]
    return float((signs[0] * signs[1]).mean())


def _redrawn(matrix: Matrix, rng: np.random.Generator, draws: int) -> NDArray[np.float64]:
    means = matrix.mean(axis=0)
    drawn: NDArray[np.float64] = means[rng.integers(len(means), size=(draws, len(means)))].mean(
        axis=1
    )
    return drawn
