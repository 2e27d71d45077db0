"""The schema of a store file: its tables, how a file is opened and checked, and how another file is merged into it."""

import errno
import sqlite3
from pathlib import Path

from aftertune.errors import AftertuneError, StoreError, StoreVersion
from aftertune.store.damage import damaged

SCHEMA = 1
HISTORY = {1: "the first"}
"""Every schema with what changed, in a line."""

APPLICATION_ID = 0x41465455
"""Marks the file as ours ("AFTU")."""

CACHE_KIB = 256 * 1024
"""Memory for pages that a writer may keep. Keys come in random order: with SQLite's 2 MiB, every key that is added to an index
of ten millions (300 MB) writes a page of its own to the log."""

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE word (id INTEGER PRIMARY KEY, text BLOB NOT NULL UNIQUE);
CREATE TABLE prompt (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, record TEXT NOT NULL);
CREATE TABLE call (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE CHECK (length(key) = 16), kind TEXT NOT NULL);
CREATE TABLE answer (
    call INTEGER PRIMARY KEY REFERENCES call, finish INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL
);
CREATE TABLE text (call INTEGER PRIMARY KEY REFERENCES answer, text BLOB NOT NULL, detail TEXT);
CREATE TABLE attempt (
    call INTEGER NOT NULL REFERENCES call, time REAL NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
    PRIMARY KEY (call, time, reason)
) WITHOUT ROWID;
CREATE TABLE study (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE note (
    study INTEGER NOT NULL REFERENCES study, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (study, name)
) WITHOUT ROWID;
CREATE TABLE model (
    study INTEGER NOT NULL REFERENCES study, position INTEGER NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (study, name)
) WITHOUT ROWID;
CREATE TABLE job (
    study INTEGER NOT NULL REFERENCES study, position INTEGER NOT NULL, model INTEGER NOT NULL REFERENCES word,
    prompt INTEGER NOT NULL REFERENCES prompt, system INTEGER NOT NULL REFERENCES word,
    decoding INTEGER NOT NULL REFERENCES word, sample INTEGER NOT NULL, call INTEGER NOT NULL REFERENCES call,
    PRIMARY KEY (study, position)
) WITHOUT ROWID;
CREATE TABLE reader (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, side TEXT NOT NULL,
    UNIQUE (kind, name, version, side)
);
CREATE TABLE reading (
    reader INTEGER NOT NULL REFERENCES reader, call INTEGER NOT NULL, prompt INTEGER NOT NULL REFERENCES prompt,
    value INTEGER NOT NULL, score REAL, label INTEGER NOT NULL REFERENCES word, source INTEGER REFERENCES call,
    PRIMARY KEY (reader, call, prompt)
) WITHOUT ROWID;
"""
"""``call`` holds every known key, asked or not; ``answer`` and ``text`` (the bulk, kept apart) are the calls with a final
answer. ``word`` holds the names and labels that integers stand for. ``reading.call`` is 0 where only the prompt was read."""

CHECKSUM = (
    "CREATE TABLE {}checksum (call INTEGER PRIMARY KEY REFERENCES call, value INTEGER NOT NULL)"
)
"""The table of checksums of answers (`calls.checksum`). It came after the first stores of this schema: a writer adds it, a
reader has an empty one of its own where it is missing, and versions that do not know it write answers without a checksum."""


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open the store file; a writer creates what is not there.

    Raises:
        StoreError: no such file (reading), or no store.
        StoreVersion: a store of another schema.
    """
    if not write and not path.exists():
        raise StoreError(f"{path}: there is no store; run the study first, or check the path")
    try:
        uri = f"{path.absolute().as_uri()}?mode={'rwc' if write else 'ro'}"
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30
        )
    except sqlite3.Error as error:
        raise explained(error, path) from error
    try:
        _check(connection, path, write=write)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error | UnicodeDecodeError):
            raise explained(error, path) from error
        raise
    return connection


