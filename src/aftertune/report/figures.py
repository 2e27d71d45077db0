"""The figures of a result, as drawings: changes, the matrix, guards, mitigations, the frontier."""

from collections.abc import Iterator, Mapping, Sequence

from aftertune.measure.consistency_results import ConsistencyResult
from aftertune.measure.results import (
    ConditionResult,
    Rate,
    SettingResult,
    Side,
    StudyResult,
)
from aftertune.report import wording
from aftertune.report.attacks import attacks_picture
from aftertune.report.cells import (
    OVERALL,
    at_task,
    dose_of,
    finished,
    names_in,
    part,
    shown,
)
from aftertune.report.consistency_figures import consistency_figures
from aftertune.report.corrected import labels_of
from aftertune.report.document import ResultDocument
from aftertune.report.drawing import (
    SERIES,
    Box,
    Colour,
    Dot,
    Drawing,
    Line,
    Mark,
    Paint,
    Words,
    fitted,
)
from aftertune.report.hazards import hazard_changes
from aftertune.report.overview import Figure, Overview, PictureRow, overview, picture_rows
from aftertune.report.plots import (
    PAGE_WIDTH,
    ROW,
    SMALL,
    Row,
    axis,
    axis_marks,
    change_paint,
    interval_plot,
    row_marks,
)

WIDE, NARROW = 780.0, 350.0
"""Widths of the first screen's picture: panels beside each other, and below each other."""
ROOM = 250.0
"""Height of the first screen's picture without its axis, for a few lines."""


# The first screen


def change_picture(
    glance: Overview, rows: Sequence[PictureRow], rate: str, *, narrow: bool = False
) -> Drawing | None:
    """Return the changes of harm, over-refusal and the first score, a panel each; None without a change.

    Args:
        glance: the overview.
        rows: a fine-tune each, or the overall figure and the tasks of a single one.
        rate: the rate's name.
        narrow: with the panels below each other.
    """
    columns = max((len(row.figures) for row in rows), default=0)
    if not columns:
        return None
    width, label, value = (NARROW, 112.0, 46.0) if narrow else (WIDE, 132.0, 48.0)
    panels = min(columns, 3)
    pitch = min(44.0, max(ROW, ROOM / len(rows)))
    marks: list[Mark] = []
    room = width - label if narrow else (width - label) / panels
    height, top = 0.0, 0.0
    for column in range(panels):
        left = label if narrow else label + column * room
        top = height if narrow else 0.0
        lines = [(row.label, _picture_row(row.figures[column])) for row in rows]
        drawn = [line for _, line in lines if line is not None]
        scale = axis([end for line in drawn for end in line.extent], left + 8, left + room - value)
        first = top + 30
        bottom = first + pitch * len(rows)
        figure = next(row.figures[column] for row in rows)
        marks.append(
            Words(
                left + 8, top + 14, _panel_title(figure, rate), "start", Colour.INK, 13.0, bold=True
            )
        )
        marks += axis_marks(scale, first - 6, bottom, "points")
        for place, (name, line) in enumerate(lines):
            y = first + pitch * (place + 0.5) - 4
            if narrow or column == 0:
                marks.append(
                    Words(
                        0,
                        y + 4,
                        fitted(name, label - 4, 13),
                        size=13,
                        bold=place == 0 and rows[0].overall,
                    )
                )
            if line is None:
                marks.append(
                    Words(left + room - 4, y + 4, "not measured", "end", Colour.FAINT, SMALL)
                )
                continue
            marks += row_marks(line, scale, y, pitch)
            marks.append(
                Words(
                    left + room - 4,
                    y + 4,
                    line.behind,
                    "end",
                    line.paint,
                    12.0,
                    bold=not line.hollow,
                )
            )
        height = bottom + 26
    sentences = [_described(row) for row in rows]
    return Drawing(
        name="change-narrow" if narrow else "change",
        title=f"Change against the base: {rate}, over-refusal, task score",
        description=f"{glance.word}{glance.subject}. {' '.join(sentences)}",
        caption="Points against the base. Filled: a change was shown; hollow: none was. Thick: 90 % interval; thin: 95 %; small dots: training seeds; dashes: the margin.",
        width=width,
        height=height,
        marks=tuple(marks),
    )


def _panel_title(figure: Figure, rate: str) -> str:
    if figure.side is Side.HARM:
        return f"harm ({rate})"
    return fitted(wording.clean(figure.name), 190, 12.5)


