"""Cells and sheets: figures in words, the same for the terminal and the page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from aftertune.measure.results import (
    LEAST_LABELS,
    Breakdown,
    Change,
    ConditionResult,
    CorrectedChange,
    CorrectedRate,
    Disagreement,
    Divergence,
    Estimate,
    LabelsLine,
    Missing,
    Rate,
    Score,
    StudyResult,
)
from aftertune.report import wording

Tone = Literal["plain", "good", "bad", "faint"]
Dimension = Literal["overall", "by_task", "by_set", "by_harm_basis", "by_hazard"]
Figure = TypeVar("Figure")
Corrected = CorrectedRate | CorrectedChange
FEW_LABELS = {Missing.LABELS, Missing.BASE_LABELS, Missing.TUNED_LABELS}
OVERALL = "overall"
"""Beside the names of tasks, the figure over all of them."""
SHOWN_ALPHA = 0.05
"""Largest adjusted p-value of a change that counts as shown."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Lines of one cell: the figure first, what qualifies it below."""

    lines: tuple[str, ...]
    tone: Tone = "plain"
    change: Change | None = field(default=None, compare=False)
    """The change in the cell, for the legend."""
    corrected: Corrected | None = field(default=None, compare=False)
    """The figure corrected by labels that belongs to the one in the cell, for the legend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table: a title, one row per condition (or gate line), and how it is read."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    legend: tuple[str, ...] = ()
    spare: tuple[int, ...] = ()
    """Columns that a short table goes without where the others fit on a line then."""


BLANK = Cell(("",), "faint")
MISSING = Cell(("not measured",), "faint")


def harmful_word(result: StudyResult) -> str:
    """Return the rate's word for what it counts: refusal rules alone cannot tell that an answer is harmful."""
    return "harmful" if result.name_rate == "ASR" else "not refused"


def part(
    breakdown: Breakdown[Figure] | None, dimension: Dimension = "overall", name: str = ""
) -> Figure | None:
    """Return one figure of a breakdown: overall, or of a task, set, harm basis or hazard; None without data."""
    if breakdown is None:
        return None
    if dimension == "overall":
        return breakdown.overall
    parts: Mapping[str, Figure] = getattr(breakdown, dimension)
    return parts.get(name)


def at_task(breakdown: Breakdown[Figure] | None, task: str) -> Figure | None:
    """Return one figure of a breakdown: of a task, or overall for `OVERALL`; None without data."""
    return part(breakdown) if task == OVERALL else part(breakdown, "by_task", task)


def overall_of(breakdowns: Mapping[str, Breakdown[Figure]], name: str) -> Figure | None:
    """Return the overall figure of a scorer or judge, if there is one."""
    return part(breakdowns.get(name))


def too_few(figure: Estimate) -> Cell:
    """Return the cell that hides a figure over fewer behaviors than were declared."""
    return Cell(("too few", wording.plural(figure.behaviors, "behavior")), "faint")


def rate_cell(rate: Rate | None) -> Cell:
    """Return a rate with its interval and counts; too few behaviors hide it."""
    if rate is None:
        return MISSING
    if rate.hidden:
        return too_few(rate)
    return Cell(
        (wording.percent(rate.estimate), wording.limits(rate.interval), wording.counts(rate))
    )


def score_cell(score: Score | None) -> Cell:
    """Return a score with its interval and number of responses; too few behaviors hide it."""
    if score is None:
        return MISSING
    if score.hidden:
        return too_few(score)
    low, high = wording.score(score.interval.low), wording.score(score.interval.high)
    return Cell((wording.score(score.estimate), f"[{low}, {high}]", f"n = {score.n:,}"))


def divergence_cell(divergence: Divergence | None) -> Cell:
    """Return how far a fine-tune moved, with the interval; too few behaviors hide it."""
    if divergence is None:
        return MISSING
    if divergence.hidden:
        return too_few(divergence)
    low, high = map(wording.nats, (divergence.interval.low, divergence.interval.high))
    prompts = wording.plural(divergence.prompts, "prompt")
    return Cell((wording.nats(divergence.estimate), f"[{low}, {high}]", prompts))


