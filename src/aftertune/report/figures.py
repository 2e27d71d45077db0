"""The figures of a result, as drawings: changes, the matrix, variance, tiles, mitigations, guards, trade-offs, curves."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from aftertune.measure.consistency_results import Consistency, ConsistencyResult, Curve
from aftertune.measure.results import (
    Change,
    ConditionResult,
    Interval,
    Rate,
    SettingResult,
    Side,
    StudyResult,
)
from aftertune.report import wording
from aftertune.report.cells import (
    OVERALL,
    at_task,
    dose_of,
    finished,
    names_in,
    part,
    shown,
)
from aftertune.report.corrected import labels_of
from aftertune.report.document import ResultDocument
from aftertune.report.drawing import (
    SERIES,
    Box,
    Chain,
    Colour,
    Dot,
    Drawing,
    Line,
    Mark,
    Paint,
    Words,
    fitted,
)
from aftertune.report.overview import Figure, Overview, PictureRow, overview, picture_rows

WIDE, NARROW = 780.0, 350.0
"""Widths of the first screen's picture: panels beside each other, and below each other."""
ON_SERIES = "#ffffff"
"""Words on a bar in one of the colours of models."""
PAGE_WIDTH = 720.0
ROW, GAP, SMALL = 26.0, 14.0, 11.0
ROOM = 250.0
"""Height of the first screen's picture without its axis, for a few lines."""
TICK_ROOM = 48.0
MOST_TILES = 8
"""Fine-tunes whose prompts are drawn as tiles."""


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


def _axis_marks(scale: Axis, top: float, bottom: float, unit: str = "") -> Iterator[Mark]:
    for tick in scale.ticks():
        x = scale.at(tick)
        zero = abs(tick) < 1e-9
        yield Line(x, top, x, bottom, Colour.FAINT if zero else Colour.LINE, 1.0)
        sign = "+" if unit and tick > 1e-9 else ""
        yield Words(x, bottom + 14, f"{sign}{tick:g}", "middle", Colour.FAINT, SMALL)


def _row_marks(row: Row, scale: Axis, y: float, height: float = ROW) -> Iterator[Mark]:
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
        marks += _axis_marks(scale, first - 6, bottom, "points")
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
            marks += _row_marks(line, scale, y, pitch)
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


def change_paint(change: Change, *, rise_is_bad: bool = True) -> Colour:
    """Return the colour of a change: for the worse, for the better, or not shown."""
    direction = shown(change)
    if not direction:
        return Colour.OPEN
    return Colour.BAD if (direction > 0) == rise_is_bad else Colour.GOOD


def _described(row: PictureRow) -> str:
    parts = [
        f"{wording.clean(figure.name)} {wording.in_points(figure.change)}"
        for figure in row.figures
        if figure.change is not None and not figure.change.hidden
    ]
    return f"{row.label}: {'; '.join(parts) or 'not measured'}."


# By task


