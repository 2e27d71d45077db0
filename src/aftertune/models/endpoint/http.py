"""One call to a server: sent by aiohttp, bounded, and tried again; and how many calls are open at a time.

No redirect is followed: from an address that has not answered yet it says that the address is wrong, later it is a
passing fault of a proxy, like a 503. A reply's head is bounded by aiohttp, its body is bounded after it is unpacked, and a whole
request has a total time, whatever comes in drips. What a server sends back never holds the key: it is removed from the
decoded JSON, since a key may be written there with escapes.
"""

import asyncio
import json
import math
import re
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from aftertune.errors import EngineError, ModelError
from aftertune.models.endpoint.chat import Failure, shortened, whole_of
from aftertune.models.endpoint.providers import Address, Secret

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession, TraceConfig
    from tenacity import AsyncRetrying, RetryCallState

MOST_BYTES = 16 << 20
"""Length of a reply, unpacked: no answer is that long, and many are open at once."""
_PACKED = ("gzip", "x-gzip", "deflate")
_REMOVED = "[key removed]"
START, MOST = 4, 256
"""Open calls after the first answer, and at most."""
_GAIN, _GAIN_TO_DOUBLE = 1.05, 1.4
"""A round of answers must be so much faster than another one to count as faster, and for the limit to be doubled."""
_ROUND_ANSWERS, _ROUND_SECONDS = 4, 0.02
"""Shortest round behind the first: a few answers of a quick server come in bursts, whose rate says nothing."""
_BURST_SECONDS = 0.1
"""Signs of an overload that come so close together are one."""
_BETWEEN_CONNECTIONS = 0.002
"""Seconds between two new connections: a server that lets five wait for it drops what comes in a burst."""
_DROPPED_SECONDS = 0.9
"""A connection that takes so much longer than the quickest was dropped first; after a second it is tried again."""
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
    dropped: bool = False
    """The server did not take the connection at once: too many wait for it."""

    @property
    def redirects(self) -> bool:
        """True for a redirect of any kind."""
        return 300 <= self.status < 400


@dataclass(slots=True)
class _Connection:
    """The making of the connection of one request; a request that goes over an open one leaves it as it is."""

    began: float = 0.0
    dropped: bool = False


class TooLong(ConnectionError):
    """A reply is longer than any answer; the rest of it is not read."""


class Session:
    """The connections to one server, kept and used again; used from one event loop.

    Attributes:
        address: whom it asks.
        timeouts: how long it waits.
        answering: the URLs that have given a good reply in this process; whoever reads such a reply adds its URL.

    Args:
        address: whom to ask.
        key: goes into a header of every request and nowhere else.
        timeouts: total time of a request with its reply.
        answering: shared by the sessions of a run, in which many models stand behind one URL; None for a set of its own.
    """

    def __init__(
        self,
        address: Address,
        key: Secret | None,
        timeouts: Timeouts,
        answering: set[str] | None = None,
    ) -> None:
        self.timeouts, self.address, self._key = timeouts, address, key
        self.answering: set[str] = set() if answering is None else answering
        self._session: ClientSession | None = None
        self._next_connection, self._quickest = 0.0, math.inf

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
                    **self.address.headers(self._key),
                },
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=min(30.0, self.timeouts.call)
                ),
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[self._connecting()],
                trust_env=not self.address.local,
            )
        connection = _Connection()
        try:
            async with (
                asyncio.timeout(seconds or self.timeouts.call),
                self._session.request(
                    method, url, allow_redirects=False, trace_request_ctx=connection, **more
                ) as reply,
            ):
                body = await _body(reply, most_bytes)
                return Reply(reply.status, reply.headers, body, connection.dropped)
        except TimeoutError:
            return Failure(
                reason="timeout", detail="no whole reply in time", overload=True, billed=True
            )
        except aiohttp.ClientConnectorError as error:
            return Failure(reason="unreachable", detail=self.text(str(error)), overload=True)
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

    def redirected(self, url: str, reply: Reply) -> Failure:
        """Return a redirect as a passing fault of the server; it is never followed.

        Args:
            url: the address that redirects, or what stands for it in ``answering``.
            reply: the redirect.

        Raises:
            ModelError: the address has not answered yet, so it is wrong.
        """
        origin = _origin(self.address.url, self.text(reply.headers.get("Location", "")))
        what = f"{reply.status}: redirects{f' to {origin}' if origin else ''}"
        if url not in self.answering:
            raise ModelError(
                f"model {self.address.name!r}: {self.address.url} is no chat-completions address ({what}, which is not "
                "followed); check it (most end in /v1)"
            )
        return Failure(
            reason="server_error", detail=what, overload=True, wait=retry_after(reply.headers)
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

    def _connecting(self) -> "TraceConfig":
        """Return what aiohttp calls before and after it makes a connection: a pause between two, and a clock."""
        import aiohttp

        async def begin(_: object, context: Any, __: object) -> None:
            now = time.monotonic()
            turn = max(now, self._next_connection)
            self._next_connection = turn + _BETWEEN_CONNECTIONS
            await asyncio.sleep(turn - now)
            context.trace_request_ctx.began = time.monotonic()

        async def end(_: object, context: Any, __: object) -> None:
            connection = context.trace_request_ctx
            took = time.monotonic() - connection.began
            self._quickest = min(self._quickest, took)
            connection.dropped = took > self._quickest + _DROPPED_SECONDS

        config = aiohttp.TraceConfig()
        config.on_connection_create_start.append(begin)
        config.on_connection_create_end.append(end)
        return config

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


def _origin(url: str, location: str) -> str:
    """Return scheme, host and port of a redirect's target; empty where they cannot be read.

    What else stands in it (user, path, query) may be a secret.
    """
    try:
        parts = urlsplit(urljoin(url, location))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    if not location or not re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:.]+", host):
        return ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}"


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


