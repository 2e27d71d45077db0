"""Results on a terminal: a verdict and its figures in 25 lines of 80 columns, or every table; plain text in a pipe."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import wrap

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aftertune.measure.repair import RepairResult
from aftertune.measure.results import GateResult, StudyResult
from aftertune.report import wording
from aftertune.report.attacks import attack_sentences, attack_sheets
from aftertune.report.cells import Cell, Sheet
from aftertune.report.corrected import has_labels, labels_sheet
from aftertune.report.document import ResultDocument, notes_of, write_document
from aftertune.report.finding import beside_the_figures, cost_lines, guard_lines
from aftertune.report.gate import (
    VERDICT_TONES,
    gate_sentences,
    gate_sheets,
    labels_sentences,
    verdict_line,
    verdict_scope,
)
from aftertune.report.overview import Overview, form_lines, glance_sheet, overview, worst_line
from aftertune.report.repair import reason_lines, repair_line, repair_sheets, rule_line
from aftertune.report.scorers import panel_words
from aftertune.report.style import style_sentences
from aftertune.report.tables import detail_sheets, setting_title, study_sheets

STYLES = {"plain": "", "good": "green", "bad": "red", "faint": "dim"}
GAP = 2
"""Between two columns: the box takes one of them, the padding the other."""
LEAST_NAME = 12
"""Characters of a model's name in a table that would not fit on its lines otherwise."""
UNBROKEN = "\N{NO-BREAK SPACE}"
MOST_LINES = 25
"""Lines of the short form, with everything that a command prints after it."""


class Output(Console):
    """Standard output. A reader that closes it (``| head``) ends neither the command nor its exit code."""

    def on_broken_pipe(self) -> None:
        """Print nothing more; rich would leave with exit code 1, which is no verdict."""
        self.quiet = True
        # What is still in the buffer of Python would raise again when the program ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def present(
    document: ResultDocument,
    console: Console,
    json: Path | None = None,
    *,
    full: bool = False,
    room: int = MOST_LINES,
) -> None:
    """Print a result document: the verdict first, the figures it stands on, the worst task, what else must be known.

    Args:
        document: what a run found.
        console: where to.
        json: also write the document there.
        full: with every table and sentence that the page has.
        room: the lines that the short form may take; reasons and notes that do not fit are counted.

    Raises:
        AftertuneError: ``json`` cannot be written.
    """
    if full:
        _print_full(document, console)
    else:
        _print_short(document, console, room)
    if json is not None:
        write_document(json, document)


def _print_full(document: ResultDocument, console: Console) -> None:
    if document.gate is not None:
        print_gate(document.gate, console)
        console.print()
    print_sentences(document.finding, console)
    console.print()
    print_study(document.result, console)
    for attacked in document.attacks:
        for sheets in attack_sheets(document.result, attacked):
            for sheet in sheets:
                print_sheet(sheet, console)
    print_sentences(_attack_lines(document), console)
    for line in notes_of(document):
        console.print(f"note: {wording.clean(line)}", markup=False, highlight=False)


def _attack_lines(document: ResultDocument) -> list[str]:
    """Return the sentences on attacks of the first setting; nothing without attacks."""
    return [
        line
        for attacked in document.attacks[:1]
        for line in attack_sentences(document.result, attacked)
    ]


def _print_short(document: ResultDocument, console: Console, room: int) -> None:
    result, gate, width = document.result, document.gate, console.width
    if not result.settings:
        return
    setting = result.settings[0]
    glance = overview(result, setting, gate, document.margins)
    head = Text(
        "\n".join(_lines(f"{glance.word}{glance.subject}", width)),
        style=f"bold {STYLES[glance.tone]}".strip(),
    )
    sheet = glance_sheet(glance, result, setting, gate)
    if len(_packed(sheet, width)) > 1:
        sheet = _narrowed(sheet, width)
    table = [_table(sheet, columns, short=True) for columns in _packed(sheet, width)]
    below = [line for sentence in _below(document, glance) for line in _lines(sentence, width)]
    rows = len(sheet.rows) + 1
    left = room - len(head.plain.splitlines()) - rows * len(table) - len(below) - 2
    remarks = _remarks(document)
    kept = min(len(remarks), 1)
    # The first reason is the headline: a line too many is better than half of it.
    reasons = _fitting(glance.reasons, max(left - kept, 2), width, "reason")
    console.print(head, highlight=False)
    _print_plain(reasons, console)
    console.print()
    for part in table:
        console.print(part)
    console.print()
    _print_plain(below, console)
    if gate is None and has_labels(setting):
        console.print()
        print_sheet(labels_sheet(result, setting), console)
    _print_plain(_fitting(remarks, left - len(reasons), width, "remark"), console, style="dim")


