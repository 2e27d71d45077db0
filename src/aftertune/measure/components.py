"""Variance components of a rate (behaviors, training seeds, both together, decoding), and what follows for another lab.

On the probability scale, for a balanced n x S matrix of cell means (behaviors x training seeds):
``x_ij = mu + b_i + t_j + (bt)_ij + e_ij``. The words are those of ISO 5725: two runs differ by more than the
*repeatability limit* once in twenty when one checkpoint is decoded again, and by more than the *reproducibility limit*
when the model is trained again (same data, prompts and judge).
"""

import math

from scipy.special import chdtri, stdtr, stdtrit

from aftertune.measure.consistency_results import Components, Shares
from aftertune.measure.crossed import Matrix, two_way
from aftertune.measure.results import Bounds

REPEATABILITY = 1.959964 * math.sqrt(2)
"""2.77: the 95 % limit of a difference of two runs, in standard deviations of one."""


def components(x: Matrix, decoding: float | None = None) -> Components:
    """Split the variance of an n x S matrix of cell means.

    Args:
        x: behaviors x training seeds.
        decoding: the variance that decoding again gives a cell mean, averaged over the cells (`pooling.decoding_noise`).

    Source: random-effects ANOVA (Brennan 2001, Generalizability Theory), negative components set to 0; the interval of
    the seeds' variance is the chi-squared one of its mean square. ICC: Shrout and Fleiss (1979), Psychol Bull 86:420.
    """
    n, s = x.shape
    squares = two_way(x)
    msp, mss, msi = squares.ms_behaviors, squares.ms_seeds, squares.ms_interaction
    if s == 1 or n == 1:  # one mean square at most: E[MSP] = behaviors + decoding
        own = max(0.0, msp - (decoding or 0.0)) if n > 1 else None
        return Components(
            behaviors=n, seeds=s, of_behaviors=own, of_seeds=None, of_both=None, of_decoding=decoding,
            seed_variance=None, seed_sd_interval=None, icc=None,
        )  # fmt: skip
    # E[MSP] = both + S behaviors, E[MSS] = both + n seeds, E[MSI] = both, decoding inside ``both``.
    of_behaviors, of_seeds = max(0.0, (msp - msi) / s), max(0.0, (mss - msi) / n)
    total = of_behaviors + of_seeds + msi
    return Components(
        behaviors=n,
        seeds=s,
        of_behaviors=of_behaviors,
        of_seeds=of_seeds,
        of_both=msi if decoding is None else max(0.0, msi - decoding),
        of_decoding=decoding,
        # A seed's mean varies by MSS / n, and never by less than decoding alone makes it.
        seed_variance=max(mss, decoding or 0.0) / n,
        seed_sd_interval=_seed_sd_interval(mss, msi, n, s),
        # ICC(2,1) = (MSP - MSI) / (MSP + (S - 1) MSI + S (MSS - MSI) / n), case 2 of Shrout and Fleiss.
        icc=of_behaviors / total if total > 0 else None,
    )


def _seed_sd_interval(mss: float, msi: float, n: int, s: int, alpha: float = 0.05) -> Bounds:
    # (S - 1) MSS / E[MSS] is chi-squared with S - 1 degrees of freedom; the seeds' part of E[MSS] is what exceeds MSI.
    low, high = (mss * (s - 1) / float(chdtri(s - 1, tail)) for tail in (alpha / 2, 1 - alpha / 2))
    return math.sqrt(max(0.0, (low - msi) / n)), min(1.0, math.sqrt(max(0.0, (high - msi) / n)))


def shares(x: Components, seeds: int) -> Shares | None:
    """Return the shares of the variance of the mean, ``P/n + T/S + I/(nS) + D/(nS)``, for ``seeds`` training seeds.

    They are shares of the mean's variance, never of one answer's: a source that is small in one answer may be most of
    the mean's. None for a single seed's components, and where nothing varies.
    """
    if x.of_behaviors is None or x.of_seeds is None or x.of_both is None:
        return None
    cells = x.behaviors * seeds
    parts = [
        x.of_behaviors / x.behaviors,
        x.of_seeds / seeds,
        x.of_both / cells,
        (x.of_decoding or 0.0) / cells,
    ]
    total = sum(parts)
    if total <= 0:
        return None
    behaviors, of_seeds, both, decoding = (part / total for part in parts)
    return Shares(
        behaviors=behaviors,
        seeds=of_seeds,
        both=both,
        decoding=None if x.of_decoding is None else decoding,
    )


