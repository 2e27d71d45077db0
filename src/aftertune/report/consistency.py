"""The consistency report, on a terminal and as a part of the page: a paragraph a condition, one table.

Factors, series, groups and hazards have a table each where a study has them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from aftertune.measure.consistency_results import (
    Consistency,
    ConsistencyResult,
    Curve,
    Grouping,
    Sensitivity,
)
from aftertune.report import wording
from aftertune.report.cells import (
    BLANK,
    Cell,
    Sheet,
    beside,
    change_cell,
    correction_legend,
    names_in,
    rate_cell,
    too_few,
)
from aftertune.report.terminal import print_sentences, print_sheet

TEN_POINTS = "10"
"""The distance of two labs whose probability is given."""


def print_consistency(result: ConsistencyResult, console: Console) -> None:
    """Print a consistency result: what the seeds say of another lab, then the tables of the overall figures."""
    for name, paragraph in paragraphs(result):
        console.print(Text(name, style="bold"))
        print_sentences([paragraph], console)
        console.print()
    for sheet in sheets(result):
        print_sheet(sheet, console)
    for note in result.notes:
        console.print(Text(f"note: {wording.clean(note)}", style="dim"))
    console.print(Text(f"Declared plan: {result.plan}", style="dim"))


def paragraphs(result: ConsistencyResult) -> Iterator[tuple[str, str]]:
    """Yield the name of each fine-tune with several training seeds, and what its overall figure says; else one warning."""
    tuned = [entry for entry in _overall(result) if entry.base is not None]
    several = [entry for entry in tuned if entry.components.seeds > 1]
    noisy = [text for entry in _overall(result) if (text := _noise(entry))]
    if noisy:
        yield (
            "Asked again",
            f"On these prompts noise moves the {result.name_rate} of {'; of '.join(noisy)} (points, 95 %).",
        )
    for entry in several:
        yield wording.clean(entry.condition), " ".join(_sentences(result, entry))
    if tuned and not several:
        yield (
            "One training seed",
            "One training seed says nothing of what another one would give: train more of them.",
        )


def _noise(entry: Consistency) -> str:
    """Return how far a condition's rate is noise; empty without replicates."""
    noise = entry.rate.noise
    if noise is None:
        return ""
    mean = f"over the {noise.replicates} replicates by {wording.size(noise.floor)}"
    return f"{wording.quoted(entry.condition)} by {wording.size(noise.one_run)} from one run to another, {mean}"


def sheets(result: ConsistencyResult) -> Iterator[Sheet]:
    """Yield the tables of the overall figures, and of what compares conditions: series, groups, hazards."""
    in_series = {point.condition for curve in result.curves for point in curve.points}
    alone = [
        entry
        for entry in _overall(result)
        if entry.components.seeds > 1 or entry.condition not in in_series
    ]
    yield limits_sheet(result, alone)
    factors = list(_most_sensitive(result))
    if factors:
        yield factor_sheet(factors)
    for curve in result.curves:
        yield _series_sheet(result, curve)
    for grouping in result.groupings:
        yield _grouping_sheet(result, grouping)
    if result.hazards:
        yield _hazard_sheet(result)


def details(result: ConsistencyResult) -> Iterator[Sheet]:
    """Yield the tables by task: limits of every condition, and every factor that has several levels."""
    limits = limits_sheet(result, result.entries)
    yield replace(limits, title=f"{limits.title}, by task")
    factors = [
        (entry, factor) for entry in result.entries for factor in names_in([entry.sensitivity])
    ]
    if factors:
        sheet = factor_sheet(factors)
        yield replace(sheet, title=f"{sheet.title}, by task")


def _overall(result: ConsistencyResult) -> list[Consistency]:
    return [entry for entry in result.entries if entry.task is None]


def _most_sensitive(result: ConsistencyResult) -> Iterator[tuple[Consistency, str]]:
    """Yield the factors of each fine-tune (without any: of each base).

    Of the overall figure, or for templates, which belong to tasks, of the task in which their levels differ most.
    """
    tuned = [entry for entry in _overall(result) if entry.base is not None]
    for overall in tuned or _overall(result):
        entries = [entry for entry in result.entries if entry.condition == overall.condition]
        for factor in names_in(entry.sensitivity for entry in entries):
            if factor in overall.sensitivity:
                yield overall, factor
                continue
            shown = [entry for entry in entries if factor in entry.sensitivity]
            yield max(shown, key=lambda entry: _spread(entry.sensitivity[factor])), factor


def _spread(factor: Sensitivity) -> float:
    return -1.0 if factor.hidden else factor.sd


