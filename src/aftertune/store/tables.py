"""Makes the integer table that `measure_table` works on, without an object per response."""

import sqlite3
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from aftertune.core.table import ADJUDICATED, NONE, Table
from aftertune.store.calls import (
    FINISH,
    UNFINISHED,
    Jobs,
    prompt_columns,
    read_integers,
    read_jobs,
    read_scores,
    without_attacks,
    words_by_id,
)
from aftertune.store.damage import INT32, checked
from aftertune.store.scores import PROMPT_ONLY, VALUES, ScorerVersion, pair_codes

Ints = NDArray[np.int32]
T = TypeVar("T", np.int32, np.float64)
NUMBER_COLUMN = {"judge": "harm_score", "person": "drawn"}
"""The column of the number beside a judge's verdict and an annotator's label, by kind of scorer."""
ALONE = {"coherence": "coherent", "adjudicator": ADJUDICATED}
"""The column of a kind of scorer of which a study has one, so that its name is not part of the column's."""
WORD_COLUMN = {"scorer": "score_label", "judge": "verdict_label"}
"""The column of the words beside a score, by kind of scorer: a metric's counts, a judge's label."""


def read_table(
    connection: sqlite3.Connection,
    study: str,
    scorers: Sequence[ScorerVersion],
    *,
    attacks: bool = False,
) -> Table:
    """Return the table of a study: one row a planned job, in planned order, with the columns that `Table` documents.

    Codes follow the order of first appearance in the plan, so equal studies give equal tables whatever the store's past.

    Args:
        connection: to the store.
        study: its name.
        scorers: whose columns the table has.
        attacks: with the prompts that attacks stand around, and the column ``attack``; without, they are left out.
    """
    jobs = read_jobs(connection, study)
    if not attacks:
        jobs = without_attacks(connection, jobs)
    columns: dict[str, Ints] = {"sample": jobs.sample}
    names: dict[str, tuple[str, ...]] = {}
    for column in ("model", "system", "decoding"):
        columns[column], order = _recoded(getattr(jobs, column))
        words = words_by_id(connection, order)
        names[column] = tuple(words[number] for number in order)
    columns["prompt"], numbers = _recoded(jobs.prompt)
    of_prompts, prompt_names = prompt_columns(connection, numbers, attacks=attacks)
    columns |= {column: codes[columns["prompt"]] for column, codes in of_prompts.items()}
    names |= prompt_names
    _add_answers(connection, jobs, columns)
    scores: dict[str, NDArray[np.float64]] = {}
    columns["coherent"] = np.full(len(jobs.call), NONE, np.int32)
    for scorer in scorers:
        place = _add_scores(connection, jobs, scorer, columns, scores)
        if scorer.kind in WORD_COLUMN and scorer.side != "reasoning":
            _add_words(connection, scorer, place, columns, names)
    return Table(columns=columns, scores=scores, names=names)


def column_of(scorer: ScorerVersion) -> str:
    """Return the name of a scorer's column."""
    if scorer.kind == "guard":
        return f"decision:{scorer.name}:{scorer.side}"
    if scorer.side == "reasoning":
        return f"reasoning:{scorer.name}"
    if scorer.kind in ALONE:
        return ALONE[scorer.kind]
    prefix = {"judge": "verdict", "scorer": "score", "person": "label"}
    return f"{prefix[scorer.kind]}:{scorer.name}"


def _recoded(column: Ints) -> tuple[Ints, list[int]]:
    """Replace integers by their rank of first appearance; also return the integers in that order."""
    values, first, codes = np.unique(column, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(values), np.int32)
    rank[order] = np.arange(len(values), dtype=np.int32)
    return rank[codes], values[order].tolist()


def _add_answers(connection: sqlite3.Connection, jobs: Jobs, columns: dict[str, Ints]) -> None:
    """Spread the answers over the jobs; a job without one has NONE everywhere."""
    names = ("finish", "prompt_tokens", "completion_tokens")
    calls, *values = read_integers(
        connection, ("call", *names), "SELECT * FROM answer ORDER BY call"
    )
    place = _places(calls, jobs.call)
    for name, numbers in zip(names, values, strict=True):
        checked(numbers, "answer", name, 0, len(FINISH) - 1 if name == "finish" else INT32[1])
        column = _spread(numbers.astype(np.int32), place, np.int32(NONE))
        if name == "finish":
            column[column == UNFINISHED] = NONE
        columns[name] = column


def _add_scores(
    connection: sqlite3.Connection,
    jobs: Jobs,
    scorer: ScorerVersion,
    columns: dict[str, Ints],
    scores: dict[str, NDArray[np.float64]],
) -> NDArray[np.int64]:
    """Spread a scorer's scores over the jobs that have the call and prompt that was scored.

    Returns:
        for every job the position of its score among the scorer's scores, NONE without one.
    """
    scored_calls, scored_prompts, values = read_integers(
        connection,
        ("call", "prompt", "value"),
        "SELECT call, prompt, value FROM reading WHERE reader = ? ORDER BY call, prompt",
        scorer.id,
    )
    checked(values, "reading", "value", NONE, VALUES.get(scorer.kind, INT32[1]))
    calls = np.full_like(jobs.call, PROMPT_ONLY) if scorer.side == "prompt" else jobs.call
    place = _places(pair_codes(scored_calls, scored_prompts), pair_codes(calls, jobs.prompt))
    if scorer.kind != "scorer":
        columns[column_of(scorer)] = _spread(values.astype(np.int32), place, np.int32(NONE))
    scored = column_of(scorer) if scorer.kind == "scorer" else None
    if scorer.kind in NUMBER_COLUMN and scorer.side != "reasoning":
        scored = f"{NUMBER_COLUMN[scorer.kind]}:{scorer.name}"
    if scored is not None:
        rows = connection.execute(
            "SELECT score FROM reading WHERE reader = ? ORDER BY call, prompt", (scorer.id,)
        )
        scores[scored] = _spread(read_scores(rows, len(values)), place, np.float64(np.nan))
    return place


def _add_words(
    connection: sqlite3.Connection,
    scorer: ScorerVersion,
    place: NDArray[np.int64],
    columns: dict[str, Ints],
    names: dict[str, tuple[str, ...]],
) -> None:
    """Spread the words beside scores; a metric that counts nothing, a judge without labels, adds no column."""
    (labels,) = read_integers(
        connection,
        ("label",),
        "SELECT label FROM reading WHERE reader = ? ORDER BY call, prompt",
        scorer.id,
    )
    distinct, codes = np.unique(labels, return_inverse=True)
    by_number = words_by_id(connection, distinct.tolist())
    words = [by_number[number] for number in distinct.tolist()]
    if not any(words):
        return
    order = sorted((word, number) for number, word in enumerate(words) if word)
    rank = np.full(len(words), NONE, np.int32)
    rank[[number for _, number in order]] = np.arange(len(order), dtype=np.int32)
    column = f"{WORD_COLUMN[scorer.kind]}:{scorer.name}"
    columns[column] = _spread(rank[codes], place, np.int32(NONE))
    names[column] = tuple(word for word, _ in order)


def _places(codes: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position of each wanted code among sorted codes, NONE where it is not among them."""
    place = np.searchsorted(codes, wanted)
    inside = place < len(codes)
    present = np.zeros(len(wanted), bool)
    present[inside] = codes[place[inside]] == wanted[inside]
    return np.where(present, place, NONE)


def _spread(values: NDArray[T], place: NDArray[np.int64], absent: T) -> NDArray[T]:
    column: NDArray[T] = np.full(len(place), absent)
    column[place != NONE] = values[place[place != NONE]]
    return column
