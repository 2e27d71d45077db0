"""Jobs with their texts and readings, for people to look at."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from aftertune.core.ids import Key
from aftertune.core.records import FinishReason, Prompt, Response
from aftertune.store.calls import answers_by_id, chunks, decoded, marks
from aftertune.store.jobs import prompts_by_id, read_jobs, words_by_id
from aftertune.store.readings import PROMPT_ONLY, Reader, Value, value_of
from aftertune.store.tables import column_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A reading as a person reads it."""

    value: Value
    score: float | None
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A job of a study, its answer and what was read in it."""

    model: str
    prompt: Prompt
    system: str
    decoding: str
    """Its name, as ``table.names["decoding"]`` has it."""
    sample: int
    key: Key | None
    response: Response | None
    """None while there is no final answer."""
    unfinished: Response | None = None
    """An answer that ended inside its thinking, in place of ``response``."""
    readings: Mapping[str, Seen]
    """By the column of the table: ``verdict:rules``, ``decision:guard:prompt``, ``coherent``, ``score:chrf``."""


Snapshot = Callable[[], AbstractContextManager[sqlite3.Connection]]


def read_responses(
    snapshot: Snapshot, study: str, readers: Sequence[Reader], prompts: Iterable[Prompt] | None
) -> Iterator[Answered]:
    """Yield jobs in planned order, a chunk of texts at a time; see `Store.responses`."""
    with snapshot() as connection:
        view = _View(connection, study, readers)
    for places in chunks(view.places(prompts)):
        with snapshot() as connection:
            found = view.answered(connection, places)
        yield from found


class _View:
    """A study's jobs with the prompts, words and readers that their integers stand for."""

    def __init__(
        self, connection: sqlite3.Connection, study: str, readers: Sequence[Reader]
    ) -> None:
        self.jobs = read_jobs(connection, study)
        self.readers = readers
        self.prompts = prompts_by_id(connection, np.unique(self.jobs.prompt).tolist())
        words = np.unique(np.concatenate([self.jobs.model, self.jobs.system, self.jobs.decoding]))
        self.words = words_by_id(connection, words.tolist())

    def places(self, prompts: Iterable[Prompt] | None) -> list[int]:
        """Return the positions of the jobs that ask the given prompts, or of all."""
        wanted = None if prompts is None else set(prompts)
        numbers = [
            number for number, prompt in self.prompts.items() if wanted is None or prompt in wanted
        ]
        return np.flatnonzero(np.isin(self.jobs.prompt, np.array(numbers, np.int32))).tolist()

    def answered(self, connection: sqlite3.Connection, places: list[int]) -> list[Answered]:
        """Join the jobs at some positions with answers and readings."""
        calls, prompts = self.jobs.call[places].tolist(), self.jobs.prompt[places].tolist()
        answers = answers_by_id(connection, sorted(set(calls)))
        seen = {
            column_of(reader): _seen(connection, reader, calls, prompts) for reader in self.readers
        }
        found = []
        for place, call, prompt in zip(places, calls, prompts, strict=True):
            key, answer = answers.get(call, (None, None))
            cut = answer is not None and answer.finish_reason is FinishReason.THINKING
            readings = {
                column: at.get((call, prompt)) or at.get((PROMPT_ONLY, prompt))
                for column, at in seen.items()
            }
            found.append(
                Answered(
                    model=self.words[int(self.jobs.model[place])],
                    prompt=self.prompts[prompt],
                    system=self.words[int(self.jobs.system[place])],
                    decoding=self.words[int(self.jobs.decoding[place])],
                    sample=int(self.jobs.sample[place]),
                    key=key,
                    response=None if cut else answer,
                    unfinished=answer if cut else None,
                    readings={
                        column: reading
                        for column, reading in readings.items()
                        if reading is not None
                    },
                )
            )
        return found


def _seen(
    connection: sqlite3.Connection, reader: Reader, calls: list[int], prompts: list[int]
) -> dict[tuple[int, int], Seen]:
    """Return a reader's readings of some calls, or of some prompts."""
    column, ids = ("prompt", prompts) if reader.side == "prompt" else ("call", calls)
    rows = connection.execute(
        "SELECT call, prompt, value, score, word.text FROM reading JOIN word ON word.id = label "
        f"WHERE reader = ? AND call {'=' if reader.side == 'prompt' else '>'} {PROMPT_ONLY} AND {column} IN ({marks(ids)})",
        [reader.id, *ids],
    )
    return {
        (call, prompt): Seen(value=value_of(reader.kind, code), score=score, label=decoded(label))
        for call, prompt, code, score, label in rows
    }
