"""Scores in the store: given by judges, guards, metrics, preferences, coherence detectors and annotators; free to redo."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from aftertune.core.keys import Key
from aftertune.core.records import (
    DecisionValue,
    LabelValue,
    Prompt,
    Response,
    Score,
    Side,
    Value,
    VerdictValue,
)
from aftertune.core.table import NONE
from aftertune.errors import StoreError
from aftertune.store.calls import (
    HAS_REASONING,
    UNFINISHED,
    marks,
    prompt_ids,
    read_integers,
    read_jobs,
    word_ids,
)
from aftertune.store.damage import damaged

ScorerKind = Literal["judge", "guard", "coherence", "scorer", "person", "adjudicator"]
"""The stored codes of roles: ``scorer`` stands for metrics and preferences, ``person`` for annotators, ``adjudicator`` for
whoever decides where annotators differ."""

VALUES: Mapping[str, int] = {
    "coherence": 1,
    "guard": len(DecisionValue) - 1,
    "judge": len(VerdictValue) - 1,
    "person": len(LabelValue) - 1,
    "adjudicator": len(LabelValue) - 1,
}
"""The largest code of a value, by kind of scorer; the least is NONE."""
PROMPT_ONLY = 0
"""Stands for the call where only the prompt was scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerVersion:
    """One version of a scorer, or an annotator's labels of one import."""

    id: int
    kind: ScorerKind
    name: str
    version: str
    side: Side
    """The side that is scored: the response, the thinking before it, or (guards) the prompt alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unscored:
    """A response, or a prompt to be screened, without a score of some scorer version."""

    prompt: Prompt
    key: Key | None
    """The call that gave the response; None on the prompt side."""
    response: Response | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The samples that a scorer version has not scored: a known number of them, fetched while they are iterated over."""

    size: int
    fetch: Callable[[], Iterator[Unscored]]

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Unscored]:
        return self.fetch()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A score with its place: the response, or the prompt alone, that it belongs to."""

    prompt: Prompt
    key: Key | None
    """The call that gave the response; None on the prompt side."""
    score: Score
    source: Key | None = None
    """The scorer's own call that the score was made from; None where there was none, or more than one."""


def insert_scorer(
    connection: sqlite3.Connection, kind: ScorerKind, name: str, version: str, side: Side
) -> int:
    """Return the integer of a scorer version, adding it if it is new."""
    identity = (kind, name, version, side)
    connection.execute(
        "INSERT INTO reader (kind, name, version, side) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        identity,
    )
    row = connection.execute(
        "SELECT id FROM reader WHERE kind = ? AND name = ? AND version = ? AND side = ?", identity
    ).fetchone()
    return int(row[0])


def scorers_by_id(connection: sqlite3.Connection, ids: Sequence[int]) -> list[ScorerVersion]:
    """Return scorer versions in the given order.

    Raises:
        StoreError: there is no such scorer version.
    """
    rows = connection.execute(
        f"SELECT id, kind, name, version, side FROM reader WHERE id IN ({marks(ids)})", list(ids)
    )
    versions = {
        row[0]: ScorerVersion(id=row[0], kind=row[1], name=row[2], version=row[3], side=row[4])
        for row in rows
    }
    if lost := [number for number in ids if number not in versions]:
        raise StoreError(f"the store holds no scorer {lost[0]}; add it before scoring with it")
    for version in versions.values():
        if version.kind not in get_args(ScorerKind) or version.side not in get_args(Side):
            raise damaged(
                f"row {version.id} of table reader has kind {version.kind!r} and side {version.side!r}"
            )
    return [versions[number] for number in ids]


def insert_scores(
    scorer: int,
    scores: Sequence[Scored],
    prompt_numbers: Mapping[Prompt, int],
    connection: sqlite3.Connection,
) -> None:
    """Insert scores; one that is there stays. ``prompt_numbers`` spares the look-up of the prompts that it holds."""
    new = {scored.prompt: None for scored in scores if scored.prompt not in prompt_numbers}
    prompts = {**prompt_numbers, **prompt_ids(connection, new)}
    words = word_ids(connection, (scored.score.label for scored in scores))
    connection.executemany(
        "INSERT INTO reading VALUES (?, coalesce((SELECT id FROM call WHERE key = ?), ?), ?, ?, ?, ?, "
        "(SELECT id FROM call WHERE key = ?)) ON CONFLICT (reader, call, prompt) DO NOTHING",
        [
            (
                scorer,
                scored.key,
                PROMPT_ONLY if scored.key is None else None,
                prompts[scored.prompt],
                code_of(scored.score.value),
                scored.score.number,
                words[scored.score.label],
                scored.source,
            )
            for scored in scores
        ],
    )


def code_of(value: Value) -> int:
    """Return a value's position in its enumeration (0 or 1 for coherence), NONE for no value."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return int(value)
    return list(type(value)).index(value)


def value_of(kind: ScorerKind, code: int) -> Value:
    """Return the value that `code_of` made a code of.

    Raises:
        StoreError: nothing has that code.
    """
    if code == NONE:
        return None
    if code not in range(VALUES.get(kind, NONE) + 1):
        raise damaged(f"value {code!r} in table reading is none of a {kind}")
    if kind == "coherence":
        return bool(code)
    if kind in {"person", "adjudicator"}:
        return list(LabelValue)[code]
    return list(VerdictValue)[code] if kind == "judge" else list(DecisionValue)[code]


def unscored_places(
    connection: sqlite3.Connection, study: str, scorer: ScorerVersion
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the (call, prompt) integers that a scorer version has not scored, each once, in planned order.

    On the prompt side every prompt counts once, with `PROMPT_ONLY` as its call; on the response side every answered call;
    on the side of the reasoning every call that has one, finished or not.
    """
    jobs = read_jobs(connection, study)
    calls = np.full_like(jobs.call, PROMPT_ONLY) if scorer.side == "prompt" else jobs.call
    codes, first = np.unique(pair_codes(calls, jobs.prompt), return_index=True)
    scored = read_integers(
        connection,
        ("call", "prompt"),
        "SELECT call, prompt FROM reading WHERE reader = ?",
        scorer.id,
    )
    done = pair_codes(scored[0], scored[1])
    first = np.sort(first[~np.isin(codes, done, assume_unique=True)])
    if scorer.side == "response":
        source = "SELECT call FROM answer WHERE finish <> ?"
        first = first[
            np.isin(jobs.call[first], read_integers(connection, ("call",), source, UNFINISHED))
        ]
    elif scorer.side == "reasoning":
        source = f"SELECT call FROM text WHERE {HAS_REASONING}"
        first = first[np.isin(jobs.call[first], read_integers(connection, ("call",), source))]
    return calls[first], jobs.prompt[first].astype(np.int64)


def pair_codes(calls: NDArray[np.int64], prompts: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return one integer for each (call, prompt), in the order of (call, prompt)."""
    return (calls.astype(np.int64) << 31) | prompts.astype(np.int64)
