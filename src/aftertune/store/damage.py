"""Names what is damaged in a store, by table and row, once something in it could not be read.

SQLite notices a broken page and not a changed value. Reading checks what it needs (`checked`); when it fails, `damage`
looks through the whole file: its structure, references to rows that are not there, types, texts and records.
"""

import json
import sqlite3
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from aftertune.errors import StoreDamaged

INT32 = (-(2**31), 2**31 - 1)
_COUNT = (0, INT32[1])
WHOLE: dict[str, dict[str, tuple[int, int]]] = {
    "answer": {"finish": _COUNT, "prompt_tokens": _COUNT, "completion_tokens": _COUNT},
    "model": {"position": _COUNT},
    "job": {"position": _COUNT, "sample": _COUNT},
    "reading": {"call": (0, 2**62), "value": INT32},
    "checksum": {"value": (0, 2**32 - 1)},
}
"""The columns of whole numbers that no reference checks, by table, with their least and largest values."""
TEXTS = {
    "meta": ("name", "value"),
    "word": ("text",),
    "prompt": ("record",),
    "call": ("kind",),
    "text": ("text", "detail"),
    "attempt": ("reason", "detail"),
    "study": ("name",),
    "note": ("name", "value"),
    "model": ("name", "record"),
    "reader": ("kind", "name", "version", "side"),
}
"""The columns of UTF-8 by table."""
RECORDS = {("prompt", "record"), ("model", "record"), ("note", "value"), ("text", "detail")}
"""The columns of JSON."""


def checked(
    values: NDArray[np.int64], table: str, column: str, least: int, largest: int
) -> NDArray[np.int64]:
    """Return values of a column after seeing that they lie in [least, largest].

    Raises:
        StoreDamaged: one of them does not; the error names table, column and value.
    """
    wrong = values[(values < least) | (values > largest)]
    if len(wrong):
        raise damaged(f"{column} {wrong[0]} in table {table} is none that this version writes")
    return values


def damaged(what: str, store: object = "the store") -> StoreDamaged:
    """Return the error for a value that nothing of ours wrote."""
    line = " ".join(what.split())  # SQLite quotes statements of several lines
    return StoreDamaged(
        f"{store}: is damaged ({line}); restore a copy of it, or make a new store of what is good with `aftertune store recover`"
    )


def damage(connection: sqlite3.Connection) -> str | None:
    """Return what is damaged first, with its table and row; None where nothing can be seen to be."""
    factory = connection.text_factory
    connection.text_factory = bytes  # texts that are no UTF-8 are read, too
    try:
        return next(_damages(connection), None)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return str(error)
    finally:
        connection.text_factory = factory


def _damages(connection: sqlite3.Connection) -> Iterator[str]:
    for (finding,) in connection.execute("PRAGMA quick_check(1)"):
        if finding != b"ok":
            yield finding.decode(errors="replace")
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        place = "a row" if row is None else f"row {row}"
        yield f"{place} of table {table.decode()} names a row of {parent.decode()} that is not there"
    yield from _wrong_numbers(connection)
    yield from _wrong_texts(connection)


def _wrong_numbers(connection: sqlite3.Connection) -> Iterator[str]:
    for table, columns in WHOLE.items():
        for column, (least, largest) in columns.items():
            query = f"SELECT {column} FROM {table} WHERE typeof({column}) <> 'integer' OR {column} NOT BETWEEN ? AND ? LIMIT 1"
            for (value,) in connection.execute(query, (least, largest)):
                yield f"{column} {value!r} in table {table} is none that this version writes"


def _wrong_texts(connection: sqlite3.Connection) -> Iterator[str]:
    for table, names in TEXTS.items():
        for number, *values in connection.execute(
            f"SELECT {_row(table)}, {', '.join(names)} FROM {table}"
        ):
            for name, value in zip(names, values, strict=True):
                if (fault := _fault(table, name, value)) is not None:
                    row = number.decode(errors="replace") if isinstance(number, bytes) else number
                    yield f"{name} in row {row} of table {table} {fault}"


def _row(table: str) -> str:
    """Return the column that tells the rows of a table apart; those without row numbers begin with it."""
    return {"meta": "name", "attempt": "call", "note": "name", "model": "position"}.get(
        table, "rowid"
    )


def _fault(table: str, name: str, value: object) -> str | None:
    if value is None and name == "detail":
        return None
    if not isinstance(value, bytes):
        return "is no text"
    try:
        text = value.decode("utf-8", "surrogatepass")
        if (table, name) in RECORDS:
            json.loads(text)
    except UnicodeDecodeError:
        return "is no UTF-8"
    except (ValueError, RecursionError):
        return "is no JSON"
    return None
