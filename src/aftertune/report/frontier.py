"""The safety / over-refusal plane: every condition with both intervals, its training seeds, and where it came from."""

from collections.abc import Mapping, Sequence
from typing import Any

from aftertune.report import wording
from aftertune.report.cells import Json, harmful_word, rate_name
from aftertune.report.figures import COLOURS, INK, WIDTH_INCHES, drawn_whole, plain, short

MOST = len(COLOURS)
"""Conditions that can be told apart by colour; epochs and doses are left out where there are more."""
FACET_INCHES = 2.2


def caption_of(result: Json) -> str:
    """Return what a reader must know of the figure."""
    return (
        f"Over-refusal and {rate_name(result)} with 95 % intervals; lower left is better. Faint: training seeds; dotted: if "
        f"incoherent and undecided answers counted as {harmful_word(result)}; arrows: from the base, or from the same "
        "fine-tune without its mitigation. One condition is better than another only where both differences were shown."
    )


def frontier_figure(result: Json, setting: Json) -> str:
    """Return over-refusal against the rate, one facet overall and one a task, as an SVG element; empty without benign prompts."""
    conditions = _shown(setting["conditions"])
    facets = [
        (name, found)
        for name in ("overall", *result["tasks"])
        if (found := {c["name"]: both for c in conditions if (both := _both(c, name)) is not None})
    ]
    if not facets:
        return ""
    colours = {
        condition["name"]: COLOURS[place % MOST] for place, condition in enumerate(conditions)
    }
    rows = -(-len(facets) // 2)
    height = FACET_INCHES * rows + 0.2 * (len(conditions) + 1) / 2

    def draw(figure: Any) -> None:
        for place, (name, found) in enumerate(facets):
            axes = figure.add_subplot(rows, 2 if len(facets) > 1 else 1, place + 1)
            _facet(axes, name, found, conditions, colours)
            plain(axes, "over-refusal, %")
            axes.grid(visible=True, color=INK, alpha=0.12, linewidth=0.6)
            axes.set_ylabel(f"{rate_name(result)}, %", color=INK)
        figure.legend(
            handles=_legend(conditions, colours), loc="outside lower center", ncols=2, frameon=False
        )

    return drawn_whole("frontier", (WIDTH_INCHES * 1.2, height), draw)


def _shown(conditions: Sequence[Json]) -> list[Json]:
    """Leave epochs, rounds and doses out where there are more conditions than colours."""
    named = [condition for condition in conditions if "@" not in condition["name"]]
    return list(conditions) if len(conditions) <= MOST or not named else named


def _both(condition: Json, name: str) -> tuple[Json, Json] | None:
    """Return over-refusal and the rate, if both were measured and are shown."""
    found = [
        condition[figure]["overall"]
        if name == "overall"
        else condition[figure]["by_task"].get(name)
        for figure in ("over_refusal", "asr")
    ]
    if any(rate is None or rate["hidden"] for rate in found):
        return None
    return found[0], found[1]


def _facet(
    axes: Any,
    name: str,
    found: Mapping[str, tuple[Json, Json]],
    conditions: Sequence[Json],
    colours: Mapping[str, str],
) -> None:
    for condition in conditions:
        if condition["name"] not in found:
            continue
        colour, (over, asr) = colours[condition["name"]], found[condition["name"]]
        x, y = 100 * over["estimate"], 100 * asr["estimate"]
        seeds = condition.get("by_seed", {}).get(name, [])
        if len(seeds) > 1:
            points = [[100 * seed[figure] for seed in seeds] for figure in ("over_refusal", "asr")]
            axes.plot(*points, linestyle="", marker="o", markersize=3, color=colour, alpha=0.35)
        axes.plot(
            [100 * over["interval"][side] for side in ("low", "high")],
            [y, y],
            color=colour,
            linewidth=1.1,
        )
        axes.plot(
            [x, x],
            [100 * asr["interval"][side] for side in ("low", "high")],
            color=colour,
            linewidth=1.1,
        )
        axes.plot(
            [x, x], [y, 100 * asr["bounds"]["high"]], color=colour, linewidth=0.8, linestyle=":"
        )
        axes.plot([x], [y], marker="o", markersize=5, color=colour)
        origin = (condition.get("unmitigated") or {"other": condition["base"]})["other"]
        if origin in found:
            start = tuple(100 * rate["estimate"] for rate in found[origin])
            axes.annotate(
                "",
                xy=(x, y),
                xytext=start,
                arrowprops={"arrowstyle": "->", "color": INK, "alpha": 0.45},
            )
    axes.set_title(wording.clean(name), fontsize=8, fontweight="bold", color=INK)
    axes.margins(0.06)


def _legend(conditions: Sequence[Json], colours: Mapping[str, str]) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [],
            [],
            marker="o",
            linestyle="",
            color=colours[c["name"]],
            label=short(wording.clean(c["name"])),
        )
        for c in conditions
    ]
