"""A result as Markdown that GitHub renders: verdict, figures with intervals, a bar chart in text, the worst task, the next command.

Names and sentences that come from outside are escaped: they make no link, image, mention, reference, formula, table or
element.
"""

import re
from collections.abc import Iterator, Sequence

from aftertune.measure.results import GateResult, GateVerdict, Side
from aftertune.report import wording
from aftertune.report.cells import Sheet
from aftertune.report.document import ResultDocument, notes_of
from aftertune.report.finding import beside_the_figures, cost_lines, guard_lines
from aftertune.report.gate import gate_sheets, labels_sentences, verdict_scope
from aftertune.report.overview import (
    Figure,
    Overview,
    PictureRow,
    Step,
    form_lines,
    glance_sheet,
    overview,
    picture_rows,
    worst_line,
)
from aftertune.report.scorers import panel_words
from aftertune.report.tables import study_sheets

MARKS = {
    GateVerdict.PASS: "\N{WHITE HEAVY CHECK MARK}",
    GateVerdict.FAIL: "\N{CROSS MARK}",
    GateVerdict.NOT_ENOUGH_DATA: "\N{WHITE QUESTION MARK ORNAMENT}",
    GateVerdict.INCONCLUSIVE: "\N{WHITE QUESTION MARK ORNAMENT}",
}
MOST_REASONS = 4
MOST_LABEL = 24
"""Characters of a name in the chart."""
COLUMNS = 48
"""Characters of the chart's axis."""
JOINER = "\u2060"
"""WORD JOINER, invisible: behind it GitHub sees no mention, reference or address."""
SPECIAL = re.compile(r"([\\`*_\[\]~|])")
COMMIT = re.compile(r"([0-9a-f]{6})(?=[0-9a-f])", re.IGNORECASE)
"""Six hexadecimal digits before another one: GitHub links seven of them to the commit whose hash they begin."""
DOLLAR = "<span>&#36;</span>"
"""A dollar sign that begins no formula, by the way that GitHub documents."""
STARTS = re.compile(r"^(\d+)([.)])|^([-+=#:>])")
"""The beginnings of a list, a heading or a quotation."""
MADE_LINK = re.compile(r"(@|#(?=\d)|(?<=\w):(?=//)|\bwww(?=\.)|\bGH-(?=\d))", re.IGNORECASE)


def escaped(text: str) -> str:
    """Return text on one line that Markdown, as GitHub renders it, shows as it is; also at the beginning of a line."""
    return STARTS.sub(_as_text, inline(text))


def inline(text: str) -> str:
    """Return text that Markdown shows as it is behind other text, or in a cell."""
    line = MADE_LINK.sub(rf"\1{JOINER}", wording.clean(text))
    line = COMMIT.sub(rf"\1{JOINER}", line)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = line.replace("$", DOLLAR)
    return SPECIAL.sub(r"\\\1", line)


def _as_text(start: re.Match[str]) -> str:
    return f"{start[1]}\\{start[2]}" if start[1] else f"\\{start[3]}"


