"""The store of all calls and scores: one SQLite file, many readers, one process and one thread that write to it.

A lock keeps other processes from writing; the operating system holds it on a side file, so it dies with its process. Rows are
handed to the writing thread, which commits them in large batches, at least every second.
"""

import fcntl
import json
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from pydantic import TypeAdapter

from aftertune.core.keys import Key
from aftertune.core.protocols import Answer
from aftertune.core.recipe import StudyModel
from aftertune.core.records import Prompt, Response, Side, StoredJob
from aftertune.core.table import Table
from aftertune.errors import AftertuneError, StoreDamaged, StoreError, StoreLocked
from aftertune.store.calls import (
    CHUNK,
    MODEL_FIELDS,
    STAGED,
    Kind,
    PlannedJob,
    Row,
    Staging,
    answers_by_id,
    answers_by_key,
    begin_staging,
    chunks,
    commit_staging,
    insert_models,
    insert_rows,
    missing_keys,
    new_study_id,
    parsed,
    prompts_by_id,
    read_jobs,
    row_of,
    study_id,
    unreadable,
)
from aftertune.store.damage import damage, damaged
from aftertune.store.responses import (
    Details,
    Thinking,
    answer_details,
    read_responses,
    thinking_counts,
)
from aftertune.store.schema import attach, connect, explained, merge_attached
from aftertune.store.scores import (
    Backlog,
    Scored,
    ScorerKind,
    Unscored,
    insert_scorer,
    insert_scores,
    scorers_by_id,
    unscored_places,
)
from aftertune.store.tables import read_table

T = TypeVar("T")
MEASURED = "page"
"""The name of the note on a measured study (`aftertune.result.Kept`)."""


class HasKey(Protocol):
    """A job: something with the key of its call."""

    @property
    def key(self) -> Key:
        """The key of the call."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The number of jobs that were done, failed or skipped."""

    done: int
    """Final answers that arrived."""
    failed: int
    """Attempts that failed; a rerun tries them again."""
    skipped: int = 0
    """Jobs that needed nothing: their answer was there, or they are the same call as another job."""


J = TypeVar("J", bound=HasKey)


# Writing

COMMIT_SECONDS = 0.5
"""A row waits no longer than this for its commit, so that with the commit itself it stays under a second."""
BATCH_ROWS = 4096
QUEUE_ROWS = 4 * BATCH_ROWS
"""Rows that may wait before the engine is made to wait too."""


class _Task(Generic[T]):
    """Work for the thread, as a rule a transaction of its own, and the promise of its result."""

    def __init__(
        self, work: Callable[[sqlite3.Connection], T], *, transaction: bool = True
    ) -> None:
        self.work = work
        self.transaction = transaction
        self.future: Future[T] = Future()