def _picture_row(figure: Figure) -> Row | None:
    change = figure.change
    if change is None or change.hidden:
        return None
    margin = None if figure.margin is None else 100 * figure.margin
    return Row(
        label="",
        value=100 * change.estimate,
        low=100 * change.interval.low,
        high=100 * change.interval.high,
        inner=(100 * change.interval90.low, 100 * change.interval90.high),
        paint=change_paint(change, rise_is_bad=not figure.fall_is_bad),
        hollow=not shown(change),
        seeds=tuple(100 * seed for seed in figure.seeds),
        margin=None if margin is None else -margin if figure.fall_is_bad else margin,
        behind=wording.points(change.estimate),
    )


def _described(row: PictureRow) -> str:
    parts = [
        f"{wording.clean(figure.name)} {wording.in_points(figure.change)}"
        for figure in row.figures
        if figure.change is not None and not figure.change.hidden
    ]
    return f"{row.label}: {'; '.join(parts) or 'not measured'}."


# By task


def task_changes(
    result: StudyResult, setting: SettingResult, margin: float | None = None
) -> Drawing | None:
    """Return the change of the rate by task and fine-tune with its training seeds; None without any."""
    by_name = {condition.name: condition for condition in setting.conditions}
    groups = []
    for task in (OVERALL, *result.tasks):
        rows = []
        for condition in finished(setting.conditions):
            change = at_task(condition.asr_change, task)
            if change is None or change.hidden:
                continue
            base = at_task(by_name[condition.base or ""].asr, task)
            seeds = condition.by_seed.get(task, ())
            before = None if base is None or len(seeds) < 2 else base.estimate
            rows.append(
                Row(
                    label=wording.clean(condition.name),
                    value=100 * change.estimate,
                    low=100 * change.interval.low,
                    high=100 * change.interval.high,
                    paint=change_paint(change),
                    hollow=not shown(change),
                    seeds=() if before is None else tuple(100 * (s.asr - before) for s in seeds),
                    margin=None if margin is None or task == OVERALL else 100 * margin,
                    corrected=_corrected(condition, task),
                    behind=wording.points(change.estimate),
                )
            )
        groups.append((OVERALL if task == OVERALL else f"asked as {wording.clean(task)}", rows))
    labelled = any(row.corrected for _, rows in groups for row in rows)
    hollow = " Dashed line: corrected by labels." if labelled else ""
    return interval_plot(
        "change-by-task",
        f"Change of the {result.name_rate} by task",
        "Points against the base with 95 % intervals; small dots: training seeds; filled where a change was shown."
        f"{' Dashes: the margin of a task.' if margin is not None else ''}{hollow}",
        groups,
        "points",
    )


def _corrected(condition: ConditionResult, task: str) -> tuple[float, float, float] | None:
    corrected = at_task(labels_of(condition).asr_change, task)
    if corrected is None or corrected.estimate is None or corrected.interval is None:
        return None
    interval = corrected.interval
    return 100 * corrected.estimate, 100 * interval.low, 100 * interval.high


def matrix(result: StudyResult, setting: SettingResult) -> Drawing | None:
    """Return the rates as a heat map: a row a model, a column a task."""
    conditions = finished(setting.conditions)
    columns = [OVERALL, *result.tasks]
    if not result.tasks or len(conditions) < 2:
        return None
    label, cell, height = 150.0, 96.0, 40.0
    marks: list[Mark] = [
        Words(
            label + cell * (place + 0.5),
            28,
            fitted(wording.clean(task), cell - 4),
            "middle",
            bold=True,
        )
        for place, task in enumerate(columns)
    ]
    sentences = []
    for row, condition in enumerate(conditions):
        top = 38 + height * row
        marks.append(
            Words(0, top + 24, fitted(wording.clean(condition.name), label - 6), bold=True)
        )
        for place, task in enumerate(columns):
            rate = at_task(condition.asr, task)
            left = label + cell * place
            if rate is None or rate.hidden:
                marks.append(
                    Words(
                        left + cell / 2,
                        top + 24,
                        "too few" if rate else "-",
                        "middle",
                        Colour.FAINT,
                    )
                )
                continue
            change = at_task(condition.asr_change, task)
            marks.append(
                Box(
                    left + 1,
                    top + 1,
                    cell - 2,
                    height - 2,
                    Colour.HEAT,
                    0.04 + 0.56 * rate.estimate,
                )
            )
            marks.append(
                Words(
                    left + cell / 2, top + 18, wording.percent(rate.estimate), "middle", bold=True
                )
            )
            if change is not None and not change.hidden:
                marks.append(
                    Words(
                        left + cell / 2,
                        top + 33,
                        wording.points(change.estimate),
                        "middle",
                        size=SMALL,
                    )
                )
            sentences.append(f"{condition.name} asked as {task} {wording.percent(rate.estimate)}")
    return Drawing(
        name="matrix",
        title=f"{result.name_rate}: fine-tuned on, asked as",
        description=wording.clean("; ".join(sentences)) + ".",
        caption=f"{result.name_rate} by model and task; below it the change against the base in points.",
        width=label + cell * len(columns),
        height=44 + height * len(conditions),
        marks=(
            Words(
                0, 12, f"{result.name_rate}, fine-tuned on (rows), asked as (columns)", size=12.5
            ),
            *marks,
        ),
    )


