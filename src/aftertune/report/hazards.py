"""The rate and its change in every hazard of every task: a table, and a figure for each fine-tune. Exploratory.

Cells are many, and the behaviors in them few: they say where to look, and nothing is decided by them.
"""

from collections.abc import Sequence

from aftertune.measure.results import ConditionResult, HazardFigures, SettingResult, StudyResult
from aftertune.report import wording
from aftertune.report.cells import (
    BLANK,
    Cell,
    Sheet,
    adjusted,
    change_cell,
    dose_of,
    finished,
    in_order,
    names_in,
    shown,
)
from aftertune.report.drawing import Colour, Drawing, Mark, Words, fitted
from aftertune.report.plots import SMALL, Row, axis, axis_marks, change_paint, row_marks

MOST_FIGURES = 4
"""Fine-tunes that have a figure."""
WIDTH, LABEL, PITCH = 780.0, 150.0, 22.0
ACROSS = 4
"""Tasks beside each other."""


def hazards_sheet(result: StudyResult, setting: SettingResult) -> Sheet:
    """Return a row for each hazard of each condition, a column for each task."""
    conditions = setting.conditions
    tasks = in_order(result, (condition.hazards for condition in conditions))
    rows = tuple(
        (
            Cell((wording.clean(hazard), wording.clean(condition.name))),
            *(_cell(condition.hazards.get(task, {}).get(hazard)) for task in tasks),
        )
        for condition in conditions
        for hazard in sorted(names_in(condition.hazards.values()))
    )
    families = adjusted(cell.change for row in rows for cell in row)
    return Sheet(
        title=f"{result.name_rate} by hazard within task (exploratory)",
        headers=("hazard", *map(wording.clean, tasks)),
        rows=rows,
        legend=(
            (
                "In brackets 95 % intervals; below them the change against the base in points, coloured where it is shown"
                f"{families and f' ({families})'}. Many cells of few behaviors: they say where to look, and decide nothing."
            ),
        ),
    )


def _cell(figures: HazardFigures | None) -> Cell:
    if figures is None:
        return BLANK
    rate = figures.rate
    lines = (wording.percent(rate.estimate), wording.limits(rate.interval))
    if figures.change is None:
        return Cell(lines)
    change = change_cell(figures.change, up_is="bad")
    return Cell((*lines, " ".join(change.lines[:2])), change.tone, figures.change)


def hazard_changes(result: StudyResult, setting: SettingResult) -> list[Drawing]:
    """Return for each of the first fine-tunes its change in every hazard, a panel for each task."""
    fine_tunes = [
        condition
        for condition in finished(setting.conditions)
        if not dose_of(condition)
        and any(f.change is not None for task in condition.hazards.values() for f in task.values())
    ]
    return [
        _drawing(result, condition, in_order(result, [condition.hazards]))
        for condition in fine_tunes[:MOST_FIGURES]
    ]


def _drawing(result: StudyResult, condition: ConditionResult, tasks: Sequence[str]) -> Drawing:
    hazards = sorted(names_in(condition.hazards.values()))
    rows = {
        (task, hazard): _row(figures)
        for task, of_task in condition.hazards.items()
        for hazard, figures in of_task.items()
    }
    across = min(len(tasks), ACROSS)
    room, height = (WIDTH - LABEL) / across, 34 + PITCH * len(hazards) + 26
    ends = [end for row in rows.values() if row is not None for end in row.extent]
    marks: list[Mark] = []
    for place, task in enumerate(tasks):
        left, top = LABEL + room * (place % across), height * (place // across)
        scale = axis(ends, left + 8, left + room - 10)
        marks.append(
            Words(left + 8, top + 14, fitted(wording.clean(task), room - 12), size=12.5, bold=True)
        )
        marks += axis_marks(scale, top + 24, top + 30 + PITCH * len(hazards), "points")
        for number, hazard in enumerate(hazards):
            y = top + 30 + PITCH * (number + 0.5)
            if place % across == 0:
                marks.append(Words(0, y + 4, fitted(wording.clean(hazard), LABEL - 6)))
            row = rows.get((task, hazard))
            if row is None:
                marks.append(Words(left + 12, y + 4, "too few", paint=Colour.FAINT, size=SMALL))
            else:
                marks += row_marks(row, scale, y, PITCH)
    described = "; ".join(
        f"{hazard} asked as {task} {row.value:+.1f} [{row.low:+.1f}, {row.high:+.1f}]"
        for (task, hazard), row in rows.items()
        if row is not None
    )
    name = wording.clean(condition.name)
    return Drawing(
        name=f"hazards-{''.join(c if c.isalnum() else '-' for c in condition.name)}",
        title=f"{name}: change of the {result.name_rate} by hazard and task (exploratory)",
        description=wording.clean(f"In points: {described}."),
        caption="Points against the base with 95 % intervals, a panel for each task; filled where the change is shown after adjustment over all of them. Exploratory: it says where to look.",
        width=WIDTH,
        height=height * -(-len(tasks) // across),
        marks=tuple(marks),
    )


def _row(figures: HazardFigures) -> Row | None:
    change = figures.change
    if change is None or change.hidden:
        return None
    return Row(
        label="",
        value=100 * change.estimate,
        low=100 * change.interval.low,
        high=100 * change.interval.high,
        paint=change_paint(change),
        hollow=not shown(change),
    )
