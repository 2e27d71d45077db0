"""Evidence that may be looked at after every behavior: betting e-processes, valid whenever one stops.

A process starts at 1 and bets, behavior by behavior, that the mean lies above a margin. While the mean lies at or under
it the process is a non-negative supermartingale, so it ever reaches 1 / alpha with probability at most alpha (Ville).
Bets are a fixed mixture over nineteen shares of the capital; nothing is tuned to the data.

Source: Waudby-Smith and Ramdas (2024), J R Statist Soc B 86:1; without replacement also Stark (2023), Ann Appl Stat
17:641 (ALPHA).
"""

import math

import numpy as np
from numpy.typing import NDArray

from aftertune.measure.intervals import bisect

Vector = NDArray[np.float64]
BETS = np.arange(1, 20) / 20
"""Shares of the capital that are bet, mixed with equal weights."""
_NOTHING = 1e-9


def log_evidence(x: Vector, margin: float, low: float = -1.0, total: int | None = None) -> Vector:
    """Return the log of the evidence against "the mean is at most ``margin``" after each value of ``x``.

    Args:
        x: what was seen, in the order drawn beforehand; every value is at least ``low``.
        margin: the largest mean that is tolerated.
        low: the least possible value.
        total: None where the values are draws from prompts like these. The number of all behaviors where the question is
            their own mean: ``x`` is then drawn from them without replacement, and the margin of what is left moves with
            what was seen. Infinite once no rest could bring the mean down to the margin.
    """
    null, certain = _nulls(x, margin, low, total)
    room = null - low
    gain = np.divide(x - null, room, out=np.zeros_like(x), where=room > _NOTHING)
    if total is None and margin <= low:
        certain = np.maximum.accumulate(x > low)
    steps = np.log1p(BETS[:, None] * np.maximum(gain, -1.0)).cumsum(axis=1)
    logs: Vector = np.logaddexp.reduce(steps, axis=0) - math.log(len(BETS))
    logs[certain] = math.inf
    return logs


def _nulls(
    x: Vector, margin: float, low: float, total: int | None
) -> tuple[Vector, NDArray[np.bool_]]:
    """Return the mean that the margin leaves to each value, and after which values the margin is beyond reach."""
    if total is None:
        return np.full(len(x), margin), np.zeros(len(x), np.bool_)
    seen = np.arange(1, len(x) + 1)
    sums = x.cumsum()
    before = np.concatenate([[0.0], sums[:-1]])
    null = (total * margin - before) / (total - seen + 1)
    return null, total * margin - sums < low * (total - seen) - _NOTHING


def evidence_above(x: Vector, margin: float, low: float = -1.0, total: int | None = None) -> float:
    """Return the largest evidence so far that the mean lies above ``margin``."""
    return _largest(log_evidence(x, margin, low, total))


def evidence_below(x: Vector, margin: float, high: float = 1.0, total: int | None = None) -> float:
    """Return the largest evidence so far that the mean lies under ``margin``; no value exceeds ``high``."""
    return _largest(log_evidence(-x, -margin, -high, total))


def _largest(logs: Vector) -> float:
    return math.exp(min(max(float(logs.max(initial=0.0)), 0.0), 700.0))


def lower_limit(
    x: Vector, alpha: float, low: float = -1.0, high: float = 1.0, total: int | None = None
) -> float:
    """Return the largest mean that the evidence speaks against with error ``alpha``, whenever one stops.

    What was shown once stays shown, so the limit never falls; the mean of all values may fall under it later.
    """
    if evidence_above(x, low, low, total) < 1 / alpha:
        return low
    return bisect(lambda margin: evidence_above(x, margin, low, total) < 1 / alpha, low, high)


def upper_limit(
    x: Vector, alpha: float, low: float = -1.0, high: float = 1.0, total: int | None = None
) -> float:
    """Return the smallest mean that the evidence speaks against with error ``alpha``, whenever one stops."""
    return -lower_limit(-x, alpha, -high, -low, total)


def limits_now(
    x: Vector, alpha: float, reach: float, total: int | None = None
) -> tuple[float, float]:
    """Return the limits, each with error ``alpha``, by the evidence as it stands after the last value.

    They hold whenever one stops, like those that remember the strongest evidence so far, are never narrower, and the mean
    of ``x`` lies between them: at it no bet has gained (without replacement hardly any, so it is made sure).
    """
    mean = float(x.mean())

    return min(_limit_now(x, alpha, reach, total), mean), max(
        -_limit_now(-x, alpha, reach, total), mean
    )


def _limit_now(x: Vector, alpha: float, reach: float, total: int | None) -> float:
    def weak(margin: float) -> bool:
        return float(log_evidence(x, margin, -reach, total)[-1]) < -math.log(alpha)

    return -reach if weak(-reach) else bisect(weak, -reach, reach)


def fewest_to_pass(margin: float, alpha: float, high: float = 1.0) -> int:
    """Return how many behaviors without any change it takes to show that the mean lies under ``margin``."""
    grown = np.log1p(BETS * margin / (high - margin))
    n = 1
    while np.logaddexp.reduce(n * grown) - math.log(len(BETS)) < -math.log(alpha):
        n += 1
    return n