# Guards, mitigations, trade-offs


def guard_bypass(result: StudyResult, setting: SettingResult) -> Drawing | None:
    """Return what guards let through of the harmful responses, before and after fine-tuning; None without guards."""
    groups = []
    for guard in names_in(condition.guards for condition in setting.conditions):
        rows = []
        for condition in finished(setting.conditions):
            behind = condition.guards.get(guard)
            rate = part(behind.bypass) if behind else None
            if rate is None or rate.hidden:
                continue
            change = part(behind.bypass_change) if behind else None
            rows.append(
                _rate_row(
                    wording.clean(condition.name),
                    rate,
                    Colour.FAINT if change is None or change.hidden else change_paint(change),
                    hollow=condition.base is None,
                )
            )
        groups.append((f"guard {wording.clean(guard)}", rows))
    return interval_plot(
        "guard-bypass",
        f"Harmful responses that the guard lets through ({result.name_rate})",
        "Percent of the harmful responses that the guard passes, with 95 % intervals; hollow: the base, before fine-tuning.",
        groups,
        "percent",
    )


def _rate_row(label: str, rate: Rate, paint: Paint, *, hollow: bool = False) -> Row:
    return Row(
        label=label,
        value=100 * rate.estimate,
        low=100 * rate.interval.low,
        high=100 * rate.interval.high,
        paint=paint,
        hollow=hollow,
        behind=wording.percent(rate.estimate),
    )


def mitigation_forest(result: StudyResult, setting: SettingResult) -> Drawing | None:
    """Return every fine-tune that is another one's: mitigated against unmitigated, other forms; None without any."""
    groups: dict[str, list[Row]] = {}
    for condition in finished(setting.conditions):
        undone = condition.undone
        undoes = "" if undone is None else f", undoes {100 * undone.estimate:.0f} %"
        for against, behind in ((condition.unmitigated, undoes), (condition.against, "")):
            change = against.asr.overall if against else None
            if against is None or change is None or change.hidden:
                continue
            groups.setdefault(f"against {wording.clean(against.other)}", []).append(
                Row(
                    label=wording.clean(condition.name),
                    value=100 * change.estimate,
                    low=100 * change.interval.low,
                    high=100 * change.interval.high,
                    paint=change_paint(change),
                    hollow=not shown(change),
                    behind=f"{wording.points(change.estimate)}{behind}",
                )
            )
    return interval_plot(
        "mitigations",
        f"Fine-tunes against each other: difference of the {result.name_rate}",
        "Points against the same fine-tune without its mitigation, or in another form, with 95 % intervals; left is safer. Undone: of the rise that the fine-tune brought.",
        list(groups.items()),
        "points",
    )


