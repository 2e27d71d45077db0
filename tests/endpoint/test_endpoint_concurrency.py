import asyncio
import socket
import threading
import time

import numpy as np
import pytest
from aiohttp import web
from endpoint_jobs import ask, open_at
from faithful_server import Server
from multidict import CIMultiDict
from test_endpoint_study import aftertune, write_study
from virtual_time import run_virtually

from aftertune.models.endpoint.http import (
    MOST,
    START,
    ConnectionLimit,
    Session,
    Timeouts,
    retry_after,
)
from aftertune.models.endpoint.providers import address_of


def open_calls(limit, calls, seconds_of, refuses=lambda _: False):
    """Send calls through a limit to a server whose reply takes ``seconds_of(number, open calls)``.

    Returns:
        the limit at each call's end, in the order of the ends, and the seconds that all took.
    """
    limits, now_open = [], 0

    async def call(number):
        nonlocal now_open
        now_open += 1
        overload = refuses(now_open)
        await asyncio.sleep(0.001 if overload else seconds_of(number, now_open))
        limits.append(limit.limit)
        now_open -= 1
        limit.leave(answered=not overload, overload=overload)

    async def run():
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for number in range(calls):
                await limit.enter()
                group.create_task(call(number))
        return asyncio.get_running_loop().time() - began

    seconds = run_virtually(run())
    return limits, seconds


def one_at_a_time(limit, seconds):
    """Send calls through a limit to a server that answers one after the other; return the most that were open."""
    now_open, most = 0, 0

    async def run():
        server = asyncio.Lock()

        async def call(duration):
            nonlocal now_open, most
            await limit.enter()
            now_open += 1
            most = max(most, now_open)
            async with server:
                await asyncio.sleep(duration)
            now_open -= 1
            limit.leave(answered=True)

        await asyncio.gather(*map(call, seconds))
        return asyncio.get_running_loop().time() - 1.0

    took = run_virtually(run())
    assert took == pytest.approx(sum(seconds), rel=0.01), "the server is never idle"
    return most


def test_the_first_call_goes_alone_and_the_limit_rises_while_that_gives_more_answers():
    limits, seconds = open_calls(ConnectionLimit(), 3000, lambda *_: 1.0)
    assert limits[0] == 1
    assert max(limits) == MOST
    # 1, 4, 8 … 128 calls take a second each, and then all that may be open does
    rising = [1, *(START << n for n in range(6))]
    assert len(rising) <= seconds <= len(rising) + 1.1 * (3000 - sum(rising)) / MOST + 2


@pytest.mark.parametrize("most", [1, 2, 40])
def test_no_more_calls_are_open_than_may_be(most):
    limits, _ = open_calls(ConnectionLimit(most), 400, lambda *_: 0.1)
    assert max(limits) == most


def test_a_server_that_only_gets_slower_is_asked_little():
    limits, _ = open_calls(ConnectionLimit(), 600, lambda _, now_open: 0.1 * now_open)
    assert max(limits) <= START


@pytest.mark.parametrize("seed", range(5))
def test_a_server_that_answers_one_call_at_a_time_is_not_flooded(seed):
    """Its answers take between one second and a minute; the first one also loads the model."""
    seconds = np.random.default_rng(seed).lognormal(2.0, 0.7, 300).clip(1, 60).tolist()
    assert one_at_a_time(ConnectionLimit(), [1.0] * 300) <= START
    assert one_at_a_time(ConnectionLimit(), seconds) <= 4 * START
    assert one_at_a_time(ConnectionLimit(), [90.0, *([1.0] * 300)]) <= 2 * START


