"""Calls in the store: planned by a study, answered, or failed.

A study's planned jobs say which model is asked which prompt under which system prompt and decoding; a call is what was asked
under a key, with its final answer or the attempts that failed. All joins use the integers that names and prompts stand for.
"""

import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, islice
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from aftertune.core.keys import KEY_BYTES, Key, content_key
from aftertune.core.protocols import Answer
from aftertune.core.recipe import StudyModel
from aftertune.core.records import Decoding, FinishReason, Intent, Prompt, Response
from aftertune.core.table import NONE
from aftertune.errors import StoreDamaged, StoreError
from aftertune.store.damage import INT32, checked, damaged

Kind = Literal["generate", "judge", "guard"]
"""A call's kind says what it was first made for; one key is one call, whoever scores its answer."""

FINISH = tuple(FinishReason)
UNFINISHED = FINISH.index(FinishReason.THINKING)
"""The finish reason of calls that are done and have no final answer: nothing reads them, and they count as undecided."""
HAS_REASONING = (
    '(text.detail LIKE \'%"reasoning": "%\' AND text.detail NOT LIKE \'%"reasoning": ""%\')'
)
"""The condition in SQL that a call's answer holds a thinking block, and not an empty one."""
CHUNK = 1000
"""Keys or ids in one statement."""

T = TypeVar("T")

PROMPT_NAMES: dict[str, Callable[[Prompt], str | None]] = {
    "behavior": lambda prompt: prompt.behavior,
    "pair": lambda prompt: prompt.pair,
    "template": lambda prompt: prompt.template,
    "task": lambda prompt: prompt.task,
    "set": lambda prompt: prompt.set,
    "hazard": lambda prompt: prompt.hazard,
    "harm_basis": lambda prompt: prompt.harm_basis,
}
"""The columns of every table that name a property of the prompt."""


class Row(NamedTuple):
    """An answer or a failed attempt, ready for its table."""

    key: Key
    kind: Kind
    answer: tuple[int, int, int] | None
    """Finish reason (its position in `FINISH`), prompt tokens, completion tokens; None for an attempt."""
    text: tuple[bytes, str | None]
    """Text and detail (JSON); of an attempt, the reason and the detail."""
    time: float


class AnswerRow(NamedTuple):
    """A final answer as its tables hold it: the columns of `ANSWER_COLUMNS`."""

    call: int
    key: Key
    finish: int
    prompt_tokens: int
    completion_tokens: int
    text: bytes
    detail: str | None
    checksum: int | None
    """None for an answer that was written before there were checksums."""

    @property
    def intact(self) -> bool:
        """The row holds what was written; one without a checksum counts as such."""
        return self.checksum is None or self.checksum == checksum(
            self.key, (self.finish, self.prompt_tokens, self.completion_tokens), *self[5:7]
        )


ANSWER_COLUMNS = (
    "call.id, key, finish, prompt_tokens, completion_tokens, text, detail, checksum.value FROM call "
    "JOIN answer ON answer.call = call.id JOIN text ON text.call = call.id LEFT JOIN checksum ON checksum.call = call.id"
)


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


def checksum(key: Key, answer: tuple[int, int, int], text: bytes, detail: str | None) -> int:
    """Return the CRC-32 of everything that a call's answer holds, its key too: one changed byte gives another.

    Args:
        key: of the call.
        answer: finish reason, prompt tokens, completion tokens.
        text: of the answer, encoded.
        detail: JSON, or None.
    """
    numbers = f"{answer[0]} {answer[1]} {answer[2]} {len(text)} ".encode()
    facts = b"" if detail is None else detail.encode("utf-8", "surrogatepass")
    return zlib.crc32(b"".join((key, numbers, text, facts)))


