"""Textbook intervals and tests that no figure is printed from, for whoever has to report them or compare with other software.

docs/statistics.md says what each is for, and why another one is the default. The cells of a paired table are named as in
`intervals`.
"""

import math

from scipy.special import betaincinv, ndtr, ndtri

from aftertune.measure.intervals import Bounds, bisect


def clopper_pearson(share: float, n: float, alpha: float = 0.05) -> Bounds:
    """Return the "exact" interval of a proportion, which never covers less than it says; ``n`` may be an effective one.

    On effective sample sizes it is about 7 % wider than `intervals.wilson` and no safer on average. Source: Clopper and
    Pearson (1934), Biometrika 26:404, by beta quantiles.
    """
    k = share * n
    low = 0.0 if share <= 0 else float(betaincinv(k, n - k + 1, alpha / 2))
    high = 1.0 if share >= 1 else float(betaincinv(k + 1, n - k, 1 - alpha / 2))
    return low, high


def jeffreys(share: float, n: float, alpha: float = 0.05) -> Bounds:
    """Return the equal-tailed interval of the Beta(1/2, 1/2) posterior; ``n`` may be an effective one.

    Source: Brown, Cai and DasGupta (2001), Statist Sci 16:101, 3.1.3 (0 and 1 are included where nothing or all is hit).
    """
    k = share * n
    low = 0.0 if share <= 0 else float(betaincinv(k + 0.5, n - k + 0.5, alpha / 2))
    high = 1.0 if share >= 1 else float(betaincinv(k + 0.5, n - k + 0.5, 1 - alpha / 2))
    return low, high


def mcnemar_chi_squared(b: int, c: int, *, corrected: bool = False) -> float:
    """Return McNemar's chi-squared statistic (one degree of freedom), with Yates' correction if asked.

    `intervals.mcnemar`, the mid-p version, is what is printed. Source: McNemar (1947), Psychometrika 12:153.
    """
    distance = max(0.0, abs(b - c) - (1 if corrected else 0))
    return distance**2 / (b + c) if b + c else 0.0


def tango_score(b: int, c: int, n: int, delta: float) -> float:
    """Return Tango's score statistic of a paired difference ``delta``; standard normal under it.

    Source: Tango (1998), Stat Med 17:891.
    """
    linear = -b - c + (2 * n - b + c) * delta
    constant = -c * delta * (1 - delta)
    q = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    distance = b - c - n * delta
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def tango(b: int, c: int, n: int, alpha: float = 0.05) -> Bounds:
    """Return Tango's score interval of a paired difference: all ``delta`` whose score lies within the quantiles.

    As the gate's bound it failed .053 to .064 of the fine-tunes that lie at the margin, where `intervals.newcombe` failed
    .034 to .051.
    """
    z = -float(ndtri(alpha / 2))
    low = (
        -1.0
        if tango_score(b, c, n, -1 + 1e-12) <= z
        else bisect(lambda x: tango_score(b, c, n, x) <= z, -1.0, 1.0)
    )
    high = (
        1.0
        if tango_score(b, c, n, 1 - 1e-12) >= -z
        else bisect(lambda x: tango_score(b, c, n, x) < -z, -1.0, 1.0)
    )
    return low, high


def tango_above(b: int, c: int, n: int, delta: float) -> float:
    """Return Tango's one-sided p-value against "the difference is at most ``delta``": the inversion of `tango`."""
    return float(ndtr(-tango_score(b, c, n, delta)))
