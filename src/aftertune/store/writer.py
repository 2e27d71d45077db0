"""One process and one thread write to a store file: a lock keeps others out, rows are committed at least every second.

The lock is held by the operating system on a side file, so it dies with its process.
"""

import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, TypeVar

from aftertune.errors import AftertuneError, StoreError, StoreLocked
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