def explained(error: Exception, path: Path) -> AftertuneError:
    """Turn what SQLite or the disk says into one line that says what to do."""
    if isinstance(error, AftertuneError):
        return error
    text = str(error)
    full = (
        "disk is full" in text or getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHMSIZE"
    )
    if full or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return StoreError(
            f"{path}: the disk is full; free some space and run again: all that was committed is kept"
        )
    if "not a database" in text:
        return StoreError(f"{path}: is not an Aftertune store; name another file")
    # SQLite names what is broken, and the name may be broken, too.
    if "malformed" in text or isinstance(error, UnicodeDecodeError):
        return damaged(text, path)
    if isinstance(error, OSError) or "readonly" in text or "unable to open" in text:
        text = text if isinstance(error, sqlite3.Error) else str(getattr(error, "strerror", text))
        return StoreError(
            f"{path}: cannot be opened for this ({text}); check the path and its permissions"
        )
    return StoreError(
        f"{path}: the store failed ({text}); nothing that was committed is lost, run again"
    )


def _check(connection: sqlite3.Connection, path: Path, *, write: bool) -> None:
    """Prepare the connection, and refuse whatever is not a store of this schema; a new file becomes one."""
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if empty and write:
        _create(connection)
    elif empty:
        raise StoreError(f"{path}: is empty; run the study first")
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{path}: is a database of some other program; name another file")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA:
        advice = (
            "use a newer Aftertune"
            if version > SCHEMA
            else "use the Aftertune that wrote it, or start a new store"
        )
        raise StoreVersion(
            f"{path}: has schema {version}, this Aftertune reads schema {SCHEMA}; {advice}"
        )
    if write:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    if not _has_checksums(connection, "main"):
        connection.execute(CHECKSUM.format("" if write else "temp."))


def _has_checksums(connection: sqlite3.Connection, database: str) -> bool:
    """Return whether an open or attached file has the table of checksums."""
    query = f"SELECT 1 FROM {database}.sqlite_schema WHERE type = 'table' AND name = 'checksum'"
    return connection.execute(query).fetchone() is not None


def _create(connection: sqlite3.Connection) -> None:
    """Make all tables in one transaction, so that a crash leaves an empty file or a store."""
    history = "; ".join(f"{number}: {change}" for number, change in HISTORY.items())
    connection.execute("BEGIN IMMEDIATE")
    for statement in TABLES.split(";"):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO meta VALUES ('schema', ?), ('history', ?)", (str(SCHEMA), history)
    )
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute("COMMIT")


ANSWERS = """INSERT INTO answer SELECT ours, finish, prompt_tokens, completion_tokens FROM other.answer
    CROSS JOIN temp.same_call ON theirs = answer.call WHERE true ON CONFLICT DO NOTHING"""