class Writer:
    """Owns the writing connection and its thread. After a failure every further call raises that failure."""

    def __init__(self, path: Path) -> None:
        """Open the file for writing and start the thread."""
        self._path = path
        self._connection = connect(path, write=True)
        self._queue: queue.Queue[Row | _Task[Any] | None] = queue.Queue(QUEUE_ROWS)
        self._failure: AftertuneError | None = None
        self._thread = threading.Thread(
            target=self._loop, name=f"writer of {path.name}", daemon=True
        )
        self._thread.start()

    def put(self, row: Row) -> None:
        """Hand over a row; it is committed within a second.

        Raises:
            StoreError: an earlier row could not be written.
        """
        if self._failure is not None:
            raise self._failure
        self._queue.put(row)

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in a transaction of its own, after all rows handed over before, and return its result.

        Raises:
            StoreError: it, or an earlier row, could not be written; the transaction is undone.
        """
        task = _Task(work)
        self._queue.put(task)
        return task.future.result()

    def outside(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Run what SQLite does not allow in a transaction, such as ATTACH."""
        task = _Task(work, transaction=False)
        self._queue.put(task)
        task.future.result()

    def flush(self) -> None:
        """Return when every row handed over so far is on disk."""
        self.run(lambda _: None)

    def close(self) -> None:
        """Commit what is there and end the thread."""
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _loop(self) -> None:
        rows: list[Row] = []
        due = 0.0
        while True:
            try:
                item = self._queue.get(timeout=max(0.0, due - time.monotonic()) if rows else None)
            except queue.Empty:
                item = _Task(lambda _: None)
            if isinstance(item, Row):
                due = due if rows else time.monotonic() + COMMIT_SECONDS
                rows.append(item)
                if len(rows) < BATCH_ROWS and time.monotonic() < due:
                    continue
            self._write(rows)
            rows = []
            if isinstance(item, _Task):
                self._perform(item)
            if item is None:
                return

    def _write(self, rows: Sequence[Row]) -> None:
        """Commit rows; a failure is kept for the callers, and what comes after it is not written."""
        if rows and self._failure is None:
            try:
                _transaction(self._connection, lambda connection: insert_rows(connection, rows))
            except Exception as error:  # noqa: BLE001  # a dead thread would leave its callers waiting for ever
                self._failure = explained(error, self._path)

    def _perform(self, task: _Task[Any]) -> None:
        if self._failure is not None:
            task.future.set_exception(self._failure)
            return
        try:
            result = (
                _transaction(self._connection, task.work)
                if task.transaction
                else task.work(self._connection)
            )
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            task.future.set_exception(explained(error, self._path))
        except BaseException as error:  # noqa: BLE001  # whatever it is belongs to the caller, not to this thread
            task.future.set_exception(error)
        else:
            task.future.set_result(result)


def _transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


NETWORK = {
    "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs",
    "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb2", "smb3", "smbfs",
}  # fmt: skip
"""File systems on which SQLite's shared memory and locks do not hold between machines."""

MOUNTS = Path("/proc/mounts")

_held_locks: set[int] = set()


