import asyncio
import signal
import threading
import time

import pytest

from aftertune.models.endpoint.stream import Loop, stream


@pytest.fixture
def loop():
    opened = Loop()
    yield opened
    opened.close()


def numbers(count, seconds=0.0, ended=None, error=None):
    async def work(outlet):
        try:
            for number in range(count):
                outlet.put(number)
                await asyncio.sleep(seconds)
            if error is not None:
                raise error
        finally:
            if ended is not None:
                ended.append(True)

    return work


def test_items_come_out_in_order_and_all(loop):
    assert list(stream(loop, numbers(5000))) == list(range(5000))


def test_items_come_out_before_the_work_is_done(loop):
    began = time.monotonic()
    first = next(stream(loop, numbers(2, seconds=5)))
    assert first == 0
    assert time.monotonic() - began < 2


def test_an_error_comes_after_everything_that_was_put_before_it(loop):
    seen = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(stream(loop, numbers(100, error=ZeroDivisionError())))
    assert seen == list(range(100))


def test_whoever_stops_iterating_ends_the_work(loop):
    ended = []
    items = stream(loop, numbers(1000, seconds=0.01, ended=ended))
    next(items)
    items.close()
    assert ended == [True]


def test_ctrl_c_gives_out_what_is_there_before_it_is_felt(loop):
    """The signal comes from a thread, in the middle of a wait, as a person's does."""
    ended, seen = [], []
    threading.Timer(
        0.5, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    ).start()
    with pytest.raises(KeyboardInterrupt):
        seen.extend(stream(loop, numbers(1000, seconds=0.02, ended=ended)))
    assert ended == [True]
    assert seen == list(range(len(seen)))
    assert 10 <= len(seen) < 1000


def test_a_loop_can_be_used_again_after_it_was_closed(loop):
    assert list(stream(loop, numbers(3))) == [0, 1, 2]
    loop.close()
    assert list(stream(loop, numbers(3))) == [0, 1, 2]
