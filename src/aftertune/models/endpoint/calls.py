"""Calls that are under way: how many, and what ended the first of them that cannot go on."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from aftertune.errors import Stopped


class Calls:
    """Tasks of one event loop, each for one call."""

    def __init__(self) -> None:
        self._open: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        """Something ended them, or the last of them has ended."""

    def __len__(self) -> int:
        """Return how many are under way."""
        return len(self._open)

    @property
    def ended(self) -> bool:
        """Whether one of them, or the asking itself, met something that ends them all."""
        return bool(self._errors)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a call."""
        call = asyncio.create_task(work)
        self._open.add(call)
        call.add_done_callback(self._done)

    def end(self, error: BaseException) -> None:
        """Start no more calls, for this reason."""
        self._errors.append(error)

    async def change(self) -> None:
        """Wait for a call to end, or for a moment."""
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), 0.05)
        except TimeoutError:
            return

    async def finish(self) -> None:
        """Wait for all calls, and raise what ended them; only an error other than `Stopped` drops those under way."""
        while self._open and all(isinstance(error, Stopped) for error in self._errors):
            self._over.clear()
            await self._over.wait()
        if self._errors:
            raise min(self._errors, key=lambda error: isinstance(error, Stopped))

    async def cancel(self) -> None:
        """Cancel what is under way and wait until it has let go of its connections."""
        for call in self._open:
            call.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _done(self, call: asyncio.Task[None]) -> None:
        self._open.discard(call)
        if not call.cancelled() and (error := call.exception()) is not None:
            self._errors.append(error)
            self._over.set()
        self._changed.set()
        if not self._open:
            self._over.set()
