import asyncio
import time

import pytest
from aiohttp import web
from endpoint_jobs import ask, open_at
from faithful_server import Server
from multidict import CIMultiDict

from aftertune.models.endpoint.http import MOST, START, ConnectionLimit, retry_after


async def serve(limit, calls, seconds_of, refuses=lambda _: False):
    """Send calls through a limit to a server whose reply takes ``seconds_of(open calls)``; return the limits seen."""
    limits, now_open = [], 0

    async def one():
        nonlocal now_open
        now_open += 1
        overload = refuses(now_open)
        await asyncio.sleep(0 if overload else seconds_of(now_open))
        now_open -= 1
        limits.append(limit.limit)
        limit.leave(answered=not overload, overload=overload)

    tasks = []
    for _ in range(calls):
        await limit.enter()
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)
    return limits


def test_the_first_call_goes_alone_and_the_limit_rises_while_that_gives_more_answers():
    limit = ConnectionLimit()
    limits = asyncio.run(serve(limit, 1500, lambda _: 0.05))
    assert limits[0] == 1 or limits[0] == START
    assert max(limits) == MOST


def test_the_limit_never_passes_its_most():
    assert max(asyncio.run(serve(ConnectionLimit(most=40), 400, lambda _: 0.01))) <= 40


def test_a_server_that_only_gets_slower_is_not_asked_more():
    limits = asyncio.run(serve(ConnectionLimit(), 600, lambda now_open: 0.002 * now_open))
    assert max(limits[300:]) <= 64


def test_a_server_that_answers_one_call_at_a_time_is_not_flooded():
    limits, one_at_a_time = [], asyncio.Lock()

    async def run():
        limit = ConnectionLimit()

        async def call():
            await limit.enter()
            async with one_at_a_time:
                await asyncio.sleep(0.02)
            limits.append(limit.limit)
            limit.leave(answered=True)

        await asyncio.gather(*(call() for _ in range(150)))

    asyncio.run(run())
    assert max(limits) <= 2 * START
    assert sorted(limits)[len(limits) // 2] <= START


def test_a_server_that_refuses_more_than_so_many_is_asked_about_that_many():
    limits = asyncio.run(
        serve(ConnectionLimit(), 3000, lambda _: 0.005, refuses=lambda now_open: now_open > 20)
    )
    assert sorted(limits[500:])[len(limits[500:]) // 2] <= 24


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

    assert asyncio.run(burst()) == START // 2


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