def _sentences(result: ConsistencyResult, entry: Consistency) -> Iterator[str]:
    limits, rate = entry.limits, result.name_rate
    if limits.reproducibility is None or limits.reproducibility_interval is None:
        yield "All training seeds gave the very same rate, which says nothing of how far another one may lie off."
        return
    low, high = (f"{100 * end:.1f}" for end in limits.reproducibility_interval)
    yield (
        f"Two labs running one training seed each on these prompts would differ by more than {limit(limits.reproducibility)} "
        f"points once in twenty (very many seeds would say {low} to {high}), and by more than 10 points with probability "
        f"{chance(limits.differing[TEN_POINTS])}. With {wording.plural(entry.components.seeds, 'seed')} each the limit is "
        f"{limit(limits.of_means)} points."
    )
    again = entry.reproduction
    if again is None:
        return
    if again.change.estimate:
        direction = "rise" if again.change.estimate > 0 else "fall"
        significant = (
            "; it is not significant here"
            if again.significant is None
            else f", and with as many seeds as here a significant one with {chance(again.significant)}"
        )
        yield (
            f"Another lab with one seed would see a {direction} of the {rate} too with probability {chance(again.same_sign)}"
            f"{significant}."
        )
    yield (
        f"On these very prompts, a great many training seeds would change the {rate} by "
        f"{wording.point_limits(again.these_prompts)} points (95 %)."
    )


def chance(p: float | None) -> str:
    """Return a probability in percent, which is never certain."""
    if p is None:
        return "-"
    return "> 99 %" if p > 0.99 else "< 1 %" if p < 0.01 else wording.percent(p)


def limit(value: float | None) -> str:
    """Return a limit in points: ``9.4``, ``unknown`` where the design cannot tell, ``none seen`` where nothing flipped."""
    if value is None:
        return "unknown"
    return "<0.1" if 0 < value < 0.0005 else f"{100 * value:.1f}" if value else "none seen"


def limits_sheet(result: ConsistencyResult, entries: Sequence[Consistency]) -> Sheet:
    """Return how far two runs may lie apart, how much of that is the training seeds', and which answers flip."""
    rate, settings = result.name_rate, wording.plural(len(result.settings), "setting")
    return Sheet(
        title="Reproducibility",
        headers=("", rate, "seeds", "repeated", "new seed", "again"),
        rows=tuple(
            (
                _name_cell(entry),
                rate_cell(entry.rate),
                _seeds_cell(entry),
                Cell((limit(entry.limits.repeatability), _share(entry.flips.decoding))),
                _new_seed_cell(entry),
                BLANK
                if entry.reproduction is None or not entry.reproduction.change.estimate
                else Cell(
                    (
                        chance(entry.reproduction.same_sign),
                        chance(entry.reproduction.significant),
                    )
                ),
            )
            for entry in entries
        ),
        legend=(
            (
                f"{rate}: mean over {settings} (system prompt x decoding). seeds: range, standard deviation (95 %), share of the "
                f"variance of the {rate}. repeated, new seed: limit of the difference in points, exceeded once in twenty, if the same "
                "model is decoded again, and if another lab trains one seed (in brackets what very many seeds might say); "
                "below, answers that turn. again: the change's sign with one seed; its significance with as many as here."
            ),
        ),
    )


def _name_cell(entry: Consistency) -> Cell:
    name = wording.clean(entry.condition)
    return Cell((name,) if entry.task is None else (name, wording.clean(entry.task)))


def _seeds_cell(entry: Consistency) -> Cell:
    if entry.rate.hidden:
        return too_few(entry.rate)
    if len(entry.seed_rates) == 1:
        return Cell(("one",), "faint")
    low, high = (wording.percent(end(entry.seed_rates), unit="") for end in (min, max))
    lines = [f"{low} - {high}", wording.plural(len(entry.seed_rates), "seed")]
    if entry.components.seed_sd_interval is not None:
        low_sd, high_sd = entry.components.seed_sd_interval
        lines.append(f"SD {100 * low_sd:.1f} - {100 * high_sd:.1f}")
    if entry.shares is not None:
        lines.append(f"share {wording.percent(entry.shares.seeds)}")
    return Cell(tuple(lines))


def _new_seed_cell(entry: Consistency) -> Cell:
    reach = entry.limits.reproducibility_interval
    limits = [] if reach is None else [f"[{100 * reach[0]:.1f}, {100 * reach[1]:.1f}]"]
    return Cell((limit(entry.limits.reproducibility), *limits, _share(entry.flips.seed)))


def _share(share: float | None) -> str:
    return "-" if share is None else wording.percent(share)