MERGE = (
    "INSERT INTO word (text) SELECT text FROM other.word WHERE true ORDER BY id ON CONFLICT DO NOTHING",
    "INSERT INTO prompt (key, record) SELECT key, record FROM other.prompt WHERE true ORDER BY id ON CONFLICT DO NOTHING",
    "INSERT INTO call (key, kind) SELECT key, kind FROM other.call WHERE true ORDER BY id ON CONFLICT DO NOTHING",
    """INSERT INTO reader (kind, name, version, side) SELECT kind, name, version, side FROM other.reader
    WHERE true ORDER BY id ON CONFLICT DO NOTHING""",
    "CREATE TEMP TABLE same_word (theirs INTEGER PRIMARY KEY, ours INTEGER NOT NULL)",
    """INSERT INTO temp.same_word SELECT theirs.id, word.id FROM other.word AS theirs
    CROSS JOIN main.word AS word ON word.text = theirs.text""",
    "CREATE TEMP TABLE same_prompt (theirs INTEGER PRIMARY KEY, ours INTEGER NOT NULL)",
    """INSERT INTO temp.same_prompt SELECT theirs.id, prompt.id FROM other.prompt AS theirs
    CROSS JOIN main.prompt AS prompt ON prompt.key = theirs.key""",
    "CREATE TEMP TABLE same_call (theirs INTEGER PRIMARY KEY, ours INTEGER NOT NULL)",
    """INSERT INTO temp.same_call SELECT theirs.id, call.id FROM other.call AS theirs
    CROSS JOIN main.call AS call ON call.key = theirs.key ORDER BY theirs.id""",
    "CREATE TEMP TABLE same_reader (theirs INTEGER PRIMARY KEY, ours INTEGER NOT NULL)",
    """INSERT INTO temp.same_reader SELECT theirs.id, reader.id FROM other.reader AS theirs CROSS JOIN main.reader AS reader
    ON (reader.kind, reader.name, reader.version, reader.side) = (theirs.kind, theirs.name, theirs.version, theirs.side)""",
    ANSWERS,
    """INSERT INTO text SELECT ours, text, detail FROM other.text
    CROSS JOIN temp.same_call ON theirs = text.call WHERE true ON CONFLICT DO NOTHING""",
    """INSERT INTO attempt SELECT ours, time, reason, detail FROM other.attempt
    CROSS JOIN temp.same_call ON theirs = attempt.call WHERE true ON CONFLICT DO NOTHING""",
    """CREATE TEMP TABLE arriving AS SELECT id AS theirs, name FROM other.study
    WHERE name NOT IN (SELECT name FROM main.study)""",
    "INSERT INTO study (name) SELECT name FROM temp.arriving ORDER BY theirs",
    """INSERT INTO note SELECT study.id, note.name, value FROM other.note JOIN other.study AS theirs ON theirs.id = note.study
    JOIN main.study AS study ON study.name = theirs.name WHERE true ON CONFLICT DO NOTHING""",
    """INSERT INTO model SELECT study.id, position, model.name, record FROM other.model JOIN other.study AS theirs
    ON theirs.id = model.study JOIN main.study AS study ON study.name = theirs.name WHERE true ON CONFLICT DO NOTHING""",
    """INSERT INTO job SELECT study.id, position, model.ours, prompt.ours, system.ours, decoding.ours, sample, call.ours
    FROM temp.arriving CROSS JOIN main.study AS study USING (name) CROSS JOIN other.job AS job ON job.study = arriving.theirs
    CROSS JOIN temp.same_word AS model ON model.theirs = job.model
    CROSS JOIN temp.same_word AS system ON system.theirs = job.system
    CROSS JOIN temp.same_word AS decoding ON decoding.theirs = job.decoding
    CROSS JOIN temp.same_prompt AS prompt ON prompt.theirs = job.prompt
    CROSS JOIN temp.same_call AS call ON call.theirs = job.call""",
    """INSERT INTO reading SELECT reader.ours, coalesce(call.ours, 0), prompt.ours, value, score, label.ours, source.ours
    FROM other.reading AS reading
    CROSS JOIN temp.same_reader AS reader ON reader.theirs = reading.reader
    CROSS JOIN temp.same_prompt AS prompt ON prompt.theirs = reading.prompt
    CROSS JOIN temp.same_word AS label ON label.theirs = reading.label
    LEFT JOIN temp.same_call AS call ON call.theirs = reading.call
    LEFT JOIN temp.same_call AS source ON source.theirs = reading.source
    WHERE true ON CONFLICT DO NOTHING""",
    *(
        f"DROP TABLE temp.{name}"
        for name in ("same_word", "same_prompt", "same_call", "same_reader", "arriving")
    ),
)
"""In the order of their dependencies. A study that both have keeps the job list that it has here; its notes and models are
added to. The tables ``same_…`` map their integers to ours, so that a key is looked up once, however many rows name it.
``CROSS JOIN`` keeps the order of the tables, the largest first; ``WHERE true`` keeps SQLite's parser from reading ON CONFLICT as
a join."""

MERGE_CHECKSUMS = """INSERT INTO checksum SELECT ours, value FROM other.checksum
    CROSS JOIN temp.same_call ON theirs = checksum.call
    WHERE NOT EXISTS (SELECT 1 FROM main.answer WHERE answer.call = ours) ON CONFLICT DO NOTHING"""
"""Before the answers, for those that are not here."""


def attach(connection: sqlite3.Connection, other: Path) -> None:
    """Attach another store for reading, after checking that it is one (`connect`'s errors)."""
    connect(other, write=False).close()
    connection.execute("ATTACH ? AS other", (f"{other.absolute().as_uri()}?mode=ro",))


def merge_attached(connection: sqlite3.Connection) -> int:
    """Insert everything of the attached store that is not here; return the number of answers that came."""
    before = _count_answers(connection)
    checksums = _has_checksums(connection, "other")
    for statement in MERGE:
        if statement is ANSWERS and checksums:
            connection.execute(MERGE_CHECKSUMS)
        connection.execute(statement)
    return _count_answers(connection) - before


def _count_answers(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM main.answer").fetchone()[0])
