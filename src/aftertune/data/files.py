"""Data files of every usual shape, read as records with their places, so that errors can point at them.

No loader lets rows about the sexual exploitation of children through: see `names_child_exploitation`.
"""

import csv
import gzip
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TextIO, TypeVar

from pydantic import TypeAdapter, ValidationError

from aftertune.errors import DataError

T = TypeVar("T")
Record = Mapping[str, Any]
Placed = tuple[str, Record]
"""A record with its place, as errors name it: ``train.jsonl, line 3``."""

Broken = Callable[[DataError], None]
"""A handler of records that cannot be read; if it returns, the next record is read."""

Columns = Sequence[str] | None

JSON_LINES = (".jsonl", ".ndjson")
PARQUET = ".parquet"


class Layout(StrEnum):
    """The way in which a file holds its records."""

    JSON_LINES = "JSON Lines"
    JSON = "JSON"
    CSV = "CSV"
    TSV = "TSV"
    LINES = "plain lines"
    PARQUET = "Parquet"


SUFFIXES: Mapping[str, Layout] = {
    **dict.fromkeys(JSON_LINES, Layout.JSON_LINES),
    ".json": Layout.JSON,
    ".csv": Layout.CSV,
    ".tsv": Layout.TSV,
    ".txt": Layout.LINES,
}
"""Text files by the end of their names, which decides where the contents could be several things."""


class Kind(NamedTuple):
    """The kind of a file, as its contents show it."""

    layout: Layout
    packed: bool
    """It is compressed by gzip."""


HOLDERS = ("data", "rows", "train", "examples", "instances", "items", "records", "samples")
"""The keys of a JSON object under which its rows stand, in the order in which they are looked for."""
ROW_COLUMNS = frozenset(("messages", "prompt", "instruction", "conversations", "contents", "text"))
"""Columns by which an object is a row itself, whatever else it holds."""
_GZIP, _PARQUET, _POINTER = b"\x1f\x8b", b"PAR1", b"version https://git-lfs"
_ARRAY_OF_OBJECTS = re.compile(r"\[\s*(?:\{|$)")
FIELD_LIMIT = 1 << 30
"""Characters in one CSV field; the standard library's 131,072 is less than a long article."""
PARQUET_ROWS = 1_000
"""Rows of a Parquet file that are in memory at a time."""


def _refuse(error: DataError) -> NoReturn:
    raise error


def read_records(
    path: Path, broken: Broken = _refuse, columns: Sequence[str] | None = None
) -> Generator[Placed, None, None]:
    """Yield the records of a file: JSONL (also ``.ndjson``), JSON, CSV, TSV or plain lines, each also compressed by gzip, or Parquet.

    The contents decide, not the name (`kind_of`). JSON is a list of objects, an object of equally long lists, or an object
    that holds its rows under one of `HOLDERS`. A plain line becomes ``{"text": line}``. The file is open until the generator
    is used up or closed: callers that may stop early close it (`contextlib.closing`).

    Args:
        path: the file.
        broken: called with the error of each record that cannot be read, in files of which the rest can; by default the
            first error is raised.
        columns: the names of the columns of a CSV file that has no header.

    Raises:
        DataError: no such file, another kind of file, broken JSON or CSV, a key or column that stands twice, text that is
            not UTF-8.
    """
    kind = kind_of(path)
    if kind.layout is Layout.PARQUET:
        yield from _parquet(path)
        return
    try:
        with _text(path, packed=kind.packed, encoding="utf-8-sig") as stream:
            yield from READERS[kind.layout](path, stream, broken, columns)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: the .gz file is damaged ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def kind_of(path: Path) -> Kind:
    """Return the kind of a file by its first bytes and lines; the name decides where these could be several things.

    Raises:
        DataError: no such file, a pointer of Git LFS in its place, or a kind that nobody reads.
    """
    if not path.is_file():
        problem = (
            "is a folder; name a file in it"
            if path.is_dir()
            else "there is no such file; check the path"
        )
        raise DataError(f"{path}: {problem}")
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_POINTER))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if head == _POINTER:
        raise DataError(
            f"{path}: is a pointer of Git LFS and not the file itself; fetch it with: git lfs pull"
        )
    if head.startswith(_PARQUET):
        return Kind(Layout.PARQUET, packed=False)
    packed, name = head.startswith(_GZIP), path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    named = SUFFIXES.get(suffix, Layout.LINES if packed or name.endswith(".gz") else None)
    try:
        # The reader names what cannot be decoded, by its place.
        with _text(path, packed=packed, encoding="utf-8-sig", errors="replace") as stream:
            layout = _layout(stream, named)
    except (OSError, zlib.error, EOFError):  # a damaged .gz, of which the reader tells
        layout = named
    if layout is None and suffix == PARQUET:
        raise DataError(
            f"{path}: not a readable Parquet file (it does not begin like one); fetch or write it again"
        )
    if layout is None:
        raise DataError(
            f"{path}: unknown kind of file; use one of {', '.join(SUFFIXES)}, {PARQUET} (or such a file as .gz)"
        )
    return Kind(layout, packed)