def _remarks(document: ResultDocument) -> list[str]:
    """Return what stands last, as far as there is room: the most important first."""
    result, gate = document.result, document.gate
    changed = gate.declaration.changed if gate is not None and gate.declaration else ()
    # A changed declaration, and a change of style that a judge may take for one of safety, come before all others.
    first = [
        *(f"note: {wording.clean(line)}" for line in changed),
        *style_sentences(result, result.settings[0]),
        *(wording.clean(line) for line in (guard_lines(result) if gate is not None else ())),
        *_attack_lines(document),
    ]
    notes = [*(gate.notes if gate is not None else ()), *notes_of(document, warnings_only=True)]
    return list(dict.fromkeys([*first, *(f"note: {wording.clean(line)}" for line in notes)]))


def _fitting(sentences: Sequence[str], room: int, width: int, noun: str) -> list[str]:
    """Return the lines of the first sentences that fit, and a line with the number of the others.

    A first sentence that is longer than the room is cut; where there is no room, its first line stands.
    """
    lines: list[str] = []
    for number, sentence in enumerate(sentences):
        own = _lines(sentence, width)
        rest = len(sentences) - number
        if len(lines) + len(own) + (rest > 1) > max(room, 1):
            break
        lines += own
    else:
        return lines
    if not lines and (noun == "reason" or rest == 1 < room):
        lines = [*_lines(sentences[0], width - 2)[: max(room - (rest > 1), 1)]]
        lines[-1] += " …"
        rest -= 1
    if rest and (len(lines) < room or noun == "remark"):
        more = " more" if lines else ""
        lines.append(
            f"{'and ' if lines else ''}{wording.plural(rest, noun)}{more}: on the page, or with --full"
        )
    return lines


def _print_plain(lines: Iterable[str], console: Console, style: str = "") -> None:
    for line in lines:
        console.print(Text(line, style=style), highlight=False, soft_wrap=True)


def _below(document: ResultDocument, glance: Overview) -> Iterator[str]:
    """Yield the sentences under the table: the worst task, what else was found, the scope and the judge."""
    result, gate = document.result, document.gate
    if glance.worst is not None:
        yield worst_line(*glance.worst, named=len(glance.fine_tunes) > 1)
    yield from form_lines(result.settings[0], result.name_rate)
    if gate is None:
        yield from map(wording.clean, cost_lines(result))
        yield from map(wording.clean, beside_the_figures(result))
    else:
        yield from (wording.clean(line) for line in labels_sentences(gate))
        yield verdict_scope(gate)
    yield f"{panel_words(result)}. {result.answered:,} of {result.jobs:,} answered."


def print_files(page: Path, result: Path, following: Sequence[str] = ()) -> None:
    """Say where page and result are, and what to type next; a path stands whole on one line, so that it can be copied."""
    console = Output(soft_wrap=True, highlight=False)
    console.print(f"\nPage:   {page}\nResult: {result}", markup=False)
    for number, line in enumerate(following):
        console.print(f"{'        ' if number else 'Next:   '}{line}", markup=False)


def print_study(result: StudyResult, console: Console) -> None:
    """Print every table of a study's result, and the sentences that belong to them."""
    for setting in result.settings:
        if len(result.settings) > 1:
            _print_lines(console, setting_title(setting), style="bold underline")
        for sheet in (*study_sheets(result, setting), *detail_sheets(result, setting)):
            print_sheet(sheet, console)
    sentences = [
        f"{panel_words(result)}. {result.answered:,} of {result.jobs:,} jobs have an answer.",
        *(line for setting in result.settings[:1] for line in style_sentences(result, setting)),
        *map(wording.clean, result.notes),
        f"Declared plan: {result.plan}",
    ]
    for sentence in sentences:
        _print_lines(console, sentence, style="dim")


def print_sentences(sentences: Iterable[str], console: Console) -> None:
    """Print sentences as a list; a figure and its percent sign stay on one line."""
    for sentence in sentences:
        first, *others = _lines(wording.clean(sentence), console.width - 2)
        text = Text("\n".join((f"- {first}", *(f"  {line}" for line in others))))
        console.print(text, highlight=False)


def print_gate(gate: GateResult, console: Console) -> None:
    """Print the gate's result whole: the verdict first, then the reasons, the tables and the scope."""
    style = f"bold {STYLES[VERDICT_TONES.get(gate.verdict, 'plain')]}".strip()
    _print_lines(console, verdict_line(gate), style=style)
    print_sentences(gate.reasons, console)
    console.print()
    for sheet in gate_sheets(gate):
        print_sheet(sheet, console)
    for sentence in (*gate_sentences(gate), f"Declared plan: {gate.plan}"):
        _print_lines(console, sentence, style="dim")