class WriteLock:
    """The right to write to a store, held on a side file by the operating system: it dies with its process."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            StoreLocked: another process (or another store object of this one) writes to the file.
        """
        self._descriptor = os.open(
            path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise StoreLocked(
                f"{path}: another run (process {holder}) is writing to this store; wait for it or stop it; "
                "reading is possible meanwhile"
            ) from None
        _held_locks.add(self._descriptor)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let others write: at once, even while a child forked a moment ago has not yet closed its copy."""
        _held_locks.discard(self._descriptor)
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)


def _forget_in_child() -> None:
    """Close inherited locks in a forked child, which would otherwise keep them when its parent dies."""
    while _held_locks:
        os.close(_held_locks.pop())


os.register_at_fork(after_in_child=_forget_in_child)


def refuse_network(path: Path, mounts: Path = MOUNTS) -> None:
    """Refuse a path on a network file system; where the system lists no mounts (macOS) nothing is refused.

    Raises:
        StoreError: the path is on one.
    """
    if not mounts.exists():
        return
    target = path.absolute().parent.resolve()
    longest, kind = -1, ""
    for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        _, point, mounted_kind, *_ = line.split(" ")
        folder = Path(_unescaped(point))
        if target.is_relative_to(folder) and len(folder.parts) >= longest:
            longest, kind = len(folder.parts), mounted_kind
    if kind in NETWORK:
        raise StoreError(
            f"{path}: is on a network file system ({kind}), where a store can be damaged; put it on a local disk"
        )


def _unescaped(point: str) -> str:
    r"""Undo the octal escapes of spaces and tabs in a mount table (``\040``)."""
    for code in ("040", "011", "012", "134"):
        point = point.replace(f"\\{code}", chr(int(code, 8)))
    return point


# The store


class Store:
    """One store file, opened for reading, or for reading and writing (one process at a time). A context manager.

    What a method that writes has returned from is on disk.
    """

    def __init__(self, path: Path, *, write: bool = True) -> None:
        """Open a store; writing creates the file.

        Raises:
            StoreLocked: another process writes to it.
            StoreVersion: it was written by another schema.
            StoreError: a network file system, no such file, or no store.
        """
        self.path = path
        self._writer: Writer | None = None
        self._one_reader = threading.Lock()
        self._prompts: dict[Prompt, int] = {}
        """Integers of prompts that are surely in the file, so that scores need not look them up."""
        refuse_network(path)
        with ExitStack() as opened:
            if write:
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._lock = WriteLock(path)
                except OSError as error:
                    raise explained(error, path) from error
                opened.callback(self._lock.release)
                self._writer = Writer(path)
                opened.callback(self._writer.close)
            self._reading = connect(path, write=False)
            opened.callback(self._reading.close)
            self._opened = opened.pop_all()

    @classmethod
    def open(cls, path: Path, *, write: bool = True) -> Self:
        """Open a store; see `Store`."""
        return cls(path, write=write)

    def close(self) -> None:
        """Commit what is there and let go of the file."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # What a study is

    def add_models(
        self,
        study: str,
        models: Iterable[StudyModel],
        identities: Mapping[str, Mapping[str, object]],
    ) -> None:
        """Keep the models of a study with the identities of their weights, in the place of those kept before."""
        listed = list(models)
        self._write(lambda connection: insert_models(connection, study, listed, identities))

    def models(self, study: str) -> list[Mapping[str, Any]]:
        """Return the records of a study's models: the fields of `StudyModel`, its recipe's key, and ``identity``."""
        with self._snapshot() as connection:
            number = study_id(connection, study)
            rows = connection.execute(
                "SELECT record FROM model WHERE study = ? ORDER BY position", (number,)
            )
            return [parsed(record, "model") for (record,) in rows]

    def study_models(self, study: str) -> list[StudyModel]:
        """Return a study's models, without their recipes.

        Raises:
            StoreError: a record is not what this version writes.
        """
        adapter = TypeAdapter(StudyModel)
        try:
            return [
                adapter.validate_python({name: record[name] for name in MODEL_FIELDS})
                for record in self.models(study)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise unreadable("model", error) from error

    def prompts(self, study: str) -> list[Prompt]:
        """Return the prompts of a study's jobs, each once, in planned order."""
        with self._snapshot() as connection:
            planned = read_jobs(connection, study).prompt.tolist()
            by_number = prompts_by_id(connection, sorted(set(planned)))
        return [by_number[number] for number in dict.fromkeys(planned)]

    def plan(self, study: str, jobs: Iterable[PlannedJob]) -> None:
        """Replace the study's job list; until this returns, the old one is valid."""
        self._write(begin_staging)
        staging = Staging()
        for chunk in chunks(jobs, STAGED):
            self._write(partial(staging.insert, chunk))
        self._write(lambda connection: commit_staging(connection, study))

    def studies(self) -> list[str]:
        """Return the names of the studies, in the order of their first plan."""
        with self._snapshot() as connection:
            return [name for (name,) in connection.execute("SELECT name FROM study ORDER BY id")]

    def set_meta(self, study: str, name: str, value: object) -> None:
        """Keep a JSON-able note on a study: a probe's result, a template's hash, the declaration's hash."""
        text = json.dumps(value, sort_keys=True)

        def put(connection: sqlite3.Connection) -> None:
            number = new_study_id(connection, study)
            connection.execute("INSERT OR REPLACE INTO note VALUES (?, ?, ?)", (number, name, text))

        self._write(put)

    def get_meta(self, study: str, name: str) -> Any:
        """Return a note on a study, None if there is none."""
        with self._snapshot() as connection:
            row = connection.execute(
                "SELECT value FROM note JOIN study ON study.id = note.study WHERE study.name = ? AND note.name = ?",
                (study, name),
            ).fetchone()
            return None if row is None else parsed(row[0], "note")

    def scorers(self, study: str) -> tuple[int, ...]:
        """Return the scorer versions that a study was measured by; before it was measured, the newest of each scorer."""
        kept = self.get_meta(study, MEASURED)
        if isinstance(kept, dict) and isinstance(kept.get("readers"), list):
            return tuple(kept["readers"])
        with self._snapshot() as connection:
            rows = connection.execute(
                "SELECT max(id) FROM reader WHERE kind <> 'person' GROUP BY kind, name, side ORDER BY 1"
            )
            return tuple(number for (number,) in rows)

    # Calls

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """Return the keys without a final answer, in the given order, each once."""
        with self._guarded():
            return missing_keys(self._reading, keys)

    def append(
        self,
        kind: Kind,
        results: Iterable[tuple[Key, Answer]],
        on_progress: Callable[[int], None] | None = None,
    ) -> Counts:
        """Stream answers into the store, committing at least every second; a key that has its answer keeps it.

        Whatever ends the stream, what came before is committed when this returns or raises.
        """
        writer, done, failed = self._writing(), 0, 0
        try:
            for key, answer in results:
                writer.put(row_of(kind, key, answer))
                final = isinstance(answer, Response)
                done, failed = done + final, failed + (not final)
                if on_progress:
                    on_progress(1)
        finally:
            writer.flush()
        return Counts(done=done, failed=failed)

    def complete(
        self,
        kind: Kind,
        jobs: Sequence[J],
        work: Callable[[Iterable[J]], Iterator[tuple[Key, Answer]]],
        on_progress: Callable[[int], None] | None = None,
    ) -> Counts:
        """Do the jobs that are not done: the one rule behind every resume. ``work`` is not called if none is missing."""
        by_key = {job.key: job for job in reversed(jobs)}
        todo = [by_key[key] for key in self.missing(job.key for job in jobs)]
        counts = self.append(kind, work(todo) if todo else (), on_progress)
        return Counts(done=counts.done, failed=counts.failed, skipped=len(jobs) - len(todo))

    def call(self, key: Key) -> Response | None:
        """Return the final answer under a key, None if there is none."""
        return self.calls([key]).get(key)

    def calls(self, keys: Sequence[Key]) -> dict[Key, Response]:
        """Return the final answers under keys; keys without one are left out."""
        with self._snapshot() as connection:
            return answers_by_key(connection, keys)

    def attempts(self, study: str | None = None) -> dict[str, int]:
        """Count the failed attempts of calls that have no answer yet by reason: of all calls, or of a study's generations."""
        with self._snapshot() as connection:
            rows = connection.execute(
                "SELECT reason, count(*) FROM attempt "
                "WHERE NOT EXISTS (SELECT 1 FROM answer WHERE answer.call = attempt.call) AND (? IS NULL OR call IN "
                "(SELECT call FROM job JOIN study ON study.id = job.study WHERE study.name = ?)) "
                "GROUP BY reason ORDER BY reason",
                (study, study),
            )
            return dict(rows.fetchall())

    # Scores

    def add_scorer(self, kind: ScorerKind, name: str, version: str, side: Side = "response") -> int:
        """Return the integer of a scorer version: its parser, its thresholds and the identity of its calls."""
        return self._write(lambda connection: insert_scorer(connection, kind, name, version, side))

    def unscored(self, study: str, scorer: int, *, attacks: bool = True) -> Backlog:
        """Return what a scorer has not scored, in planned order, each (prompt, call) once; texts are fetched in chunks.

        Args:
            study: its name.
            scorer: its version.
            attacks: with the prompts that attacks stand around.
        """
        with self._snapshot() as connection:
            (version,) = scorers_by_id(connection, [scorer])
            calls, numbers = unscored_places(connection, study, version)
            prompts = prompts_by_id(connection, sorted(set(numbers.tolist())))
        if not attacks:
            plain = [number for number, prompt in prompts.items() if not prompt.attacked]
            kept = np.isin(numbers, np.array(plain, np.int64))
            calls, numbers = calls[kept], numbers[kept]
        self._prompts |= {prompt: number for number, prompt in prompts.items()}

        def fetch() -> Iterator[Unscored]:
            for start in range(0, len(calls), CHUNK):
                part = calls[start : start + CHUNK].tolist()
                with self._snapshot() as connection:
                    answers = answers_by_id(connection, part)
                for call, number in zip(part, numbers[start : start + CHUNK].tolist(), strict=True):
                    key, response = answers.get(call, (None, None))
                    yield Unscored(prompt=prompts[number], key=key, response=response)

        return Backlog(size=len(calls), fetch=fetch)

    def add_scores(self, scorer: int, scores: Iterable[Scored]) -> int:
        """Keep scores and return how many were given; one that is there stays."""
        count = 0
        for chunk in chunks(scores, 5000):
            self._write(partial(insert_scores, scorer, chunk, self._prompts))
            count += len(chunk)
        return count

    def scorer_versions(self, scorers: Sequence[int]) -> dict[tuple[ScorerKind, str], str]:
        """Return the version of every one of some scorers, by kind (``scorer`` for metrics and preferences) and name."""
        with self._snapshot() as connection:
            versions = scorers_by_id(connection, scorers)
        return {(scorer.kind, scorer.name): scorer.version for scorer in versions}

    def table(self, study: str, scorers: Sequence[int] = (), *, attacks: bool = False) -> Table:
        """Return the table of a study with the columns of the given scorers: one row a planned job, in planned order.

        Prompts that attacks stand around are in it only with ``attacks``, beside those without, and so is the column
        ``attack``: whoever does not ask for them cannot pool them with the others.
        """
        with self._snapshot() as connection:
            versions = scorers_by_id(connection, scorers)
            return read_table(connection, study, versions, attacks=attacks)

    def responses(
        self,
        study: str,
        scorers: Sequence[int] = (),
        prompts: Iterable[Prompt] | None = None,
        *,
        attacks: bool = False,
    ) -> Iterator[StoredJob]:
        """Yield the jobs of a study (that ask ``prompts``, if given) with texts and scores, in planned order.

        Without ``prompts`` they are the rows of `table` with the same ``attacks``, in the same order.
        """
        with self._snapshot() as connection:
            versions = scorers_by_id(connection, scorers)
        yield from read_responses(self._snapshot, study, versions, prompts, attacks=attacks)

    def answer_details(self, study: str) -> list[Details]:
        """Count the answers of a study by model and by what they say of themselves (`Response.detail`)."""
        with self._snapshot() as connection:
            return answer_details(connection, study)

    def thinking_counts(self, study: str) -> list[Thinking]:
        """Count the answers with a reasoning, by model; models without any are left out."""
        with self._snapshot() as connection:
            return thinking_counts(connection, study)

    def merge(self, other: Path) -> int:
        """Insert everything of another store that is not here, in one transaction; twice does no harm.

        Returns:
            the number of answers that were not here.

        Raises:
            StoreError: ``other`` is no store.
            StoreVersion: it was written by another schema.
        """
        writer = self._writing()
        writer.outside(lambda connection: attach(connection, other))
        try:
            return writer.run(merge_attached)
        finally:
            writer.outside(lambda connection: connection.execute("DETACH other"))

    def _writing(self) -> Writer:
        if self._writer is None:
            raise StoreError(f"{self.path}: was opened for reading only")
        return self._writer

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self._writing().run(work)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            with self._one_reader:
                yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) is not None:
                raise explained(error, self.path) from error
            raise self._unreadable(error) from error  # the module itself: a text that is no UTF-8
        except StoreDamaged as error:
            raise self._unreadable(error) from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> StoreError:
        """Return the error for a failed reading: the damaged row if one can be seen."""
        place = damage(self._reading)
        if place is not None:
            return damaged(place, self.path)
        return error if isinstance(error, StoreDamaged) else unreadable("value", error)

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """Give the reading connection, seeing one state of the store throughout."""
        with self._guarded():
            self._reading.execute("BEGIN")
            try:
                yield self._reading
            finally:
                self._reading.execute("COMMIT")
