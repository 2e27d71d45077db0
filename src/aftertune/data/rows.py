"""Training rows: read from every usual file shape, checked, left in their file where memory is short, and written as JSONL."""

import json
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from datetime import date, time
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import BinaryIO, Literal, NamedTuple, TypeAlias

from aftertune.core.files import explained, write_whole
from aftertune.core.keys import file_sha256
from aftertune.core.recipe import TrainingFile
from aftertune.data import formats
from aftertune.data.files import (
    Kind,
    Layout,
    Placed,
    Record,
    kind_of,
    known_kind,
    names_child_exploitation,
    read_records,
    record_of,
)
from aftertune.data.formats import is_marked, unmarked, uses_tools
from aftertune.errors import DataError, OptionError

Row: TypeAlias = formats.Row
"""A conversation that ends with the assistant's answer."""

Fault = Literal["roles", "empty"]
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
COLUMN_ROLES = ("prompt", "completion", "input", "messages")
LINES_IN_PLACE = Kind(Layout.JSON_LINES, packed=False)
"""The kind of file of which rows are read where they stand."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_rows(file: TrainingFile, folder: Path) -> list[Row]:
    """Read the training rows of a file (relative to ``folder``) or of the ``train`` split of a hub data set.

    Each record is a row in one of these shapes: ``messages``, or another column that holds a conversation (Vertex'
    ``contents``, ShareGPT's ``conversations``, or whatever ``file.columns`` names as ``messages``); ``prompt`` and
    ``completion`` (texts, or lists of messages); ``instruction``, ``input`` and ``output`` with, if any, ``system`` and
    ``history``; or any columns named in ``file.columns`` as ``prompt``, ``completion`` and, if any, ``input``, which is put
    under the prompt after an empty line. A row's answer may be empty, marked as not to be learnt, or a call of a tool:
    training leaves such rows out and counts them (`trainable`).

    Raises:
        DataError: names file, line, column or role, and what to do.
    """
    return [row for _, row in _placed_rows(file, folder)]


class LearntRows(Collection[Row]):
    """The rows of training files that are learnt, read from the files whenever they are iterated over: no memory a row.

    JSON Lines, CSV, Parquet (also compressed) and hub data sets are read row by row; a file that is a JSON array is read
    whole each time. A file whose bytes are no longer those of its hash is an error.
    """

    def __init__(
        self,
        files: Sequence[TrainingFile],
        folder: Path,
        note: Callable[[str], None],
        name: object,
    ) -> None:
        """Read the files once, to check and count their rows.

        Args:
            files: the training files.
            folder: where relative paths start.
            note: takes a remark about the rows that are left out, as in `trainable`.
            name: the beginning of a remark.

        Raises:
            DataError: as `read_rows` and `trainable`.
        """
        self._files, self._folder = files, folder
        tally = Tally()
        self._count = sum(1 for _ in tally.kept(self._rows(), by_answer))
        tally.remark(note, name, self._count)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._count

    def __iter__(self) -> Iterator[Row]:
        """Read the rows once more."""
        return Tally().kept(self._rows(), by_answer)

    def __contains__(self, row: object) -> bool:
        """Return whether the files hold a row; they are read for it."""
        return any(row == learnt for learnt in self)

    def _rows(self) -> Iterator[Row]:
        return (row for file in self._files for _, row in _placed_rows(file, self._folder))


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
    records: Iterator[dict[str, object]] = ({"messages": formats.chat(row)} for row in rows)
    if tasks is not None:
        records = (record | {"task": task} for record, task in zip(records, tasks, strict=True))
    write_lines((json.dumps(record, ensure_ascii=False) for record in records), path)


def write_lines(lines: Iterable[str], path: Path) -> None:
    """Write lines of text to a file that appears only when all of them are on disk; its folder is made if need be.

    A file called ``.json`` is made an array of the lines, which must then be JSON.

    Raises:
        AftertuneError: the file or its folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explained(path, error) from error
    write_whole(
        path, _array(lines) if path.suffix.lower() == ".json" else (f"{line}\n" for line in lines)
    )


def _array(lines: Iterable[str]) -> Iterator[str]:
    """Yield the pieces of a JSON array with a line for each of its items."""
    opening = "[\n"
    for line in lines:
        yield f"{opening}{line}"
        opening = ",\n"
    yield "[]\n" if opening == "[\n" else "\n]\n"


def _placed_rows(file: TrainingFile, folder: Path) -> Iterator[tuple[Record, Row]]:
    empty = True
    with closing(placed_records(file.path, folder)) as placed:
        for where, record in islice(placed, file.limit):
            empty = False
            yield record, checked_row(record, file.columns, where)
    if empty:
        raise DataError(f"{file.path}: no rows; a training file needs at least one")
    local = folder / file.path
    if file.sha256 and local.is_file() and file_sha256(local) != file.sha256:
        raise DataError(
            f"{file.path}: is not the file whose hash was taken when the command began; run it again, and leave the file alone "
            "until training starts (on a cluster: the same file on all nodes)"
        )


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
    """Return a record as a row; its last answer may be empty, and it may call tools, for callers to decide about.

    Raises:
        DataError: the record is in no known shape, or its turns are out of order or ask nothing.
    """
    row = formats.row_of(record, columns, where)
    flaw = fault(row)
    if flaw and not only_unanswered(row, flaw[0]):
        raise DataError(f"{where}: {flaw[1]}")
    return row


def trainable(
    rows: Iterable[Row],
    note: Callable[[str], None],
    name: object,
    learnt: Callable[[Row], Sequence[Row]],
) -> list[Row]:
    """Return what is trained on: of each row what is to be learnt of it, and nothing of rows that must or can not be.

    Args:
        rows: rows as they were read.
        note: takes a remark about the rows that are left out, and about those of which other answers are learnt.
        name: the beginning of a remark.
        learnt: gives what is trained on of a row, as the trainer learns rows: `by_answer`, `as_marked` or `whole`.

    Raises:
        DataError: nothing is left of rows that were there.
    """
    tally = Tally()
    kept = list(tally.kept(rows, learnt))
    tally.remark(note, name, len(kept))
    return kept


class Tally:
    """The rows that are left out of training, counted by their reason while the others are taken."""

    def __init__(self) -> None:
        self.left_out = Counter[LeftOut]()
        self.marked = 0

    def kept(self, rows: Iterable[Row], learnt: Callable[[Row], Sequence[Row]]) -> Iterator[Row]:
        """Yield what is to be learnt of each row."""
        for row in rows:
            if names_child_exploitation(*(turn.content for turn in row)):
                self.left_out[LeftOut.CHILD_EXPLOITATION] += 1
            elif uses_tools(row):
                self.left_out[LeftOut.TOOLS] += 1
            elif not (parts := learnt(row)):
                self.left_out[LeftOut.UNLEARNT] += 1
            else:
                self.marked += len(parts) > 1 or len(parts[0]) < len(row)
                yield from parts

    def remark(self, note: Callable[[str], None], name: object, kept: int) -> None:
        """Say what was left out, once all rows were taken.

        Args:
            note: takes the remarks.
            name: the beginning of a remark.
            kept: rows that are left.

        Raises:
            DataError: nothing is left of rows that were there.
        """
        counts = self.left_out
        for reason in LeftOut:
            if counts[reason]:
                note(f"{name}: {counts[reason]:,} rows {reason} are left out of training")
        if self.marked:
            note(
                f"{name}: of {self.marked:,} rows other answers are learnt than the last alone, as their marks say; each is a "
                "row of its own"
            )
        if counts and not kept:
            reasons = ", ".join(
                f"{counts[reason]:,} {reason}" for reason in LeftOut if counts[reason]
            )
            raise DataError(f"{name}: no row is left to train on: {reasons}")


class LeftOut(StrEnum):
    """The reasons for which rows are left out of training, as sentences about rows name them."""

    CHILD_EXPLOITATION = "about the sexual exploitation of children, or that read like it,"
    TOOLS = "that call tools"
    UNLEARNT = "whose answers are marked as not to be learnt (weight 0, train false, label false)"


def by_answer(row: Row) -> list[Row]:
    """Return, for each answer of a row that is to be learnt, the conversation up to it: training learns the last answer of a row.

    Without marks that is the row itself. Of a marked row it is every answer that is marked as to be learnt, and the last
    one unless it is marked as not.
    """
    if not is_marked(row):
        return [row]
    last = len(row) - 1
    ends = [
        place
        for place, turn in enumerate(row)
        if turn.role == "assistant" and (place == last if turn.learnt is None else turn.learnt)
    ]
    return [unmarked(row[: end + 1]) for end in ends]


def as_marked(row: Row) -> list[Row]:
    """Return a row with its marks for a trainer that reads them and learns all other answers; none without an answer to learn."""
    answers = [turn.learnt is not False for turn in row if turn.role == "assistant"]
    return [row] if any(answers) else []


def whole(row: Row) -> list[Row]:
    """Return a row for a trainer that learns every answer and reads no marks; none if an answer is not to be learnt."""
    return [] if any(turn.learnt is False for turn in row) else [unmarked(row)]


def only_unanswered(row: Row, kind: Fault) -> bool:
    """Return whether the only fault of a row is that its last answer says nothing."""
    return kind == "empty" and all(turn.content.strip() for turn in row[:-1])


def answered(row: Row) -> bool:
    """Return whether the last answer of a row says something; a row without an answer teaches nothing."""
    return bool(row[-1].content.strip())


def fault(row: Row) -> tuple[Fault, str] | None:
    """Return the fault that makes a conversation useless for training, as one word and as a sentence with the remedy.

    The order of the turns of a row that calls tools is its own affair: such rows are not trained on.
    """
    if uses_tools(row):
        return None
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
        OptionError: a role is unknown, or prompt or completion has no column.
    """
    pairs = [pair.partition("=") for pair in text.split(",")] if text else []
    columns = {name.strip(): column.strip() for name, _, column in pairs}
    if unknown := columns.keys() - set(COLUMN_ROLES):
        raise OptionError(
            f"--columns names {min(unknown)!r}; it maps {', '.join(COLUMN_ROLES)}, as in prompt=question,completion=answer"
        )
    pair = [bool(columns.get(name)) for name in ("prompt", "completion")]
    if columns and not (all(pair) or (columns.get("messages") and not any(pair))):
        raise OptionError(
            "--columns needs both prompt and completion, as in prompt=question,completion=answer, or messages alone, as in "
            "messages=dialogue"
        )
    return columns


class Scanned(NamedTuple):
    """A row of a file, as the scan of the file yields it."""

    number: int
    """The row's number, from 0."""
    where: str
    """The row's place, as errors name it: ``train.jsonl, line 3``."""
    record: Record
    row: Row


class RowFile(Sequence[Row], AbstractContextManager["RowFile"]):
    """A file of training rows that is scanned once and then gives any row by its number: 8 bytes of memory a row.

    JSON Lines are read where they stand; rows of other files (JSON, CSV, Parquet, compressed ones, hub data sets) are put
    down in a temporary file. Use it as a context manager; the file must not change meanwhile.
    """

    def __init__(self, file: TrainingFile, folder: Path) -> None:
        self.file = file
        self._folder = folder
        self._path = folder / file.path
        self._in_place = self._path.is_file() and kind_of(self._path) == LINES_IN_PLACE
        self._stream: BinaryIO = self._path.open("rb") if self._in_place else TemporaryFile()  # noqa: SIM115 - closed by `__exit__`
        self._starts = array("Q", [0])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    def __len__(self) -> int:
        """Return the number of rows; 0 before the scan."""
        return len(self._starts) - 1

    def scan(self) -> Iterator[Scanned]:
        """Yield every row once, in order; to be used up before rows are taken by number.

        Raises:
            DataError: as `read_rows`; names file and line.
        """
        for where, record in self._lines() if self._in_place else self._spooled():
            yield Scanned(
                len(self) - 1, where, record, checked_row(record, self.file.columns, where)
            )
        self._stream.flush()
        if not len(self):
            raise DataError(f"{self.file.path}: no rows; a training file needs at least one")

    def line(self, number: int) -> str:
        """Return a row's line, without its end: in JSON Lines what the file says, otherwise its record as JSON."""
        # `pread` leaves the stream's own position alone, which the scan may still be using.
        start, end = self._starts[number], self._starts[number + 1]
        return os.pread(self._stream.fileno(), end - start, start).strip().decode()

    def record(self, number: int) -> Record:
        """Return a row's record."""
        return record_of(self.line(number), f"{self.file.path}, row {number + 1}")

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]  # a slice would be many reads
        """Return a row, read from the file."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return formats.row_of(
            self.record(index), self.file.columns, f"{self.file.path}, row {index + 1}"
        )

    def _lines(self) -> Iterator[tuple[str, Record]]:
        start = len(_BYTE_ORDER_MARK) if self._stream.read(3) == _BYTE_ORDER_MARK else 0
        self._stream.seek(start)
        self._starts[0] = start
        for number, line in enumerate(self._stream, start=1):
            start += len(line)
            if line.strip():
                where = f"{self._path}, line {number}"
                try:
                    record = record_of(line.decode(), where)
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{where}: not UTF-8 text (byte {error.start}); save it as UTF-8"
                    ) from error
                self._starts.append(start)
                yield where, record

    def _spooled(self) -> Iterator[tuple[str, Record]]:
        with closing(placed_records(self.file.path, self._folder)) as records:
            for where, record in records:
                line = _as_json(record, where)
                written = self._stream.write(line.encode() + b"\n")
                self._starts.append(self._starts[-1] + written)
                yield where, record


def _as_json(record: Record, where: str) -> str:
    """Return a record as a line; dates and exact decimals of Parquet, which JSON lacks, become text.

    Raises:
        DataError: it holds something that is no text, number, list or object.
    """

    def as_text(value: object) -> str:
        if isinstance(value, date | time | Decimal):
            return str(value)
        names = [name for name, cell in record.items() if cell is value]
        column = f" in {names[0]!r}" if names else ""
        raise DataError(
            f"{where}: {type(value).__name__}{column} cannot be written as JSON; leave that column out"
        )

    try:
        return as_line(record, as_text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: cannot be written as JSON ({error})") from error


def as_line(record: Record, default: Callable[[object], str] | None = None) -> str:
    """Return a record as a line of JSON; half of a surrogate pair stays an escape, for UTF-8 has none."""
    line = json.dumps(record, ensure_ascii=False, default=default)
    return line if line.isascii() or _is_utf8(line) else json.dumps(record, default=default)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Selection(Sequence[Row]):
    """A choice of rows from several files, read whenever one is taken: 10 bytes of memory a row."""

    def __init__(self) -> None:
        self._files: list[RowFile] = []
        self._file_of = array("H")
        self._numbers = array("q")

    def add(self, file: RowFile, number: int) -> None:
        """Put a row at the end."""
        if not self._files or self._files[-1] is not file:
            self._files.append(file)
        self._file_of.append(len(self._files) - 1)
        self._numbers.append(number)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._numbers)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        """Return a row, read from its file."""
        return self._files[self._file_of[index]][self._numbers[index]]


def scan_pools(files: Sequence[RowFile]) -> Mapping[str, Selection]:
    """Scan files and return their rows by task, as `read_pools` does, left in their files.

    Raises:
        DataError: as `read_rows`.
    """
    pools: dict[str, Selection] = {}
    for file in files:
        column = file.file.columns.get("task", "task")
        for scanned in file.scan():
            task = str(scanned.record.get(column) or file.file.path)
            pools.setdefault(task, Selection()).add(file, scanned.number)
    return pools
