"""Behaviors crossed with training seeds: the variance of a mean, and Wilson's interval on it.

Every matrix is n x S: one row a behavior (templates and samples already averaged inside it), one column a training
seed. A base has one column. Which figure uses which formula: docs/statistics.md. The sources are named at each function.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from aftertune.measure.intervals import Bounds, wilson

Matrix = NDArray[np.float64]
_NOTHING = 1e-20
"""Variances below this are rounding errors of equal cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoWay:
    """The mean of an n x S matrix with the variance that new behaviors and new seeds give it."""

    mean: float
    variance: float
    """Of the mean; infinite for a single behavior, which says nothing about others."""
    df: float
    rows: int
    """n, the behaviors themselves."""
    seeds: int
    """S, the training seeds."""
    behaviors: float
    """How many equally weighted behaviors the rows are worth."""
    ms_behaviors: float
    ms_seeds: float
    ms_interaction: float


def two_way(x: Matrix, behaviors: float | None = None) -> TwoWay:
    """Return the random-effects ANOVA variance of the mean of ``x`` with Satterthwaite's degrees of freedom.

    Args:
        x: n x S.
        behaviors: how many equally weighted behaviors the rows are worth (`averaging.Average`); None for all n.

    Source: generalizability theory (Brennan, 2001), with negative components truncated by the maximum. For S = 1 it is
    the variance over behaviors, which equals the cluster-robust CR2 in this design.
    """
    n, s = x.shape
    mean = float(x.mean())
    rows, columns = x.mean(axis=1), x.mean(axis=0)
    msp = s * float(((rows - mean) ** 2).sum()) / (n - 1) if n > 1 else math.inf
    mss = n * float(((columns - mean) ** 2).sum()) / (s - 1) if s > 1 else 0.0
    residual = x - rows[:, None] - columns[None, :] + mean
    msi = float((residual**2).sum()) / ((n - 1) * (s - 1)) if n > 1 and s > 1 else 0.0
    variance, df = (math.inf, 1.0) if n == 1 else variance_and_df(msp, mss, msi, n, s)
    return TwoWay(
        mean=_snap(mean),
        variance=variance,
        df=df,
        rows=n,
        seeds=s,
        behaviors=n if behaviors is None else behaviors,
        ms_behaviors=msp,
        ms_seeds=mss,
        ms_interaction=msi,
    )


def variance_and_df(msp: float, mss: float, msi: float, n: int, s: int) -> tuple[float, float]:
    """Return the variance of the mean and Satterthwaite's degrees of freedom, from the mean squares of an n x S matrix."""
    if s == 1:
        variance, df = msp / n, n - 1.0
    else:
        total = max(msp + mss - msi, msp, mss)
        spread = msp**2 / (n - 1) + mss**2 / (s - 1) + msi**2 / ((n - 1) * (s - 1))
        df = total**2 / spread if spread > 0 else n - 1.0
        variance, df = total / (n * s), min(max(df, s - 1.0), max(n, s) - 1.0)
    return (variance if variance > _NOTHING else 0.0), df


def _snap(mean: float) -> float:
    """Return exactly 0 or 1 for means that differ from them by rounding alone."""
    return float(round(mean)) if abs(mean - round(mean)) < 1e-12 else mean


def quantiles(alpha: float, df: float) -> tuple[float, float]:
    """Return the upper alpha / 2 quantiles of the normal and of Student's t with ``df`` degrees of freedom."""
    return -float(ndtri(alpha / 2)), -float(stdtrit(df, alpha / 2))


