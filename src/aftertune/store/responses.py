"""The jobs of a study with texts and scores, for a page, an export or a scorer; and what their answers say of themselves."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from aftertune.core.records import FinishReason, Prompt, Score, StoredJob
from aftertune.store.calls import (
    HAS_REASONING,
    UNFINISHED,
    answers_by_id,
    chunks,
    decoded,
    marks,
    parsed,
    prompts_by_id,
    read_jobs,
    study_id,
    words_by_id,
)
from aftertune.store.scores import PROMPT_ONLY, ScorerVersion, value_of
from aftertune.store.tables import column_of

Snapshot = Callable[[], AbstractContextManager[sqlite3.Connection]]


def read_responses(
    snapshot: Snapshot,
    study: str,
    scorers: Sequence[ScorerVersion],
    prompts: Iterable[Prompt] | None,
    *,
    attacks: bool = False,
) -> Iterator[StoredJob]:
    """Yield jobs in planned order, a chunk of texts at a time; see `Store.responses`."""
    with snapshot() as connection:
        view = _View(connection, study, scorers)
    for places in chunks(view.places(prompts, attacks=attacks)):
        with snapshot() as connection:
            jobs = view.answered(connection, places)
        yield from jobs


class _View:
    """A study's jobs with the prompts, words and scorers that their integers stand for."""

    def __init__(
        self, connection: sqlite3.Connection, study: str, scorers: Sequence[ScorerVersion]
    ) -> None:
        self.jobs = read_jobs(connection, study)
        self.scorers = scorers
        self.prompts = prompts_by_id(connection, np.unique(self.jobs.prompt).tolist())
        words = np.unique(np.concatenate([self.jobs.model, self.jobs.system, self.jobs.decoding]))
        self.words = words_by_id(connection, words.tolist())

    def places(self, prompts: Iterable[Prompt] | None, *, attacks: bool) -> list[int]:
        """Return the positions of the jobs that ask the given prompts; or of all, of those under attacks if they are wanted."""
        wanted = None if prompts is None else set(prompts)
        numbers = [
            number
            for number, prompt in self.prompts.items()
            if (attacks or not prompt.attacked if wanted is None else prompt in wanted)
        ]
        return np.flatnonzero(np.isin(self.jobs.prompt, np.array(numbers, np.int32))).tolist()

    def answered(self, connection: sqlite3.Connection, places: list[int]) -> list[StoredJob]:
        """Join the jobs at some positions with responses and scores."""
        calls, prompts = self.jobs.call[places].tolist(), self.jobs.prompt[places].tolist()
        answers = answers_by_id(connection, sorted(set(calls)))
        scores = {
            column_of(scorer): _scores(connection, scorer, calls, prompts)
            for scorer in self.scorers
        }
        jobs = []
        for place, call, prompt in zip(places, calls, prompts, strict=True):
            key, answer = answers.get(call, (None, None))
            cut = answer is not None and answer.finish_reason is FinishReason.THINKING
            by_column = {
                column: by_place.get((call, prompt)) or by_place.get((PROMPT_ONLY, prompt))
                for column, by_place in scores.items()
            }
            jobs.append(
                StoredJob(
                    model=self.words[int(self.jobs.model[place])],
                    prompt=self.prompts[prompt],
                    system=self.words[int(self.jobs.system[place])],
                    decoding=self.words[int(self.jobs.decoding[place])],
                    sample=int(self.jobs.sample[place]),
                    key=key,
                    response=None if cut else answer,
                    unfinished=answer if cut else None,
                    scores={column: s for column, s in by_column.items() if s is not None},
                )
            )
        return jobs


def _scores(
    connection: sqlite3.Connection, scorer: ScorerVersion, calls: list[int], prompts: list[int]
) -> dict[tuple[int, int], Score]:
    """Return the scores of some calls, or of some prompts, by one scorer."""
    column, ids = ("prompt", prompts) if scorer.side == "prompt" else ("call", calls)
    rows = connection.execute(
        "SELECT call, prompt, value, score, word.text FROM reading JOIN word ON word.id = label "
        f"WHERE reader = ? AND call {'=' if scorer.side == 'prompt' else '>'} {PROMPT_ONLY} AND {column} IN ({marks(ids)})",
        [scorer.id, *ids],
    )
    return {
        (call, prompt): Score(
            value=value_of(scorer.kind, code), number=number, label=decoded(label)
        )
        for call, prompt, code, number, label in rows
    }


class Details(NamedTuple):
    """The answers of one model that say the same of themselves."""

    model: str
    detail: Mapping[str, Any]
    """`core.records.Response.detail`."""
    answers: int


def answer_details(connection: sqlite3.Connection, study: str) -> list[Details]:
    """Count the answers of a study by model and detail (less the reasoning); answers without detail are left out."""
    rows = connection.execute(
        "SELECT word.text, counted.detail, counted.answers FROM ("
        f"SELECT job.model, CASE WHEN {HAS_REASONING} AND json_valid(text.detail) "
        "THEN json_remove(text.detail, '$.reasoning') ELSE text.detail END AS detail, count(*) AS answers "
        "FROM job JOIN text ON text.call = job.call "
        "WHERE job.study = ? AND text.detail IS NOT NULL GROUP BY job.model, 2"
        ") AS counted JOIN word ON word.id = counted.model ORDER BY word.text, counted.detail",
        (study_id(connection, study),),
    ).fetchall()
    return [
        Details(decoded(model), parsed(detail, "detail of an answer"), count)
        for model, detail, count in rows
    ]


class Thinking(NamedTuple):
    """The answers of a model that thinks: all that have a reasoning, those whose thinking has no end, or no text behind it."""

    model: str
    answers: int
    unfinished: int
    """Answers that ended inside it."""
    empty: int
    """Final answers that are empty beside a reasoning."""
    reasoned: int
    """Answers with a reasoning, finished or not."""


def thinking_counts(connection: sqlite3.Connection, study: str) -> list[Thinking]:
    """Count the answers with a reasoning, by model; models without any are left out."""
    rows = connection.execute(
        "SELECT word.text, counts.* FROM (SELECT count(*), sum(finish = ?1) AS unfinished, "
        f"sum(finish <> ?1 AND length(text.text) = 0 AND {HAS_REASONING}) AS empty, "
        f"sum({HAS_REASONING}) AS reasoned, job.model "
        "FROM job JOIN answer ON answer.call = job.call JOIN text ON text.call = job.call "
        "WHERE job.study = ?2 GROUP BY job.model) AS counts JOIN word ON word.id = counts.model "
        "WHERE unfinished > 0 OR reasoned > 0 ORDER BY word.text",
        (UNFINISHED, study_id(connection, study)),
    ).fetchall()
    return [
        Thinking(decoded(model), answers, unfinished, empty or 0, reasoned or 0)
        for model, answers, unfinished, empty, reasoned, _ in rows
    ]