def change_cell(change: Change | None, *, up_is: Tone, of_score: bool = False) -> Cell:
    """Return a change with its interval and p-value; coloured where it was shown."""
    if change is None:
        return BLANK
    if change.hidden:
        return replace(too_few(change), change=change)
    if of_score:
        low, high = map(wording.score_change, (change.interval.low, change.interval.high))
        figure, limits = wording.score_change(change.estimate), f"[{low}, {high}]"
    else:
        figure, limits = wording.points(change.estimate), wording.point_limits(change.interval)
    direction = shown(change)
    down_is: Tone = "good" if up_is == "bad" else "bad"
    tone = up_is if direction > 0 else down_is if direction < 0 else "plain"
    p = change.p_value if change.p_adjusted is None else change.p_adjusted
    return Cell((figure, limits, wording.p_value(p)), tone, change)


def shown(change: Change) -> int:
    """Return 1 for a rise that was shown, -1 for a fall, 0 where none was.

    Shown means that the 95 % interval excludes 0 and, inside a family of tests, that the adjusted p-value is at most
    0.05 too. A figure that is hidden shows nothing.
    """
    if change.hidden or (change.p_adjusted is not None and change.p_adjusted > SHOWN_ALPHA):
        return 0
    return int(change.interval.low > 0) - int(change.interval.high < 0)


def shown_alone(change: Change) -> bool:
    """Return whether a change was not shown although its own interval excludes 0: among so many tests chance brings such ones."""
    excludes_0 = change.interval.low > 0 or change.interval.high < 0
    return excludes_0 and not change.hidden and not shown(change)


def adjusted(changes: Iterable[Change | CorrectedChange | None]) -> str:
    """Return how p-values were adjusted; empty if none was."""
    families = sorted({change.adjustment for change in changes if change and change.adjustment})
    return f"p-values adjusted: {wording.listing(families)}" if families else ""


def p_values_of(rows: Sequence[Sequence[Cell]]) -> tuple[str, ...]:
    """Say how the p-values in a table's cells were adjusted, or that they were not; nothing without a change."""
    changes = [cell.change for row in rows for cell in row if cell.change]
    visible = [change for change in changes if not change.hidden]
    unadjusted = "p-values: each test by itself, not adjusted for their number"
    return (f"{adjusted(visible) or unadjusted}.",) if visible else ()


def good_when_up(result: StudyResult, metric: str) -> Tone:
    """Return the tone of a rise of a task score: good, but for shares of what went wrong (invalid labels)."""
    return "bad" if metric in result.lower_is_better else "good"


def name_cell(condition: ConditionResult) -> Cell:
    """Return a condition's name, for a fine-tune with its number of training seeds."""
    name = wording.clean(condition.name)
    if condition.base is None:
        return Cell((name,))
    return Cell((name, wording.plural(condition.seeds, "seed")))


def is_unclear(rate: Rate | None) -> bool:
    """Return whether a rate counts incoherent or undecided responses."""
    return rate is not None and rate.undecided + rate.incoherent > 0


def unclear_cell(rate: Rate | None) -> Cell:
    """Return the incoherent and undecided shares, with the bounds that they imply; coloured above a tenth."""
    if rate is None:
        return MISSING
    if rate.hidden:
        return too_few(rate)
    if not is_unclear(rate):
        return Cell(("0 %",))
    incoherent, undecided = (
        wording.percent(count / rate.n) for count in (rate.incoherent, rate.undecided)
    )
    tone: Tone = "bad" if rate.incoherent + rate.undecided > 0.1 * rate.n else "plain"
    return Cell(
        (f"{incoherent} incoherent", f"{undecided} undecided", wording.limits(rate.bounds)), tone
    )


def disagreement_cell(tasks: Iterable[Disagreement]) -> Cell:
    """Return how often two judges differ, in one task or in several together."""
    counts = [(task.differ, task.n) for task in tasks]
    differ, n = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    return Cell((wording.percent(differ / n), f"{differ:,} of {n:,}")) if n else MISSING