def half_width_squared(x: TwoWay, alpha: float = 0.05, seed_alpha: float | None = None) -> float:
    """Return the squared half width of the two-sided 1 - ``alpha`` interval of the mean.

    ``t_df^2 V`` with Satterthwaite's degrees of freedom, but never less than if the seeds' variance alone were unknown,
    ``t_{S-1}^2 s_S^2 / S + z^2 MSP / (nS)``: few seeds often look alike by chance, and V and df are then both too
    hopeful. Source of the second form: Banerjee (1961), Sankhya A 23:411, each part with the quantile of its own degrees
    of freedom. s_S^2 is (MSS - c MSI) / n, c as in `by_chance`. Simulated: docs/statistics.md.

    Args:
        x: the mean.
        alpha: two-sided error.
        seed_alpha: the two-sided error at which the seeds' part is taken, for limits that have to be kept; None for
            ``alpha``.
    """
    z, t = quantiles(alpha, x.df)
    plain = t * t * x.variance
    if x.seeds == 1 or not 0 < x.variance < math.inf:
        return plain
    own = quantiles(alpha if seed_alpha is None else seed_alpha, x.seeds - 1.0)[1]
    beyond = max(
        x.ms_seeds - by_chance(x.seeds, cautious=seed_alpha is not None) * x.ms_interaction, 0.0
    )
    return max(plain, (own * own * beyond + z * z * x.ms_behaviors) / (x.rows * x.seeds))


def by_chance(seeds: int, *, cautious: bool = False) -> float:
    """Return what share of the interaction mean square is taken off the seeds' as that which chance gives equal seeds.

    All of it, on average. But two seeds that differ look alike by chance in up to a fifth of the draws, nothing would then
    be left of them, and the interval would speak of behaviors alone: of two seeds a quarter is taken off, and half of three
    for limits that have to be kept. Both shares are such that simulations show the stated coverage and errors
    (docs/statistics.md).
    """
    if seeds == 2:
        return 0.25
    return 0.5 if cautious and seeds == 3 else 1.0


def shared_part(x: TwoWay, alpha: float = 0.05, seed_alpha: float | None = None) -> float:
    """Return what part of the half width may be shared with another mean over the same behaviors: ``t_df sqrt(V)`` / half width.

    What few training seeds add to the half width beyond that is their own, and correlates with nothing in another arm.
    """
    width = half_width_squared(x, alpha, seed_alpha)
    if not 0 < width < math.inf:
        return 1.0
    return quantiles(alpha, x.df)[1] * math.sqrt(x.variance / width)


def effective_n(
    x: TwoWay, responses: float, alpha: float = 0.05, seed_alpha: float | None = None
) -> float:
    """Return the number of independent yes/no draws whose mean would vary as much, shrunk for few degrees of freedom.

    Never more than the responses themselves. Source: Korn and Graubard (1998), Survey Methodology 24:193.
    """
    z, t = quantiles(alpha, x.df)
    if not (0 < x.mean < 1 and x.variance > 0):
        return max(1.0, min(x.behaviors, responses) * (z / t) ** 2)
    size = x.mean * (1 - x.mean) * z * z / half_width_squared(x, alpha, seed_alpha)
    return max(1.0, min(size, responses * (z / t) ** 2))


def crossed_wilson(x: TwoWay, responses: float, alpha: float = 0.05) -> Bounds:
    """Return Wilson's interval on the effective sample size."""
    return wilson(x.mean, effective_n(x, responses, alpha), alpha)


def cautious_wilson(x: TwoWay, responses: float, alpha: float = 0.05) -> Bounds:
    """Return limits that a model has to keep, which are wider than `crossed_wilson` in two ways.

    They are never tighter than what no hit at all, or nothing but hits, would give. Without a single hit nothing is known
    of how hits cluster, so the behaviors alone count; one stray hit lets the effective size jump to the number of
    responses, and the upper limit *falls* from 0 hits to 1. As an interval that covers what it should; as a limit it
    would pass the worse of two.

    And they take the seeds' part at half the error: where most seeds do little and a few do much, the seeds that were
    drawn tend to show too low a mean and too small a spread at once, and Student's t then errs on the lenient side.
    """
    low, high = wilson(x.mean, effective_n(x, responses, alpha, alpha / 2), alpha)
    z, t = quantiles(alpha, max(x.rows - 1.0, 1.0))
    extreme = max(1.0, min(x.behaviors, responses) * (z / t) ** 2)
    return min(low, wilson(1.0, extreme, alpha)[0]), max(high, wilson(0.0, extreme, alpha)[1])


def seed_collapse(seeds: int) -> float:
    """Return the upper 95 % bound on the share of training seeds that collapse, when none of ``seeds`` did."""
    return float(1 - 0.05 ** (1 / seeds))
