"""Calls to servers out in the world, by aiohttp: TLS, proxies, compression."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aftertune.models.endpoint.failures import Unreachable
from aftertune.models.endpoint.received import MOST_BYTES, Reply, TooLong

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession


class Session:
    """The connections to one server.

    Args:
        headers: of every call.
        seconds: for one reply.
        connect_seconds: for one connection.
        proxies: whether the environment's proxies are used.
    """

    def __init__(
        self, headers: Mapping[str, str], seconds: float, connect_seconds: float, *, proxies: bool
    ) -> None:
        self._headers = headers
        self._seconds = (seconds, connect_seconds)
        self._proxies = proxies
        self._session: ClientSession | None = None

    async def post(self, url: str, data: bytes) -> Reply:
        """Send a body and return the reply; redirects are replies like others.

        Raises:
            TimeoutError: no connection or no reply in time.
            Unreachable: nobody takes the connection.
            ConnectionError: it broke, or what came is no HTTP, or too long.
        """
        import aiohttp

        session = self._session or self._opened()
        try:
            async with session.post(url, data=data, allow_redirects=False) as reply:
                return Reply(reply.status, reply.headers, await _whole(reply))
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error
        except TimeoutError:
            raise
        except aiohttp.ClientError as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        if self._session is not None:
            await self._session.close()
        self._session = None

    def _opened(self) -> "ClientSession":
        import aiohttp

        total, connect = self._seconds
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=total, sock_connect=connect),
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._proxies,
        )
        return self._session


async def _whole(reply: "ClientResponse") -> bytes:
    """Return the body of a reply, unpacked."""
    pieces, length = [], 0
    async for piece in reply.content.iter_any():
        pieces.append(piece)
        length += len(piece)
        if length > MOST_BYTES:
            raise TooLong
    return b"".join(pieces)
