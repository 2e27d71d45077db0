"""Intervals and tests for one checkpoint, and families of tests.

A paired 2 x 2 table's cells are named as in the literature: ``a`` both, ``b`` only the fine-tune, ``c`` only the base,
``e`` neither; the difference is (b - c) / (a + b + c + e). Errors are two-sided.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import bdtr, ndtri

from aftertune.measure.results import Bounds


def wilson(share: float, n: float, alpha: float = 0.05) -> Bounds:
    """Return Wilson's score interval of a proportion; ``n`` may be an effective, fractional sample size.

    Source: Wilson (1927); equation in Newcombe (1998a), Stat Med 17:857, method 3.
    """
    # ((p + z^2 / 2n) -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    z = -float(ndtri(alpha / 2))
    shrink = 1 + z * z / n
    middle = (share + z * z / (2 * n)) / shrink
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / shrink
    low = 0.0 if share <= 0 else max(0.0, middle - half)
    high = 1.0 if share >= 1 else min(1.0, middle + half)
    return low, high


def newcombe(a: int, b: int, c: int, e: int, alpha: float = 0.05) -> Bounds:
    """Return the interval of a paired difference of proportions.

    Source: Newcombe (1998b), Stat Med 17:2635, method 10 (Wilson limits joined with a corrected phi).
    """
    n = a + b + c + e
    tuned, base = (a + b) / n, (a + c) / n
    # The corrected phi is max(a e - b c - n / 2, 0) for a positive a e - b c, over the root of the margins.
    cross, margins = a * e - b * c, (a + b) * (c + e) * (a + c) * (b + e)
    corrected = max(cross - n / 2, 0.0) if cross > 0 else cross
    phi = 0.0 if margins == 0 else corrected / math.sqrt(margins)
    return join(tuned, wilson(tuned, n, alpha), base, wilson(base, n, alpha), phi)


def join(tuned: float, limits1: Bounds, base: float, limits0: Bounds, r: float) -> Bounds:
    """Join the intervals of two proportions with correlation ``r`` into one of their difference (MOVER).

    low = p_1 - p_0 - sqrt((p_1 - l_1)^2 - 2 r (p_1 - l_1) (u_0 - p_0) + (u_0 - p_0)^2), and likewise high.

    Source: Zou and Donner (2008), Stat Med 27:1693; Newcombe's method 10 is the case r = phi.
    """
    down, up = tuned - limits1[0], limits1[1] - tuned
    base_down, base_up = base - limits0[0], limits0[1] - base
    low = tuned - base - math.sqrt(max(0.0, down**2 - 2 * r * down * base_up + base_up**2))
    high = tuned - base + math.sqrt(max(0.0, up**2 - 2 * r * up * base_down + base_down**2))
    return max(low, -1.0), min(high, 1.0)


def tango(b: float, c: float, n: float, alpha: float = 0.05) -> Bounds:
    """Return the score interval of a paired difference of proportions; the numbers may be effective, fractional ones.

    Where answers change in one direction only (b or c is 0) it is Wilson's interval of the share that changed.

    Source: Tango (1998), Stat Med 17:891.
    """
    z = -float(ndtri(alpha / 2))
    return -_score_limit(c, b, n, z), _score_limit(b, c, n, z)


def _score_limit(b: float, c: float, n: float, z: float) -> float:
    """Return the difference above (b - c) / n that lies ``z`` of its own standard errors away from it."""

    def beyond(delta: float) -> bool:
        # z sqrt(n (2 q + delta (1 - delta))) <= n delta - (b - c), where q is the maximum likelihood estimate of the share
        # that only the base has if the difference is delta: 2 n q^2 + B q - c delta (1 - delta) = 0.
        linear = (2 * n - b + c) * delta - b - c
        root = math.sqrt(max(0.0, linear**2 + 8 * n * c * delta * (1 - delta)))
        spread = n * (2 * (root - linear) / (4 * n) + delta * (1 - delta))
        return n * delta - (b - c) >= z * math.sqrt(max(0.0, spread))

    low = (b - c) / n
    return 1.0 if low >= 1.0 else bisect(beyond, low, 1.0)


def mcnemar(b: int, c: int) -> float:
    """Return the p-value of no difference: the mid-p version of McNemar's test.

    Source: Fagerland, Lydersen and Laake (2013), BMC Med Res Methodol 13:91.
    """
    n = b + c
    if n == 0:
        return 1.0
    # p = 2 P(X <= min(b, c)) - P(X = min(b, c)), X binomial (n, 1/2); for b = c it is 1 - P(X = b) / 2.
    smaller = min(b, c)
    point = float(math.comb(n, smaller) / 2**n)  # exact integers: no overflow, no rounding
    tail = min(1.0, 2 * float(bdtr(smaller, n, 0.5)))
    return 1 - point / 2 if b == c else tail - point


def bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return the point between ``low`` and ``high`` at which ``holds`` turns from false to true (monotone; 60 halvings)."""
    for _ in range(60):
        middle = (low + high) / 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return (low + high) / 2


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that rejecting those at or under alpha errs anywhere with at most alpha.

    Source: Holm (1979), Scand J Statist 6:65.
    """
    # adjusted p of rank k = max over ranks j <= k of (m - j + 1) p_(j), cut to 1
    p = np.asarray(p_values, np.float64)
    order, adjusted = np.argsort(p, kind="stable"), np.empty_like(p)
    raised = np.arange(len(p), 0, -1) * p[order]
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return [float(value) for value in adjusted]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that rejecting those at or under q keeps the false discovery rate at q.

    Source: Benjamini and Hochberg (1995), J R Statist Soc B 57:289; valid under positive dependence.
    """
    from scipy.stats import false_discovery_control  # loads slowly

    adjusted: list[float] = false_discovery_control(p_values).tolist() if p_values else []
    return adjusted
