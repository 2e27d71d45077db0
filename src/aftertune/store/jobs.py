"""The planned jobs of a study: a model asked a prompt under a system prompt and a decoding, as rows of integers."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from aftertune.core.keys import Key, content_key
from aftertune.core.recipe import StudyModel
from aftertune.core.records import Decoding, Intent, Prompt
from aftertune.errors import StoreError
from aftertune.store.calls import chunks, decoded, encoded, marks, unreadable

STAGED = 10_000
"""Jobs handed to the writer at once."""
_REMEMBERED = 1 << 15
"""Prompts that need not be decoded again: every reader of a study and its table want the same ones."""
_encode = json.JSONEncoder(sort_keys=True).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """One call that a study wants: a row of its table."""

    model: str
    """The name of the study model."""
    prompt: Prompt
    system: str
    """The name of the system prompt."""
    decoding: Decoding
    sample: int
    key: Key


def word_ids(connection: sqlite3.Connection, words: Iterable[str]) -> dict[str, int]:
    """Return the integers that names and labels stand for, adding new ones."""
    ids: dict[str, int] = {}
    for chunk in chunks(set(words)):
        blobs = [encoded(word) for word in chunk]
        connection.executemany(
            "INSERT INTO word (text) VALUES (?) ON CONFLICT (text) DO NOTHING",
            [(blob,) for blob in sorted(blobs)],
        )
        rows = connection.execute(
            f"SELECT text, id FROM word WHERE text IN ({marks(blobs)})", blobs
        )
        ids.update((decoded(blob), number) for blob, number in rows)
    return ids


def prompt_ids(connection: sqlite3.Connection, prompts: Iterable[Prompt]) -> dict[Prompt, int]:
    """Return the integers of prompts, adding new ones; a prompt with a mended reference is another one."""
    ids: dict[Prompt, int] = {}
    for chunk in chunks(prompts):
        records = {prompt: _record(prompt) for prompt in chunk}
        keys = {content_key("prompt", record): prompt for prompt, record in records.items()}
        connection.executemany(
            "INSERT INTO prompt (key, record) VALUES (?, ?) ON CONFLICT (key) DO NOTHING",
            [(key, records[prompt]) for key, prompt in keys.items()],
        )
        rows = connection.execute(
            f"SELECT key, id FROM prompt WHERE key IN ({marks(list(keys))})", list(keys)
        )
        ids.update((keys[key], number) for key, number in rows)
    return ids


def prompts_by_id(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, Prompt]:
    """Return the prompts that integers stand for."""
    prompts: dict[int, Prompt] = {}
    for chunk in chunks(ids):
        rows = connection.execute(
            f"SELECT id, record FROM prompt WHERE id IN ({marks(chunk)})", chunk
        )
        prompts.update((number, _prompt(record)) for number, record in rows)
    return prompts


def study_id(connection: sqlite3.Connection, study: str) -> int:
    """Return the integer of a study.

    Raises:
        StoreError: the store has no such study.
    """
    row = connection.execute("SELECT id FROM study WHERE name = ?", (study,)).fetchone()
    if row is None:
        names = (
            ", ".join(name for (name,) in connection.execute("SELECT name FROM study ORDER BY id"))
            or "none"
        )
        raise StoreError(f"the store holds no study called {study!r}; it holds: {names}")
    return int(row[0])


def new_study_id(connection: sqlite3.Connection, study: str) -> int:
    """Return the integer of a study, adding it if it is new."""
    connection.execute(
        "INSERT INTO study (name) VALUES (?) ON CONFLICT (name) DO NOTHING", (study,)
    )
    return study_id(connection, study)


def insert_models(
    connection: sqlite3.Connection,
    study: str,
    models: Iterable[StudyModel],
    identities: Mapping[str, Mapping[str, object]],
) -> None:
    """Keep the records of a study's models, with the identity of the weights that answered."""
    number = new_study_id(connection, study)
    rows = [
        (number, position, model.name, _model_record(model, identities.get(model.name, {})))
        for position, model in enumerate(models)
    ]
    connection.execute("DELETE FROM model WHERE study = ?", (number,))
    connection.executemany("INSERT INTO model VALUES (?, ?, ?, ?)", rows)


def begin_staging(connection: sqlite3.Connection) -> None:
    """Make room for a new job list beside the old one, which stays valid until `commit_staging`."""
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS staged (position INTEGER PRIMARY KEY, model, prompt, system, decoding, sample, key)"
    )
    connection.execute("DELETE FROM staged")


