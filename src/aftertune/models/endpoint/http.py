"""One call to a server: sent by aiohttp, bounded, and tried again; and how many calls are open at a time.

No redirect is followed. A reply's head is bounded by aiohttp, its body is bounded after it is unpacked, and a whole
request has a total time, whatever comes in drips. What a server sends back never holds the key: it is removed from the
decoded JSON, since a key may be written there with escapes.
"""

import asyncio
import json
import re
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from aftertune.errors import EngineError
from aftertune.models.endpoint.chat import Failure, shortened, whole_of
from aftertune.models.endpoint.providers import Address, Secret

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from tenacity import AsyncRetrying, RetryCallState

MOST_BYTES = 16 << 20
"""Length of a reply, unpacked: no answer is that long, and many are open at once."""
_PACKED = ("gzip", "x-gzip", "deflate")
_REMOVED = "[key removed]"
START, MOST = 8, 256
"""Open calls after the first answer, and at most."""
_GAIN, _GAIN_TO_DOUBLE = 1.05, 1.4
"""A round of answers must be so much faster than the best one before it for the limit to rise, and to double."""
_ROUND_SECONDS = 0.02
"""Shortest round: a few answers of a quick server come in bursts, whose rate says nothing."""
_BURST_SECONDS = 0.1
"""Refusals that come so close together speak of the same overload."""
_LONGEST_WAIT = 60.0
_LONGEST_ASKED = 366 * 86_400.0
"""The longest wait that a server may mean; quotas of a month, a year."""


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


class Reply(NamedTuple):
    """A server's whole reply."""

    status: int
    headers: Mapping[str, str]
    """A mapping that does not distinguish small and capital letters."""
    data: bytes


class TooLong(ConnectionError):
    """A reply is longer than any answer; the rest of it is not read."""


class Session:
    """The connections to one server, kept and used again; used from one event loop.

    Args:
        address: whom to ask.
        key: goes into a header of every request and nowhere else.
        timeouts: total time of a request with its reply.
    """

    def __init__(self, address: Address, key: Secret | None, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self._address, self._key = address, key
        self._session: ClientSession | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        seconds: float | None = None,
        most_bytes: int = MOST_BYTES,
        **more: Any,
    ) -> Reply | Failure:
        """Make a request once; a reply with an HTTP error is a reply like others.

        Args:
            method: GET or POST.
            url: whole address.
            seconds: total time, in place of `Timeouts.call`.
            most_bytes: longest body.
            more: what aiohttp takes (``data``, ``json``, ``params``).
        """
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={
                    "Accept": "application/json",
                    # a packed reply is unpacked here, where its length is known before it fills the memory
                    "Accept-Encoding": "identity",
                    **self._address.headers(self._key),
                },
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=min(30.0, self.timeouts.call)
                ),
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=not self._address.local,
            )
        try:
            async with (
                asyncio.timeout(seconds or self.timeouts.call),
                self._session.request(method, url, allow_redirects=False, **more) as reply,
            ):
                return Reply(reply.status, reply.headers, await _body(reply, most_bytes))
        except TimeoutError:
            return Failure(
                reason="timeout", detail="no whole reply in time", overload=True, billed=True
            )
        except aiohttp.ClientConnectorError as error:
            return Failure(reason="unreachable", detail=self.text(str(error)))
        except TooLong as error:
            return Failure(reason="broken_reply", detail=str(error), billed=True)
        # aiohttp's parser errors are no ClientError everywhere
        except (
            aiohttp.ClientError,
            aiohttp.http.HttpProcessingError,
            OSError,
            zlib.error,
        ) as error:
            return Failure(
                reason="connection",
                detail=self.text(f"{type(error).__name__}: {error}"),
                billed=True,
            )

    def decoded(self, data: bytes) -> Any:
        """Return the value of JSON without the key in it; None for what is no JSON.

        A server that knows streams only, asked for none, has its stream put together first: a key may be cut in it.
        """
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = _streamed(data)
        return self._without_key(value)

    def text(self, data: bytes | str) -> str:
        """Return the beginning of a text on one line, without the key."""
        text = data[:2000].decode("utf-8", "replace") if isinstance(data, bytes) else data[:2000]
        return shortened(text if self._key is None else text.replace(self._key, _REMOVED))

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _without_key(self, value: Any) -> Any:
        """Return a decoded value without the key: servers repeat it in errors, and a model might repeat anything."""
        if self._key is None:
            return value
        if isinstance(value, str):
            return value.replace(self._key, _REMOVED)
        if isinstance(value, list):
            return [self._without_key(item) for item in value]
        if isinstance(value, dict):
            return {
                self._without_key(name): self._without_key(item) for name, item in value.items()
            }
        return value


def _streamed(data: bytes) -> Any:
    """Return a stream of events as one reply; None for what is no such stream, or a damaged one."""
    try:
        return whole_of(data)
    except (ValueError, RecursionError, TypeError, AttributeError):
        return None


async def _body(reply: "ClientResponse", most_bytes: int) -> bytes:
    """Return the unpacked body of a reply.

    Raises:
        TooLong: it is longer than ``most_bytes``, packed or unpacked.
        zlib.error: it is packed, and damaged or cut off.
    """
    too_long = TooLong(f"a reply of more than {most_bytes >> 20} MiB")
    if (reply.content_length or 0) > most_bytes:
        raise too_long
    body = bytearray()
    async for piece in reply.content.iter_any():
        body += piece
        if len(body) > most_bytes:
            raise too_long
    if reply.headers.get("Content-Encoding", "").lower() not in _PACKED:
        return bytes(body)
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)
    unpacked = unpacking.decompress(bytes(body), most_bytes + 1)
    if len(unpacked) > most_bytes:
        raise too_long
    if not unpacking.eof:
        raise zlib.error("the packed reply is cut off")
    return unpacked


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
    """Return the seconds that a failed reply asks to wait (``retry-after-ms``, ``Retry-After``); 0.0 if it does not.

    More than `_LONGEST_ASKED` (the year 9999, 400 digits) is a slip of the server that nobody would wait for.
    """
    seconds = 0.0
    for name, unit in (("retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        value = headers.get(name, "")
        if re.fullmatch(
            r"\s*\d{1,12}(\.\d{1,12})?\s*", value
        ):  # a plain number, neither nan nor inf
            seconds = float(value) / unit
            break
    else:
        try:
            seconds = max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, OverflowError):
            return 0.0
    return seconds if seconds <= _LONGEST_ASKED else 0.0


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

    def leave(self, *, answered: bool = False, overload: bool = False, wait: float = 0.0) -> None:
        """Give a place back, and learn from an answer, or from an overload once in a burst of them.

        Nobody enters in the next ``wait`` seconds, as the server asked.
        """
        now = time.monotonic()
        self._closed_until = max(self._closed_until, now + wait)
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
