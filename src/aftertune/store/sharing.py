"""Parts of a store that travel between a driver's store and those of its workers.

A worker sends what is new in its store (`Outbox`), and the driver merges it. A driver sends what a worker must know to go on
with calls that were begun elsewhere (`copy_known`): which of them are answered, and texts where something is still to be done
with them.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from aftertune.core.keys import Key
from aftertune.store.calls import Kind
from aftertune.store.schema import attach, connect, explained

MOST_ROWS = 50_000
"""Rows of a table that travel at once, so that a file that is sent stays small."""

_MARKS = (
    "CREATE TEMP TABLE sent_answer (call INTEGER PRIMARY KEY)",
    "CREATE TEMP TABLE sent_attempt (call, time, reason, PRIMARY KEY (call, time, reason)) WITHOUT ROWID",
    "CREATE TEMP TABLE sent_reading (reader, call, prompt, PRIMARY KEY (reader, call, prompt)) WITHOUT ROWID",
    "CREATE TEMP TABLE sent_note (study, name, value, PRIMARY KEY (study, name, value)) WITHOUT ROWID",
)
_FRESH = (
    f"CREATE TEMP TABLE fresh_answer AS SELECT call FROM main.text WHERE call NOT IN (SELECT call FROM sent_answer) LIMIT {MOST_ROWS}",
    f"""CREATE TEMP TABLE fresh_attempt AS SELECT call, time, reason FROM main.attempt
    EXCEPT SELECT call, time, reason FROM sent_attempt LIMIT {MOST_ROWS}""",
    f"""CREATE TEMP TABLE fresh_reading AS SELECT reader, call, prompt FROM main.reading
    EXCEPT SELECT reader, call, prompt FROM sent_reading LIMIT {MOST_ROWS}""",
    "CREATE TEMP TABLE fresh_note AS SELECT study, name, value FROM main.note EXCEPT SELECT study, name, value FROM sent_note",
)
_KINDS = ("answer", "attempt", "reading", "note")
_COPY = (
    "INSERT INTO outgoing.reader SELECT * FROM main.reader WHERE id IN (SELECT reader FROM fresh_reading)",
    "INSERT INTO outgoing.prompt SELECT * FROM main.prompt WHERE id IN (SELECT prompt FROM fresh_reading)",
    """INSERT INTO outgoing.word SELECT * FROM main.word WHERE id IN
    (SELECT label FROM main.reading JOIN fresh_reading USING (reader, call, prompt))""",
    """INSERT INTO outgoing.call SELECT * FROM main.call WHERE id IN (SELECT call FROM fresh_answer UNION SELECT call FROM fresh_attempt
    UNION SELECT call FROM fresh_reading UNION SELECT source FROM main.reading JOIN fresh_reading USING (reader, call, prompt))""",
    "INSERT INTO outgoing.checksum SELECT * FROM checksum WHERE call IN (SELECT call FROM fresh_answer)",
    "INSERT INTO outgoing.answer SELECT * FROM main.answer WHERE call IN (SELECT call FROM fresh_answer)",
    "INSERT INTO outgoing.text SELECT * FROM main.text WHERE call IN (SELECT call FROM fresh_answer)",
    "INSERT INTO outgoing.attempt SELECT attempt.* FROM main.attempt JOIN fresh_attempt USING (call, time, reason)",
    "INSERT INTO outgoing.reading SELECT reading.* FROM main.reading JOIN fresh_reading USING (reader, call, prompt)",
    "INSERT INTO outgoing.study SELECT * FROM main.study WHERE id IN (SELECT study FROM fresh_note)",
    "INSERT INTO outgoing.note SELECT * FROM fresh_note",
)
"""A file that is sent is empty before, so that rows keep the integers that they have in the worker's store."""
_KNOWN = (
    "INSERT INTO reader (kind, name, version, side) SELECT kind, name, version, side FROM other.reader WHERE true ON CONFLICT DO NOTHING",
    """INSERT INTO checksum SELECT call.id, value FROM main.call AS call
    JOIN other.call AS theirs ON theirs.key = call.key JOIN other.checksum AS checksum ON checksum.call = theirs.id
    WHERE NOT EXISTS (SELECT 1 FROM main.answer WHERE answer.call = call.id) ON CONFLICT DO NOTHING""",
    """INSERT INTO answer SELECT call.id, finish, prompt_tokens, completion_tokens FROM main.call AS call
    JOIN other.call AS theirs ON theirs.key = call.key JOIN other.answer AS answer ON answer.call = theirs.id
    WHERE true ON CONFLICT DO NOTHING""",
    """INSERT INTO text SELECT call.id, text, detail FROM main.call AS call
    JOIN other.call AS theirs ON theirs.key = call.key JOIN other.text AS text ON text.call = theirs.id
    WHERE true ON CONFLICT DO NOTHING""",
    """CREATE TEMP TABLE known AS SELECT r.id AS theirs, reader.id AS reader, places.*
    FROM (SELECT call.id AS call, theirs.id AS their_call FROM main.call AS call JOIN other.call AS theirs ON theirs.key = call.key
        UNION SELECT 0, 0) AS places
    JOIN other.reader AS r
    JOIN main.reader AS reader ON (reader.kind, reader.name, reader.version, reader.side) = (r.kind, r.name, r.version, r.side)""",
    """CREATE TEMP TABLE known_reading AS SELECT known.reader, known.call, prompt.id AS prompt, value, score, label, source
    FROM known JOIN other.reading AS reading ON reading.reader = known.theirs AND reading.call = known.their_call
    JOIN other.prompt AS p ON p.id = reading.prompt JOIN main.prompt AS prompt ON prompt.key = p.key""",
    """INSERT INTO word (text) SELECT text FROM other.word WHERE id IN (SELECT label FROM known_reading)
    AND true ON CONFLICT DO NOTHING""",
    """INSERT INTO call (key, kind) SELECT key, kind FROM other.call WHERE id IN (SELECT source FROM known_reading)
    AND true ON CONFLICT DO NOTHING""",
    """INSERT INTO reading SELECT known.reader, known.call, known.prompt, value, score, label.id, source.id
    FROM known_reading AS known JOIN other.word AS w ON w.id = known.label JOIN main.word AS label ON label.text = w.text
    LEFT JOIN other.call AS s ON s.id = known.source LEFT JOIN main.call AS source ON source.key = s.key
    WHERE true ON CONFLICT DO NOTHING""",
    """INSERT INTO note SELECT study.id, note.name, value FROM other.note JOIN other.study AS theirs ON theirs.id = note.study
    JOIN main.study AS study ON study.name = theirs.name WHERE true ON CONFLICT DO NOTHING""",
    "DROP TABLE temp.known",
    "DROP TABLE temp.known_reading",
)
"""Screened prompts have the call 0 in both stores."""


