"""Tables of a result for a paper: LaTeX with booktabs, everything foreign escaped."""

import re
from collections.abc import Iterator, Sequence

from aftertune.report import wording
from aftertune.report.cells import Cell, Sheet
from aftertune.report.document import ResultDocument
from aftertune.report.gate import gate_sheets, verdict_line
from aftertune.report.tables import changes, headline, rates_by, setting_title

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", '"': "''", "`": r"\textasciigrave{}",
    "|": r"$|$", "…": r"\dots{}",
}  # fmt: skip
MINUS = re.compile(r"(?<![\w.])-(?=[\d<])")
"""A sign before a number; a hyphen stands inside a word."""


def latex_text(text: str) -> str:
    """Return text on one line that LaTeX prints as it is."""
    line = MINUS.sub("\N{MINUS SIGN}", wording.clean(text))
    return "".join(SPECIAL.get(character, character) for character in line).replace(
        "\N{MINUS SIGN}", "$-$"
    )


def latex_tables(document: ResultDocument) -> str:
    """Return the tables of a result: what changed and what it cost, by task; of a check its sides too.

    They need the package booktabs; names in other scripts need LuaLaTeX or XeLaTeX.
    """
    result, gate = document.result, document.gate
    lines = [
        f"% Aftertune: {latex_text(document.study)}; declared plan {result.plan}",
        r"% \usepackage{booktabs}",
    ]
    if gate is not None:
        lines.append(f"% {latex_text(verdict_line(gate))}")
        for sheet in gate_sheets(gate):
            lines += ["", *_table(sheet, "")]
    for setting in result.settings:
        where = f" ({setting_title(setting)})" if len(result.settings) > 1 else ""
        for sheet in (
            headline(result, setting),
            changes(result, setting),
            rates_by(result, setting, "by_task", f"{result.name_rate} by task"),
        ):
            if sheet.rows and len(sheet.headers) > 1:
                lines += ["", *_table(sheet, where)]
    return "\n".join(lines) + "\n"


def _table(sheet: Sheet, where: str) -> Iterator[str]:
    """Yield the lines of a table: a line of figures a row, with their intervals and counts small below."""
    yield r"\begin{table}"
    yield r"\centering"
    caption = " ".join([f"{sheet.title}{where}.", *sheet.legend])
    yield rf"\caption{{{latex_text(caption)}}}"
    yield rf"\begin{{tabular}}{{l{'r' * (len(sheet.headers) - 1)}}}"
    yield r"\toprule"
    yield _row([latex_text(header) for header in sheet.headers])
    yield r"\midrule"
    for row in sheet.rows:
        depth = max(len(cell.lines) for cell in row)
        for number in range(depth):
            yield _row([_line(cell, number) for cell in row])
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"


def _row(cells: Sequence[str]) -> str:
    # A bracket at a line's beginning would be read as the length behind the line before it.
    return f"{' & '.join(f'{{{cell}}}' if cell.startswith('[') else cell for cell in cells)} \\\\"


def _line(cell: Cell, number: int) -> str:
    if number >= len(cell.lines) or not cell.lines[number]:
        return ""
    text = latex_text(cell.lines[number])
    return text if number == 0 else rf"{{\footnotesize {text}}}"