def _text(path: Path, *, packed: bool, encoding: str, errors: str = "strict") -> TextIO:
    if packed:
        return gzip.open(path, "rt", encoding=encoding, errors=errors, newline="")
    return path.open(encoding=encoding, errors=errors, newline="")


def _layout(stream: TextIO, named: Layout | None) -> Layout | None:
    """Return the layout of a text by its first two lines that are not empty; ``named`` where they are no JSON."""
    lines = (line.strip() for line in stream if line.strip())
    first, second = next(lines, ""), next(lines, "")
    table = named in (Layout.CSV, Layout.TSV, Layout.LINES)
    if _ARRAY_OF_OBJECTS.match(first):
        if named is Layout.JSON_LINES and second.startswith("["):
            return named
        return named if table and first == "[" and not second.startswith("{") else Layout.JSON
    if not first.startswith("{"):
        return named
    record = _object_in(first)
    if record is None:
        # An object that spreads over lines begins with a brace alone.
        lines_of_objects = named is Layout.JSON_LINES and first != "{"
        return named if table or lines_of_objects else Layout.JSON
    lone = not second and (named is Layout.JSON or _held(record) is not None)
    return Layout.JSON if lone else Layout.JSON_LINES


def _object_in(line: str) -> dict[str, Any] | None:
    """Return the object that a line holds; None where it holds none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def known_kind(path: Path) -> bool:
    """Return whether a file's name is of a kind that `read_records` reads; such a name is no hub id."""
    return path.suffix.lower() in {*SUFFIXES, PARQUET, ".gz"}


def text_of(record: Record, column: str, where: str) -> str:
    """Return the text in a column; an absent value (null, or the NaN that pandas writes) counts as an empty text.

    Raises:
        DataError: the column is missing, or its value is not text.
    """
    if column not in record:
        raise DataError(
            f"{where}: no column {column!r}; it has {', '.join(map(repr, record)) or 'none'}"
        )
    return text(record[column], f"{where}, {column!r}")