def test_a_server_with_so_many_places_is_asked_about_that_many():
    """Twenty calls are answered at a time, and the others wait for their turn."""
    limits, seconds = open_calls(
        ConnectionLimit(), 4000, lambda _, now_open: max(1.0, now_open / 20)
    )
    late = sorted(limits[1000:])
    assert 16 <= late[len(late) // 2] <= 32
    assert seconds <= 1.15 * 4000 / 20


def test_a_server_that_refuses_more_than_so_many_is_asked_about_that_many():
    limits, _ = open_calls(
        ConnectionLimit(), 3000, lambda *_: 0.1, refuses=lambda now_open: now_open > 20
    )
    late = sorted(limits[500:])
    assert 10 <= late[len(late) // 2] <= 24


def test_a_server_that_grows_is_asked_more():
    limits, _ = open_calls(
        ConnectionLimit(),
        6000,
        lambda number, now_open: max(1.0, now_open / (8 if number < 1000 else 64)),
    )
    assert max(limits[:1000]) <= 20
    assert sorted(limits[-500:])[250] >= 40


def test_a_burst_of_refusals_halves_the_limit_once():
    async def burst():
        limit = ConnectionLimit()
        await limit.enter()
        limit.leave(answered=True)
        for _ in range(START):
            await limit.enter()
        for _ in range(START):
            limit.leave(overload=True)
        return limit.limit

    assert run_virtually(burst()) == START // 2


def test_a_cancelled_wait_leaves_its_place_to_the_next():
    async def cancel():
        limit = ConnectionLimit(most=1)
        await limit.enter()
        first, second = (asyncio.create_task(limit.enter()) for _ in range(2))
        await asyncio.sleep(0)
        limit.leave(answered=True)
        first.cancel()
        await asyncio.wait_for(second, 1)
        return first.cancelled()

    assert asyncio.run(cancel())


def test_retry_after_holds_back_every_call_and_not_only_the_one_that_was_told(endpoints):
    times = []

    def reply(body, _):
        times.append(time.monotonic())
        return (
            web.json_response(
                {"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0.6"}
            )
            if len(times) == 5
            else None
        )

    with Server(reply=reply, seconds=0.005) as server:
        ask(open_at(endpoints, server), [f"q{i}" for i in range(60)])
    after = [at - times[4] for at in times[5:]]
    in_flight = START - 1
    assert sum(gap < 0.55 for gap in after) <= in_flight
    assert sum(gap >= 0.55 for gap in after) >= 60 - 5 - in_flight


class Serial(Server):
    """Answers one call at a time."""

    async def _answer(self, request):
        self.turn = getattr(self, "turn", None) or asyncio.Lock()
        async with self.turn:
            return await super()._answer(request)


def test_a_serial_server_has_a_handful_of_open_calls_and_a_wide_one_many(endpoints):
    texts = [f"q{i}" for i in range(60)]
    with Serial(seconds=0.05) as serial:
        ask(open_at(endpoints, serial), texts)
    with Server(seconds=0.5) as wide:
        ask(open_at(endpoints, wide), [f"{text}-{n}" for text in texts for n in range(8)])
    assert serial.most_open <= 4 * START
    assert wide.most_open >= 64


def test_a_study_sets_the_most_calls_that_are_open_to_each_of_its_two_models(tmp_path):
    with Server(seconds=0.05) as server:
        study = write_study(tmp_path / "s", server, 15, engine={"connections": 3})
        ended = aftertune(study, seconds=300)
    assert ended.returncode == 0, ended.stderr
    assert 2 < server.most_open <= 2 * 3


def test_a_connection_that_a_full_server_dropped_is_noticed(tmp_path):
    """The queue of this server holds one; whoever comes then knocks again after a second."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"

        def answer_late():
            for number in range(4):
                time.sleep(0 if number else 1.5)
                connection, _ = listening.accept()
                with connection:
                    connection.recv(10_000)
                    connection.sendall(head)

        thread = threading.Thread(target=answer_late, daemon=True)
        thread.start()

        async def ask_four():
            session = Session(address_of(f"{url}#m"), None, Timeouts(call=60.0))
            replies = await asyncio.gather(*(session.request("GET", url) for _ in range(4)))
            await session.close()
            return [reply.dropped for reply in replies]

        dropped = asyncio.run(ask_four())
        thread.join(30)
    assert 1 <= sum(dropped) <= 3


def test_connections_are_used_again(endpoints):
    with Server(seconds=0.002) as server:
        model = open_at(endpoints, server)
        for part in range(4):
            ask(model, [f"q{part}-{i}" for i in range(150)])
        assert sum(server.asked.values()) == 600
        assert len(server.connections) < 200


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0), ({"retry-after": "7"}, 7), ({"retry-after": "0.25"}, 0.25), ({"retry-after-ms": "120"}, 0.12), ({"retry-after": "soon"}, 0),
        ({"retry-after": "-3"}, 0), ({"retry-after": "nan"}, 0), ({"retry-after": "inf"}, 0), ({"retry-after": "9" * 400}, 0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0), ({"retry-after-ms": "50", "retry-after": "9"}, 0.05),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 0), ({"retry-after": "999999999999"}, 0), ({"retry-after-ms": "9" * 400}, 0),
        ({"retry-after": "86400"}, 86400),
    ],
)  # fmt: skip
def test_the_seconds_that_a_failed_reply_asks_to_wait(headers, seconds):
    assert retry_after(CIMultiDict(headers)) == pytest.approx(seconds)
