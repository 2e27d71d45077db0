"""Calls in the store: what was asked under a key, the final answer to it, and the attempts that failed."""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeVar

from aftertune.core.keys import KEY_BYTES, Key
from aftertune.core.protocols import Answer
from aftertune.core.records import FinishReason, Response
from aftertune.errors import StoreError

Kind = Literal["generate", "judge", "guard"]
"""A call's kind says what it was first made for; one key is one call, whoever scores its answer."""

FINISH = tuple(FinishReason)
UNFINISHED = FINISH.index(FinishReason.THINKING)
"""The finish reason of calls that are done and have no final answer: nothing reads them, and they count as undecided."""
CHUNK = 1000
"""Keys or ids in one statement."""

T = TypeVar("T")


class Row(NamedTuple):
    """An answer or a failed attempt, ready for its table."""

    key: Key
    kind: Kind
    answer: tuple[int, int, int] | None
    """Finish reason (its position in `FINISH`), prompt tokens, completion tokens; None for an attempt."""
    text: tuple[bytes, str | None]
    """Text and detail (JSON); of an attempt, the reason and the detail."""
    time: float


def encoded(text: str) -> bytes:
    """Return the bytes of any Python text, NUL bytes and lone surrogates included."""
    return text.encode("utf-8", "surrogatepass")


def decoded(blob: bytes) -> str:
    """Return the text of `encoded` bytes."""
    return blob.decode("utf-8", "surrogatepass")


def chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Yield lists of at most ``size`` items."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def row_of(kind: Kind, key: Key, answer: Answer) -> Row:
    """Return the row of an answer or attempt.

    Raises:
        ValueError: the key has not 16 bytes.
        TypeError: the answer's detail is not JSON-able.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, this one {len(key)}")
    if isinstance(answer, Response):
        detail = json.dumps(dict(answer.detail)) if answer.detail else None
        counts = (
            FINISH.index(answer.finish_reason),
            answer.prompt_tokens,
            answer.completion_tokens,
        )
        return Row(key, kind, counts, (encoded(answer.text), detail), 0.0)
    plain = answer.detail.encode("utf-8", "backslashreplace").decode()
    return Row(key, kind, None, (encoded(answer.reason), plain), time.time())


def insert_rows(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Insert answers and attempts; a key that has its answer keeps it."""
    connection.executemany(
        "INSERT INTO call (key, kind) VALUES (?, ?) ON CONFLICT (key) DO NOTHING",
        [(row.key, row.kind) for row in rows],
    )
    answered = [row for row in rows if row.answer is not None]
    connection.executemany(
        "INSERT INTO answer SELECT id, ?, ?, ? FROM call WHERE key = ? ON CONFLICT (call) DO NOTHING",
        [(*row.answer, row.key) for row in answered if row.answer],
    )
    connection.executemany(
        "INSERT INTO text SELECT id, ?, ? FROM call WHERE key = ? ON CONFLICT (call) DO NOTHING",
        [(*row.text, row.key) for row in answered],
    )
    connection.executemany(
        "INSERT INTO attempt SELECT id, ?, ?, ? FROM call WHERE key = ? ON CONFLICT (call, time, reason) DO NOTHING",
        [
            (row.time, decoded(row.text[0]), row.text[1], row.key)
            for row in rows
            if row.answer is None
        ],
    )


def missing_keys(connection: sqlite3.Connection, keys: Iterable[Key]) -> list[Key]:
    """Return the keys without a final answer, in the given order, each once: one anti-join with a temporary table."""
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS wanted (position INTEGER PRIMARY KEY, key BLOB UNIQUE)"
    )
    connection.execute("DELETE FROM wanted")
    with_key = ((key,) for key in keys)
    connection.execute("BEGIN")
    try:
        connection.executemany(
            "INSERT INTO wanted (key) VALUES (?) ON CONFLICT (key) DO NOTHING", with_key
        )
        unanswered = connection.execute(
            "SELECT key FROM wanted WHERE NOT EXISTS "
            "(SELECT 1 FROM call JOIN answer ON answer.call = call.id WHERE call.key = wanted.key) ORDER BY position"
        ).fetchall()
    finally:
        connection.execute("COMMIT")
    connection.execute("DELETE FROM wanted")
    return [key for (key,) in unanswered]


def answers_by_id(
    connection: sqlite3.Connection, ids: Sequence[int]
) -> dict[int, tuple[Key, Response]]:
    """Return key and final answer of each call id that has one."""
    return {row[0]: (row[1], _response(row[2:])) for row in _answers(connection, "call.id", ids)}


def answers_by_key(connection: sqlite3.Connection, keys: Sequence[Key]) -> dict[Key, Response]:
    """Return the final answer of each key that has one."""
    return {row[1]: _response(row[2:]) for row in _answers(connection, "call.key", keys)}


def _answers(
    connection: sqlite3.Connection, column: str, values: Sequence[int | Key]
) -> Iterator[tuple[int, Key, int, int, int, bytes, str | None]]:
    for chunk in chunks(values):
        yield from connection.execute(
            "SELECT call.id, key, finish, prompt_tokens, completion_tokens, text, detail FROM call "
            f"JOIN answer ON answer.call = call.id JOIN text ON text.call = call.id WHERE {column} IN ({marks(chunk)})",
            chunk,
        ).fetchall()


def _response(row: tuple[int, int, int, bytes, str | None]) -> Response:
    finish, prompt_tokens, completion_tokens, text, detail = row
    return Response(
        text=decoded(text),
        finish_reason=FINISH[finish],
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        detail=json.loads(detail) if detail else {},
    )


def marks(values: Sequence[object]) -> str:
    """Return as many placeholders as there are values."""
    return ",".join("?" * len(values))


def parsed(text: str, what: str) -> Any:
    """Return the value that a note or a record holds.

    Raises:
        StoreError: it is no JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise unreadable(what, error) from error


def unreadable(what: str, error: Exception) -> StoreError:
    """Return the error for something in the store that is not what this version writes."""
    return StoreError(
        f"the store holds a {what} that cannot be read ({type(error).__name__}: {error}): it is damaged, or another "
        "version wrote it; restore a copy of it, or start a new store"
    )
