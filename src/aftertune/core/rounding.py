"""Shares and their differences in print: a rounded number never says what the exact one does not.

0 % and 100 % stand only where exact, and a number that is printed beside another one stands on its right side of it.
"""

import math
from collections.abc import Callable, Iterable

EQUAL = 1e-9
"""Numbers this close are the same number: the order of a sum moves the last digits of a mean."""


def percent(share: float, beside: Iterable[float] = (), *, unit: str = " %") -> str:
    """Return a share as a percentage; 0 and 100 stand only where exact.

    Args:
        share: in [0, 1]; what lies outside is cut to it.
        beside: shares that it is compared with in print; digits are added until it stands on their right side.
        unit: what follows the number.
    """
    if share <= 0.0 or share >= 1.0:
        return f"{100 * min(max(share, 0.0), 1.0):.0f}{unit}"
    if share < 0.0005:
        return f"<0.1{unit}"
    if share >= 0.9995:
        return f">99.9{unit}"
    return f"{_apart(share, beside, '{:.{}f}'.format)}{unit}"


def points(difference: float, beside: Iterable[float] = ()) -> str:
    """Return a difference of shares in signed points, without the word; ``0.0`` only when exact.

    Args:
        difference: a difference of shares (0.21 is 21 points).
        beside: shares that it is compared with in print; digits are added until it stands on their right side.
    """
    if not difference:
        return "0.0"
    if abs(difference) < 0.0005:
        return "+<0.1" if difference > 0 else "-<0.1"
    return _apart(difference, beside, "{:+.{}f}".format)


def p_value(p: float) -> str:
    """Return ``p = 0.012``, or ``p < 0.001`` and ``p > 0.999`` at the ends; never 0.050 for what is not 0.05."""
    if p < 0.001:
        return "p < 0.001"
    if p >= 0.9995:
        return "p > 0.999"
    digits = next(
        (digits for digits in range(3, 9) if _same_side(round(p, digits) * 100, p, 0.05)), 9
    )
    return f"p = {p:.{digits}f}"


def by_chance(p: float) -> str:
    """Return a p-value in brackets after a space; nothing for 0, where all that is spoken of was seen."""
    return f" ({p_value(p)})" if p else ""


def _apart(exact: float, beside: Iterable[float], written: Callable[[float, int], str]) -> str:
    """Return 100 x ``exact`` with the fewest digits, one to seven, that keep it on its side of all ``beside``."""
    others = tuple(beside)
    for digits in range(1, 7):
        shown = round(100 * exact, digits)
        if all(_same_side(shown, exact, other) for other in others):
            return written(shown, digits)
    return written(100 * exact, 7)


def _same_side(shown: float, exact: float, other: float) -> bool:
    return (
        math.isclose(exact, other, abs_tol=EQUAL)
        or (shown > 100 * other and exact > other)
        or (shown < 100 * other and exact < other)
    )