def print_repair(result: RepairResult, console: Console) -> None:
    """Print a repair: the verdict first, then its reasons, the proof or all strengths, and the rule."""
    verdict = result.verdict
    tone = "plain" if verdict is None else VERDICT_TONES.get(verdict, "plain")
    _print_lines(console, repair_line(result), style=f"bold {STYLES[tone]}".strip())
    print_sentences(reason_lines(result), console)
    console.print()
    for sheet in repair_sheets(result):
        print_sheet(sheet, console)
    for sentence in (rule_line(result), *(f"note: {note}" for note in result.notes)):
        _print_lines(console, wording.clean(sentence), style="dim")


def print_sheet(sheet: Sheet, console: Console) -> None:
    """Print one sheet; columns that do not fit beside each other follow below."""
    _print_lines(console, sheet.title, style="bold")
    for columns in _packed(sheet, console.width):
        console.print(_table(sheet, columns))
    for sentence in sheet.legend:
        _print_lines(console, sentence, style="dim")
    console.print()


def print_compact(sheet: Sheet, console: Console) -> None:
    """Print one sheet without title, rules and legend; columns that do not fit beside each other follow below."""
    for columns in _packed(sheet, console.width):
        console.print(_table(sheet, columns, short=True))


def _print_lines(console: Console, sentence: str, style: str = "") -> None:
    text = Text("\n".join(_lines(sentence, console.width)), style=style)
    console.print(text, highlight=False)


def _lines(sentence: str, width: int) -> list[str]:
    """Break a sentence into lines, but not between a figure and its percent sign."""
    kept = sentence.replace(" %", f"{UNBROKEN}%")
    lines = wrap(kept, max(width, 1), break_long_words=False, break_on_hyphens=False)
    return [line.replace(UNBROKEN, " ") for line in lines] or [""]


def _packed(sheet: Sheet, width: int) -> list[list[int]]:
    """Share the columns out over tables no wider than ``width``; the first column leads each of them."""
    widths = [_width(sheet, column) for column in range(len(sheet.headers))]
    tables: list[list[int]] = []
    used = width + 1
    for column in range(1, len(widths)):
        if used + widths[column] + GAP > width or not tables:
            tables.append([0])
            used = widths[0]
        tables[-1].append(column)
        used += widths[column] + GAP
    return tables or [[0]]


def _narrowed(sheet: Sheet, width: int) -> Sheet:
    """Return a sheet without its spare columns, and with its names cut in the middle, to `LEAST_NAME` at the shortest, until it fits."""
    kept = [column for column in range(len(sheet.headers)) if column not in sheet.spare]
    others = sum(_width(sheet, column) + GAP for column in kept[1:])
    room = max(width - others, LEAST_NAME)
    rows = (
        (replace(row[0], lines=tuple(_cut(line, room) for line in row[0].lines)), *row[1:])
        for row in sheet.rows
    )
    return replace(
        sheet,
        headers=tuple(sheet.headers[column] for column in kept),
        rows=tuple(tuple(row[column] for column in kept) for row in rows),
    )


def _cut(name: str, characters: int) -> str:
    """Return a name with its middle left out if it is longer than that."""
    if len(name) <= characters:
        return name
    end = (characters - 1) // 2
    return f"{name[: characters - 1 - end]}…{name[-end:]}"


def _width(sheet: Sheet, column: int) -> int:
    cells = [line for row in sheet.rows for line in row[column].lines]
    return max(Text(line).cell_len for line in (*cells, sheet.headers[column]))


def _table(sheet: Sheet, columns: Sequence[int], *, short: bool = False) -> Table:
    """Return some columns of a sheet; in the short form without rules and empty lines."""
    table = Table(
        box=None if short else box.SIMPLE_HEAD,
        padding=(0, 0, 0, GAP if short else GAP - 1),
        pad_edge=False,
        show_edge=False,
        header_style="dim" if short else "table.header",
    )
    for column in columns:
        table.add_column(
            Text(sheet.headers[column]), justify="left" if column == 0 else "right", overflow="fold"
        )
    for number, row in enumerate(sheet.rows):
        table.add_row(*(_text(row[column], first=column == 0) for column in columns))
        if not short and number < len(sheet.rows) - 1 and any(len(cell.lines) > 1 for cell in row):
            table.add_row()
    return table


def _text(cell: Cell, *, first: bool) -> Text:
    """Return a cell's lines, the figure bright and what qualifies it dim."""
    strong = "bold" if first else STYLES[cell.tone]
    text = Text(cell.lines[0], style=strong)
    for line in cell.lines[1:]:
        text.append(f"\n{line}", style="not bold dim")
    return text
