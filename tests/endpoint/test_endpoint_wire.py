import asyncio
import gzip
from contextlib import asynccontextmanager

import pytest
from endpoint_jobs import ask, jobs_for, open_at
from faithful_server import FAULTS, Server

from aftertune.core.records import Response
from aftertune.models.endpoint.failures import Unreachable
from aftertune.models.endpoint.nextdoor import NextDoor, is_next_door
from aftertune.models.endpoint.providers import address_of
from aftertune.models.endpoint.received import BrokenWire, Reply, TooLong

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
async def neighbour(*pieces, stays=True, seconds=1.0, patience=1000):
    """Give a `NextDoor` to a server that replies to everything with these pieces, one after the other.

    After ``patience`` calls it closes a connection while the next one is on its way.
    """
    seen = {"connections": 0, "requests": []}
    serving = []

    async def serve(reader, writer):
        seen["connections"] += 1
        serving.append(asyncio.current_task())
        left = patience
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
                    await asyncio.sleep(0.001)
                if not stays:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    door = NextDoor({"Accept": "x/y"}, seconds, 1.0)
    try:
        yield door, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a b/v1", seen
    finally:
        await door.close()
        server.close()
        await asyncio.gather(*serving)


def posted(*pieces, calls=1, **how):
    """Return the replies to some calls one after the other, and what the server saw."""

    async def run():
        async with neighbour(*pieces, **how) as (door, url, seen):
            return [await door.post(url, b"body") for _ in range(calls)], seen

    return asyncio.run(run())


@pytest.mark.parametrize("kind", WHOLE)
def test_a_reply_is_read_whole_wherever_it_is_cut(kind):
    data = WHOLE[kind]
    for cut in range(1, len(data), 3):
        replies, seen = posted(data[:cut], data[cut:], calls=2)
        assert [reply.body for reply in replies] == [b"hello", b"hello"]
        assert seen["connections"] == 1
    assert posted(*(data[i : i + 1] for i in range(len(data))))[0][0].body == b"hello"


def test_names_of_headers_come_in_small_letters():
    (reply,), _ = posted(LENGTH)
    assert reply == Reply(200, {"content-length": "5", "x-two": "b"}, b"hello")


def test_a_request_is_whole_and_its_path_quoted():
    _, seen = posted(LENGTH)
    lines = seen["requests"][0].split(b"\r\n")
    assert lines[0] == b"POST /a%20b/v1 HTTP/1.1"
    assert lines[1].startswith(b"Host: 127.0.0.1:")
    assert lines[2:] == [b"Accept: x/y", b"Content-Length: 4", b"", b"body"]


def test_a_reply_without_a_length_ends_with_its_connection():
    replies, seen = posted(TO_THE_END, calls=2, stays=False)
    assert [reply.body for reply in replies] == [b"hello", b"hello"]
    assert seen["connections"] == 2


@pytest.mark.parametrize("data", [LENGTH.replace(b"X-Two:  b ", b"Connection: Close"), LENGTH + b"more", LENGTH.replace(b"1.1", b"1.0")])  # fmt: skip
def test_a_connection_that_cannot_be_used_again_is_not(data):
    replies, seen = posted(data, calls=3)
    assert [reply.body for reply in replies] == [b"hello"] * 3
    assert seen["connections"] == 3


def test_a_server_that_speaks_unasked_is_not_believed():
    late = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"

    async def run():
        async with neighbour(LENGTH, late) as (door, url, seen):
            replies = []
            for _ in range(3):
                replies.append(await door.post(url, b""))
                await asyncio.sleep(0.02)
            return replies, seen

    replies, seen = asyncio.run(run())
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert seen["connections"] == 3


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_http_is_told(kind):
    with pytest.raises(BrokenWire, match=r"speaks no HTTP$"):
        posted(BROKEN[kind])


@pytest.mark.parametrize("cut", [LENGTH[:10], LENGTH[:-1], CHUNKS[:-3], b""])
def test_a_reply_that_stops_in_the_middle_is_broken(cut):
    with pytest.raises(BrokenWire, match="before its reply was whole"):
        posted(cut, stays=False)


def test_a_kept_connection_that_is_closed_while_we_write_is_no_failure():
    replies, seen = posted(LENGTH, calls=4, patience=1)
    assert [reply.body for reply in replies] == [b"hello"] * 4
    assert (seen["connections"], len(seen["requests"])) == (4, 7)


def test_a_new_connection_that_is_closed_without_a_word_is_one():
    with pytest.raises(BrokenWire, match="before its reply was whole"):
        posted(LENGTH, patience=0)


def test_a_late_reply_is_not_taken_for_the_next_one():
    async def run():
        async with neighbour(LENGTH[:-1], seconds=0.05) as (door, url, seen):
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await door.post(url, b"")
            return seen["connections"]

    assert asyncio.run(run()) == 2


def test_nobody_there_is_told_from_a_connection_that_breaks():
    async def run():
        async with neighbour() as (_, url, _):
            pass
        await NextDoor({}, 1.0, 1.0).post(url, b"")

    with pytest.raises(Unreachable):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("reference", "direct"),
    [
        ("http://127.0.0.1:8000/v1#m", True), ("http://[::1]:8000/v1#m", True), ("http://gpu-node:8000/v1#m", True),
        ("https://127.0.0.1:8000/v1#m", False), ("http://example.com/v1#m", False), ("http://gpü:8000/v1#m", False),
    ],
)  # fmt: skip
def test_who_is_next_door(reference, direct):
    assert is_next_door(address_of(reference)) is direct


def test_the_general_client_bears_the_same_faults(endpoints, monkeypatch):
    monkeypatch.setattr("aftertune.models.endpoint.client.is_next_door", lambda _: False)
    with Server(faults=FAULTS, share=0.2, seed=3) as server:
        model = open_at(endpoints, server)
        jobs = jobs_for(model, [f"question {i}" for i in range(400)])
        answers = dict(model.generate(jobs))
    assert all(isinstance(answers[job.key], Response) for job in jobs)
    assert set(server.injected) == set(FAULTS)
    assert max(server.answered.values()) == 1


def test_both_clients_hear_the_same(endpoints, monkeypatch):
    with Server() as server:
        near = ask(open_at(endpoints, server), ["one", "zwei é", "x" * 100_000])
        monkeypatch.setattr("aftertune.models.endpoint.client.is_next_door", lambda _: False)
        far = ask(open_at(endpoints, server, "m2"), ["one", "zwei é", "x" * 100_000])
    assert [answer.text for answer in near] == [answer.text for answer in far]


HEAD = b"HTTP/1.1 200 OK\r\n"
ENDLESS = {
    "length": HEAD + b"Content-Length: %d\r\n\r\n" % (1 << 40),
    "chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n" + b" " * (17 << 20),
    "zipped": HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(BOMB), BOMB),
    "fields behind": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    + b"X: %b\r\n" % (b"y" * 60_000) * 300,
    "no end": HEAD + b"X: y\r\n\r\n" + b" " * (17 << 20),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_reply_that_goes_on_and_on_is_given_up(kind):
    with pytest.raises(TooLong, match=r"^a reply of more than 16 MiB$"):
        posted(ENDLESS[kind])
