"""Merging: everything of another store is inserted here or ignored, by key; twice does no harm."""

import sqlite3
from pathlib import Path

from aftertune.store.schema import connect

STATEMENTS = (
    "INSERT INTO word (text) SELECT text FROM other.word WHERE true ORDER BY id ON CONFLICT DO NOTHING",
    "INSERT INTO prompt (key, record) SELECT key, record FROM other.prompt WHERE true ORDER BY id ON CONFLICT DO NOTHING",
    "INSERT INTO call (key, kind) SELECT key, kind FROM other.call WHERE true ORDER BY id ON CONFLICT DO NOTHING",
    """INSERT INTO answer SELECT call.id, finish, prompt_tokens, completion_tokens FROM other.answer
    JOIN other.call AS theirs ON theirs.id = answer.call JOIN main.call AS call ON call.key = theirs.key
    WHERE true ORDER BY call.id ON CONFLICT DO NOTHING""",
    """INSERT INTO text SELECT call.id, text, detail FROM other.text
    JOIN other.call AS theirs ON theirs.id = text.call JOIN main.call AS call ON call.key = theirs.key
    WHERE true ORDER BY call.id ON CONFLICT DO NOTHING""",
    """INSERT INTO attempt SELECT call.id, time, reason, detail FROM other.attempt
    JOIN other.call AS theirs ON theirs.id = attempt.call JOIN main.call AS call ON call.key = theirs.key
    WHERE true ON CONFLICT DO NOTHING""",
    """CREATE TEMP TABLE arriving AS SELECT id AS theirs, name FROM other.study
    WHERE name NOT IN (SELECT name FROM main.study)""",
    "INSERT INTO study (name) SELECT name FROM temp.arriving ORDER BY theirs",
    """INSERT INTO note SELECT study.id, note.name, value FROM other.note JOIN other.study AS theirs ON theirs.id = note.study
    JOIN main.study AS study ON study.name = theirs.name WHERE true ON CONFLICT DO NOTHING""",
    """INSERT INTO model SELECT study.id, position, model.name, record FROM other.model JOIN other.study AS theirs
    ON theirs.id = model.study JOIN main.study AS study ON study.name = theirs.name WHERE true ON CONFLICT DO NOTHING""",
    """INSERT INTO job SELECT study.id, position, model.id, prompt.id, system.id, decoding.id, sample, call.id
    FROM temp.arriving JOIN other.job AS job ON job.study = arriving.theirs JOIN main.study AS study USING (name)
    JOIN other.word AS w1 ON w1.id = job.model JOIN main.word AS model ON model.text = w1.text
    JOIN other.word AS w2 ON w2.id = job.system JOIN main.word AS system ON system.text = w2.text
    JOIN other.word AS w3 ON w3.id = job.decoding JOIN main.word AS decoding ON decoding.text = w3.text
    JOIN other.prompt AS p ON p.id = job.prompt JOIN main.prompt AS prompt ON prompt.key = p.key
    JOIN other.call AS c ON c.id = job.call JOIN main.call AS call ON call.key = c.key""",
    "DROP TABLE temp.arriving",
    """INSERT INTO reader (kind, name, version, side) SELECT kind, name, version, side FROM other.reader
    WHERE true ORDER BY id ON CONFLICT DO NOTHING""",
    """INSERT INTO reading SELECT reader.id, coalesce(call.id, 0), prompt.id, value, score, label.id, source.id
    FROM other.reading AS reading
    JOIN other.reader AS r ON r.id = reading.reader
    JOIN main.reader AS reader ON (reader.kind, reader.name, reader.version, reader.side) = (r.kind, r.name, r.version, r.side)
    JOIN other.prompt AS p ON p.id = reading.prompt JOIN main.prompt AS prompt ON prompt.key = p.key
    JOIN other.word AS w ON w.id = reading.label JOIN main.word AS label ON label.text = w.text
    LEFT JOIN other.call AS c ON c.id = reading.call LEFT JOIN main.call AS call ON call.key = c.key
    LEFT JOIN other.call AS s ON s.id = reading.source LEFT JOIN main.call AS source ON source.key = s.key
    WHERE true ON CONFLICT DO NOTHING""",
)
"""In the order of their dependencies. A study that both have keeps the job list that it has here; its notes and models are
added to. ``WHERE true`` keeps SQLite's parser from reading ON CONFLICT as a join."""


def attach(connection: sqlite3.Connection, other: Path) -> None:
    """Attach another store for reading, after checking that it is one (`connect`'s errors)."""
    connect(other, write=False).close()
    connection.execute("ATTACH ? AS other", (f"{other.absolute().as_uri()}?mode=ro",))


def merge_attached(connection: sqlite3.Connection) -> None:
    """Insert everything of the attached store that is not here."""
    for statement in STATEMENTS:
        connection.execute(statement)
