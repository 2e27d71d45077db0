"""Behaviors crossed with training seeds: the variance of a mean, and Wilson's interval on it.

Every matrix is n x S: one row a behavior (templates and samples already averaged inside it), one column a training
seed. A base has one column. docs/statistics.md says for each figure which formula it uses; the sources stand at each
function.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from aftertune.measure.intervals import wilson
from aftertune.measure.results import Bounds

Matrix = NDArray[np.float64]
_NOTHING = 1e-20
"""Variances below this are rounding errors of equal cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoWay:
    """The mean of an n x S matrix with the variance that new behaviors and new seeds give it."""

    mean: float
    variance: float
    """The variance of the mean; infinite for a single behavior, which says nothing about others."""
    df: float
    rows: int
    """n, the behaviors themselves."""
    seeds: int
    """S, the training seeds."""
    behaviors: float
    """The number of equally weighted behaviors that the rows are worth."""
    ms_behaviors: float
    ms_seeds: float
    ms_interaction: float


def two_way(x: Matrix, behaviors: float | None = None) -> TwoWay:
    """Return the random-effects ANOVA variance of the mean of ``x`` with Satterthwaite's degrees of freedom.

    Args:
        x: n x S.
        behaviors: number of equally weighted behaviors that the rows are worth (`arrays.Average`); None for all n.

    The mean squares are those of the two-way layout with one value a cell (Brennan 2001, Generalizability Theory). For S = 1 the variance is that over behaviors, which
    equals the cluster-robust CR2 in this design.
    """
    n, s = x.shape
    mean = float(x.mean())
    rows, columns = x.mean(axis=1), x.mean(axis=0)
    # MSP = S sum_i (r_i - g)^2 / (n - 1), MSS = n sum_j (s_j - g)^2 / (S - 1),
    # MSI = sum_ij (x_ij - r_i - s_j + g)^2 / ((n - 1) (S - 1)); r_i and s_j are the means of rows and columns, g of all.
    msp = s * float(((rows - mean) ** 2).sum()) / (n - 1) if n > 1 else math.inf
    mss = n * float(((columns - mean) ** 2).sum()) / (s - 1) if s > 1 else 0.0
    residual = x - rows[:, None] - columns[None, :] + mean
    msi = float((residual**2).sum()) / ((n - 1) * (s - 1)) if n > 1 and s > 1 else 0.0
    variance, df = (math.inf, 1.0) if n == 1 else variance_and_df(msp, mss, msi, n, s)
    return TwoWay(
        # exactly 0 or 1 for means that differ from them by rounding alone
        mean=float(round(mean)) if abs(mean - round(mean)) < 1e-12 else mean,
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
    """Return the variance of the mean and Satterthwaite's degrees of freedom, from the mean squares of an n x S matrix.

    V = max(MSP + MSS - MSI, MSP, MSS) / (n S): E[MSP + MSS - MSI] = n S Var(mean) in the random-effects model, and the
    maximum truncates negative components. df = (n S V)^2 / (MSP^2 / (n - 1) + MSS^2 / (S - 1) + MSI^2 / ((n - 1) (S - 1)))
    (Satterthwaite 1946, Biometrics 2:110), kept between S - 1 and max(n, S) - 1.
    """
    if s == 1:
        variance, df = msp / n, n - 1.0
    else:
        total = max(msp + mss - msi, msp, mss)
        spread = msp**2 / (n - 1) + mss**2 / (s - 1) + msi**2 / ((n - 1) * (s - 1))
        df = total**2 / spread if spread > 0 else n - 1.0
        variance, df = total / (n * s), min(max(df, s - 1.0), max(n, s) - 1.0)
    return (variance if variance > _NOTHING else 0.0), df


def quantiles(alpha: float, df: float) -> tuple[float, float]:
    """Return the upper alpha / 2 quantiles of the normal and of Student's t with ``df`` degrees of freedom."""
    return -float(ndtri(alpha / 2)), -float(stdtrit(df, alpha / 2))


def half_width_squared(x: TwoWay, alpha: float = 0.05, seed_alpha: float | None = None) -> float:
    """Return the squared half width of the two-sided 1 - ``alpha`` interval of the mean.

    t_df^2 V, but never less than t_{S-1}^2 s_S^2 / S + z^2 MSP / (n S), in which the seeds' variance s_S^2 = max(0, MSS - c
    MSI) / n has the quantile of its own degrees of freedom (Banerjee 1960, Sankhya 22:357; c: `chance_share`). Few seeds
    often look alike by chance; V is then too small and df too large. Coverage: docs/statistics.md, "two
    training seeds"; simulated in tests/measure/test_measure_coverage.py.

    Args:
        x: the mean.
        alpha: two-sided error.
        seed_alpha: the two-sided error at which the seeds' part is taken, for limits that a model has to keep; None for
            ``alpha``.
    """
    z, t = quantiles(alpha, x.df)
    plain = t * t * x.variance
    if x.seeds == 1 or not 0 < x.variance < math.inf:
        return plain
    own = quantiles(alpha if seed_alpha is None else seed_alpha, x.seeds - 1.0)[1]
    share = chance_share(x.seeds, cautious=seed_alpha is not None)
    beyond_chance = max(x.ms_seeds - share * x.ms_interaction, 0.0)
    return max(plain, (own * own * beyond_chance + z * z * x.ms_behaviors) / (x.rows * x.seeds))


def chance_share(seeds: int, *, cautious: bool = False) -> float:
    """Return c in s_S^2 = max(0, MSS - c MSI) / n, the seeds' variance beyond that which equal seeds show by chance.

    | seeds | in an interval | in a limit that a model has to keep (``cautious``) |
    |---|---|---|
    | 2 | 0.25 | 0.25 |
    | 3 | 1 | 0.5 |
    | more | 1 | 1 |

    c = 1 is unbiased, as E[MSS] = E[MSI] for equal seeds. But two seeds that differ come out alike in up to a fifth of the
    draws; MSS - MSI is then negative, and the interval would speak of behaviors alone. Both smaller shares are the largest
    at which simulations keep the stated coverage and errors: tests/measure/test_measure_coverage.py (two seeds: worst
    coverage .896 with c = 1, .934 with 0.25) and test_measure_gate.py; tables in docs/log/statistics.md.
    """
    if seeds == 2:
        return 0.25
    return 0.5 if cautious and seeds == 3 else 1.0


def shared_part(x: TwoWay, alpha: float = 0.05, seed_alpha: float | None = None) -> float:
    """Return the part of the half width that another mean over the same behaviors may share: t_df sqrt(V) / half width.

    The rest, which few training seeds add (`half_width_squared`), is their own and correlates with nothing in another arm.
    """
    width = half_width_squared(x, alpha, seed_alpha)
    if not 0 < width < math.inf:
        return 1.0
    return quantiles(alpha, x.df)[1] * math.sqrt(x.variance / width)


def effective_n(
    x: TwoWay, responses: float, alpha: float = 0.05, seed_alpha: float | None = None
) -> float:
    """Return the number of independent yes/no draws whose mean would vary as much, shrunk for few degrees of freedom.

    n_eff = g (1 - g) z^2 / half width^2, at most the responses times (z / t_df)^2, at least 1; without variance (no hit,
    nothing but hits, or equal rows) the behaviors times (z / t_df)^2. Source: Korn and Graubard (1998), Survey Methodology
    24:193.
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

    They are never tighter than the limits for no hit at all, or for nothing but hits. Without a hit the data do not show
    how hits cluster, so the behaviors alone count; with one stray hit the effective size jumps to the number of responses,
    and the upper limit *falls* from 0 hits to 1. The interval still covers as stated; but as a limit it would pass the
    worse of two models.

    And they take the seeds' part at half the error: where most seeds do little and a few do much, the seeds that were
    drawn tend to show too low a mean and too small a spread at once, and Student's t then errs on the lenient side.
    """
    low, high = wilson(x.mean, effective_n(x, responses, alpha, alpha / 2), alpha)
    z, t = quantiles(alpha, max(x.rows - 1.0, 1.0))
    extreme = max(1.0, min(x.behaviors, responses) * (z / t) ** 2)
    return min(low, wilson(1.0, extreme, alpha)[0]), max(high, wilson(0.0, extreme, alpha)[1])


def seed_collapse(seeds: int) -> float:
    """Return the upper 95 % bound on the share of training seeds that collapse, when none of ``seeds`` did.

    1 - 0.05^(1/S): the share p at which (1 - p)^S = 0.05 (Clopper and Pearson 1934 for 0 of S).
    """
    return float(1 - 0.05 ** (1 / seeds))
