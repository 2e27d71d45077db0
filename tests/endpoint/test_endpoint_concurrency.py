import asyncio
import time

import pytest
from aiohttp import web
from endpoint_jobs import ask, open_at
from faithful_server import Server

from aftertune.models.endpoint.concurrency import MOST, START, Gate
from aftertune.models.endpoint.waiting import (
    MOST_SECONDS,
    asked_to_wait,
    backoff,
    duration,
    until_reset,
)


async def serve(gate, calls, seconds_of, refuses=lambda _: False):
    """Send calls through a gate to a server whose reply takes ``seconds_of(open calls)``; return the limits seen."""
    limits, now_open = [], 0

    async def one():
        nonlocal now_open
        now_open += 1
        overload = refuses(now_open)
        await asyncio.sleep(0 if overload else seconds_of(now_open))
        now_open -= 1
        limits.append(gate.limit)
        gate.failed(overload=True) if overload else gate.answered()

    tasks = []
    for _ in range(calls):
        await gate.enter()
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)
    return limits


def test_the_first_call_goes_alone_and_the_limit_rises_while_that_gives_more_answers():
    gate = Gate()
    limits = asyncio.run(serve(gate, 1500, lambda _: 0.05))
    assert limits[0] == 1 or limits[0] == START
    assert max(limits) == MOST


def test_the_limit_never_passes_its_most():
    assert max(asyncio.run(serve(Gate(most=40), 400, lambda _: 0.01))) <= 40


def test_a_server_that_only_gets_slower_is_not_asked_more():
    limits = asyncio.run(serve(Gate(), 1200, lambda now_open: 0.002 * now_open))
    assert max(limits[600:]) <= 64


def test_a_server_that_refuses_more_than_so_many_is_asked_about_that_many():
    limits = asyncio.run(
        serve(Gate(), 3000, lambda _: 0.005, refuses=lambda now_open: now_open > 20)
    )
    assert sorted(limits[500:])[len(limits[500:]) // 2] <= 24


def test_a_burst_of_refusals_halves_the_limit_once():
    async def burst():
        gate = Gate()
        await gate.enter()
        gate.answered()
        for _ in range(START):
            await gate.enter()
        for _ in range(START):
            gate.failed(overload=True)
        return gate.limit

    assert asyncio.run(burst()) == START // 2


def test_a_cancelled_wait_leaves_its_place_to_the_next():
    async def cancel():
        gate = Gate(most=1)
        await gate.enter()
        first, second = (asyncio.create_task(gate.enter()) for _ in range(2))
        await asyncio.sleep(0)
        gate.answered()
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


def test_a_used_up_rate_limit_is_waited_for_before_it_is_broken(endpoints):
    times = []

    def reply(body, _):
        from faithful_server import completion

        times.append(time.monotonic())
        headers = (
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "500ms"}
            if len(times) == 1
            else {}
        )
        return web.json_response(completion(body, "a"), headers=headers)

    with Server(reply=reply) as server:
        ask(open_at(endpoints, server), [f"q{i}" for i in range(20)])
    assert times[1] - times[0] > 0.45


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
        ({"retry-after": "-3"}, 0), ({"retry-after": "nan"}, 0), ({"retry-after": "inf"}, 0), ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after-ms": "50", "retry-after": "9"}, 0.05),
    ],
)  # fmt: skip
def test_what_a_failed_reply_asks_for(headers, seconds):
    assert asked_to_wait(headers) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("1h2m3s", 3723),
        ("12", 12),
        ("", 0),
        ("soon", 0),
        ("5x", 0),
    ],
)
def test_durations(text, seconds):
    assert duration(text) == pytest.approx(seconds)


def test_only_a_limit_that_is_used_up_is_waited_for():
    reset = {"x-ratelimit-reset-requests": "9s", "x-ratelimit-reset-tokens": "3s"}
    assert (
        until_reset(
            reset | {"x-ratelimit-remaining-requests": "1", "x-ratelimit-remaining-tokens": "0"}
        )
        == 3
    )
    assert until_reset(reset | {"x-ratelimit-remaining-requests": "1"}) == 0


def test_backoff_doubles_with_jitter_and_is_bounded(monkeypatch):
    monkeypatch.setattr("aftertune.models.endpoint.waiting.FIRST_SECONDS", 0.5)
    for failures, longest in (
        (1, 0.5),
        (2, 1.0),
        (5, 8.0),
        (20, MOST_SECONDS),
        (2000, MOST_SECONDS),
    ):
        waits = [backoff(failures) for _ in range(50)]
        assert longest / 2 <= min(waits) <= max(waits) <= longest
        assert len(set(waits)) > 40
