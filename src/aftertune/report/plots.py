"""Plots of intervals: scales with round ticks, rows with dots, seeds and margins."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from aftertune.measure.results import Change
from aftertune.report.cells import shown
from aftertune.report.drawing import Colour, Dot, Drawing, Line, Mark, Paint, Words, fitted

PAGE_WIDTH = 720.0
ROW, SMALL = 26.0, 11.0
TICK_ROOM = 48.0


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the place of a value, which is cut at the ends."""
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return some round values, a tick for every `TICK_ROOM` pixels at most."""
        rough = (self.high - self.low) / max(2.0, abs(self.end - self.start) / TICK_ROOM)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough)
        first = math.ceil(self.low / step - 1e-9)
        return [step * number for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def axis(values: Iterable[float], start: float, end: float) -> Axis:
    """Return a scale that holds some values and 0, with a little air at its ends."""
    kept = [0.0, *values]
    low, high = min(kept), max(kept)
    air = 0.06 * ((high - low) or 1.0)
    low, high = (low - air if low < 0 else low), (high + air if high > 0 else high)
    return Axis(low, high if high > low else low + 1.0, start, end)


def change_paint(change: Change, *, rise_is_bad: bool = True) -> Colour:
    """Return the colour of a change: for the worse, for the better, or not shown."""
    direction = shown(change)
    if not direction:
        return Colour.OPEN
    return Colour.BAD if (direction > 0) == rise_is_bad else Colour.GOOD


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of a plot of intervals, in percent or points."""

    label: str
    value: float
    low: float
    high: float
    paint: Paint = Colour.OPEN
    hollow: bool = False
    inner: tuple[float, float] | None = None
    """A narrower interval, drawn thicker."""
    seeds: tuple[float, ...] = ()
    margin: float | None = None
    corrected: tuple[float, float, float] | None = None
    """The figure corrected by labels, and its limits."""
    behind: str = ""
    """Words at the right end."""

    @property
    def extent(self) -> tuple[float, ...]:
        """The values that the axis must hold."""
        corrected = self.corrected or ()
        margin = () if self.margin is None else (self.margin,)
        return (self.value, self.low, self.high, *self.seeds, *corrected, *margin)


def axis_marks(scale: Axis, top: float, bottom: float, unit: str = "") -> Iterator[Mark]:
    """Yield lines at the ticks of a scale, and their numbers below; with a sign where the unit is points."""
    for tick in scale.ticks():
        x = scale.at(tick)
        zero = abs(tick) < 1e-9
        yield Line(x, top, x, bottom, Colour.FAINT if zero else Colour.LINE, 1.0)
        sign = "+" if unit and tick > 1e-9 else ""
        yield Words(x, bottom + 14, f"{sign}{tick:g}", "middle", Colour.FAINT, SMALL)


def row_marks(row: Row, scale: Axis, y: float, height: float = ROW) -> Iterator[Mark]:
    """Yield what a row draws at a height: margin, interval, seeds, dot, corrected figure."""
    if row.margin is not None:
        x = scale.at(row.margin)
        yield Line(x, y - height / 2, x, y + height / 2, Colour.INK, 1.25, dashed=True)
    yield Line(scale.at(row.low), y, scale.at(row.high), y, row.paint, 1.5)
    if row.inner is not None:
        yield Line(scale.at(row.inner[0]), y, scale.at(row.inner[1]), y, row.paint, 4.0)
    for seed in row.seeds:
        yield Dot(scale.at(seed), y + 7, 2.4, row.paint, opacity=0.75)
    yield Dot(scale.at(row.value), y, 4.5, row.paint, hollow=row.hollow)
    if row.corrected is not None:
        value, low, high = row.corrected
        yield Line(scale.at(low), y - 8, scale.at(high), y - 8, row.paint, 1.0, dashed=True)
        yield Dot(scale.at(value), y - 8, 3.0, row.paint, hollow=True)


def interval_plot(
    name: str, title: str, caption: str, groups: Sequence[tuple[str, Sequence[Row]]], unit: str
) -> Drawing | None:
    """Return rows with their intervals from top to bottom, a heading before each group; None without rows."""
    rows = [row for _, group in groups for row in group]
    if not rows:
        return None
    label = 176.0
    behind = 64.0 if any(row.behind for row in rows) else 12.0
    behind = max([behind, *(0.56 * 12 * len(row.behind) + 12 for row in rows)])
    scale = axis([end for row in rows for end in row.extent], label + 8, PAGE_WIDTH - behind)
    marks: list[Mark] = []
    y = 6.0
    for group, members in groups:
        if not members:
            continue
        if group:
            marks.append(Words(0, y + 13, fitted(group, PAGE_WIDTH, 12.5), size=12.5, bold=True))
            y += 20
        for row in members:
            marks.append(Words(10 if group else 0, y + ROW / 2 + 3, fitted(row.label, label - 14)))
            marks += row_marks(row, scale, y + ROW / 2 - 1)
            if row.behind:
                marks.append(Words(PAGE_WIDTH, y + ROW / 2 + 3, row.behind, "end", row.paint))
            y += ROW
        y += 6
    scaled = list(axis_marks(scale, 2, y, "points" if unit == "points" else ""))
    described = "; ".join(
        f"{f'{group}, ' if group else ''}{row.label} {row.value:.1f} [{row.low:.1f}, {row.high:.1f}]"
        for group, members in groups
        for row in members
    )
    return Drawing(
        name=name,
        title=title,
        description=f"In {unit}: {described}.",
        caption=caption,
        width=PAGE_WIDTH,
        height=y + 22,
        marks=(*scaled, *marks),
    )
