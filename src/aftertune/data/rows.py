"""Training rows: read from every usual file shape, checked, and written as ``messages`` JSONL."""

import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

from aftertune.core.files import explained, write_whole
from aftertune.core.recipe import TrainingFile
from aftertune.data import formats
from aftertune.data.files import Placed, Record, known_kind, read_records
from aftertune.errors import DataError, InputError

Row: TypeAlias = formats.Row
"""A conversation that ends with the assistant's answer."""

Fault = Literal["roles", "empty"]
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
COLUMN_ROLES = ("prompt", "completion", "input")


def read_rows(file: TrainingFile, folder: Path) -> list[Row]:
    """Read the training rows of a file (relative to ``folder``) or of the ``train`` split of a hub data set.

    Each record is a row in one of these shapes: ``messages``; ``prompt`` and ``completion`` (texts, or lists of
    messages); ``instruction``, ``input`` and ``output``; or any columns named in ``file.columns`` as ``prompt``,
    ``completion`` and, if any, ``input``, which is put under the prompt after an empty line. Vertex (``contents``) and
    ShareGPT (``conversations``) are read too. A row's answer may be empty: training leaves such rows out and counts them.

    Raises:
        DataError: names file, line, column or role, and what to do.
    """
    return [row for _, row in _placed_rows(file, folder)]


def read_pools(files: Iterable[TrainingFile], folder: Path) -> dict[str, list[Row]]:
    """Read rows by task, for draws that are balanced over tasks.

    The task of a row is what stands in its column ``task`` (or the one that ``file.columns["task"]`` names); rows
    without one form a pool under their file's name.

    Raises:
        DataError: as `read_rows`.
    """
    pools: dict[str, list[Row]] = {}
    for file in files:
        column = file.columns.get("task", "task")
        for record, row in _placed_rows(file, folder):
            pools.setdefault(str(record.get(column) or file.path), []).append(row)
    return pools


def write_rows(rows: Iterable[Row], path: Path, *, tasks: Sequence[str] | None = None) -> None:
    """Write rows as ``messages`` JSONL, with a ``task`` column if ``tasks`` are given; whole or not at all."""
    names: Iterable[str | None] = tasks if tasks is not None else _forever_none()
    write_lines(
        (_line(row, task) for row, task in zip(rows, names, strict=tasks is not None)), path
    )


def write_lines(lines: Iterable[str], path: Path) -> None:
    """Write lines of text to a file that appears only when all of them are on disk; its folder is made if need be.

    Raises:
        AftertuneError: the file or its folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explained(path, error) from error
    write_whole(path, (f"{line}\n" for line in lines))


def _forever_none() -> Iterator[None]:
    while True:
        yield None


def _line(row: Row, task: str | None) -> str:
    record: dict[str, object] = {"messages": formats.chat(row)}
    if task is not None:
        record["task"] = task
    return json.dumps(record, ensure_ascii=False)


def _placed_rows(file: TrainingFile, folder: Path) -> list[tuple[Record, Row]]:
    with closing(placed_records(file.path, folder)) as placed:
        rows = [
            (record, checked_row(record, file.columns, where))
            for where, record in islice(placed, file.limit)
        ]
    if not rows:
        raise DataError(f"{file.path}: no rows; a training file needs at least one")
    return rows


def placed_records(path: str, folder: Path) -> Generator[Placed, None, None]:
    """Yield the records of a local file or of a hub data set, each with the place that errors name.

    Raises:
        DataError: no such file or data set, or one that cannot be read.
    """
    local = folder / path
    if local.exists() or not HUB_ID.fullmatch(path) or known_kind(local):
        return read_records(local)
    return _hub_records(path)


def _hub_records(name: str) -> Generator[Placed, None, None]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DataError(
            f"{name}: hub data sets need the package: pip install 'aftertune[local]'"
        ) from error
    try:
        data = load_dataset(name, split="train")
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{name}: no such file, and not to be had from the hub either ({reason})"
        ) from error
    for number, record in enumerate(data, start=1):
        yield f"{name}, row {number}", record


def checked_row(record: Record, columns: Mapping[str, str], where: str) -> Row:
    """Return a record as a row; its answer may be empty, so that whoever uses the row decides (`answered`).

    Raises:
        DataError: the record is in no known shape, or its turns are out of order or ask nothing.
    """
    row = unchecked_row(record, columns, where)
    found = fault(row)
    if found and not (found[0] == "empty" and all(turn.content.strip() for turn in row[:-1])):
        raise DataError(f"{where}: {found[1]}")
    return row


def answered(row: Row) -> bool:
    """Return whether the last answer of a row says something; a row without teaches nothing."""
    return bool(row[-1].content.strip())


def unchecked_row(record: Record, columns: Mapping[str, str], where: str) -> Row:
    """Return a record as a conversation, whatever turns it has (`fault` says what is wrong with them).

    Raises:
        DataError: the record is in no known shape, or a turn is not text.
    """
    return formats.shape(record, columns, where)(record, columns, where)


def fault(row: Row) -> tuple[Fault, str] | None:
    """Return what makes a conversation useless for training, as one word and as a sentence with the remedy."""
    turns = row[1:] if row and row[0].role == "system" else row
    for number, turn in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        if turn.role != expected:
            return "roles", (
                f"turn {number + 1} is {turn.role!r} where {expected!r} is due; an optional system turn comes first, then "
                "user and assistant take turns"
            )
        if not turn.content.strip():
            what = "question" if turn.role == "user" else "answer"
            return "empty", f"empty {what} ({turn.role} turn); fill it or remove the row"
    if not turns or turns[-1].role != "assistant":
        return (
            "roles",
            "the last turn must be the assistant's answer; there is nothing to learn without it",
        )
    return None


def read_columns(text: str | None) -> dict[str, str]:
    """Return the columns that an option such as ``prompt=QUESTION,completion=ANSWER`` names, by their role in a row.

    Raises:
        InputError: a role is unknown, or prompt or completion has no column.
    """
    pairs = [pair.partition("=") for pair in text.split(",")] if text else []
    columns = {name.strip(): column.strip() for name, _, column in pairs}
    if unknown := columns.keys() - set(COLUMN_ROLES):
        raise InputError(
            f"--columns names {min(unknown)!r}; it maps {', '.join(COLUMN_ROLES)}, as in prompt=question,completion=answer"
        )
    if columns and not all(columns.get(name) for name in ("prompt", "completion")):
        raise InputError("--columns needs both, as in prompt=question,completion=answer")
    return columns
