"""HTTP/1.1 as far as a server next door needs it: one POST at a time over a connection that is used again.

Servers of one's own answer thousands of calls a second, and then half of the time would go into a general client. What
is spoken here is plain: no TLS, no proxy, no redirects, no cookies; `session` speaks to everybody else. Sources: RFC 9112,
sections 4 (status line), 5 (fields), 6.3 (where a message ends), 7.1 (chunks) and 9.3 (connections that stay).
"""

import asyncio
import zlib
from collections.abc import Mapping
from typing import NamedTuple

_HEAD_MOST = 1 << 16
"""Bytes in which a status line with its fields must end."""
MOST_BYTES = 16 << 20
"""Of one reply, unpacked: no answer is that long, and many are open at once."""


class Reply(NamedTuple):
    """What a server sent back."""

    status: int
    headers: Mapping[str, str]
    """Names in small letters (or a mapping that knows none from the other)."""
    body: bytes


class BrokenWire(ConnectionError):
    """The server spoke no HTTP, or stopped in the middle of a reply."""


class TooLong(ConnectionError):
    """A reply is longer than any answer; the rest of it is not read."""

    def __init__(self) -> None:
        super().__init__(f"a reply of more than {MOST_BYTES >> 20} MiB")


class Connection(asyncio.Protocol):
    """One connection to a server.

    Attributes:
        usable: whether another call may be made over it.
    """

    def __init__(self) -> None:
        self.usable = True
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Reply] | None = None
        self._reading = _Reading()

    async def ask(self, message: bytes, seconds: float) -> Reply:
        """Send a whole request and return the reply to it.

        Raises:
            TimeoutError: it is not there in time.
            ConnectionError: the connection broke, or what came is no HTTP.
        """
        if self._transport is None:
            raise BrokenWire("the server closed the connection")
        self._waiting = self._loop.create_future()
        self._reading = _Reading()
        late = self._loop.call_later(seconds, self._fail, TimeoutError())
        self._transport.write(message)
        try:
            return await self._waiting
        except BaseException:  # an answer that comes after all must not be taken for that to the next call
            self.close()
            raise
        finally:
            late.cancel()
            self._waiting = None

    def close(self) -> None:
        """Close it, whatever is under way."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what bytes are written to."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Read on; whoever speaks without having been asked is not asked again."""
        if self._waiting is None or self._waiting.done():
            self.close()
            return
        try:
            reply = self._reading.more(data)
        except (ValueError, zlib.error):  # what it said instead may repeat our key, so it is not shown
            self._fail(BrokenWire("the server speaks no HTTP"))
            return
        if reply is not None:
            self.usable = self._reading.stays and not self._reading.rest
            self._waiting.set_result(reply)

    def connection_lost(self, error: Exception | None) -> None:
        """End what is under way: a reply without a length ends here, any other one is broken."""
        self.usable, self._transport = False, None
        if self._waiting is None or self._waiting.done():
            return
        try:
            reply = self._reading.end() if error is None else None
        except (TooLong, zlib.error) as broken:
            reply, error = None, broken
        if isinstance(error, TooLong):
            self._fail(error)
        elif reply is None:
            self._fail(BrokenWire(str(error or "the server closed the connection before its reply was whole")))
        else:
            self._waiting.set_result(reply)

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)


class _Reading:
    """A reply as it comes in.

    Attributes:
        rest: bytes that are not read yet; after the reply, what does not belong to it.
        stays: whether the server leaves the connection open.
    """

    def __init__(self) -> None:
        self.rest = b""
        self.stays = True
        self._status = 0
        self._headers: dict[str, str] = {}
        self._length: int | None = None
        self._chunked = False
        self._body = bytearray()
        self._trailers = False

    def more(self, data: bytes) -> Reply | None:
        """Take more bytes; return the reply when it is whole.

        Raises:
            ValueError: this is no HTTP.
            TooLong: it goes on and on.
        """
        self.rest = self.rest + data if self.rest else data
        while not self._status:
            if not self._read_head():
                return None
        return self._reply() if self._read_body() else None

    def end(self) -> Reply | None:
        """Return the reply that ends with its connection, if it is one."""
        return self._reply() if self._status and self._length is None and not self._chunked else None

    def _reply(self) -> Reply:
        coded = self._headers.get("content-encoding", "identity").lower()
        body = bytes(self._body)
        if coded in ("gzip", "x-gzip", "deflate"):  # nobody asked for it; some relays send it all the same
            body = _unpacked(body)
        return Reply(self._status, self._headers, body)

    def _read_body(self) -> bool:
        """Move bytes to the body; return whether it is whole."""
        if self._chunked:
            return self._read_chunks()
        missing = len(self.rest) if self._length is None else self._length - len(self._body)
        _check_length(len(self._body) + missing)
        self._body += self.rest[:missing]
        self.rest = self.rest[missing:]
        return len(self._body) == self._length

    def _read_head(self) -> bool:
        """Read the status line and the fields, if they are there; those of an interim reply (100, 103) are skipped."""
        end = self.rest.find(b"\r\n\r\n")
        if end < 0:
            if len(self.rest) > _HEAD_MOST:
                raise ValueError("its header does not end")
            return False
        first, *lines = self.rest[:end].decode("latin-1").split("\r\n")
        self.rest = self.rest[end + 4 :]
        version, _, said = first.partition(" ")
        status = int(said[:3])
        if not version.startswith("HTTP/1.") or not 100 <= status < 600:
            raise ValueError("no status line")
        if status < 200:
            return bool(self.rest)
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self._status, self._headers = status, headers
        self._frame(version)
        return True

    def _frame(self, version: str) -> None:
        """See where the reply ends, and whether the connection stays."""
        coding, length = self._headers.get("transfer-encoding", ""), self._headers.get("content-length")
        self._chunked = coding.lower().endswith("chunked")
        if self._status in (204, 304):
            self._length = 0
        elif length is not None and not coding:
            if not (length.isascii() and length.isdigit()):
                raise ValueError("a length that is no number")
            self._length = int(length)
        kept = self._headers.get("connection", "keep-alive" if version == "HTTP/1.1" else "close").lower()
        self.stays = "close" not in kept and (self._chunked or self._length is not None)

    def _read_chunks(self) -> bool:
        """Take the chunks that are there; return whether the last one is."""
        while True:
            line_end = self.rest.find(b"\r\n")
            if line_end < 0:
                if len(self.rest) > _HEAD_MOST:
                    raise ValueError("a chunk without a size")
                return False
            if self._trailers:
                line, self.rest = self.rest[:line_end], self.rest[line_end + 2 :]
                if not line:
                    return True
                continue
            size = int(self.rest[:line_end].partition(b";")[0], 16)
            if size < 0:
                raise ValueError("a chunk of a negative size")
            _check_length(len(self._body) + size)
            start = line_end + 2
            if size == 0:
                self._trailers, self.rest = True, self.rest[start:]
            elif len(self.rest) < start + size + 2:
                return False
            else:
                self._body += self.rest[start : start + size]
                self.rest = self.rest[start + size + 2 :]


def _check_length(length: int) -> None:
    if length > MOST_BYTES:
        raise TooLong


def _unpacked(body: bytes) -> bytes:
    """Return what gzip or deflate packed.

    Raises:
        zlib.error: it is damaged, or not whole.
        TooLong: a small reply unpacks to a huge one.
    """
    packed = zlib.decompressobj(zlib.MAX_WBITS | 32)
    whole = packed.decompress(body, MOST_BYTES + 1)
    _check_length(len(whole))
    if not packed.eof:
        raise zlib.error("the packed reply is not whole")
    return whole
