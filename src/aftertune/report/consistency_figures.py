"""Figures of consistency: seeds and what another lab would find, shares of the variance, and degradation curves."""

from collections.abc import Sequence
from typing import Any

from aftertune.report import wording
from aftertune.report.cells import Json, names_in, rate_name
from aftertune.report.consistency_words import where
from aftertune.report.figures import COLOURS, INK, ROW_INCHES, drawn, plain, short

CURVE_INCHES = 2.6
MOST_TILES = 200
"""Behaviors of a tile figure at most; it is drawn tile by tile, so that the page needs no images."""
PARTS = {
    "behaviors": "behaviors",
    "seeds": "training seed",
    "both": "behavior x seed",
    "decoding": "decoding",
}


def lab_figure(result: Json) -> str:
    """Return every training seed as a dot, with the interval and the band of another lab's single run."""
    entries = [
        entry
        for entry in result["entries"]
        if len(entry["seed_rates"]) > 1 and not entry["rate"]["hidden"]
    ]
    if not entries:
        return ""

    def draw(axes: Any) -> None:
        for place, entry in enumerate(entries):
            if (band := entry["limits"]["predicted"]) is not None:
                axes.barh(
                    place,
                    100 * (band[1] - band[0]),
                    left=100 * band[0],
                    height=0.8,
                    color=COLOURS[0],
                    alpha=0.18,
                )
            interval = entry["rate"]["interval"]
            axes.plot(
                [100 * interval["low"], 100 * interval["high"]],
                [place] * 2,
                color=COLOURS[0],
                linewidth=1.2,
            )
            rates = [100 * rate for rate in entry["seed_rates"]]
            axes.plot(rates, [place] * len(rates), "o", markersize=2.5, color=INK, alpha=0.6)
        _rows(axes, entries)
        plain(axes, f"{rate_name(result)}, percent")

    return drawn("labs", ROW_INCHES * (len(entries) + 3), draw)


def share_figure(result: Json) -> str:
    """Return the shares of the variance of each rate as stacked bars."""
    entries = [entry for entry in result["entries"] if entry["shares"] is not None]
    if not entries:
        return ""

    def draw(axes: Any) -> None:
        left = [0.0] * len(entries)
        for colour, (part, label) in zip(COLOURS, PARTS.items(), strict=False):
            widths = [100 * (entry["shares"][part] or 0.0) for entry in entries]
            axes.barh(range(len(entries)), widths, left=left, height=0.7, color=colour, label=label)
            left = [before + width for before, width in zip(left, widths, strict=True)]
        _rows(axes, entries)
        plain(axes, "share of the variance of the rate, percent")
        _legend(axes)

    return drawn("shares", ROW_INCHES * (len(entries) + 5), draw)


def behavior_figure(result: Json, entry: Json) -> str:
    """Return each behavior's rate under each training seed as tiles, those that break most on top."""
    rows = sorted(entry["by_behavior"].values(), key=sum)
    if not 2 <= len(rows) <= MOST_TILES or len(entry["seed_rates"]) < 2:
        return ""

    def draw(axes: Any) -> None:
        seeds = range(1, len(rows[0]) + 1)
        axes.pcolormesh(
            list(seeds),
            range(len(rows)),
            rows,
            cmap="Blues",
            vmin=0,
            vmax=1,
            linewidth=0.2,
            edgecolor="white",
        )
        axes.set_xticks(list(seeds))
        axes.set_yticks([])
        axes.set_ylabel("behaviors", color=INK)
        plain(axes, f"training seed; dark: {rate_name(result)} of 100 % on that behavior")

    return drawn(f"behaviors-{entry['condition']}", CURVE_INCHES, draw)


def curve_figure(result: Json, curve: Json) -> str:
    """Return the rates along one axis, overall and by task, from the base on."""
    axis, start = curve["axes"][0], curve["start"]
    points = [
        *([] if start is None else [(0.0, start)]),
        *((each["factors"][axis], each) for each in curve["points"]),
    ]
    tasks = names_in(each["asr_by_task"] for _, each in points)
    lines = [("overall", [(x, each["asr"]) for x, each in points])]
    lines += [
        (
            task,
            [(x, each["asr_by_task"][task]) for x, each in points if task in each["asr_by_task"]],
        )
        for task in tasks
    ]
    if all(each["over_refusal"] for _, each in points):
        lines.append(("over-refusal", [(x, each["over_refusal"]) for x, each in points]))

    def draw(axes: Any) -> None:
        for place, (name, found) in enumerate(lines):
            _line(axes, name, found, COLOURS[place % len(COLOURS)], first=place == 0)
        if axis in ("epoch", "round"):
            axes.set_xticks([x for x, _ in points])
        plain(axes, axis.replace("_", " "))
        axes.set_ylabel(f"{rate_name(result)}, percent", color=INK)
        axes.set_ylim(bottom=0)
        _legend(axes)

    return drawn(f"curve-{curve['series']}", CURVE_INCHES, draw)


def _line(
    axes: Any, name: str, found: Sequence[tuple[float, Json]], colour: str, *, first: bool
) -> None:
    shown = [(x, rate) for x, rate in found if not rate["hidden"]]
    xs = [x for x, _ in shown]
    axes.plot(
        xs, [100 * rate["estimate"] for _, rate in shown], "o-", color=colour, markersize=3,
        linewidth=2.0 if first else 1.0, label=wording.clean(name),
    )  # fmt: skip
    if first:
        low, high = (
            [100 * rate["interval"][side] for _, rate in shown] for side in ("low", "high")
        )
        axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)


def _rows(axes: Any, entries: Sequence[Json]) -> None:
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_yticks(range(len(entries)))
    labels = axes.set_yticklabels(
        [short(f"{wording.clean(entry['condition'])}: {where(entry)}") for entry in entries]
    )
    for label in labels:
        label.set_color(INK)


def _legend(axes: Any) -> None:
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.25),
        ncols=3,
        frameon=False,
        labelcolor=INK,
        fontsize=7,
    )