def repeatability(x: Components, run: float = 0.0) -> float | None:
    """Return the limit for two decodings of one checkpoint on these behaviors; None where it was decoded once.

    Args:
        x: components of the checkpoint.
        run: variance of a mean over replicates that the effect of a whole run makes.
    """
    if x.of_decoding is None:
        return None
    return REPEATABILITY * math.sqrt(x.of_decoding / x.behaviors + run)


def reproducibility(x: Components, seeds: int = 1) -> float | None:
    """Return the limit for two labs with ``seeds`` training seeds each, on these behaviors.

    With Student's quantile in place of 1.96, as few seeds tell little of their own spread. None with one seed, and where
    all seeds gave the very same rate, which says nothing about the next one.
    """
    # The difference of two means of S' seeds has the variance 2 s^2 / S'.
    return (
        min(
            1.0,
            math.sqrt(2) * float(stdtrit(x.seeds - 1, 0.975)) * math.sqrt(x.seed_variance / seeds),
        )
        if x.seed_variance
        else None
    )


def reproducibility_interval(x: Components, seeds: int = 1) -> Bounds | None:
    """Return the 95 % interval of the limit that very many seeds would give (chi-squared on the seeds' variance)."""
    if not x.seed_variance:
        return None
    df = x.seeds - 1
    low, high = (x.seed_variance * df / float(chdtri(df, tail)) for tail in (0.025, 0.975))
    return min(1.0, REPEATABILITY * math.sqrt(low / seeds)), min(
        1.0, REPEATABILITY * math.sqrt(high / seeds)
    )


def differing(x: Components, by: float, seeds: int = 1) -> float | None:
    """Return the probability that two labs with ``seeds`` training seeds each differ by more than ``by``.

    Of the t-predictive distribution, so it allows for what few seeds leave open. None as in `reproducibility`.
    """
    return (
        2 * float(stdtr(x.seeds - 1, -by / math.sqrt(2 * x.seed_variance / seeds)))
        if x.seed_variance
        else None
    )


def predicted(mean: float, x: Components, seeds: int = 1) -> Bounds | None:
    """Return the 95 % interval of the rate that another lab with ``seeds`` training seeds finds on these behaviors."""
    if not x.seed_variance:
        return None
    # t-predictive: the variance of a new mean of S' seeds and of this one, s^2 (1 / S + 1 / S').
    half = float(stdtrit(x.seeds - 1, 0.975)) * math.sqrt(
        x.seed_variance * (1 / x.seeds + 1 / seeds)
    )
    return max(0.0, mean - half), min(1.0, mean + half)


def on_these_behaviors(estimate: float, x: Components, base: float = 0.0) -> Bounds | None:
    """Return the 95 % interval of the rate, or the change, that very many training seeds would give on these behaviors.

    The behaviors are fixed, so their differences add nothing: t(S - 1) on the seeds' means alone, and what decoding the
    base again adds to a change. Limits are not cut. None as in `reproducibility`.

    Args:
        estimate: the mean over the seeds.
        x: components of the fine-tune.
        base: the variance that decoding again gives the base's rate; 0 for a rate.
    """
    if not x.seed_variance:
        return None
    half = float(stdtrit(x.seeds - 1, 0.975)) * math.sqrt(x.seed_variance / x.seeds + base)
    return estimate - half, estimate + half


def reproduced(
    change: float, x: Components, *, above: float = 0.0, seeds: int = 1, base: float = 0.0
) -> float | None:
    """Return the probability that another lab's change has the same sign and is larger than ``above``, on these behaviors.

    Args:
        change: the change found here, from base to fine-tune.
        x: components of the fine-tune.
        above: a size (its own significance limit, a margin), as a share.
        seeds: the training seeds of the other lab.
        base: the variance that decoding again gives the base's rate; both labs decode it.
    """
    if not x.seed_variance:
        return None
    # P(|change'| > above, same sign) = t_{S-1}((|change| - above) / sqrt(s^2 (1/S + 1/S') + 2 b))
    spread = math.sqrt(x.seed_variance * (1 / x.seeds + 1 / seeds) + 2 * base)
    return float(stdtr(x.seeds - 1, (abs(change) - above) / spread))
