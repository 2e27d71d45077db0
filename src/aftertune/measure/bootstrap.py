"""The pigeonhole bootstrap: behaviors and training seeds are drawn anew, each apart from the other.

For figures that are no means of cells: ratios of noisy numbers, corpus scores, unbalanced tables. Where a closed formula
serves it is better: the bootstrap runs a little wide, and its test is only as fine as the number of draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aftertune.measure.results import Bounds

Totals = NDArray[np.float64]
Figure = Callable[[Sequence[Totals]], Totals]
DRAWS = 2000
_AT_ONCE = 200
"""Draws that are computed together, so that memory stays small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrapped:
    """A figure with its value in every draw."""

    estimate: float
    draws: NDArray[np.float64]
    """NaN or infinite where the figure was undefined (0 / 0)."""

    @property
    def constant(self) -> bool:
        """True where the 95 % interval has no width."""
        low, high = self.interval()
        return low == high

    @property
    def p_value(self) -> float:
        """The two-sided percentile p-value against a figure of 0; what is undefined speaks for 0.

        Twice the share of draws on the far side of 0, the estimate counted as a draw: Davison and Hinkley (1997),
        Bootstrap Methods and their Application, 4.2.2.
        """
        sides = [(~(self.draws > 0)).sum(), (~(self.draws < 0)).sum()]
        return min(1.0, 2 * (float(min(sides)) + 1) / (len(self.draws) + 1))

    def interval(self, alpha: float = 0.05) -> Bounds:
        """Return the percentile interval of level 1 - ``alpha``: infinite where the figure was undefined too often."""
        undefined = ~np.isfinite(self.draws)
        low, high = (
            float(np.quantile(np.where(undefined, worst, self.draws), level, method="inverted_cdf"))
            for worst, level in ((-np.inf, alpha / 2), (np.inf, 1 - alpha / 2))
        )
        return low, high


def pigeonhole(
    arms: Sequence[NDArray[np.float64]], figure: Figure, *, draws: int = DRAWS, seed: int = 0
) -> Bootstrapped:
    """Return a figure of sums over drawn behaviors and drawn training seeds.

    Args:
        arms: for each arm n x S x K, the sums of K quantities in each cell (0 where it is empty). Rows are the same
            behaviors in all arms and are drawn together; seeds are drawn for each arm apart, so that what the same models
            gave belongs into one arm, as further quantities.
        figure: from one D x K array of totals per arm to D figures; NaN where it is not defined.
        draws: number of resamples.
        seed: of the resampling.

    With one column only behaviors are drawn, and the interval is about this checkpoint. Source: Owen (2007), "The
    pigeonhole bootstrap", Ann Appl Stat 1:386.
    """
    rng = np.random.default_rng(seed)
    estimate = float(figure([arm.sum(axis=(0, 1))[None, :] for arm in arms])[0])
    drawn = []
    for start in range(0, draws, _AT_ONCE):
        size = min(_AT_ONCE, draws - start)
        rows = _weights(rng, arms[0].shape[0], size)
        columns = [_weights(rng, arm.shape[1], size) for arm in arms]
        # T_dk = sum_n sum_s a_dn b_ds x_nsk: behaviors and seeds are drawn apart, and a cell counts a_dn b_ds times.
        totals = [
            np.einsum("dn,ds,nsk->dk", rows, times, arm, optimize=True)
            for times, arm in zip(columns, arms, strict=True)
        ]
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn.append(figure(totals))
    return Bootstrapped(estimate=estimate, draws=np.concatenate(drawn))


def _weights(rng: np.random.Generator, size: int, draws: int) -> NDArray[np.float64]:
    """Return draws x ``size``: the number of times that each row or column is drawn."""
    if size == 1:
        return np.ones((draws, 1))
    return rng.multinomial(size, np.full(size, 1 / size), size=draws).astype(np.float64)


def rise_undone(totals: Sequence[Totals]) -> Totals:
    """Return the share of a rise that a mitigation undoes, of the arms base, fine-tune and mitigated (hits, responses)."""
    base, tuned, mended = (arm[:, 0] / arm[:, 1] for arm in totals)
    return np.divide(tuned - mended, tuned - base)


def macro_f1(totals: Sequence[Totals]) -> Totals:
    """Return the macro-averaged F1 of one arm whose quantities are true and false positives and false negatives.

    Args:
        totals: D x 3 L, the three counts of the first of L labels first. A label that never occurs has F1 0.
    """
    (arm,) = totals
    hits, false, missed = (arm[:, place::3] for place in range(3))
    scores: Totals = np.mean(2 * hits / np.maximum(2 * hits + false + missed, 1e-300), axis=1)
    return scores
