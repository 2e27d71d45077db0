"""Replies byte by byte: what aiohttp makes of them under `Session`, and what is never borne."""

import asyncio
import gzip
import time
from contextlib import asynccontextmanager

import pytest
from faithful_server import KEY

from aftertune.models.endpoint.chat import Failure
from aftertune.models.endpoint.http import MOST_BYTES, Session, Timeouts
from aftertune.models.endpoint.providers import Secret, address_of

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Two:  b \r\n\r\nhello"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n"
ZIPPED = gzip.compress(b"hello")
BOMB = gzip.compress(b" " * (17 << 20), 1)
WHOLE = {
    "length": LENGTH,
    "chunks": CHUNKS,
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + LENGTH,
    "zipped": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b"
    % (len(ZIPPED), ZIPPED),
}
TO_THE_END = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello"
BROKEN = {
    "no http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 7\r\n\r\nhello",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
    "negative chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nhello",
    "head": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    "zipped": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
}


@asynccontextmanager
async def server_of(*pieces, stays=True, seconds=2.0, pause=0.001, endless=b"", calls=1000):
    """Give a `Session` to a server that replies to everything with these pieces, one after the other.

    After ``calls`` calls it closes a connection while the next one is on its way; ``endless`` is written again and again.
    """
    seen = {"connections": 0, "requests": []}
    serving = []

    async def serve(reader, writer):
        seen["connections"] += 1
        serving.append(asyncio.current_task())
        left = calls
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().rpartition(b"content-length: ")[2].split(b"\r\n")[0])
                seen["requests"].append(head + await reader.readexactly(length))
                if not left:
                    break
                left -= 1
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(pause)
                while endless:
                    writer.write(endless)
                    await writer.drain()
                    await asyncio.sleep(pause)
                if not stays:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    address = address_of(f"http://127.0.0.1:{port}/v1#m")
    session = Session(address, Secret(KEY), Timeouts(call=seconds))
    try:
        yield session, f"{address.url}/a%20b", seen
    finally:
        await session.close()
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()


def posted(*pieces, times=1, **more):
    """Return what each post was answered, and what the server saw."""

    async def run():
        async with server_of(*pieces, **more) as (session, url, seen):
            return [await session.request("POST", url, data=b"body") for _ in range(times)], seen

    return asyncio.run(run())


@pytest.mark.parametrize("kind", WHOLE)
def test_a_reply_is_read_whole_wherever_it_is_cut(kind):
    data = WHOLE[kind]
    for cut in range(1, len(data), 7):
        replies, seen = posted(data[:cut], data[cut:], times=2)
        assert [reply.data for reply in replies] == [b"hello", b"hello"]
        assert seen["connections"] == 1


def test_a_request_is_whole_and_asks_for_no_packing():
    (reply,), seen = posted(LENGTH)
    lines = seen["requests"][0].split(b"\r\n")
    assert lines[0] == b"POST /v1/a%20b HTTP/1.1"
    assert b"Accept-Encoding: identity" in lines
    assert f"Authorization: Bearer {KEY}".encode() in lines
    assert lines[-1] == b"body"
    assert (reply.status, reply.headers["x-two"]) == (200, "b")


def test_a_reply_without_a_length_ends_with_its_connection():
    replies, seen = posted(TO_THE_END, times=2, stays=False)
    assert [reply.data for reply in replies] == [b"hello", b"hello"]
    assert seen["connections"] == 2


@pytest.mark.parametrize("data", [LENGTH.replace(b"X-Two:  b ", b"Connection: Close"), LENGTH.replace(b"1.1", b"1.0")])  # fmt: skip
def test_a_connection_that_cannot_be_used_again_is_not(data):
    replies, seen = posted(data, times=3)
    assert [reply.data for reply in replies] == [b"hello"] * 3
    assert seen["connections"] == 3


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_http_is_a_failure(kind):
    (failure,), _ = posted(BROKEN[kind])
    assert isinstance(failure, Failure)
    assert (failure.reason, failure.retried) == ("connection", True)
    assert "\n" not in failure.detail


@pytest.mark.parametrize("cut", [LENGTH[:10], LENGTH[:-1], CHUNKS[:-3], b""])
def test_a_reply_that_stops_in_the_middle_is_a_failure(cut):
    (failure,), _ = posted(cut, stays=False)
    assert (failure.reason, failure.billed) == ("connection", True)


def test_a_late_reply_is_not_taken_for_the_next_one():
    (first, second), seen = posted(LENGTH[:-1], times=2, seconds=0.1)
    assert [first.reason, second.reason] == ["timeout", "timeout"]
    assert seen["connections"] == 2


def test_a_redirect_is_a_reply_and_not_followed():
    data = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    (reply,), seen = posted(data)
    assert (reply.status, len(seen["requests"])) == (307, 1)


def test_a_line_that_repeats_the_key_does_not_get_it_into_a_failure():
    (failure,), _ = posted(b"HTTP/1.1 200 OK\r\nContent-Length: " + KEY.encode() + b"\r\n\r\n")
    assert KEY not in failure.detail


def test_nobody_there_is_told_from_a_connection_that_breaks():
    async def run():
        async with server_of() as (_, url, _):
            pass
        session = Session(address_of(f"{url}#m"), None, Timeouts(call=1.0))
        failure = await session.request("POST", url)
        await session.close()
        return failure

    assert asyncio.run(run()).reason == "unreachable"


HEAD = b"HTTP/1.1 200 OK\r\n"
LONG = {
    "length": HEAD + b"Content-Length: %d\r\n\r\n" % (1 << 40),
    "chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n" + b" " * (17 << 20),
    "zipped": HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(BOMB), BOMB),
    "no end": HEAD + b"X: y\r\n\r\n" + b" " * (17 << 20),
}


@pytest.mark.parametrize("kind", LONG)
def test_a_reply_that_is_too_long_is_given_up(kind):
    (failure,), _ = posted(LONG[kind], seconds=10.0)
    assert (failure.reason, failure.detail) == ("broken_reply", "a reply of more than 16 MiB")
    assert MOST_BYTES == 16 << 20


ENDLESS = {
    "interim replies": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 50),
    "head": (HEAD, b"X: " + b"y" * 5000 + b"\r\n"),
    "drip": (HEAD + b"Content-Length: 5000\r\n\r\n", b"x"),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: " + b"y" * 5000 + b"\r\n"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_never_ends_is_ended_by_the_time_of_a_call(kind):
    beginning, endless = ENDLESS[kind]
    began = time.monotonic()
    (failure,), _ = posted(beginning, endless=endless, pause=0.01, seconds=0.5)
    assert failure.reason in ("timeout", "connection")
    assert time.monotonic() - began < 5
