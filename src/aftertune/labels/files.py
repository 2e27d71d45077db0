"""Files for annotators to label in: CSV for spreadsheets, JSON lines for scripts. A model's text in them does no harm.

In CSV control characters are spelled out, and a cell that a spreadsheet would take for a formula starts with an
apostrophe. JSON lines hold every text exactly. Of what comes back only ids and labels are read.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aftertune.core.files import write_whole
from aftertune.core.records import LabelValue
from aftertune.core.table import ADJUDICATED
from aftertune.data.files import JSON_LINES, record_of, repeated
from aftertune.errors import DataError, InputError, OptionError
from aftertune.report.wording import clean, spreadsheet_cell

COLUMNS = ("id", "task", "question", "prompt", "response")
LABEL = "label"
LABEL_VALUES = {value.value: value for value in LabelValue}
LARGEST_CELL = 1 << 27
"""Characters of one cell that the reader of CSV takes; its own limit is 128 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of a file that came back."""

    line: int
    id: str
    labels: Mapping[str, LabelValue]
    """By annotator; those who left the cell empty are absent."""
    adjudicated: LabelValue | None = None
    """The label that counts where annotators differ."""


def check_name(path: Path) -> None:
    """Refuse a name that does not say which of the two formats it is.

    Raises:
        OptionError: it ends neither in ``.csv`` nor in ``.jsonl`` or ``.ndjson``.
    """
    if path.suffix.lower() not in (".csv", *JSON_LINES):
        raise OptionError(
            f"--out {path}: labels are kept in CSV or JSON lines; give it a name that ends in .csv or .jsonl"
        )


def write_rows(path: Path, rows: Iterable[Mapping[str, str]], annotators: Sequence[str]) -> None:
    """Write rows (`COLUMNS`) with an empty column of labels for each annotator; ``.jsonl`` and ``.ndjson`` give JSON lines, ``.csv`` CSV.

    Raises:
        AftertuneError: the folder is missing or cannot be written, or the disk is full.
    """
    headers = [column_of(annotator) for annotator in annotators]
    if path.suffix.lower() in JSON_LINES:
        empty = dict.fromkeys(headers, "")
        write_whole(path, (json.dumps({**row, **empty}) + "\n" for row in rows))
    else:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow([*COLUMNS, *headers])
        writer.writerows(
            [*(spreadsheet_cell(row[column]) for column in COLUMNS), *("" for _ in headers)]
            for row in rows
        )
        # the mark tells spreadsheets that this is UTF-8
        write_whole(path, ["\ufeff" + buffer.getvalue()])


def column_of(annotator: str) -> str:
    """Return the name of an annotator's column; ``label`` for an annotator without a name."""
    return f"{LABEL}:{annotator}" if annotator else LABEL


def read_rows(path: Path, annotator: str) -> list[Row]:
    """Read ids and labels of a file; extra columns do not matter.

    Args:
        path: CSV (comma, semicolon or tab) or JSON lines, whatever its name.
        annotator: who labelled in the column ``label``.

    Raises:
        InputError: the file cannot be read.
        DataError: it is not UTF-8, has no ids or labels, or a label is none of the set; it names the line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not UTF-8 (byte {error.start + 1:,}); save it as CSV UTF-8"
        ) from error
    is_json = path.suffix.lower() in JSON_LINES or text.lstrip().startswith("{")
    records = list(_json_records(path, text) if is_json else _csv_records(path, text))
    if not records:
        raise DataError(
            f"{path}: has no rows; import the file that aftertune label export wrote, with labels filled in"
        )
    return [_row(path, line, record, annotator) for line, record in records]


def _json_records(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            yield line, record_of(content, f"{path}, line {line}")


def _csv_records(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    csv.field_size_limit(LARGEST_CELL)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        if twice := repeated(reader.fieldnames or ()):
            raise DataError(
                f"{path}: the header names the column {twice!r} twice, so labels would be lost; rename it"
            )
        for record in reader:
            yield (
                reader.line_num,
                {name: value for name, value in record.items() if isinstance(name, str)},
            )
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: is not CSV ({error}); save it as CSV UTF-8"
        ) from error


def _row(path: Path, line: int, record: Mapping[str, object], annotator: str) -> Row:
    number = str(record.get("id") or "").strip()
    if not number:
        raise DataError(f"{path}, line {line}: has no id; keep the column id as it was exported")
    columns = [name for name in record if name == LABEL or name.startswith(f"{LABEL}:")]
    if not columns and ADJUDICATED not in record:
        raise DataError(
            f"{path}: has no column {LABEL} (or {LABEL}:NAME for several annotators); keep it as it was exported"
        )
    where = f"{path}, line {line} ({clean(number)})"
    labels: dict[str, LabelValue] = {}
    for name in columns:
        value = _label(record[name], where)
        if value is not None:
            labeller = name.partition(":")[2].strip() or annotator
            if labels.setdefault(labeller, value) is not value:
                raise DataError(
                    f"{where}: two columns have different labels of {clean(labeller) or 'the annotator'}; keep one"
                )
    adjudicated = _label(record.get(ADJUDICATED), where)
    return Row(line=line, id=number, labels=labels, adjudicated=adjudicated)


def _label(cell: object, where: str) -> LabelValue | None:
    """Return the label in a cell; None for an empty one."""
    value = str(cell or "").strip().lower()
    if value and value not in LABEL_VALUES:
        raise DataError(
            f"{where}: {clean(value)!r} is no label; use one of {', '.join(LABEL_VALUES)}"
        )
    return LABEL_VALUES.get(value)