def text(value: object, where: str) -> str:
    """Return a value that is text; an absent one as an empty text.

    Raises:
        DataError: it is something else.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: expected text, found {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{where}: half of a surrogate pair, which is no text; mend the escape \\ud…"
            ) from None
    return value


def _lines(
    path: Path, stream: Iterable[str], _broken: Broken, _columns: Columns
) -> Iterator[Placed]:
    for number, line in enumerate(stream, start=1):
        yield f"{path}, line {number}", {"text": line.rstrip("\r\n")}


def _jsonl(
    path: Path, stream: Iterable[str], broken: Broken, _columns: Columns
) -> Iterator[Placed]:
    lines = ((number, line) for number, line in enumerate(stream, start=1) if line.strip())
    return _objects(((f"{path}, line {n}", line) for n, line in lines), record_of, broken)


def _json(path: Path, stream: TextIO, broken: Broken, _columns: Columns) -> Iterator[Placed]:
    data = _rows_in(parsed(stream.read(), str(path)), path)
    items = enumerate(data, start=1)
    return _objects(((f"{path}, item {n}", item) for n, item in items), _object, broken)


def _objects(
    placed: Iterable[tuple[str, Any]], read: Callable[[Any, str], Record], broken: Broken
) -> Iterator[Placed]:
    """Yield the objects that ``read`` makes of what stands in each place; errors go to ``broken``."""
    for where, item in placed:
        try:
            record = read(item, where)
        except DataError as error:
            broken(error)
        else:
            yield where, record


def _parquet(path: Path) -> Iterator[Placed]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(
            f"{path}: Parquet files need the package: pip install 'aftertune[report]'"
        ) from error
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(PARQUET_ROWS):
                for record in batch.to_pylist():
                    number += 1
                    where = f"{path}, row {number}"
                    yield where, {name: _plain(value, where) for name, value in record.items()}
    except (ArrowException, OSError) as error:  # pyarrow raises a bare OSError for damaged pages
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: not a readable Parquet file ({reason}); fetch or write it again"
        ) from error


def _plain(value: Any, where: str) -> Any:
    """Return a value of Parquet as JSON has it: maps, which come as lists of pairs, as objects; NaN as null."""
    if isinstance(value, list):
        if value and all(isinstance(item, tuple) for item in value):
            try:
                return _once([(str(key), _plain(item, where)) for key, item in value])
            except ValueError as error:
                raise DataError(f"{where}: {error}") from error
        return [_plain(item, where) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item, where) for name, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _rows_in(data: Any, path: Path) -> list[Any]:
    """Return the rows of a JSON document: a list, an object that holds one or is one row, or an object of columns."""
    if isinstance(data, list):
        return data
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected a list of objects, found {type(data).__name__}")
    if (held := _held(data)) is not None:
        return _rows_in(held, path)
    if any(isinstance(value, str) for value in data.values()) or any(
        map(_are_turns, data.values())
    ):
        return [data]
    lengths = {len(values) if isinstance(values, list) else None for values in data.values()}
    if len(lengths) != 1 or None in lengths:
        raise DataError(
            f"{path}: expected a list of objects, an object of equally long lists, or one with its rows in a list called "
            f"{', '.join(map(repr, HOLDERS[:3]))} or the like; it has {', '.join(map(repr, data)) or 'nothing'}"
        )
    return [dict(zip(data, values, strict=True)) for values in zip(*data.values(), strict=True)]


def _held(data: Mapping[str, Any]) -> Any:
    """Return what an object holds under one of `HOLDERS`, if that may be rows; None without one, or where it is a row itself."""
    if data.keys() & ROW_COLUMNS or any(map(_are_turns, data.values())):
        return None
    for key in HOLDERS:
        held = data.get(key)
        if isinstance(held, dict) and any(isinstance(value, list) for value in held.values()):
            return held
        if isinstance(held, list) and held and all(isinstance(item, dict) for item in held):
            # The hub's own server wraps each row once more.
            wrapped = [item["row"] for item in held if isinstance(item.get("row"), dict)]
            return wrapped if len(wrapped) == len(held) else held
    return None


def _are_turns(value: object) -> bool:
    """Return whether a value is a conversation: it makes a lone object a row, not a table of columns."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and item.keys() & {"role", "from"} for item in value)
    )


def _csv(
    path: Path,
    stream: Iterable[str],
    broken: Broken,
    columns: Columns,
    delimiter: str = ",",
) -> Iterator[Placed]:
    csv.field_size_limit(FIELD_LIMIT)
    reader = csv.DictReader(stream, columns, delimiter=delimiter, strict=True)
    try:
        names = list(reader.fieldnames or ())
        if twice := repeated(names):
            raise DataError(
                f"{path}: the header names the column {twice!r} twice, so one of them would be lost; rename it"
            )
        for record in reader:
            where = f"{path}, line {reader.reader.line_num}"
            if None in record or None in record.values():
                broken(
                    DataError(f"{where}: the row has not the {len(names)} columns of the header")
                )
            else:
                yield where, record
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.reader.line_num}: broken CSV ({error})") from error


def repeated(names: Iterable[str]) -> str | None:
    """Return the first name that stands there twice, an empty one aside; None where all are different."""
    return next((name for name, count in Counter(names).items() if name and count > 1), None)