def factor_sheet(factors: Sequence[tuple[Consistency, str]]) -> Sheet:
    """Return how the rate depends on factors: an entry and the name of a factor a row."""
    return Sheet(
        title="Sensitivity to fixed factors",
        headers=("", "factor", "lowest", "highest", "SD", "differ"),
        rows=tuple(_factor_row(entry, factor) for entry, factor in factors),
        legend=(
            (
                "highest: its interval holds for all levels together (Bonferroni). SD: between the levels beyond chance, in points. "
                "differ: smallest p-value of two levels (Holm). Templates: of the task in which they differ most."
            ),
        ),
    )


def _factor_row(entry: Consistency, factor: str) -> tuple[Cell, ...]:
    of = entry.sensitivity[factor]
    name = Cell((factor, wording.plural(len(of.rates), "level")))
    if of.hidden:
        few = Cell(("too few", wording.plural(of.behaviors, "behavior")), "faint")
        return _name_cell(entry), name, few, BLANK, BLANK, BLANK
    lowest = min(of.rates, key=of.rates.__getitem__)
    highest = f"{wording.percent(of.rates[of.worst])} {wording.limits(of.worst_interval)}"
    return (
        _name_cell(entry),
        name,
        Cell((wording.percent(of.rates[lowest]), wording.clean(lowest))),
        Cell((highest, wording.clean(of.worst))),
        Cell((f"{100 * of.sd:.1f}",)),
        Cell((wording.p_value(min(pair.p_adjusted for pair in of.pairs)),)),
    )


def _series_sheet(result: ConsistencyResult, curve: Curve) -> Sheet:
    """Return the rates along the epochs, rounds or doses of a fine-tune."""
    tasks = names_in(point.asr_by_task for point in curve.points)
    scorers = names_in(point.scores for point in curve.points)
    points = [*([] if curve.start is None else [curve.start]), *curve.points]
    axes = ", ".join(axis.replace("_", " ") for axis in curve.axes)
    return Sheet(
        title=f"{wording.clean(curve.series)}: {result.name_rate} by {axes}",
        headers=(
            axes,
            "overall",
            "change",
            *map(wording.clean, tasks),
            "over-refusal",
            *map(wording.clean, scorers),
        ),
        rows=tuple(
            (
                Cell((" ".join(f"{value:g}" for value in point.factors.values()) or "base",)),
                rate_cell(point.asr),
                change_cell(point.change, up_is="bad"),
                *(rate_cell(point.asr_by_task.get(task)) for task in tasks),
                rate_cell(point.over_refusal),
                *(
                    Cell((wording.score(point.scores[name]),)) if name in point.scores else BLANK
                    for name in scorers
                ),
            )
            for point in points
        ),
    )


def _grouping_sheet(result: ConsistencyResult, grouping: Grouping) -> Sheet:
    """Return the changes grouped by an attribute of the models."""
    contrasts = (
        f"{wording.clean(pair.first)} against {wording.clean(pair.second)}: {wording.points(pair.difference)} points "
        f"[{wording.points(pair.interval[0])}, {wording.points(pair.interval[1])}], {wording.p_value(pair.p_adjusted)}"
        for pair in grouping.contrasts
        if pair.interval is not None
    )
    return Sheet(
        title=f"Change of the {result.name_rate} by {wording.clean(grouping.attribute)} (exploratory)",
        headers=("", "fine-tunes", "mean change", "lowest", "highest"),
        rows=tuple(
            (
                Cell((wording.clean(group.value),)),
                Cell((f"{len(group.conditions):,}",)),
                *(
                    Cell((wording.points(change),))
                    for change in (group.change, group.lowest, group.highest)
                ),
            )
            for group in grouping.groups
        ),
        legend=(
            *contrasts,
            "Exploratory: it says where to look. A fine-tune is one draw of its group.",
        ),
    )


def _hazard_sheet(result: ConsistencyResult) -> Sheet:
    """Return the changes in single hazards of single tasks."""
    rows = tuple(
        (
            *(
                Cell((wording.clean(name),))
                for name in (hazard.condition, hazard.task, hazard.hazard)
            ),
            beside(change_cell(hazard.change, up_is="bad"), hazard.corrected),
        )
        for hazard in result.hazards
    )
    return Sheet(
        title=f"Change of the {result.name_rate} by hazard within task (exploratory)",
        headers=("", "task", "hazard", "change"),
        rows=rows,
        legend=(
            "p-values adjusted by Benjamini-Hochberg over the hazards of a fine-tune; exploratory.",
            *correction_legend(rows),
        ),
    )
