"""Figures as inline SVG: rates and changes as dots with their intervals. Drawn by matplotlib where it is installed."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from typing import Any

from aftertune.measure.results import (
    Change,
    ConditionResult,
    GateResult,
    Rate,
    SettingResult,
    Side,
    StudyResult,
)
from aftertune.report import wording
from aftertune.report.cells import OVERALL, Corrected, at_task
from aftertune.report.corrected import labels_of

INK = "#010203"
"""Drawn in this colour, replaced by the page's text colour, so that figures follow light and dark."""
COLOURS = ("#3b6fb5", "#c8553d", "#2f8f6b", "#8d5fb0", "#b58a1e", "#4f9fb8", "#c04f8a", "#7a8a3a")
"""Readable on white and on near-black; conditions keep their colour through all figures."""
ROW_INCHES, WIDTH_INCHES = 0.18, 4.8
LONGEST_LABEL = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One figure of a plot, in percent or points."""

    group: str
    label: str
    value: float
    low: float
    high: float
    colour: str
    inner: tuple[float, float] | None = None
    """A narrower interval, drawn thicker."""
    margin: float | None = None
    corrected: tuple[float, float, float] | None = None
    """The figure corrected by labels, and its limits."""


def installed() -> bool:
    """Return whether matplotlib, which draws the figures, is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def rate_figure(result: StudyResult, setting: SettingResult) -> str:
    """Return the rates by task and condition as an SVG element; empty without anything to draw."""
    dots = [
        _dot(task, condition, rate, at_task(labels_of(condition).asr, task), place)
        for task in (OVERALL, *result.tasks)
        for place, condition in enumerate(setting.conditions)
        if (rate := at_task(condition.asr, task)) is not None and not rate.hidden
    ]
    return _svg(dots, f"{result.name_rate}, percent", "rates", floor=0.0)


def change_figure(result: StudyResult, setting: SettingResult) -> str:
    """Return the changes against the base by task and fine-tune as an SVG element; empty without any."""
    dots = [
        _dot(task, condition, change, at_task(labels_of(condition).asr_change, task), place)
        for task in (OVERALL, *result.tasks)
        for place, condition in enumerate(setting.conditions)
        if (change := at_task(condition.asr_change, task)) is not None and not change.hidden
    ]
    return _svg(dots, f"change of the {result.name_rate} against the base, points", "changes")


def gate_figure(gate: GateResult) -> str:
    """Return the gate's changes by side with their margins as an SVG element; empty where all are hidden."""
    dots = [
        Dot(
            group=wording.clean(side.side.value),
            label=wording.clean(line.name),
            value=100 * line.change.estimate,
            low=100 * line.change.interval.low,
            high=100 * line.change.interval.high,
            inner=(100 * line.change.interval90.low, 100 * line.change.interval90.high),
            colour=COLOURS[1] if line.fails else COLOURS[2] if line.passes else COLOURS[0],
            margin=-100 * line.margin if side.side is Side.CAPABILITY else 100 * line.margin,
        )
        for side in gate.sides
        for line in side.lines
        if line.change is not None and not line.change.hidden
    ]
    return _svg(dots, "change, points; dashes: margin", "gate")


def _dot(
    task: str,
    condition: ConditionResult,
    figure: Rate | Change,
    corrected: Corrected | None,
    place: int,
) -> Dot:
    mended = None
    if corrected is not None and corrected.estimate is not None and corrected.interval is not None:
        interval = corrected.interval
        mended = 100 * corrected.estimate, 100 * interval.low, 100 * interval.high
    return Dot(
        group=wording.clean(task),
        label=wording.clean(condition.name),
        value=100 * figure.estimate,
        low=100 * figure.interval.low,
        high=100 * figure.interval.high,
        colour=COLOURS[place % len(COLOURS)],
        corrected=mended,
    )


def _svg(dots: Sequence[Dot], axis: str, name: str, floor: float | None = None) -> str:
    """Draw the dots from top to bottom, a gap and a heading between groups."""
    if not dots:
        return ""
    rows: list[Dot | str] = []
    for group, members in groupby(dots, key=lambda dot: dot.group):
        rows += [*([group] if group else []), *members]
    return drawn(name, ROW_INCHES * (len(rows) + 3), lambda axes: _draw(axes, rows, axis, floor))


def drawn(name: str, height: float, draw: Callable[[Any], None]) -> str:
    """Return what ``draw`` puts on a pair of axes as an SVG element; the same drawing gives the same bytes.

    Empty where matplotlib is not installed.
    """
    return drawn_whole(name, (WIDTH_INCHES, height), lambda figure: draw(figure.add_subplot()))


def drawn_whole(name: str, inches: tuple[float, float], draw: Callable[[Any], None]) -> str:
    """Return what ``draw`` puts on a figure of a size, likewise."""
    if not installed():
        return ""
    from matplotlib import style
    from matplotlib.figure import Figure

    settings = {
        "svg.hashsalt": name,
        "svg.fonttype": "none",
        "font.size": 8.0,
        "text.parse_math": False,
    }
    with style.context(["default", settings]), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing"
        )  # text stays text: the reader's browser has the fonts
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        text = StringIO()
        figure.savefig(
            text, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = text.getvalue()
    return (
        svg[svg.index("<svg") :]
        .replace(INK, "currentColor")
        .replace("<svg ", '<svg role="img" ', 1)
    )


def _draw(axes: Any, rows: Sequence[Dot | str], axis: str, floor: float | None) -> None:
    for place, row in enumerate(rows):
        if isinstance(row, str):
            continue
        axes.plot(
            [row.low, row.high],
            [place, place],
            color=row.colour,
            linewidth=1.2,
            solid_capstyle="butt",
        )
        if row.inner is not None:
            axes.plot(
                row.inner, [place, place], color=row.colour, linewidth=3.2, solid_capstyle="butt"
            )
        axes.plot([row.value], [place], marker="o", markersize=4.5, color=row.colour)
        if row.corrected is not None:
            value, low, high = row.corrected
            axes.plot(
                [low, high],
                [place + 0.3] * 2,
                color=row.colour,
                linewidth=0.9,
                linestyle=(0, (1, 1)),
            )
            axes.plot(
                [value],
                [place + 0.3],
                marker="D",
                markersize=3.2,
                color=row.colour,
                markerfacecolor="none",
            )
        if row.margin is not None:
            axes.plot(
                [row.margin] * 2,
                [place - 0.45, place + 0.45],
                color=INK,
                linewidth=1.2,
                linestyle=(0, (2, 1)),
            )
    axes.axvline(0.0, color=INK, linewidth=0.6)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)))
    labels = axes.set_yticklabels(
        [short(row if isinstance(row, str) else row.label) for row in rows]
    )
    for label, row in zip(labels, rows, strict=True):
        label.set_fontweight("bold" if isinstance(row, str) else "normal")
    if floor is not None:
        axes.set_xlim(left=min(floor, axes.get_xlim()[0]))
    plain(axes, axis)


def short(label: str) -> str:
    """Cut a label that is too long for the margin."""
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 3]}..."


def plain(axes: Any, axis: str) -> None:
    """Give axes the page's look."""
    axes.set_xlabel(axis, color=INK)
    axes.tick_params(colors=INK, length=0)
    axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines.bottom.set_color(INK)
