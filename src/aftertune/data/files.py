"""Data files of every usual shape, read as records with their places, so that errors can point at them.

No loader lets rows about the sexual exploitation of children through: see `names_child_exploitation`.
"""

import csv
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeVar

from pydantic import TypeAdapter, ValidationError

from aftertune.core.records import Message
from aftertune.errors import DataError

T = TypeVar("T")
Record = Mapping[str, Any]
Placed = tuple[str, Record]
"""A record with its place, as errors name it: ``train.jsonl, line 3``."""

Broken = Callable[[DataError], None]
"""A handler of records that cannot be read; if it returns, the next record is read."""

Columns = Sequence[str] | None

JSON_LINES = (".jsonl", ".ndjson")
FIELD_LIMIT = 1 << 30
"""Characters in one CSV field; the standard library's 131,072 is less than a long article."""
PARQUET_ROWS = 1_000
"""Rows of a Parquet file that are in memory at a time."""


def _refuse(error: DataError) -> NoReturn:
    raise error


def read_records(
    path: Path, broken: Broken = _refuse, columns: Sequence[str] | None = None
) -> Generator[Placed, None, None]:
    """Yield the records of a file of one of these kinds, by its name: JSONL (also ``.ndjson``), JSON, CSV, TSV or plain lines, each also as ``.gz``, or Parquet.

    JSON is a list of objects, or an object of equally long lists. A plain line becomes ``{"text": line}``. The file is open
    until the generator is used up or closed: callers that may stop early close it (`contextlib.closing`).

    Args:
        path: the file.
        broken: called with the error of each record that cannot be read, in files of which the rest can; by default the
            first error is raised.
        columns: the names of the columns of a CSV file that has no header.

    Raises:
        DataError: no such file, another kind of file, broken JSON or CSV, text that is not UTF-8.
    """
    if not path.is_file():
        problem = (
            "is a folder; name a file in it"
            if path.is_dir()
            else "there is no such file; check the path"
        )
        raise DataError(f"{path}: {problem}")
    if path.suffix.lower() == ".parquet":
        yield from _parquet(path)
        return
    packed = path.name.endswith(".gz")
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    reader = READERS.get(suffix, _lines if packed else None)
    if reader is None:
        raise DataError(
            f"{path}: unknown kind of file; use one of {', '.join(READERS)}, .parquet (or such a file as .gz)"
        )
    try:
        with (gzip.open if packed else open)(
            path, "rt", encoding="utf-8-sig", newline=""
        ) as stream:
            yield from reader(path, stream, broken, columns)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: the .gz file is damaged ({error}); fetch it again") from error


def known_kind(path: Path) -> bool:
    """Return whether a file's name is of a kind that `read_records` reads; such a name is no hub id."""
    return path.suffix.lower() in {*READERS, ".parquet", ".gz"}


def text_of(record: Record, column: str, where: str) -> str:
    """Return the text in a column; an absent value counts as an empty text.

    Raises:
        DataError: the column is missing, or its value is not text.
    """
    if column not in record:
        raise DataError(
            f"{where}: no column {column!r}; it has {', '.join(map(repr, record)) or 'none'}"
        )
    value = record[column]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}, {column!r}: expected text, found {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{where}, {column!r}: half of a surrogate pair, which is no text; mend the escape \\ud…"
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
    data = _parse(stream.read(), str(path))
    if isinstance(data, dict):
        data = _transposed(data, path)
    if not isinstance(data, list):
        raise DataError(f"{path}: expected a list of objects, found {type(data).__name__}")
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
                    yield f"{path}, row {number}", record
    except (ArrowException, OSError) as error:  # pyarrow raises a bare OSError for damaged pages
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: not a readable Parquet file ({reason}); fetch or write it again"
        ) from error


def _transposed(data: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Turn an object of equally long lists into a list of objects."""
    columns = {name: values for name, values in data.items() if isinstance(values, list)}
    lengths = {len(values) for values in columns.values()}
    if len(columns) != len(data) or len(lengths) != 1:
        raise DataError(f"{path}: expected a list of objects, or an object of equally long lists")
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


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
        if repeated := [name for name, count in Counter(names).items() if name and count > 1]:
            raise DataError(
                f"{path}: the header names the column {repeated[0]!r} twice, so one of them would be lost; rename it"
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


def record_of(line: str, where: str) -> Record:
    """Return the object that a line of JSON holds.

    Raises:
        DataError: the line is broken JSON, or no object.
    """
    return _object(_parse(line, where), where)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: broken JSON ({error})") from error


def _object(item: object, where: str) -> Record:
    if not isinstance(item, dict):
        raise DataError(f"{where}: expected an object, found {type(item).__name__}")
    return item


READERS: Mapping[str, Callable[..., Iterator[Placed]]] = {
    **dict.fromkeys(JSON_LINES, _jsonl),
    ".json": _json,
    ".csv": _csv,
    ".tsv": partial(_csv, delimiter="\t"),
    ".txt": _lines,
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


def trainable(
    rows: Iterable[tuple[Message, ...]], note: Callable[[str], None], name: object
) -> list[tuple[Message, ...]]:
    """Return the rows that may be trained on; ``note`` takes a remark about the others, which begins with ``name``."""
    all_rows = list(rows)
    kept = [row for row in all_rows if not names_child_exploitation(*(t.content for t in row))]
    if count := len(all_rows) - len(kept):
        note(
            f"{name}: {count:,} rows about the sexual exploitation of children, or that read like it, are left out of training"
        )
    return kept