def fenced(text: str, language: str = "") -> str:
    """Return lines of text as a block of code, whatever they hold."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(sheet: Sheet) -> str:
    """Return a sheet as a table; the lines of a cell stand below each other."""
    rows = [
        [inline(header) for header in sheet.headers],
        ["---", *("--:" for _ in sheet.headers[1:])],
        *(["<br>".join(map(inline, cell.lines)) for cell in row] for row in sheet.rows),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def markdown_summary(document: ResultDocument, steps: Sequence[Step] = ()) -> str:
    """Return a result for a job's summary or a comment on a pull request.

    Args:
        document: the result.
        steps: the commands to type next.
    """
    result, gate = document.result, document.gate
    if not result.settings:
        return f"## Aftertune: {escaped(document.study)}\n\nNothing was measured.\n"
    setting = result.settings[0]
    glance = overview(result, setting, gate, document.margins)
    parts = [
        f"## Aftertune: {f'{MARKS[gate.verdict]} ' if gate else ''}{inline(glance.word)}{inline(glance.subject)}",
        "\n".join(_reasons(glance)),
        table(glance_sheet(glance, result, setting, gate)),
        *_chart(picture_rows(glance, result, setting, gate, document.margins)),
        "\n\n".join(map(escaped, _sentences(document, glance))),
        *_next(steps),
        _folded(document),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _reasons(glance: Overview) -> Iterator[str]:
    yield from (f"- {escaped(reason)}" for reason in glance.reasons[:MOST_REASONS])
    if (rest := len(glance.reasons) - MOST_REASONS) > 0:
        yield f"- and {wording.plural(rest, 'reason')} more, on the page"


def _sentences(document: ResultDocument, glance: Overview) -> Iterator[str]:
    result, gate = document.result, document.gate
    if glance.worst is not None:
        yield worst_line(*glance.worst, named=len(glance.fine_tunes) > 1)
    yield from form_lines(result.settings[0], result.name_rate)
    if gate is None:
        yield from cost_lines(result)
        yield from beside_the_figures(result)
    else:
        yield from labels_sentences(gate)
        yield verdict_scope(gate)
        yield from guard_lines(result)
    yield f"{panel_words(result)}. {result.answered:,} of {result.jobs:,} answered."


def _next(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps[:1]:
        yield f"**Next.** {escaped(step.purpose)}"
        yield fenced(wording.clean(step.command), "sh")


def _folded(document: ResultDocument) -> str:
    """Return the tables by task and the notes, behind a line to click on."""
    result, gate = document.result, document.gate
    sheets = gate_sheets(gate) if gate else study_sheets(result, result.settings[0])[:3]
    parts = []
    for sheet in sheets:
        parts += [f"**{escaped(sheet.title)}**", table(sheet), *map(escaped, sheet.legend)]
    notes = [*(_gate_notes(gate) if gate else ()), *notes_of(document)]
    parts += ["\n".join(f"- {escaped(note)}" for note in dict.fromkeys(notes))]
    body = "\n\n".join(part for part in parts if part)
    return f"<details><summary>By task, and notes</summary>\n\n{body}\n\n</details>"


def _gate_notes(gate: GateResult) -> Iterator[str]:
    yield from gate.notes
    yield from gate.declaration.changed if gate.declaration else ()


# The chart


def _chart(rows: Sequence[PictureRow]) -> Iterator[str]:
    """Yield the changes of all rows on one axis, in points: ``●`` the change, ``─`` its 90 % interval, ``┊`` the margin."""
    figures = [(label, figure) for label, figure in _charted(rows) if figure.change is not None]
    shown = [
        (label, figure) for label, figure in figures if figure.change and not figure.change.hidden
    ]
    if not shown:
        return
    ends = [0.0]
    for _, figure in shown:
        assert figure.change is not None
        ends += [
            figure.change.interval90.low,
            figure.change.interval90.high,
            _signed_margin(figure) or 0.0,
        ]
    low, high = min(ends), max(ends)
    width = max(high - low, 0.02)
    names = [_short(label) for label, _ in shown]
    longest = max(map(len, names))
    lines = [
        f"{name:<{longest}}  {_bar(figure, low, width)}  {_words(figure)}".rstrip()
        for name, (_, figure) in zip(names, shown, strict=True)
    ]
    legend = "● change in points, ─ 90 % interval, │ no change, ┊ margin"
    yield fenced("\n".join([*lines, "", legend]), "text")


def _charted(rows: Sequence[PictureRow]) -> Iterator[tuple[str, Figure]]:
    """Yield the bars: the sides of a single fine-tune and the harm of its tasks, or the harm of each of several."""
    for row in rows:
        for figure in row.figures if row.overall or len(rows) == 1 else row.figures[:1]:
            of_task = f"harm, {row.label}" if rows[0].overall else row.label
            yield figure.name if row.overall or len(rows) == 1 else of_task, figure


def _short(label: str) -> str:
    name = wording.clean(label)
    return name if len(name) <= MOST_LABEL else f"{name[: MOST_LABEL - 1]}…"


def _signed_margin(figure: Figure) -> float | None:
    if figure.margin is None:
        return None
    return -figure.margin if figure.fall_is_bad else figure.margin


def _bar(figure: Figure, low: float, width: float) -> str:
    """Return a change on the axis that begins at ``low`` and is ``width`` wide."""
    change, margin = figure.change, _signed_margin(figure)
    assert change is not None

    def place(value: float) -> int:
        return round((value - low) / width * (COLUMNS - 1))

    bar = [" "] * COLUMNS
    for column in range(place(change.interval90.low), place(change.interval90.high) + 1):
        bar[min(max(column, 0), COLUMNS - 1)] = "─"
    for value, mark in ((0.0, "│"), (margin, "┊"), (change.estimate, "●")):
        if value is not None and low <= value <= low + width:
            bar[place(value)] = mark
    return "".join(bar)


def _words(figure: Figure) -> str:
    change = figure.change
    assert change is not None
    near = (0.0, _signed_margin(figure) or 0.0)
    side = "" if figure.side is not Side.CAPABILITY or figure.margin else " (no margin)"
    return f"{wording.points(change.estimate, near)} {wording.point_limits(change.interval90, near)}{side}"