class Outbox:
    """Gives what is new in a store since the last time, as a small store file.

    It reads the store beside whoever writes to it.
    """

    def __init__(self, store: Path) -> None:
        """Open the store for reading.

        Raises:
            StoreError: there is no such store.
        """
        self._store = store
        self._connection = connect(store, write=False)
        for statement in _MARKS:
            self._connection.execute(statement)

    def close(self) -> None:
        """Let go of the store."""
        self._connection.close()

    def leave_out(self, other: Path) -> None:
        """Take the answers that another store holds for sent."""
        connection = self._connection
        attach(connection, other)
        connection.execute(
            """INSERT INTO sent_answer SELECT call.id FROM other.answer JOIN other.call AS theirs ON theirs.id = answer.call
            JOIN main.call AS call ON call.key = theirs.key WHERE true ON CONFLICT DO NOTHING"""
        )
        connection.execute("DETACH other")

    def waiting(self) -> int:
        """Return the number of answers, of models and scorers, that were not given yet."""
        row = self._connection.execute(
            "SELECT count(*) FROM main.text WHERE call NOT IN (SELECT call FROM sent_answer)"
        ).fetchone()
        return int(row[0])

    def take(self, file: Path) -> bytes | None:
        """Return the rows that were not given yet, at most `MOST_ROWS` of a table, as a packed store; None where there are none.

        Args:
            file: a path for the store; it is deleted again.

        Raises:
            StoreError: it cannot be written, or the store is damaged.
        """
        connection = self._connection
        try:
            connection.execute(
                "BEGIN"
            )  # the fresh rows and their copies are of one state of the store
            for statement in _FRESH:
                connection.execute(statement)
            new = any(
                connection.execute(f"SELECT 1 FROM fresh_{kind} LIMIT 1").fetchone()
                for kind in _KINDS
            )
            connection.execute("COMMIT")
            packed = self._packed(file) if new else None
            for kind in _KINDS:
                connection.execute(f"INSERT INTO sent_{kind} SELECT * FROM fresh_{kind}")
                connection.execute(f"DROP TABLE temp.fresh_{kind}")
        except (sqlite3.Error, OSError) as error:
            raise explained(error, self._store) from error
        return packed

    def _packed(self, file: Path) -> bytes:
        connection = self._connection
        with _scratch(file):
            connection.execute("ATTACH ? AS outgoing", (f"{file.absolute().as_uri()}?mode=rw",))
            try:
                connection.execute("BEGIN")
                for statement in _COPY:
                    connection.execute(statement)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            finally:
                connection.execute("DETACH outgoing")
            return zlib.compress(file.read_bytes(), 1)