def _plot(
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
            marks += _row_marks(row, scale, y + ROW / 2 - 1)
            if row.behind:
                marks.append(Words(PAGE_WIDTH, y + ROW / 2 + 3, row.behind, "end", row.paint))
            y += ROW
        y += 6
    axis_marks = list(_axis_marks(scale, 2, y, "points" if unit == "points" else ""))
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
        marks=(*axis_marks, *marks),
    )


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
    return _plot(
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
    return _plot(
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
    return _plot(
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


# Consistency


def variance_shares(result: ConsistencyResult) -> Drawing | None:
    """Return the parts of the variance of each condition's rate as stacked bars; None where the design cannot tell them."""
    entries = [entry for entry in result.entries if entry.task is None and entry.shares is not None]
    if not entries:
        return None
    parts = (
        ("prompts", SERIES[0]),
        ("training seeds", SERIES[1]),
        ("both together", SERIES[4]),
        ("decoding", SERIES[2]),
    )
    label, width, height = 160.0, PAGE_WIDTH - 160.0, 24.0
    marks: list[Mark] = []
    sentences = []
    x = label
    for name, paint in parts:
        marks += [Box(x, 4, 12, 12, paint), Words(x + 17, 14, name)]
        x += 30 + 0.6 * 12 * len(name)
    for row, entry in enumerate(entries):
        shares = entry.shares
        assert shares is not None
        top = 30 + (height + 6) * row
        marks.append(Words(0, top + 16, fitted(wording.clean(entry.condition), label - 8)))
        x = label
        values = (shares.behaviors, shares.seeds, shares.both, shares.decoding or 0.0)
        for (name, paint), value in zip(parts, values, strict=True):
            span = width * value
            marks.append(
                Box(x, top, span, height, paint, title=f"{name}: {wording.percent(value)}")
            )
            if span > 44:
                marks.append(
                    Words(
                        x + span / 2,
                        top + 16,
                        wording.percent(value),
                        "middle",
                        ON_SERIES,
                        SMALL,
                        bold=True,
                    )
                )
            x += span
        pieces = ", ".join(
            f"{name} {wording.percent(value)}"
            for (name, _), value in zip(parts, values, strict=True)
        )
        sentences.append(f"{entry.condition}: {pieces}")
    return Drawing(
        name="variance-shares",
        title=f"Parts of the variance of the {result.name_rate}",
        description=wording.clean(f"{'; '.join(sentences)}."),
        caption="Where another measurement of the same thing would differ from: other prompts like these, other training seeds, prompts that react to the seed, decoding again.",
        width=PAGE_WIDTH,
        height=30 + (height + 6) * len(entries),
        marks=tuple(marks),
    )


def seed_tiles(result: ConsistencyResult) -> Drawing | None:
    """Return the rate of every behavior under every training seed as tiles; None without several seeds."""
    entries = [
        entry
        for entry in result.entries
        if entry.task is None and len(entry.seed_rates) > 1 and entry.by_behavior
    ][:MOST_TILES]
    if not entries:
        return None
    label, row = 160.0, 13.0
    marks: list[Mark] = []
    sentences = []
    y = 4.0
    for entry in entries:
        ordered = sorted(entry.by_behavior.items(), key=lambda pair: (-sum(pair[1]), pair[0]))
        width = (PAGE_WIDTH - label) / len(ordered)
        marks.append(Words(0, y + 11, fitted(wording.clean(entry.condition), label - 8)))
        for seed in range(len(entry.seed_rates)):
            marks.append(Box(label, y, PAGE_WIDTH - label, row - 2, Colour.HEAT, 0.05))
            for place, (behavior, rates) in enumerate(ordered):
                if rates[seed] > 0:
                    title = f"{wording.clean(behavior)}, seed {seed + 1}: {wording.percent(rates[seed])}"
                    marks.append(
                        Box(
                            label + width * place,
                            y,
                            max(width - 0.6, 0.6),
                            row - 2,
                            Colour.HEAT,
                            0.1 + 0.9 * rates[seed],
                            title,
                        )
                    )
            y += row
        y += 9
        always = sum(min(rates) > 0 for _, rates in ordered)
        ever = sum(max(rates) > 0 for _, rates in ordered)
        sentences.append(
            f"{entry.condition}: {ever} of {len(ordered)} behaviors answered under some seed, {always} under every seed"
        )
    return Drawing(
        name="seed-tiles",
        title=f"{result.name_rate} by behavior and training seed",
        description=wording.clean(f"{'; '.join(sentences)}."),
        caption="A row a training seed, a column a behavior, the most answered first; dark: answered in every task. Columns that differ between rows are what another seed changes.",
        width=PAGE_WIDTH,
        height=y,
        marks=tuple(marks),
    )


def labs(result: ConsistencyResult) -> Drawing | None:
    """Return every training seed as a dot, with the interval and the band of another lab's single run."""
    entries = [e for e in result.entries if len(e.seed_rates) > 1 and not e.rate.hidden]
    if not entries:
        return None
    label = 200.0
    ends = [
        100 * end for e in entries for end in (*(e.limits.predicted or ()), e.rate.interval.high)
    ]
    scale = axis(ends, label + 8, PAGE_WIDTH - 12)
    marks: list[Mark] = []
    for place, entry in enumerate(entries):
        y = 16 + 22.0 * place
        marks.append(
            Words(0, y + 4, fitted(_entry_name(entry), label - 6), bold=entry.task is None)
        )
        if (band := entry.limits.predicted) is not None:
            low, high = (scale.at(100 * end) for end in band)
            marks.append(Box(low, y - 8, max(high - low, 1.0), 16, SERIES[0], 0.2))
        low, high = (
            scale.at(100 * end) for end in (entry.rate.interval.low, entry.rate.interval.high)
        )
        marks.append(Line(low, y, high, y, SERIES[0], 1.5))
        marks += [
            Dot(scale.at(100 * rate), y, 2.6, Colour.INK, opacity=0.75) for rate in entry.seed_rates
        ]
    bottom = 22.0 * len(entries) + 8
    described = "; ".join(
        f"{_entry_name(e)} {', '.join(wording.percent(rate) for rate in e.seed_rates)}"
        for e in entries
    )
    return Drawing(
        name="labs",
        title=f"{result.name_rate} of every training seed",
        description=f"{described}.",
        caption="Percent. Each dot a training seed; line: 95 % interval over prompts and seeds like these; band: where another lab with one training seed would lie, 95 %, on these prompts.",
        width=PAGE_WIDTH,
        height=bottom + 22,
        marks=(*_axis_marks(scale, 4, bottom), *marks),
    )


def _entry_name(entry: Consistency) -> str:
    return wording.clean(f"{entry.condition}: {entry.task or OVERALL}")


def degradation(result: ConsistencyResult, curve: Curve) -> Drawing | None:
    """Return rates, over-refusal and scores along the one axis of a series; None for a series of several axes."""
    if len(curve.axes) != 1:
        return None
    along = curve.axes[0]
    points = [
        *([] if curve.start is None else [(0.0, curve.start)]),
        *((point.factors[along], point) for point in curve.points),
    ]
    lines: list[tuple[str, list[tuple[float, float]]]] = [
        (result.name_rate, _line((x, point.asr) for x, point in points))
    ]
    tasks = names_in(point.asr_by_task for _, point in points)
    lines += [(t, _line((x, point.asr_by_task.get(t)) for x, point in points)) for t in tasks]
    lines.append(("over-refusal", _line((x, point.over_refusal) for x, point in points)))
    lines += [
        (name, [(x, 100 * p.scores[name]) for x, p in points if name in p.scores])
        for name in names_in(point.scores for _, point in points)
    ]
    lines = [(label, line) for label, line in lines if len(line) > 1]
    if not lines:
        return None
    left, right, top, bottom = 40.0, PAGE_WIDTH - 150, 10.0, 260.0
    across = axis([x for _, line in lines for x, _ in line], left, right)
    up = axis([y for _, line in lines for _, y in line], bottom, top)
    marks: list[Mark] = []
    for tick in up.ticks():
        marks.append(Line(left, up.at(tick), right, up.at(tick), Colour.LINE))
        marks.append(Words(left - 6, up.at(tick) + 4, f"{tick:g}", "end", Colour.FAINT, SMALL))
    marks += [
        Words(across.at(x), bottom + 16, f"{x:g}", "middle", Colour.FAINT, SMALL)
        for x in sorted({x for x, _ in points})
    ]
    rates = [(x, point.asr) for x, point in points if not point.asr.hidden]
    for end in ("low", "high"):
        limits = tuple((across.at(x), up.at(100 * _end(rate.interval, end))) for x, rate in rates)
        if len(limits) > 1:
            marks.append(Chain(limits, SERIES[0], 1.0, dashed=True))
    for place, (label, line) in enumerate(lines):
        paint = SERIES[place % len(SERIES)]
        marks.append(
            Chain(tuple((across.at(x), up.at(y)) for x, y in line), paint, 1.5 if place else 2.75)
        )
        marks += [Dot(across.at(x), up.at(y), 3.0, paint, hollow=place > 0) for x, y in line]
        y = 20 + 19.0 * place
        marks.append(Line(right + 14, y - 4, right + 34, y - 4, paint, 1.5 if place else 2.75))
        marks.append(Words(right + 40, y, fitted(wording.clean(label), 108)))
    axis_name = along.replace("_", " ")
    marks.append(Words((left + right) / 2, bottom + 34, axis_name, "middle"))
    described = "; ".join(
        f"{label} {', '.join(f'{y:.1f} at {x:g}' for x, y in line)}" for label, line in lines
    )
    return Drawing(
        name=f"curve-{''.join(c if c.isalnum() else '-' for c in curve.series)}",
        title=f"{wording.clean(curve.series)} by {axis_name}",
        description=wording.clean(f"In percent: {described}."),
        caption=f"{wording.clean(curve.series)}, the degradation curve: percent by {axis_name}, the base at 0. Bold: the {result.name_rate} overall, with its 95 % limits dashed; then its tasks, over-refusal and task scores.",
        width=PAGE_WIDTH,
        height=max(bottom + 44, 24 + 19.0 * len(lines)),
        marks=tuple(marks),
    )


def _line(points: Iterable[tuple[float, Rate | None]]) -> list[tuple[float, float]]:
    return [(x, 100 * rate.estimate) for x, rate in points if rate is not None and not rate.hidden]


def _end(interval: Interval, end: str) -> float:
    return interval.low if end == "low" else interval.high


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
        guard_bypass(result, setting),
        mitigation_forest(result, setting),
        frontier(result, setting),
        *(consistency_figures(repeated) if repeated else ()),
    ]
    return [drawing for drawing in drawings if drawing is not None]


def consistency_figures(result: ConsistencyResult) -> list[Drawing]:
    """Return the figures of a consistency result."""
    drawings = [
        labs(result),
        variance_shares(result),
        seed_tiles(result),
        *(degradation(result, curve) for curve in result.curves),
    ]
    return [drawing for drawing in drawings if drawing is not None]
