"""When a failed call is tried again, and how many calls are open at a time."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from aftertune.errors import EngineError
from aftertune.models.endpoint.reply import Failure

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

START, MOST = 8, 256
"""Open calls after the first answer, and at most."""
_GAIN, _GAIN_TO_DOUBLE = 1.05, 1.4
"""A round of answers must be so much faster than the best one before it for the limit to rise, and to double."""
_ROUND_SECONDS = 0.02
"""Shortest round: a few answers of a quick server come in bursts, whose rate says nothing."""
_BURST_SECONDS = 0.1
"""Refusals that come so close together speak of the same overload."""
_LONGEST_WAIT = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The longest waits, in seconds."""

    call: float = 120.0
    """For one reply."""
    retry: float = 300.0
    """For an answer to one call, all its tries together; also for any answer at all."""
    run: float | None = None
    """For all calls of a run; None for no end."""
    first_wait: float = 1.0
    """Longest wait before the second try of a call; it doubles with every further try, up to a minute."""


def until_answered(timeouts: Timeouts) -> "AsyncRetrying":
    """Return the retry of a call that returns a `Failure` while it may be tried again: as long as ``timeouts.retry``."""
    from tenacity import AsyncRetrying, retry_if_result, stop_before_delay
    from tenacity.wait import wait_random_exponential

    backoff = wait_random_exponential(multiplier=timeouts.first_wait, max=_LONGEST_WAIT)

    def wait(state: "RetryCallState") -> float:
        failure: Any = state.outcome.result() if state.outcome else None
        return max(backoff(state), float(failure.wait))

    return AsyncRetrying(
        retry=retry_if_result(lambda result: isinstance(result, Failure) and result.retried),
        wait=wait,
        stop=stop_before_delay(timeouts.retry),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )


def until_heard(timeouts: Timeouts) -> "AsyncRetrying":
    """Return the retry of a request that changes nothing on the server, and raises `EngineError` where a retry may help."""
    from tenacity import AsyncRetrying, retry_if_exception_type, stop_before_delay
    from tenacity.wait import wait_random_exponential

    return AsyncRetrying(
        retry=retry_if_exception_type(EngineError),
        wait=wait_random_exponential(multiplier=timeouts.first_wait, max=_LONGEST_WAIT),
        stop=stop_before_delay(timeouts.retry),
        reraise=True,
    )


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that a failed reply asks to wait (``retry-after-ms``, ``Retry-After``); 0.0 if it does not."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("Retry-After", "")
    if (seconds := _number(value)) is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _number(text: str | None) -> float | None:
    """Return a plain number, None for everything else (``nan`` and ``inf`` too); 12 digits are for ever already."""
    return float(text) if text and re.fullmatch(r"\s*\d{1,12}(\.\d{1,12})?\s*", text) else None


class ConnectionLimit:
    """Lets as many calls pass as the server bears; used from one event loop.

    The first call goes alone, so that a wrong key or model costs one call. Then the limit rises while a round of that
    many answers comes at a higher rate than the best round before: doubled at first, later by an eighth. What is compared
    is the rate, not the latency: a batching server answers each call later and all of them sooner, and a server that
    answers one call at a time gains nothing from more. An overload (429, no reply in time) halves the limit.

    Attributes:
        limit: calls that may be open now.
    """

    def __init__(self, most: int = MOST) -> None:
        self.limit, self._most = 1, most
        self._free = asyncio.Semaphore(1)
        self._owed = 0
        """Places that are open above the limit: given back, they are not lent again."""
        self._before, self._best_rate, self._doubling = 1, 0.0, True
        self._answers, self._began = 0, time.monotonic()
        self._closed_until = self._next_cut = 0.0

    async def enter(self) -> None:
        """Wait for a place and take it."""
        await self._free.acquire()
        while (wait := self._closed_until - time.monotonic()) > 0:  # noqa: ASYNC110 - a time, no event
            await asyncio.sleep(wait)

    def leave(self, *, answered: bool = False, overload: bool = False) -> None:
        """Give a place back, and learn from an answer, or from an overload once in a burst of them."""
        now = time.monotonic()
        self._answers += answered
        if overload and now >= self._next_cut:
            self._next_cut = now + _BURST_SECONDS
            self._best_rate, self._doubling = 0.0, False
            self._before = max(1, self.limit // 2)
            self._change(self._before, now)
        elif answered and self._answers >= self.limit:
            self._end_round(now)
        if self._owed:
            self._owed -= 1
        else:
            self._free.release()

    def close_for(self, seconds: float) -> None:
        """Let nobody in for a while, as the server asked."""
        self._closed_until = max(self._closed_until, time.monotonic() + seconds)

    def _end_round(self, now: float) -> None:
        seconds = max(now - self._began, 1e-6)
        if self.limit > 1 and seconds < _ROUND_SECONDS:
            return
        rate, before = self._answers / seconds, self.limit
        if rate > (_GAIN_TO_DOUBLE if self._doubling else _GAIN) * self._best_rate:
            step = self.limit if self._doubling else max(1, self.limit // 8)
            wanted = START if self.limit == 1 and self._doubling else self.limit + step
            self._best_rate, self._before = rate, before
            self._change(min(self._most, wanted), now)
        else:  # forgotten slowly, so that more is tried again: servers grow and other users leave
            self._best_rate *= 0.9
            self._doubling = False
            self._change(self._before, now)

    def _change(self, limit: int, now: float) -> None:
        more, self.limit = limit - self.limit, limit
        self._answers, self._began = 0, now
        if more < 0:
            self._owed -= more
        for _ in range(more):
            if self._owed:
                self._owed -= 1
            else:
                self._free.release()
