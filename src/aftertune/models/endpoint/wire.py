"""HTTP/1.1 as far as a server next door needs it: one POST at a time over a connection that is used again.

Servers of one's own answer thousands of calls a second, and then half of the time would go into a general client. What
is spoken here is plain: no TLS, no proxy, no redirects, no cookies; `session` speaks to everybody else. Replies are parsed
by llhttp, which Node.js speaks HTTP with, through httptools.
"""

import asyncio
import zlib

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from aftertune.models.endpoint.received import (
    MOST_BYTES,
    BrokenWire,
    Reply,
    TooLong,
    Unheard,
    check_length,
)

_FINAL = 200
"""Statuses below are of interim replies, which another one follows."""
_HEAD_MOST = 1 << 16
"""Bytes in which a status line with its fields must end."""
_NO_HTTP = "the server speaks no HTTP"


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
            Unheard: the connection ended before a byte of it was there.
            ConnectionError: the connection broke, or what came is no HTTP.
        """
        if self._transport is None:
            raise Unheard("the server closed the connection")
        self._waiting = self._loop.create_future()
        self._reading = _Reading()
        late = self._loop.call_later(seconds, self._fail, TimeoutError())
        self._transport.write(message)
        try:
            return await self._waiting
        except (
            BaseException
        ):  # an answer that comes after all must not be taken for that to the next call
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
        except ConnectionError as error:
            self._fail(error)
            return
        if reply is not None:
            self.usable = self._reading.stays
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
            kind = BrokenWire if self._reading.begun else Unheard
            self._fail(
                kind(str(error or "the server closed the connection before its reply was whole"))
            )
        else:
            self._waiting.set_result(reply)

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)


class _Reading:
    """A reply as it comes in: what the parser calls back with.

    Attributes:
        reply: the whole reply, once it is there.
        begun: whether a byte of it came.
        stays: whether the connection can carry another call.
    """

    def __init__(self) -> None:
        self.reply: Reply | None = None
        self.begun = self.stays = False
        self._parser = HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._bytes = 0
        self._body = bytearray()
        self._in_body = False

    def more(self, data: bytes) -> Reply | None:
        """Take more bytes; return the reply when it is whole.

        Raises:
            BrokenWire: this is no HTTP.
            TooLong: it goes on and on.
        """
        self.begun = True
        self._bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserCallbackError as error:
            if isinstance(error.__context__, TooLong):
                raise error.__context__ from None
            raise BrokenWire(_NO_HTTP) from None
        except (
            HttpParserError,
            HttpParserUpgrade,
        ):  # what it said instead may repeat our key, so it is not shown
            self.stays = False
            if self.reply is None:
                raise BrokenWire(_NO_HTTP) from None
        if self._bytes > _HEAD_MOST and not self._in_body:
            raise BrokenWire(_NO_HTTP)
        check_length(
            self._bytes - _HEAD_MOST
        )  # fields may follow the body, and each piece of it has a length
        return self.reply

    def end(self) -> Reply | None:
        """Return the reply that ends with its connection, if it is one."""
        framed = "content-length" in self._headers or "transfer-encoding" in self._headers
        return None if framed or not self._in_body else self._whole()

    def on_message_begin(self) -> None:
        """Begin anew: what came before was an interim reply (100, 103), or else these bytes are nobody's."""
        self.stays = False
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        """Look whether the body can be borne, before it comes."""
        self._in_body = self._parser.get_status_code() >= _FINAL
        check_length(int(self._headers.get("content-length", 0)))

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body."""
        check_length(len(self._body) + len(piece))
        self._body += piece

    def on_message_complete(self) -> None:
        """Keep the reply, unless it is an interim one."""
        if self._in_body and self.reply is None:
            self.reply, self.stays = self._whole(), self._parser.should_keep_alive()

    def _whole(self) -> Reply:
        body = bytes(self._body)
        if self._headers.get("content-encoding", "identity").lower() in (
            "gzip",
            "x-gzip",
            "deflate",
        ):
            body = _unpacked(body)  # nobody asked for it; some relays send it all the same
        return Reply(self._parser.get_status_code(), self._headers, body)


def _unpacked(body: bytes) -> bytes:
    """Return what gzip or deflate packed.

    Raises:
        zlib.error: it is damaged, or not whole.
        TooLong: a small reply unpacks to a huge one.
    """
    packed = zlib.decompressobj(zlib.MAX_WBITS | 32)
    whole = packed.decompress(body, MOST_BYTES + 1)
    check_length(len(whole))
    if not packed.eof:
        raise zlib.error("the packed reply is not whole")
    return whole