def frontier(result: StudyResult, setting: SettingResult) -> Drawing | None:
    """Return over-refusal against the rate, one facet overall and one a task; None where nothing is ever over-refused."""
    alone = [condition for condition in finished(setting.conditions) if not dose_of(condition)]
    many = len(setting.conditions) > len(SERIES)
    conditions = (alone if many and alone else list(setting.conditions))[: len(SERIES)]
    facets = []
    for task in (OVERALL, *result.tasks):
        rates = {c.name: both for c in conditions if (both := _both(c, task)) is not None}
        if any(refused.estimate > 0 for refused, _ in rates.values()):
            facets.append((task, rates))
    if not facets:
        return None
    marks: list[Mark] = []
    size, left, gap = 250.0, 46.0, 64.0
    for place, (task, rates) in enumerate(facets):
        x0 = left + (place % 2) * (size + gap + 20)
        y0 = 30 + (place // 2) * (size + gap)
        marks += _facet(wording.clean(task), conditions, rates, (x0, y0, size), result.name_rate)
    rows = -(-len(facets) // 2)
    y = 30 + rows * (size + gap)
    for place, condition in enumerate(conditions):
        x = left + (place % 3) * 220
        marks.append(Dot(x, y + 18 * (place // 3), 4.5, SERIES[place]))
        name = fitted(wording.clean(condition.name), 190)
        marks.append(Words(x + 10, y + 4 + 18 * (place // 3), name))
    described = "; ".join(
        f"{name} {wording.percent(asr.estimate)} at {wording.percent(refused.estimate)} over-refusal"
        for name, (refused, asr) in facets[0][1].items()
    )
    return Drawing(
        name="frontier",
        title=f"{result.name_rate} and over-refusal",
        description=wording.clean(f"{facets[0][0]}: {described}."),
        caption=f"Over-refusal (across) and {result.name_rate} (up), percent with 95 % intervals; lower left is better. Faint: training seeds.",
        width=PAGE_WIDTH if len(facets) > 1 else left + size + gap,
        height=y + 18 * (-(-len(conditions) // 3)) + 4,
        marks=tuple(marks),
    )


def _both(condition: ConditionResult, task: str) -> tuple[Rate, Rate] | None:
    """Return over-refusal and the rate, if both were measured and are shown."""
    refused, asr = (at_task(b, task) for b in (condition.over_refusal, condition.asr))
    if refused is None or asr is None or refused.hidden or asr.hidden:
        return None
    return refused, asr


def _facet(
    title: str,
    conditions: Sequence[ConditionResult],
    rates: Mapping[str, tuple[Rate, Rate]],
    place: tuple[float, float, float],
    rate_name: str,
) -> Iterator[Mark]:
    x0, y0, size = place
    ends = [(100 * r.interval.high, 100 * a.interval.high) for r, a in rates.values()]
    across = axis([end[0] for end in ends], x0, x0 + size)
    up = axis([end[1] for end in ends], y0 + size, y0)
    yield Words(x0, y0 - 10, fitted(title, size, 12.5), size=12.5, bold=True)
    for tick in across.ticks():
        yield Line(across.at(tick), y0, across.at(tick), y0 + size, Colour.LINE)
        yield Words(across.at(tick), y0 + size + 14, f"{tick:g}", "middle", Colour.FAINT, SMALL)
    for tick in up.ticks():
        yield Line(x0, up.at(tick), x0 + size, up.at(tick), Colour.LINE)
        yield Words(x0 - 6, up.at(tick) + 4, f"{tick:g}", "end", Colour.FAINT, SMALL)
    yield Words(
        x0 + size,
        y0 + size + 28,
        f"over-refusal, %; up: {rate_name}, %",
        "end",
        Colour.FAINT,
        SMALL,
    )
    for number, condition in enumerate(conditions):
        if condition.name not in rates:
            continue
        refused, asr = rates[condition.name]
        paint = SERIES[number]
        x, y = across.at(100 * refused.estimate), up.at(100 * asr.estimate)
        task = title if title in condition.by_seed else OVERALL
        seeds = condition.by_seed.get(task, ())
        for seed in seeds if len(seeds) > 1 else ():
            yield Dot(
                across.at(100 * seed.over_refusal), up.at(100 * seed.asr), 2.5, paint, opacity=0.45
            )
        yield Line(
            across.at(100 * refused.interval.low),
            y,
            across.at(100 * refused.interval.high),
            y,
            paint,
            1.25,
        )
        yield Line(x, up.at(100 * asr.interval.low), x, up.at(100 * asr.interval.high), paint, 1.25)
        yield Dot(x, y, 4.5, paint, hollow=condition.base is None)


def all_figures(document: ResultDocument, repeated: ConsistencyResult | None) -> list[Drawing]:
    """Return every figure of a result's first setting that has something to show, for files.

    Args:
        document: the result.
        repeated: its consistency; None where it has no seeds and no series.
    """
    result, gate, margins = document.result, document.gate, document.margins
    setting = result.settings[0]
    glance = overview(result, setting, gate, margins)
    drawings = [
        change_picture(
            glance, picture_rows(glance, result, setting, gate, margins), result.name_rate
        ),
        task_changes(result, setting, margins.harm_task if margins else None),
        matrix(result, setting),
        *hazard_changes(result, setting),
        guard_bypass(result, setting),
        mitigation_forest(result, setting),
        frontier(result, setting),
        *(attacks_picture(result, attacked) for attacked in document.attacks[:1]),
        *(consistency_figures(repeated) if repeated else ()),
    ]
    return [drawing for drawing in drawings if drawing is not None]
