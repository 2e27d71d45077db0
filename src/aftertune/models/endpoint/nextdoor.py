"""Calls to a server next door (`wire`): connections that are kept and used again."""

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from aftertune.models.endpoint.failures import Unreachable
from aftertune.models.endpoint.providers import Address
from aftertune.models.endpoint.received import Reply, Unheard

if TYPE_CHECKING:
    from aftertune.models.endpoint.wire import Connection

_IDLE_SECONDS = 15.0
"""A connection that was idle for longer may have been forgotten on the way, and is not used again."""


def is_next_door(address: Address) -> bool:
    """Return whether a server is asked directly: on this machine or in its network, by plain HTTP."""
    return address.local and address.url.startswith("http://") and address.url.isascii()


class NextDoor:
    """The connections to one server.

    Args:
        headers: of every call.
        seconds: for one reply.
        connect_seconds: for one connection.
    """

    def __init__(self, headers: Mapping[str, str], seconds: float, connect_seconds: float) -> None:
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._seconds = seconds
        self._connect_seconds = connect_seconds
        self._heads: dict[str, bytes] = {}
        """By URL, everything before the length of the body."""
        self._idle: list[tuple[float, Connection]] = []

    async def post(self, url: str, data: bytes) -> Reply:
        """Send a body and return the reply; redirects are replies like others.

        Raises:
            TimeoutError: no connection or no reply in time.
            Unreachable: nobody takes the connection.
            ConnectionError: it broke, or what came is no HTTP.
        """
        message = b"%b%d\r\n\r\n%b" % (self._heads.get(url) or self._head(url), len(data), data)
        if (kept := self._kept()) is not None:
            try:
                return await self._asked(kept, message)
            except (
                Unheard
            ):  # it was closed as idle while we wrote: nothing is wrong with server or call
                pass
        return await self._asked(await self._opened(url), message)

    async def _asked(self, connection: "Connection", message: bytes) -> Reply:
        reply = await connection.ask(message, self._seconds)
        if connection.usable:
            self._idle.append((time.monotonic(), connection))
        else:
            connection.close()
        return reply

    async def close(self) -> None:
        """Close the connections that are idle."""
        for _, connection in self._idle:
            connection.close()
        self._idle.clear()

    def _kept(self) -> "Connection | None":
        """Return the connection that was used last, if it can be used again."""
        while self._idle:
            since, connection = self._idle.pop()
            if connection.usable and time.monotonic() - since < _IDLE_SECONDS:
                return connection
            connection.close()
        return None

    async def _opened(self, url: str) -> "Connection":
        from aftertune.models.endpoint.wire import Connection  # needs httptools

        parts = urlsplit(url)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await loop.create_connection(
                    Connection, parts.hostname or "", parts.port or 80, happy_eyeballs_delay=0.25
                )
        except TimeoutError:
            raise
        except OSError as error:
            raise Unreachable(str(error)) from error
        return connection

    def _head(self, url: str) -> bytes:
        parts = urlsplit(url)
        path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
        text = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{self._headers}Content-Length: "
        return self._heads.setdefault(url, text.encode("ascii"))
