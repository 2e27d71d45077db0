"""Numbers and names in words: never rounded to a lie, never able to steer a terminal.

`percent`, `points` and `p_value` (those of `core.rounding`), `limits` and `score` print numbers; `clean` and `visible`
make foreign text harmless.
"""

import unicodedata
from collections.abc import Iterable, Sequence

from aftertune.core.rounding import p_value, percent, points
from aftertune.measure.results import Bounds, Change, CorrectedChange, Interval, Rate

__all__ = [
    "clean",
    "counts",
    "few",
    "in_points",
    "limits",
    "listing",
    "nats",
    "p_value",
    "percent",
    "plural",
    "point_limits",
    "points",
    "quoted",
    "score",
    "score_change",
    "size",
    "spreadsheet_cell",
    "visible",
]

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The beginnings of a formula, the full-width ones too, which some spreadsheets take for the others."""
JOINERS = "\u200c\u200d"
"""Invisible characters that Persian, Indic scripts and emoji need; the other format characters reorder or hide text."""


def _steers(character: str) -> bool:
    """Return whether a character can move the cursor, reorder text or hide in it."""
    return (
        unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        and character not in JOINERS
    )


def clean(text: str) -> str:
    """Return ``text`` on one line without control, direction and format characters: for names on a screen."""
    spaced = " ".join(text.split())
    return "".join(character for character in spaced if not _steers(character))


def visible(text: str) -> str:
    """Return ``text`` with such characters spelled out (``<U+001B>``), so that a reader sees what a model wrote."""
    return "".join(
        f"<U+{ord(character):04X}>" if character not in "\n\t" and _steers(character) else character
        for character in text
    )


def spreadsheet_cell(text: str) -> str:
    """Return text for a cell of CSV: control characters spelled out, and an apostrophe before what would be taken for a formula."""
    shown = visible(text)
    return f"'{shown}" if shown.lstrip(" ").startswith(FORMULA) else shown


def limits(interval: Interval) -> str:
    """Return the limits of a rate's interval in percent: ``[11.1, 21.2]``."""
    return f"[{percent(interval.low, unit='')}, {percent(interval.high, unit='')}]"


def point_limits(interval: Interval | Bounds, beside: Iterable[float] = (0.0,)) -> str:
    """Return the limits of a change's interval in points: ``[+12.4, +30.1]``, on their side of what stands beside them."""
    low, high = interval if isinstance(interval, tuple) else (interval.low, interval.high)
    beside = tuple(beside)
    return f"[{points(low, beside)}, {points(high, beside)}]"


def in_points(change: Change | CorrectedChange) -> str:
    """Return a change with its interval: ``+31.2 points [+24.0, +38.0]``."""
    assert change.estimate is not None
    assert change.interval is not None
    return f"{points(change.estimate)} points {point_limits(change.interval)}"


def size(share: float) -> str:
    """Return a share in points without a sign: ``1.8``, ``<0.1``."""
    return points(share).lstrip("+")


def quoted(name: str) -> str:
    """Return a name that somebody gave, clean and in quotes."""
    return f'"{clean(name)}"'


def score(value: float) -> str:
    """Return a score in [0, 1] with three decimals; 0 and 1 stand only where exact."""
    if value <= 0.0 or value >= 1.0:
        return f"{min(max(value, 0.0), 1.0):.0f}"
    if value < 0.0005:
        return "<0.001"
    return f"{value:.3f}" if value < 0.9995 else ">0.999"


def score_change(difference: float) -> str:
    """Return a signed difference of scores; ``0.000`` only when exact."""
    if difference and abs(difference) < 0.0005:
        return "+<0.001" if difference > 0 else "-<0.001"
    return f"{difference:+.3f}" if difference else "0.000"


def nats(divergence: float) -> str:
    """Return a divergence with three decimals, large ones with fewer; 0 only where exact."""
    if 0 < divergence < 0.0005:
        return "<0.001"
    return f"{divergence:.3f}" if divergence < 10 else f"{divergence:,.1f}"


def counts(rate: Rate) -> str:
    """Return ``31 of 200``; marked raw where the averaged rate is not their quotient."""
    return f"{'raw ' if rate.unequal else ''}{rate.k:,} of {rate.n:,}"


def listing(words: Iterable[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last


def plural(count: int, noun: str) -> str:
    """Return ``1 training seed``, ``3 training seeds``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def few(words: Sequence[str], most: int = 3) -> str:
    """Return a listing of the first words, and how many more there are."""
    if len(words) <= most:
        return listing(words)
    return f"{', '.join(words[:most])} and {len(words) - most:,} more"
