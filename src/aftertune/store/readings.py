"""Readings: what judges, guards, scorers and the coherence detectors read from calls; derived, and free to redo."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aftertune.core.ids import Key
from aftertune.core.records import DecisionValue, LabelValue, Prompt, Response, Side, VerdictValue
from aftertune.core.table import NONE
from aftertune.errors import StoreError
from aftertune.store.calls import UNFINISHED, marks
from aftertune.store.jobs import prompt_ids, read_integers, read_jobs, word_ids

ReaderKind = Literal["judge", "guard", "coherence", "scorer", "person"]
Value = VerdictValue | DecisionValue | LabelValue | bool | None
"""What was read: a verdict, a decision, a person's label, coherent or not; None for a scorer."""

PROMPT_ONLY = 0
"""Stands for the call where only the prompt was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who read: one version of a judge, guard, scorer or of the coherence detectors, or a person in one import."""

    id: int
    kind: ReaderKind
    name: str
    version: str
    side: Side
    """What was read: the response, or (guards) the prompt alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """Something that a reader has not read yet."""

    prompt: Prompt
    key: Key | None
    """The call that gave the response; None on the prompt side."""
    response: Response | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read in a response, or in a prompt."""

    prompt: Prompt
    key: Key | None
    """The call that gave the response; None on the prompt side."""
    value: Value
    score: float | None = None
    """A harm score, a task score; of a person's label, the probability with which the response was drawn."""
    label: str = ""
    source: Key | None = None
    """The judge's or guard's own call that was read; None where there was none."""


def insert_reader(
    connection: sqlite3.Connection, kind: ReaderKind, name: str, version: str, side: Side
) -> int:
    """Return the integer of a reader, adding it if it is new."""
    identity = (kind, name, version, side)
    connection.execute(
        "INSERT INTO reader (kind, name, version, side) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        identity,
    )
    row = connection.execute(
        "SELECT id FROM reader WHERE kind = ? AND name = ? AND version = ? AND side = ?", identity
    ).fetchone()
    return int(row[0])


def readers_by_id(connection: sqlite3.Connection, ids: Sequence[int]) -> list[Reader]:
    """Return readers in the given order.

    Raises:
        StoreError: there is no such reader.
    """
    rows = connection.execute(
        f"SELECT id, kind, name, version, side FROM reader WHERE id IN ({marks(ids)})", list(ids)
    )
    found = {
        row[0]: Reader(id=row[0], kind=row[1], name=row[2], version=row[3], side=row[4])
        for row in rows
    }
    if lost := [number for number in ids if number not in found]:
        raise StoreError(f"the store holds no reader {lost[0]}; add it before reading with it")
    return [found[number] for number in ids]


def insert_readings(
    reader: int,
    readings: Sequence[Reading],
    known: Mapping[Prompt, int],
    connection: sqlite3.Connection,
) -> None:
    """Insert readings; one that is there stays. ``known`` holds integers of prompts that need no looking up."""
    strangers = {reading.prompt: None for reading in readings if reading.prompt not in known}
    prompts = {**known, **prompt_ids(connection, strangers)}
    words = word_ids(connection, (reading.label for reading in readings))
    connection.executemany(
        "INSERT INTO reading VALUES (?, coalesce((SELECT id FROM call WHERE key = ?), ?), ?, ?, ?, ?, "
        "(SELECT id FROM call WHERE key = ?)) ON CONFLICT (reader, call, prompt) DO NOTHING",
        [
            (
                reader,
                reading.key,
                PROMPT_ONLY if reading.key is None else None,
                prompts[reading.prompt],
                code_of(reading.value),
                reading.score,
                words[reading.label],
                reading.source,
            )
            for reading in readings
        ],
    )


def code_of(value: Value) -> int:
    """Return a value's position in its enumeration (0 or 1 for coherence), NONE for no value."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return int(value)
    return list(type(value)).index(value)


def value_of(kind: ReaderKind, code: int) -> Value:
    """Return the value that `code_of` made a code of."""
    if code == NONE:
        return None
    if kind == "coherence":
        return bool(code)
    if kind == "person":
        return list(LabelValue)[code]
    return list(VerdictValue)[code] if kind == "judge" else list(DecisionValue)[code]


def unread_places(
    connection: sqlite3.Connection, study: str, reader: Reader
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the (call, prompt) integers that a reader has not read, each once, in planned order.

    On the prompt side every prompt counts once, with `PROMPT_ONLY` as its call; on the response side every answered call.
    """
    jobs = read_jobs(connection, study)
    calls = jobs.call if reader.side == "response" else np.full_like(jobs.call, PROMPT_ONLY)
    codes, first = np.unique(pair_codes(calls, jobs.prompt), return_index=True)
    read = pair_codes(*_read_places(connection, reader))
    first = np.sort(first[~np.isin(codes, read, assume_unique=True)])
    if reader.side == "response":
        first = first[np.isin(jobs.call[first], _answered(connection))]
    return calls[first], jobs.prompt[first].astype(np.int64)


def pair_codes(calls: NDArray[np.int64], prompts: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return one integer for each (call, prompt), in the order of (call, prompt)."""
    return (calls.astype(np.int64) << 31) | prompts.astype(np.int64)


def _read_places(
    connection: sqlite3.Connection, reader: Reader
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    calls, prompts = read_integers(
        connection,
        ("call", "prompt"),
        "SELECT call, prompt FROM reading WHERE reader = ?",
        reader.id,
    )
    return calls, prompts


def _answered(connection: sqlite3.Connection) -> NDArray[np.int64]:
    source = "SELECT call FROM answer WHERE finish <> ?"
    calls: NDArray[np.int64] = read_integers(connection, ("call",), source, UNFINISHED)[0]
    return calls
