"""Training rows that stay in their file: 8 bytes of memory a row, read again when asked for."""

import json
import os
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self, overload

from aftertune.core.recipe import TrainingFile
from aftertune.data.files import JSON_LINES, Record, record_of
from aftertune.data.rows import Row, checked_row, placed_records, unchecked_row
from aftertune.errors import DataError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Scanned(NamedTuple):
    """A row as the first pass over a file gives it."""

    number: int
    """From 0."""
    where: str
    """As errors name it: ``train.jsonl, line 3``."""
    record: Record
    row: Row


class StoredRows(Sequence[Row], ABC):
    """Rows that are read when they are asked for."""

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        """Return a row, or several as a list."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return self._row(index)

    @abstractmethod
    def _row(self, index: int) -> Row:
        """Read one row."""


class RowFile(StoredRows):
    """A file of training rows that is scanned once and then gives any row by its number.

    JSON Lines are read where they stand; rows of other files (JSON, CSV, Parquet, compressed ones, hub data sets) are put
    down in a temporary file. Use it as a context manager; the file must not change meanwhile.
    """

    def __init__(self, file: TrainingFile, folder: Path) -> None:
        self.file = file
        self._folder = folder
        self._path = folder / file.path
        self._in_place = self._path.is_file() and self._path.suffix.lower() in JSON_LINES
        self._stream: BinaryIO = self._path.open("rb") if self._in_place else TemporaryFile()  # noqa: SIM115 - closed by `__exit__`
        self._starts = array("Q", [0])

    def __enter__(self) -> Self:
        return self

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
        """Yield every row once, in order; to be used up before rows are asked for by number.

        Raises:
            DataError: as `rows.read_rows`; names file and line.
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
        start, end = self._starts[number], self._starts[number + 1]
        return os.pread(self._stream.fileno(), end - start, start).strip().decode()

    def record(self, number: int) -> Record:
        """Return a row's record."""
        return record_of(self.line(number), f"{self.file.path}, row {number + 1}")

    def _row(self, index: int) -> Row:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return unchecked_row(
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
                written = self._stream.write(_as_json(record, where).encode() + b"\n")
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
        names = [name for name, each in record.items() if each is value]
        column = f" in {names[0]!r}" if names else ""
        raise DataError(
            f"{where}: {type(value).__name__}{column} cannot be written as JSON; leave that column out"
        )

    return json.dumps(record, ensure_ascii=False, default=as_text)


class Selection(StoredRows):
    """Some rows of some files, read when asked for: 10 bytes of memory a row."""

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

    def _row(self, index: int) -> Row:
        return self._files[self._file_of[index]][self._numbers[index]]


def scan_pools(files: Sequence[RowFile]) -> Mapping[str, Selection]:
    """Scan files and return their rows by task, as `rows.read_pools` tells it, left in their files.

    Raises:
        DataError: as `rows.read_rows`.
    """
    pools: dict[str, Selection] = {}
    for file in files:
        column = file.file.columns.get("task", "task")
        for scanned in file.scan():
            task = str(scanned.record.get(column) or file.file.path)
            pools.setdefault(task, Selection()).add(file, scanned.number)
    return pools