def insert_rows(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Insert answers and attempts; a key that has its answer keeps it."""
    connection.executemany(
        "INSERT INTO call (key, kind) VALUES (?, ?) ON CONFLICT (key) DO NOTHING",
        [(row.key, row.kind) for row in rows],
    )
    answered = [row for row in rows if row.answer is not None]
    connection.executemany(  # before the answers: one that is there may have been written without a checksum
        "INSERT INTO checksum SELECT id, ? FROM call WHERE key = ? "
        "AND NOT EXISTS (SELECT 1 FROM answer WHERE answer.call = call.id) ON CONFLICT (call) DO NOTHING",
        [(checksum(row.key, row.answer, *row.text), row.key) for row in answered if row.answer],
    )
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
    return {row[0]: (row[1], response_of(row)) for row in _answers(connection, "call.id", ids)}


def answers_by_key(connection: sqlite3.Connection, keys: Sequence[Key]) -> dict[Key, Response]:
    """Return the final answer of each key that has one."""
    return {row[1]: response_of(row) for row in _answers(connection, "call.key", keys)}


def _answers(
    connection: sqlite3.Connection, column: str, values: Sequence[int | Key]
) -> Iterator[AnswerRow]:
    for chunk in chunks(values):
        yield from map(
            AnswerRow._make,
            connection.execute(
                f"SELECT {ANSWER_COLUMNS} WHERE {column} IN ({marks(chunk)})", chunk
            ).fetchall(),
        )


def response_of(row: AnswerRow) -> Response:
    """Return the answer that a row holds.

    Raises:
        StoreDamaged: it holds none, or another one than was written.
    """
    finish, prompt_tokens, completion_tokens, text, detail = row[2:7]
    if finish not in range(len(FINISH)):
        raise damaged(f"finish {finish!r} in table answer is none that this version writes")
    facts = parsed(detail, "detail of an answer") if detail else {}
    if not isinstance(facts, dict):
        raise damaged("a detail in table text is no JSON object")
    if not row.intact:
        raise damaged(
            f"the answer of row {row.call} of table call was changed after it was written"
        )
    return Response(
        text=decoded(text),
        finish_reason=FINISH[finish],
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        detail=facts,
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
    except (ValueError, RecursionError) as error:
        raise unreadable(what, error) from error


def unreadable(what: str, error: Exception) -> StoreDamaged:
    """Return the error for something in the store that is not what this version writes."""
    reason = str(error).partition("\n")[0]
    return StoreDamaged(
        f"the store holds a {what} that cannot be read ({type(error).__name__}: {reason}): it is damaged, or another "
        "version wrote it; restore a copy of it, or make a new store of what is good with `aftertune store recover`"
    )


# The plan of a study

STAGED = 10_000
"""Jobs handed to the writer at once."""
_REMEMBERED = 1 << 15
"""Prompts that need not be decoded again: every reader of a study and its table want the same ones."""
_encode = json.JSONEncoder(sort_keys=True).encode
MODEL_FIELDS = ("name", "condition", "reference", "base", "training_seed")
"""The fields of `StudyModel` that its record holds."""


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
    """Return the prompts that integers stand for.

    Raises:
        StoreError: there is none for an integer.
    """
    prompts: dict[int, Prompt] = {}
    for chunk in chunks(ids):
        rows = connection.execute(
            f"SELECT id, record FROM prompt WHERE id IN ({marks(chunk)})", chunk
        )
        prompts.update((number, _prompt(record)) for number, record in rows)
        _check_there(chunk, prompts, "prompt")
    return prompts


def _check_there(numbers: Iterable[int], rows: Mapping[int, object], table: str) -> None:
    """See that the rows that are named elsewhere are there.

    Raises:
        StoreError: one of them is not.
    """
    for number in numbers:
        if number not in rows:
            raise damaged(f"row {number} of table {table} is named and not there")


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
        (
            number,
            position,
            model.name,
            json.dumps(
                {
                    **{name: getattr(model, name) for name in MODEL_FIELDS},
                    "recipe": model.recipe.key.hex() if model.recipe else None,
                    "identity": dict(identities.get(model.name, {})),
                }
            ),
        )
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


def prompt_columns(
    connection: sqlite3.Connection, numbers: Sequence[int], *, attacks: bool
) -> tuple[dict[str, NDArray[np.int32]], dict[str, tuple[str, ...]]]:
    """Return the columns of `Table` that follow from a prompt, a row for each prompt, and the names of their codes.

    Args:
        connection: to the store.
        numbers: the prompts' own.
        attacks: with the column of the attack.
    """
    by_number = prompts_by_id(connection, numbers)
    prompts = [by_number[number] for number in numbers]
    intents = list(Intent)
    columns = {"intent": np.array([intents.index(prompt.intent) for prompt in prompts], np.int32)}
    names = {"prompt": tuple(prompt.id for prompt in prompts)}
    for column, name in PROMPT_NAMES.items():
        columns[column], names[column] = _coded(map(name, prompts))
    if attacks:
        columns["attack"], names["attack"] = _coded(prompt.attack for prompt in prompts)
    return columns, names


def _coded(words: Iterable[str | None]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Give each word its rank of first appearance, None the code NONE."""
    ranks: dict[str, int] = {}
    codes = [NONE if word is None else ranks.setdefault(word, len(ranks)) for word in words]
    return np.array(codes, np.int32), tuple(ranks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """A study's jobs as integer columns (int32, ``call`` int64), in planned order."""

    model: NDArray[np.int32]
    prompt: NDArray[np.int32]
    system: NDArray[np.int32]
    decoding: NDArray[np.int32]
    sample: NDArray[np.int32]
    call: NDArray[np.int64]

    def chosen(self, rows: NDArray[np.bool_]) -> "Jobs":
        """Return some of the jobs."""
        return Jobs(
            model=self.model[rows],
            prompt=self.prompt[rows],
            system=self.system[rows],
            decoding=self.decoding[rows],
            sample=self.sample[rows],
            call=self.call[rows],
        )


def read_jobs(connection: sqlite3.Connection, study: str) -> Jobs:
    """Read a study's jobs."""
    number = study_id(connection, study)
    block = read_integers(
        connection,
        ("model", "prompt", "system", "decoding", "sample", "call"),
        "SELECT * FROM job WHERE study = ? ORDER BY position",
        number,
    )
    for name, column in zip(
        ("model", "prompt", "system", "decoding", "sample"), block, strict=False
    ):
        checked(column, "job", name, 0, INT32[1])
    model, prompt, system, decoding, sample = block[:5].astype(np.int32)
    return Jobs(
        model=model, prompt=prompt, system=system, decoding=decoding, sample=sample, call=block[5]
    )


def without_attacks(connection: sqlite3.Connection, jobs: Jobs) -> Jobs:
    """Return the jobs that ask prompts without attack."""
    prompts = prompts_by_id(connection, np.unique(jobs.prompt).tolist())
    plain = [number for number, prompt in prompts.items() if not prompt.attacked]
    return jobs.chosen(np.isin(jobs.prompt, np.array(plain, np.int32)))


def read_integers(
    connection: sqlite3.Connection, columns: Sequence[str], source: str, *parameters: int
) -> NDArray[np.int64]:
    """Read columns of integers, none of them NULL, into an array of shape (columns, rows).

    Args:
        connection: to the store.
        columns: their names.
        source: the SELECT that gives them, in its order.
        parameters: of the SELECT.

    Raises:
        StoreError: a value is no whole number.
    """
    # One text a column, which numpy reads at once, takes a third of the time of an object for every number.
    texts = ", ".join(f"group_concat({column})" for column in columns)
    others = " + ".join(f"total(typeof({column}) <> 'integer')" for column in columns)
    *lists, foreign = connection.execute(
        f"SELECT {texts}, {others} FROM ({source})", parameters
    ).fetchone()
    if foreign:
        raise damaged(
            f"{int(foreign)} values are no whole numbers in {', '.join(columns)} of: {source}"
        )
    return np.stack([np.fromstring(text or "", np.int64, sep=",") for text in lists])


def read_scores(rows: sqlite3.Cursor, count: int) -> NDArray[np.float64]:
    """Read ``count`` rows of one exact number; NULL becomes NaN."""
    return np.fromiter(chain.from_iterable(rows), np.float64, count)


def words_by_id(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, str]:
    """Return the names and labels that integers stand for.

    Raises:
        StoreError: there is none for an integer.
    """
    words: dict[int, str] = {}
    for chunk in chunks(ids):
        rows = connection.execute(f"SELECT id, text FROM word WHERE id IN ({marks(chunk)})", chunk)
        words.update((number, decoded(blob)) for number, blob in rows)
        _check_there(chunk, words, "word")
    return words


def _record(prompt: Prompt) -> str:
    values = {name: getattr(prompt, name) for name in Prompt.__slots__}
    if (
        not prompt.attacked
    ):  # the record of a prompt without attack is what it was before there were attacks
        for name in ("attack", "posed", "prefill"):
            del values[name]
    return _encode(values)


@lru_cache(_REMEMBERED)
def _prompt(record: str) -> Prompt:
    try:
        values = json.loads(record)
        prompt: Prompt = _prompts().validate_python({**values, "labels": tuple(values["labels"])})
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise unreadable("prompt", error) from error
    if unknown := values.keys() - set(Prompt.__slots__):
        raise damaged(f"a record of table prompt has the field {min(unknown)!r}")
    return prompt


@cache
def _prompts() -> TypeAdapter[Prompt]:
    return TypeAdapter(Prompt)