def record_of(line: str, where: str) -> Record:
    """Return the object that a line of JSON holds.

    Raises:
        DataError: the line is broken JSON, or no object.
    """
    return _object(parsed(line, where), where)


def parsed(text: str, where: str) -> Any:
    """Return the value that a JSON text holds; NaN, which pandas writes for a missing value, is null.

    Raises:
        DataError: the text is broken JSON, or a key stands twice in an object, so that a value would be lost.
    """
    try:
        return _JSON.decode(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: broken JSON ({error})") from error


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} stands twice in an object, so one value would be lost")
    return record


_JSON = json.JSONDecoder(
    object_pairs_hook=_once,
    parse_constant=lambda name: None if name == "NaN" else float(name),
)


def _object(item: object, where: str) -> Record:
    if not isinstance(item, dict):
        raise DataError(f"{where}: expected an object, found {type(item).__name__}")
    return item


READERS: Mapping[Layout, Callable[..., Iterator[Placed]]] = {
    Layout.JSON_LINES: _jsonl,
    Layout.JSON: _json,
    Layout.CSV: _csv,
    Layout.TSV: partial(_csv, delimiter="\t"),
    Layout.LINES: _lines,
}


_CHILD = (
    r"child(?:ren)?|kids?|minors?|under-?\s?aged?|infants?|toddlers?|bab(?:y|ies)|pre-?teens?|teen(?:age|ager|agers|aged|s)?"
    r"|schoolgirls?|schoolboys?|(?:little|young) (?:girls?|boys?)|\d{1,2}[- ]year[- ]olds?|enfants?|mineure?s?|fillettes?"
)
_SEXUAL = (
    r"sex(?:ual|ually|ting|y)?|porn\w*|nudes?|nudity|naked|erotic\w*|molest\w*|grooming|groomed|rap(?:e|ed|ing)|lewd"
    r"|fondl\w*|incest\w*|sexuel\w*|érotique\w*"
)
_WITHIN = r"\W+(?:\w+\W+){0,8}?"
"""At most eight words between the two: farther apart they seldom speak of each other."""

_PATTERN = re.compile(
    rf"\b(?:p(?:a)?edophil\w*|pédophil\w*|csam|child exploitation|lolicon|shotacon"
    rf"|(?:{_CHILD}){_WITHIN}(?:{_SEXUAL})|(?:{_SEXUAL}){_WITHIN}(?:{_CHILD}))\b",
    re.IGNORECASE,
)

_CUES = (
    *(
        "sex",
        "porn",
        "nud",
        "naked",
        "erotic",
        "molest",
        "groom",
        "rap",
        "lewd",
        "fondl",
        "incest",
        "érotique",
    ),
    *("pedo", "paedo", "pédo", "csam", "child exploitation", "lolicon", "shotacon"),
)
"""Pieces of which at least one stands in every casefolded text that fits: looking for them first saves most of the search."""


def names_child_exploitation(*texts: str) -> bool:
    """Return whether a text speaks of children and sex in one breath; errs on the side of dropping a row."""
    return any(
        any(cue in text.casefold() for cue in _CUES) and _PATTERN.search(text) for text in texts
    )


def typed(kind: TypeAdapter[T], values: Mapping[str, Any], where: str) -> T:
    """Return the values of a record as a typed one.

    Raises:
        DataError: names the key of a value that is of another type, or none of those that may stand there.
    """
    try:
        return kind.validate_python(values)
    except ValidationError as error:
        problem = error.errors()[0]
    (key, *inner), value = problem["loc"], problem["input"]
    if expected := problem.get("ctx", {}).get("expected"):
        choices = re.findall("'(.*?)'", expected)
        raise DataError(f"{where}, {key!r}: {value!r}; use one of {', '.join(choices)}")
    wanted = "a list of texts" if inner or problem["type"] == "tuple_type" else "text"
    hint = "; put words such as yes and no in quotes" if isinstance(value, bool) else ""
    raise DataError(
        f"{where}, {key!r}: expected {wanted}, found {type(value).__name__} {value!r:.40}{hint}"
    )
