"""The consistency report: on a terminal, and as a part of the page."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.text import Text

from aftertune.report import wording
from aftertune.report.cells import Json, Sheet, require_format
from aftertune.report.consistency_figures import (
    behavior_figure,
    curve_figure,
    lab_figure,
    share_figure,
)
from aftertune.report.consistency_sheets import (
    condition_sheets,
    grouping_sheet,
    hazard_sheet,
    ranking_sheet,
    series_sheet,
)
from aftertune.report.consistency_words import sentences
from aftertune.report.terminal import print_sheet


def print_consistency(result: Json, console: Console) -> None:
    """Print a consistency result: every condition's sentences and tables, then what compares conditions.

    Args:
        result: ``ConsistencyResult.to_json()``, or the same read back from a file.
        console: where to; its width decides how many columns stand side by side.

    Raises:
        InputError: the result has a format that is not known here.
    """
    require_format(result, "consistency result")
    for entries in by_condition(result):
        console.print(Text(wording.clean(entries[0]["condition"]), style="bold underline"))
        for sentence in sentences(result, entries[0]):
            console.print(Text(sentence))
        console.print()
        for sheet in condition_sheets(result, entries):
            print_sheet(sheet, console)
    for sheet in common_sheets(result):
        print_sheet(sheet, console)
    for note in result["notes"]:
        console.print(Text(f"note: {wording.clean(note)}", style="dim"))
    console.print(Text(f"Declared plan: {result['plan']}", style="dim"))


def by_condition(result: Json) -> Iterator[Sequence[Json]]:
    """Yield the entries of each condition, its overall figure first."""
    for _, entries in groupby(result["entries"], key=lambda entry: entry["condition"]):
        yield list(entries)


def common_sheets(result: Json) -> Iterator[Sheet]:
    """Yield the tables that compare conditions: series, order, groups, hazards."""
    for curve in result["curves"]:
        yield series_sheet(result, curve)
    if result["rankings"]:
        yield ranking_sheet(result["rankings"])
    for grouping in result["groupings"]:
        yield grouping_sheet(result, grouping)
    if result["hazards"]:
        yield hazard_sheet(result)


def words(result: Json) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each condition with several seeds and the sentences on its overall figure."""
    for entries in by_condition(result):
        if entries[0]["components"]["seeds"] > 1:
            yield wording.clean(entries[0]["condition"]), tuple(sentences(result, entries[0]))


def drawings(result: Json) -> Iterator[tuple[str, str]]:
    """Yield the figures as SVG elements with their captions."""
    yield (
        lab_figure(result),
        (
            "Each dot a training seed; line: 95 % interval over prompts and seeds like these; band: where another lab with one "
            "training seed would lie, 95 %, on these prompts."
        ),
    )
    yield share_figure(result), "Shares of the variance of the rate."
    series = {point["condition"] for curve in result["curves"] for point in curve["points"]}
    for entries in by_condition(result):
        if entries[0]["condition"] not in series:
            name = wording.clean(entries[0]["condition"])
            yield (
                behavior_figure(result, entries[0]),
                f"{name}: do the same behaviors break under every training seed?",
            )
    for curve in result["curves"]:
        if len(curve["axes"]) == 1:
            yield (
                curve_figure(result, curve),
                f"{wording.clean(curve['series'])}: the degradation curve, with 95 % intervals.",
            )
