"""The one thread that writes to a store file: rows in large batches, committed at least every second."""

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, TypeVar

from aftertune.errors import AftertuneError
from aftertune.store.calls import Row, insert_rows
from aftertune.store.schema import connect, explained

COMMIT_SECONDS = 0.5
"""A row waits no longer than this for its commit, so that with the commit itself it stays under a second."""
BATCH_ROWS = 4096
QUEUE_ROWS = 4 * BATCH_ROWS
"""Rows that may wait before the engine is made to wait too."""

T = TypeVar("T")


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
        except (sqlite3.Error, OSError) as error:
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
