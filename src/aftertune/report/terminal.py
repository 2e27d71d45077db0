"""Results on a terminal: tables that read at 80 columns, plain text in a pipe."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aftertune.measure.results import GateResult, StudyResult
from aftertune.report import wording
from aftertune.report.cells import Cell, Sheet
from aftertune.report.document import ResultDocument, notes_of, write_document
from aftertune.report.gate import VERDICT_TONES, gate_sentences, gate_sheets, verdict_line
from aftertune.report.scorers import panel_words
from aftertune.report.style import style_sentences
from aftertune.report.tables import detail_sheets, screen_sheets, setting_title, study_sheets

STYLES = {"plain": "", "good": "green", "bad": "red", "faint": "dim"}
GAP = 2
"""Between two columns: the box takes one of them, the padding the other."""
UNBROKEN = "\N{NO-BREAK SPACE}"


def present(
    document: ResultDocument, console: Console, json: Path | None = None, *, full: bool = False
) -> None:
    """Print a result document: the gate's verdict first if there is one, the finding, the main tables, the notes.

    Args:
        document: what a run found.
        console: where to.
        json: also write the document there.
        full: with every table that the page has.

    Raises:
        AftertuneError: ``json`` cannot be written.
    """
    if document.gate is not None:
        print_gate(document.gate, console, full=full)
        console.print()
    print_sentences(document.finding, console)
    console.print()
    print_study(document.result, console, tasks=document.gate is None or full, full=full)
    for line in notes_of(document, warnings_only=not full):
        console.print(f"note: {wording.clean(line)}", markup=False, highlight=False)
    if json is not None:
        write_document(json, document)


def print_files(page: Path, result: Path, following: Sequence[str] = ()) -> None:
    """Say where page and result are, and what to type next; a path stands whole on one line, so that it can be copied."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"\nPage:   {page}\nResult: {result}", markup=False)
    for number, line in enumerate(following):
        console.print(f"{'        ' if number else 'Next:   '}{line}", markup=False)


def print_study(
    result: StudyResult, console: Console, *, tasks: bool = True, full: bool = False
) -> None:
    """Print a study's result: its main tables, or all of those that the page has.

    Args:
        result: what was measured.
        console: where to; its width decides how many columns stand side by side.
        tasks: with the rates by task; not needed beside a gate's own table.
        full: every table. Otherwise the main ones, of the first setting if there are several.
    """
    settings = result.settings
    for setting in settings if full else settings[:1]:
        if len(settings) > 1:
            _print_lines(console, setting_title(setting), style="bold underline")
        if full:
            sheets = [*study_sheets(result, setting), *detail_sheets(result, setting)]
        else:
            sheets = screen_sheets(result, setting, tasks=tasks)
        for sheet in sheets:
            print_sheet(sheet, console)
    for sentence in _closing(result, full=full):
        _print_lines(console, sentence, style="dim")


def _closing(result: StudyResult, *, full: bool) -> list[str]:
    settings = result.settings
    sentences = [
        f"{panel_words(result)}. {result.answered:,} of {result.jobs:,} jobs have an answer."
    ]
    if not full and len(result.settings) > 1:
        others = "; ".join(f"({setting_title(setting)})" for setting in result.settings[1:])
        sentences.append(f"The tables of the other settings are on the page: {others}.")
    sentences += [line for setting in settings[:1] for line in style_sentences(result, setting)]
    sentences += [wording.clean(note) for note in result.notes]
    return [*sentences, f"Declared plan: {result.plan}"] if full else sentences


def print_sentences(sentences: Iterable[str], console: Console) -> None:
    """Print sentences as a list; a figure and its percent sign stay on one line."""
    for sentence in sentences:
        first, *others = _lines(wording.clean(sentence), console.width - 2)
        text = Text("\n".join((f"- {first}", *(f"  {line}" for line in others))))
        console.print(text, highlight=False)


def print_gate(gate: GateResult, console: Console, *, full: bool = False) -> None:
    """Print the gate's result: the verdict first, then the reasons, the tables and the scope.

    Args:
        gate: the result.
        console: the screen.
        full: with the tasks of every side, also of one that passes.
    """
    style = f"bold {STYLES[VERDICT_TONES.get(gate.verdict, 'plain')]}".strip()
    _print_lines(console, verdict_line(gate), style=style)
    print_sentences(gate.reasons, console)
    console.print()
    for sheet in gate_sheets(gate, full=full):
        print_sheet(sheet, console)
    for sentence in (*gate_sentences(gate), f"Declared plan: {gate.plan}"):
        _print_lines(console, sentence, style="dim")


def print_sheet(sheet: Sheet, console: Console) -> None:
    """Print one sheet; columns that do not fit beside each other follow below."""
    _print_lines(console, sheet.title, style="bold")
    for columns in _packed(sheet, console.width):
        console.print(_table(sheet, columns))
    for sentence in sheet.legend:
        _print_lines(console, sentence, style="dim")
    console.print()


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


def _width(sheet: Sheet, column: int) -> int:
    cells = [line for row in sheet.rows for line in row[column].lines]
    return max(Text(line).cell_len for line in (*cells, sheet.headers[column]))


def _table(sheet: Sheet, columns: Sequence[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, GAP - 1), pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(
            Text(sheet.headers[column]), justify="left" if column == 0 else "right", overflow="fold"
        )
    for number, row in enumerate(sheet.rows):
        table.add_row(*(_text(row[column], first=column == 0) for column in columns))
        if number < len(sheet.rows) - 1 and any(len(cell.lines) > 1 for cell in row):
            table.add_row()
    return table


def _text(cell: Cell, *, first: bool) -> Text:
    """Return a cell's lines, the figure bright and what qualifies it dim."""
    strong = "bold" if first else STYLES[cell.tone]
    text = Text(cell.lines[0], style=strong)
    for line in cell.lines[1:]:
        text.append(f"\n{line}", style="not bold dim")
    return text
