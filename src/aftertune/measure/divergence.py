"""First-token KL divergence: how far a fine-tune moved on benign prompts, before anybody judges an answer.

A fine-tune whose first token is distributed as its base's has hardly moved; one far away has, whatever its rates say. The
divergences of single prompts are in the store; here they are averaged like any score.
"""

import math

import numpy as np
from numpy.typing import NDArray

from aftertune.measure.arrays import Arms, Layout, breakdown
from aftertune.measure.contrasts import MeanT
from aftertune.measure.counts import Source, SourceKind, Tally
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.rates import TASKS
from aftertune.measure.results import Breakdown, Divergence, interval, scope

DIVERGENCE = Source(SourceKind.DIVERGENCE)


def kl_divergence(base: NDArray[np.floating], tuned: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return KL(base || tuned) = sum p (log p - log q), in nats, for distributions over the last axis.

    Args:
        base: log p.
        tuned: log q, over the same tokens. Where one of both has more entries (embeddings are padded to round numbers), only
            those that both have count, and both are normalised over them.

    Source: Kullback and Leibler (1951), Ann Math Statist 22:79.
    """
    size = min(base.shape[-1], tuned.shape[-1])
    log_p, log_q = (_normalised(x[..., :size].astype(np.float64)) for x in (base, tuned))
    p = np.exp(log_p)
    # what the base never says adds nothing, however likely it is to the fine-tune
    differences = np.subtract(log_p, log_q, out=np.zeros(p.shape), where=p > 0)
    total = (p * differences).sum(axis=-1)
    # rounding alone can make the sum of equal distributions negative
    divergence: NDArray[np.float64] = np.maximum(total, 0.0)
    return divergence


def _normalised(logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
    highest = logprobs.max(axis=-1, keepdims=True)
    total = highest + np.log(np.exp(logprobs - highest).sum(axis=-1, keepdims=True))
    normalised: NDArray[np.float64] = logprobs - total
    return normalised


def divergences(both: Arms | None, plan: MeasurePlan) -> Breakdown[Divergence] | None:
    """Return the mean divergence of a fine-tune, overall and by task; None for a base, or where nothing is known of it."""
    if both is None:
        return None
    grid = both.tuned
    compared = grid.scored(DIVERGENCE, harmful=False)
    if not compared.any():
        return None

    def figure(part: Layout) -> Divergence | None:
        if part.behaviors == 1:
            return None  # its interval would have no end
        average = grid.fold(part, Tally(DIVERGENCE, "sum"), Tally(DIVERGENCE, "n"))
        contrast = MeanT(x=average.two_way)
        return Divergence(
            estimate=contrast.estimate,
            behaviors=part.behaviors,
            seeds=grid.seeds,
            interval=interval(
                contrast.interval(0.05), contrast.method, scope(grid.seeds), ends=(0.0, math.inf)
            ),
            hidden=part.behaviors < plan.min_cell,
            prompts=len(part.order),
        )

    return breakdown(grid, compared, figure, TASKS)