def names_in(groups: Iterable[Iterable[str]]) -> list[str]:
    """Return every name once, sorted, so that a file read back prints as the result it came from."""
    return sorted({name for group in groups for name in group})


def scored_in(groups: Iterable[Mapping[str, Breakdown[Figure]]]) -> list[str]:
    """Return the names that have an overall figure anywhere, so that none takes an empty column."""
    groups = list(groups)
    return [
        name
        for name in names_in(groups)
        if any(overall_of(group, name) is not None for group in groups)
    ]


def in_order(result: StudyResult, groups: Iterable[Iterable[str]]) -> list[str]:
    """Return every name once: tasks in their declared order, others sorted."""
    order = {task: place for place, task in enumerate(result.tasks)}
    return sorted(names_in(groups), key=lambda name: (order.get(name, len(order)), name))


def finished(conditions: Sequence[ConditionResult]) -> list[ConditionResult]:
    """Return the conditions without the epochs and rounds on the way to another one: the last of a series stays."""
    last: dict[tuple[object, ...], float] = {}
    for condition in conditions:
        key = _series(condition)
        last[key] = max(last.get(key, 0.0), _step(condition))
    return [c for c in conditions if not c.series or _step(c) == last[_series(c)]]


def _step(condition: ConditionResult) -> float:
    return condition.factors.get("epoch", condition.factors.get("round", 0.0))


def _series(condition: ConditionResult) -> tuple[object, ...]:
    """Return what epochs and rounds of one fine-tune share: its series and its dose."""
    return condition.series, *sorted(dose_of(condition).items())


def dose_of(condition: ConditionResult) -> dict[str, float]:
    """Return the factors that are no epoch and no round: learning rate, rows, share of safety data."""
    return {
        name: value for name, value in condition.factors.items() if name not in {"epoch", "round"}
    }


def labels_few(figure: Corrected | LabelsLine) -> bool:
    """Return whether a figure is not corrected because it has fewer labels than a correction takes."""
    return figure.uncorrected is not None and figure.uncorrected.missing in FEW_LABELS


def beside(cell: Cell, corrected: Corrected | None, *, say_missing: bool = False) -> Cell:
    """Return a cell of a raw rate or change with the corrected figure below it.

    Where the labels are too few the cell stays as it is, and `correction_legend` says why once.

    Args:
        cell: the raw figure's.
        corrected: the corrected figure; None without labels.
        say_missing: with "not corrected" in a cell whose figure the labels do not correct.
    """
    cell = replace(cell, corrected=corrected)
    if corrected is None or cell.tone == "faint":
        return cell
    if corrected.estimate is None or corrected.interval is None:
        return replace(cell, lines=(*cell.lines, "not corrected")) if say_missing else cell
    if isinstance(corrected, CorrectedChange):
        figure, limits = (
            wording.points(corrected.estimate),
            wording.point_limits(corrected.interval),
        )
    else:
        figure, limits = wording.percent(corrected.estimate), wording.limits(corrected.interval)
    return replace(cell, lines=(*cell.lines, f"corrected {figure}", limits))


def correction_legend(rows: Sequence[Sequence[Cell]]) -> tuple[str, ...]:
    """Say what the corrected figures in a table's cells are, and why some are missing; nothing without labels."""
    labelled = [cell.corrected for row in rows for cell in row if cell.corrected is not None]
    if not labelled:
        return ()
    missing = [figure for figure in labelled if figure.uncorrected is not None]
    reasons = sorted(
        {
            figure.uncorrected.text
            for figure in missing
            if figure.uncorrected and not labels_few(figure)
        }
    )
    if any(labels_few(figure) for figure in missing):
        reasons.append(f"{LEAST_LABELS} labels of a figure are needed")
    if len(missing) == len(labelled):
        return (f"Not corrected by labels: {'; '.join(reasons)}.",)
    others = f"; others are not: {'; '.join(reasons)}" if reasons else ""
    return (f"corrected: by labels{others}.",)
