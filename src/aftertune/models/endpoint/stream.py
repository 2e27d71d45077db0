"""A plain iterator outside, asyncio inside: one event loop in a thread of its own, and answers streamed out of it."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from aftertune.core.garbage import few_searches

T = TypeVar("T")

_FLUSH_SECONDS = 0.02
"""Answers are handed over so often, many at a time: waking a thread for each one costs more than the answer."""


class Loop:
    """An event loop that runs in its own thread from the first use until it is closed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine there."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="endpoints", daemon=True
            )
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """End the thread; what still runs there must have been cancelled before."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        self._loop = self._thread = None


class Outlet(Generic[T]):
    """Where a coroutine puts what shall come out of the iterator."""

    def __init__(self) -> None:
        self._ready: deque[T] = deque()
        self._flush = threading.Event()
        self._due = False

    def __len__(self) -> int:
        """Return how much waits to be taken."""
        return len(self._ready)

    def put(self, item: T) -> None:
        """Hand an item over; only from the event loop."""
        self._ready.append(item)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Wake whoever waits."""
        self._due = False
        self._flush.set()

    def take(self) -> Iterator[T]:
        """Yield what is there."""
        while self._ready:
            yield self._ready.popleft()

    def wait(self) -> None:
        """Wait until something may be there."""
        self._flush.wait()
        self._flush.clear()


def stream(loop: Loop, work: Callable[[Outlet[T]], Coroutine[Any, Any, None]]) -> Iterator[T]:
    """Yield what ``work`` puts into its outlet, as it does, then raise what it raised.

    Whoever stops iterating, by Ctrl-C too, cancels the work; what it had put out by then is still yielded to Ctrl-C.
    """
    outlet: Outlet[T] = Outlet()
    ended = threading.Event()

    async def whole() -> None:
        try:
            await work(outlet)
        finally:
            ended.set()

    running = loop.start(whole())
    running.add_done_callback(lambda _: outlet.flush())
    try:
        with few_searches():
            while not running.done():
                outlet.wait()
                yield from outlet.take()
        yield from outlet.take()
        running.result()
    except KeyboardInterrupt:
        running.cancel()
        ended.wait()
        yield from outlet.take()
        raise
    finally:
        running.cancel()
        ended.wait()