@contextmanager
def _scratch(file: Path) -> Iterator[None]:
    """Make an empty store that nobody else opens, and delete it at the end."""
    _delete(file)
    try:
        with closing(connect(file, write=True)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")  # one file, without others beside it
        yield
    finally:
        _delete(file)


def _delete(file: Path) -> None:
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink(missing_ok=True)


@contextmanager
def unpacked(packed: bytes, file: Path) -> Iterator[Path]:
    """Write a packed store into a file, which is deleted at the end."""
    _delete(file)
    try:
        file.write_bytes(zlib.decompress(packed))
        yield file
    finally:
        _delete(file)


def copy_known(file: Path, gathered: Path) -> None:
    """Copy into a store what another one holds of the calls and prompts that are in it: answers, scores and notes.

    Raises:
        StoreError: one of them cannot be used.
    """
    with _changed(file) as connection:
        attach(connection, gathered)
        connection.execute("BEGIN IMMEDIATE")
        for statement in _KNOWN:
            connection.execute(statement)
        connection.execute("COMMIT")
        connection.execute("DETACH other")


def add_calls(file: Path, kind: Kind, keys: Iterable[Key]) -> None:
    """Add calls without answers to a store, for `copy_known`."""
    with _changed(file) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO call (key, kind) VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(key, kind) for key in keys],
        )
        connection.execute("COMMIT")


def packed_without_texts(file: Path, kept: Iterable[Key]) -> bytes:
    """Return a store packed, without the texts of answers that nobody reads again: that they are there is all that counts.

    Args:
        file: the store; it is changed.
        kept: the calls whose texts stay.
    """
    with _changed(file) as connection:
        connection.execute("CREATE TEMP TABLE kept (key BLOB PRIMARY KEY)")
        connection.executemany(
            "INSERT INTO kept VALUES (?) ON CONFLICT DO NOTHING", [(key,) for key in kept]
        )
        connection.execute(
            "DELETE FROM text WHERE call NOT IN (SELECT id FROM call JOIN kept USING (key))"
        )
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = DELETE")
    return zlib.compress(file.read_bytes(), 1)


@contextmanager
def _changed(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a store that nobody else writes to."""
    with closing(connect(file, write=True)) as connection:
        try:
            yield connection
        except sqlite3.Error as error:
            raise explained(error, file) from error
