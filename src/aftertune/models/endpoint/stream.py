"""A plain iterator outside, asyncio inside: one event loop in a thread of its own, and answers streamed out of it."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

from aftertune.core.garbage import few_searches

T = TypeVar("T")

_END_SECONDS = 10.0
"""How long cancelled work may take to let go before the loop is closed all the same."""
_LOOK_SECONDS = 0.1
"""How often whoever waits for an end looks whether there is still a loop to wait for."""
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

    @property
    def closed(self) -> bool:
        """Whether no thread runs it."""
        return self._loop is None

    def close(self) -> None:
        """Cancel what still runs there, and end the thread."""
        if self._loop is not None and self._thread is not None:
            ending = asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop)
            with suppress(TimeoutError):
                ending.result(_END_SECONDS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        self._loop = self._thread = None


async def _cancel_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


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
    begun, ended = threading.Event(), threading.Event()

    async def whole() -> None:
        begun.set()
        try:
            await work(outlet)
        finally:
            ended.set()

    def stop() -> None:
        """Cancel the work and wait until it has let go; a loop that was closed, or never began it, has nothing to let go."""
        if not running.done() and not loop.closed:
            running.cancel()
            while not ended.wait(_LOOK_SECONDS) and begun.is_set() and not loop.closed:
                pass

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
        stop()
        yield from outlet.take()
        raise
    finally:
        stop()