class Staging:
    """A staging area turns jobs into rows of integers; it remembers the integers of prompts and names."""

    def __init__(self) -> None:
        self._prompts: dict[Prompt, int] = {}
        self._words: dict[str, int] = {}

    def insert(self, jobs: list[PlannedJob], connection: sqlite3.Connection) -> None:
        """Stage one chunk of jobs."""
        self._prompts |= prompt_ids(
            connection, {job.prompt: None for job in jobs if job.prompt not in self._prompts}
        )
        names = {decoding: decoding.name for decoding in {job.decoding for job in jobs}}
        words = {job.model for job in jobs} | {job.system for job in jobs} | set(names.values())
        self._words |= word_ids(connection, words - self._words.keys())
        connection.executemany(
            "INSERT INTO staged (model, prompt, system, decoding, sample, key) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    self._words[job.model],
                    self._prompts[job.prompt],
                    self._words[job.system],
                    self._words[names[job.decoding]],
                    job.sample,
                    job.key,
                )
                for job in jobs
            ],
        )


def commit_staging(connection: sqlite3.Connection, study: str) -> None:
    """Put the staged jobs in the place of the study's old ones, all at once."""
    number = new_study_id(connection, study)
    connection.execute("DELETE FROM job WHERE study = ?", (number,))
    connection.execute(
        "INSERT INTO call (key, kind) SELECT key, 'generate' FROM staged WHERE true ORDER BY position ON CONFLICT (key) DO NOTHING"
    )
    connection.execute(
        "INSERT INTO job SELECT ?, position - 1, model, prompt, system, decoding, sample, call.id "
        "FROM staged JOIN call ON call.key = staged.key ORDER BY position",
        (number,),
    )
    connection.execute("DELETE FROM staged")


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """A study's jobs as integer columns (int32, ``call`` int64), in planned order."""

    model: NDArray[np.int32]
    prompt: NDArray[np.int32]
    system: NDArray[np.int32]
    decoding: NDArray[np.int32]
    sample: NDArray[np.int32]
    call: NDArray[np.int64]


def read_jobs(connection: sqlite3.Connection, study: str) -> Jobs:
    """Read a study's jobs."""
    number = study_id(connection, study)
    block = read_integers(
        connection,
        ("model", "prompt", "system", "decoding", "sample", "call"),
        "SELECT * FROM job WHERE study = ? ORDER BY position",
        number,
    )
    model, prompt, system, decoding, sample = block[:5].astype(np.int32)
    return Jobs(
        model=model, prompt=prompt, system=system, decoding=decoding, sample=sample, call=block[5]
    )


def read_integers(
    connection: sqlite3.Connection, columns: Sequence[str], source: str, *parameters: int
) -> NDArray[np.int64]:
    """Read columns of integers, none of them NULL, into an array of shape (columns, rows).

    Args:
        connection: to the store.
        columns: their names.
        source: the SELECT that gives them, in its order.
        parameters: of the SELECT.
    """
    # One text a column, which numpy reads at once, takes a third of the time of an object for every number.
    texts = ", ".join(f"group_concat({column})" for column in columns)
    lists = connection.execute(f"SELECT {texts} FROM ({source})", parameters).fetchone()
    return np.stack([np.fromstring(text or "", np.int64, sep=",") for text in lists])


def read_scores(rows: sqlite3.Cursor, count: int) -> NDArray[np.float64]:
    """Read ``count`` rows of one exact number; NULL becomes NaN."""
    return np.fromiter(chain.from_iterable(rows), np.float64, count)


def words_by_id(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, str]:
    """Return the names and labels that integers stand for."""
    words: dict[int, str] = {}
    for chunk in chunks(ids):
        rows = connection.execute(f"SELECT id, text FROM word WHERE id IN ({marks(chunk)})", chunk)
        words.update((number, decoded(blob)) for number, blob in rows)
    return words


def _record(prompt: Prompt) -> str:
    return _encode({name: getattr(prompt, name) for name in Prompt.__slots__})


@lru_cache(_REMEMBERED)
def _prompt(record: str) -> Prompt:
    try:
        values = json.loads(record)
        return Prompt(
            **{**values, "intent": Intent(values["intent"]), "labels": tuple(values["labels"])}
        )
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable("prompt", error) from error


def _model_record(model: StudyModel, identity: Mapping[str, object]) -> str:
    values = {
        name: getattr(model, name)
        for name in ("name", "condition", "reference", "base", "training_seed")
    }
    recipe = model.recipe.key.hex() if model.recipe else None
    return json.dumps({**values, "recipe": recipe, "identity": dict(identity)})
