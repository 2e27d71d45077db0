"""How many calls are open at a time: more while that gives more answers, half as many when the server says stop.

Additive increase and multiplicative decrease, as in TCP (Chiu and Jain 1989), with a slow start that doubles. What is
compared from round to round is the rate of answers, not their latency: a batching server answers each call later and
all of them sooner.
"""

import asyncio
import time
from collections import deque

START, MOST = 16, 256
_GAIN = 1.05
"""A round must be so much faster than the best one to count as faster."""
_ROUND_SECONDS = 0.02
"""A round takes at least so long: a few answers of a quick server come in bursts, whose rate says nothing."""
_BURST_SECONDS = 0.1
"""Refusals that come so close together speak of the same overload."""
_HELD_ROUNDS = 8
"""Rounds without gain before more is tried again: servers grow and other users leave."""


class Gate:
    """Lets as many calls pass as the server bears; used from one event loop.

    The first call goes alone: a wrong key or model is found out with one call, not with a volley.

    Attributes:
        limit: calls that may be open now.
    """

    def __init__(self, most: int = MOST) -> None:
        self.limit = 1
        self._most = most
        self._known = False
        self._open = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed_until = self._next_cut = 0.0
        self._doubling = True
        self._best_rate, self._best_limit, self._held = 0.0, self.limit, 0
        self._begin_round()

    async def enter(self) -> None:
        """Wait for a place and take it."""
        if not self._waiting and self._open < self.limit and time.monotonic() >= self._closed_until:
            self._open += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._free()
            raise

    def answered(self) -> None:
        """Give a place back after a good answer, and learn from the rate of answers."""
        self._round += 1
        if not self._known:
            self._known, self.limit = True, min(START, self._most)
            self._begin_round()
        elif self._round >= self.limit and time.monotonic() - self._began >= _ROUND_SECONDS:
            self._end_round()
        self._free()

    def failed(self, *, overload: bool) -> None:
        """Give a place back after a failure; one that speaks of overload halves the limit, once per burst."""
        if overload and time.monotonic() >= self._next_cut:
            self._next_cut = time.monotonic() + _BURST_SECONDS
            self.limit = max(1, self.limit // 2)
            self._doubling = False
            self._best_rate, self._best_limit, self._held = 0.0, self.limit, 0
            self._begin_round()
        self._free()

    def close_for(self, seconds: float) -> None:
        """Let nobody in for a while, as the server asked."""
        until = time.monotonic() + seconds
        if seconds > 0 and until > self._closed_until:
            self._closed_until = until
            asyncio.get_running_loop().call_later(seconds, self._reopen)

    def _reopen(self) -> None:
        self._begin_round()
        self._let_in()

    def _free(self) -> None:
        self._open -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._open < self.limit and time.monotonic() >= self._closed_until:
            place = self._waiting.popleft()
            if not place.cancelled():
                self._open += 1
                place.set_result(None)

    def _begin_round(self) -> None:
        self._round, self._began = 0, time.monotonic()

    def _end_round(self) -> None:
        rate = self._round / (time.monotonic() - self._began)
        if rate > _GAIN * self._best_rate:
            self._best_rate, self._best_limit, self._held = rate, self.limit, 0
            self.limit = min(
                self._most,
                self.limit * 2 if self._doubling else self.limit + max(1, self.limit // 8),
            )
        else:
            self._doubling = False
            self.limit, self._held = self._best_limit, self._held + 1
        if self._held >= _HELD_ROUNDS:
            self._best_rate, self._held = 0.0, 0
        self._begin_round()
