"""Results on a terminal: tables that read at 80 columns, plain text in a pipe."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aftertune.report import wording
from aftertune.report.cells import Cell, Json, Sheet, rate_name, require_format
from aftertune.report.gate import VERDICT_TONES, gate_sentences, gate_sheet, verdict_line
from aftertune.report.instruments import panel_words
from aftertune.report.tables import screen_sheets, setting_title

STYLES = {"plain": "", "good": "green", "bad": "red", "faint": "dim"}
GAP = 2
"""Between two columns: the box takes one of them, the padding the other."""


def print_study(result: Json, console: Console, *, tasks: bool = True) -> None:
    """Print the main tables of a study's result; the page has the rest.

    Args:
        result: ``StudyResult.to_json()``, or the same read back from a file.
        console: where to; its width decides how many columns stand side by side.
        tasks: with the rates by task; not needed beside a gate's own table.

    Raises:
        InputError: the result has a format that is not known here.
    """
    require_format(result, "result")
    for setting in result["settings"]:
        if len(result["settings"]) > 1:
            _say(console, setting_title(setting), style="bold underline")
        for sheet in screen_sheets(result, setting, tasks=tasks):
            print_sheet(sheet, console)
    for sentence in _closing(result):
        _say(console, sentence, style="dim")


def _closing(result: Json) -> list[str]:
    sentences = [f"{panel_words(result)}. {result['answered']:,} of {result['jobs']:,} jobs have an answer."]
    if rate_name(result) != "ASR":
        sentences.append("Refusal rules alone judge: what was not refused need not be harmful.")
    sentences += [wording.clean(note) for note in result["notes"]]
    return [*sentences, f"Declared plan: {result['plan']}"]


def print_gate(gate: Json, console: Console) -> None:
    """Print the gate's result: the verdict first, then the reasons, the table and the scope.

    Args:
        gate: ``GateResult.to_json()``, or the same read back from a file.
        console: where to.

    Raises:
        InputError: the result has a format that is not known here.
    """
    require_format(gate, "gate result")
    _say(console, verdict_line(gate), style=f"bold {STYLES[VERDICT_TONES.get(gate['verdict'], 'plain')]}".strip())
    for reason in gate["reasons"]:
        console.print(Padding(Text(f"- {wording.clean(reason)}"), (0, 0, 0, 2)))
    console.print()
    print_sheet(gate_sheet(gate), console)
    for sentence in gate_sentences(gate):
        _say(console, sentence, style="dim")
    _say(console, f"Declared plan: {gate['plan']}", style="dim")


def print_sheet(sheet: Sheet, console: Console) -> None:
    """Print one sheet; columns that do not fit beside each other follow below."""
    _say(console, sheet.title, style="bold")
    for columns in _packed(sheet, console.width):
        console.print(_table(sheet, columns))
    for sentence in sheet.legend:
        _say(console, sentence, style="dim")
    console.print()


def _say(console: Console, sentence: str, style: str = "") -> None:
    console.print(Text(sentence, style=style))


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
        table.add_column(Text(sheet.headers[column]), justify="left" if column == 0 else "right", overflow="fold")
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