def _now() -> float:
    return asyncio.get_running_loop().time()


class ConnectionLimit:
    """Lets as few calls be open as give the most answers in a second; used from one event loop.

    The first call goes alone, so that a wrong key or model costs one call. From then on answers are counted by rounds, of
    as many answers as calls may be open, and the rates of rounds are compared:

    - From `START` the limit is doubled while each round is `_GAIN_TO_DOUBLE` times as fast as the best one before.
    - Then it goes an eighth up and an eighth down in turns. More calls are kept where they are faster, fewer where they
      are not slower. Between two steps the rate is measured anew: servers grow, and other users leave.
    - An overload (429, no reply in time, a refused or dropped connection) halves it.

    What is compared is the rate, not the latency: a batching server answers each call later and all of them sooner. A
    server that answers one call at a time is no faster with more, so that one or two are open there.

    Attributes:
        limit: calls that may be open now.
    """

    def __init__(self, most: int = MOST) -> None:
        self.limit, self._most = 1, most
        self._free = asyncio.Semaphore(1)
        self._owed = 0
        """Places that are open above the limit: given back, they are not lent again."""
        self._best, self._best_rate = 1, 0.0
        """The limit that gave the most answers, and how many a second."""
        self._doubling, self._upwards = True, False
        self._answers, self._began = 0, 0.0
        """Answers of this round; negative while those come that were asked for under the limit before."""
        self._closed_until = self._next_cut = 0.0

    async def enter(self) -> None:
        """Wait for a place and take it."""
        await self._free.acquire()
        self._began = self._began or _now()
        while (wait := self._closed_until - _now()) > 0:  # noqa: ASYNC110 - a time, no event
            await asyncio.sleep(wait)

    def leave(self, *, answered: bool = False, overload: bool = False, wait: float = 0.0) -> None:
        """Give a place back, and learn from an answer, or from an overload once in a burst of them.

        Nobody enters in the next ``wait`` seconds, as the server asked.
        """
        now = _now()
        self._closed_until = max(self._closed_until, now + wait)
        if overload:
            self.halve()
        elif answered:
            self._answers += 1
            if self._answers == 0:
                self._began = now
            first = self.limit == 1 and self._doubling
            if self._answers >= (1 if first else max(self.limit, _ROUND_ANSWERS)):
                self._end_round(now)
        if self._owed:
            self._owed -= 1
        else:
            self._free.release()

    def halve(self) -> None:
        """Halve the limit, once in a burst of overloads."""
        now = _now()
        if now < self._next_cut:
            return
        self._next_cut = now + _BURST_SECONDS
        self._best, self._best_rate = max(1, self.limit // 2), 0.0
        self._doubling = self._upwards = False
        self._change(self._best, now)

    def _end_round(self, now: float) -> None:
        seconds = max(now - self._began, 1e-6)
        if self.limit > 1 and seconds < _ROUND_SECONDS:
            return
        rate = self._answers / seconds
        if self._doubling:
            self._doubling = rate > _GAIN_TO_DOUBLE * self._best_rate and self.limit < self._most
            kept = self._doubling or self.limit == self._most
            ahead = 2 * self.limit if self.limit > 1 else START
        else:
            if self.limit == self._best:
                self._best_rate, self._upwards = 0.0, not self._upwards
            needed = _GAIN if self.limit > self._best else 1 / _GAIN
            kept = rate > needed * self._best_rate
            step = max(1, self.limit // 8)
            ahead = self.limit + (step if self._upwards else -step)
        if kept:
            self._best, self._best_rate = self.limit, rate
        self._change(max(1, min(self._most, ahead)) if kept else self._best, now)

    def _change(self, limit: int, now: float) -> None:
        more, self.limit = limit - self.limit, limit
        self._answers, self._began = 0 if self._doubling else -limit, now
        if more < 0:
            self._owed -= more
        for _ in range(more):
            if self._owed:
                self._owed -= 1
            else:
                self._free.release()
