"""HTTP requests to one server by aiohttp, with what protects a run from a faulty or hostile one.

No redirect is followed. A reply's head is bounded by aiohttp, its body is bounded after it is unpacked, and a whole
request has a total time, whatever comes in drips. What a server sends back never holds the key: it is removed from the
decoded JSON, since a key may be written there with escapes.
"""

import asyncio
import json
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from aftertune.models.endpoint.providers import Address, Secret
from aftertune.models.endpoint.reply import Failure, shortened
from aftertune.models.endpoint.retry import Timeouts

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

MOST_BYTES = 16 << 20
"""Length of a reply, unpacked: no answer is that long, and many are open at once."""
_PACKED = ("gzip", "x-gzip", "deflate")
_REMOVED = "[key removed]"


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

        session = self._session or self._opened()
        try:
            async with (
                asyncio.timeout(seconds or self.timeouts.call),
                session.request(method, url, allow_redirects=False, **more) as reply,
            ):
                return Reply(reply.status, reply.headers, await _body(reply, most_bytes))
        except TimeoutError:
            detail = "no whole reply in time"
            return Failure(reason="timeout", detail=detail, overload=True, billed=True)
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
            detail = self.text(f"{type(error).__name__}: {error}")
            return Failure(reason="connection", detail=detail, billed=True)

    def decoded(self, data: bytes) -> Any:
        """Return the value of JSON without the key in it; None for what is no JSON."""
        try:
            return self._without_key(json.loads(data))
        except (ValueError, RecursionError):
            return None

    def text(self, data: bytes | str) -> str:
        """Return the beginning of a text on one line, without the key."""
        text = data[:2000].decode("utf-8", "replace") if isinstance(data, bytes) else data[:2000]
        return shortened(text if self._key is None else text.replace(self._key, _REMOVED))

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> "ClientSession":
        import aiohttp

        self._session = aiohttp.ClientSession(
            headers={
                "Accept": "application/json",
                # a packed reply is unpacked here, where its length is known before it fills the memory
                "Accept-Encoding": "identity",
                **self._address.headers(self._key),
            },
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(30.0, self.timeouts.call)),
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=not self._address.local,
        )
        return self._session

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
