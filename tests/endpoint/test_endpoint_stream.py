"""The way from coroutines to a plain iterator, and engines that are asked side by side."""

import asyncio
import signal
import threading
import time

import pytest
from fake_engine import FakeEngine

from aftertune.errors import ModelError, Stopped
from aftertune.models.remote import Loop, Remote, side_by_side


class Counter(Remote):
    """Puts out numbers."""

    by_batch = False

    def __init__(self, loop):
        self.loop, self.ended = loop, []

    def numbers(self, count, seconds=0.0, error=None):
        async def work(put):
            try:
                for number in range(count):
                    put(number)
                    await asyncio.sleep(seconds)
                if error is not None:
                    raise error
            finally:
                self.ended.append(True)

        return self.stream(work)


@pytest.fixture
def loop():
    opened = Loop()
    yield opened
    opened.close()


@pytest.fixture
def counter(loop):
    return Counter(loop)


def test_items_come_out_in_order_and_all(counter):
    assert list(counter.numbers(5000)) == list(range(5000))


def test_items_come_out_before_the_work_is_done(counter):
    began = time.monotonic()
    assert next(counter.numbers(2, seconds=5)) == 0
    assert time.monotonic() - began < 5


def test_an_error_comes_after_everything_that_was_put_before_it(counter):
    seen = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(counter.numbers(100, error=ZeroDivisionError()))
    assert seen == list(range(100))


def test_whoever_stops_iterating_ends_the_work(counter):
    items = counter.numbers(1000, seconds=0.01)
    next(items)
    items.close()
    assert counter.ended == [True]


def interrupt_soon():
    main = threading.main_thread().ident
    threading.Timer(0.5, lambda: signal.pthread_kill(main, signal.SIGINT)).start()


def test_ctrl_c_gives_out_what_is_there_before_it_is_felt(counter):
    """The signal comes from a thread, in the middle of a wait, as a person's does."""
    seen = []
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        seen.extend(counter.numbers(1000, seconds=0.02))
    assert counter.ended == [True]
    assert seen == list(range(len(seen)))
    assert 10 <= len(seen) < 1000


def test_a_loop_can_be_used_again_after_it_was_closed(counter):
    assert list(counter.numbers(3)) == [0, 1, 2]
    counter.loop.close()
    assert list(counter.numbers(3)) == [0, 1, 2]


def test_closing_a_loop_ends_an_open_stream_and_leaves_nobody_waiting(counter):
    items, began = counter.numbers(1000, seconds=0.01), time.monotonic()
    next(items)
    counter.loop.close()
    with pytest.raises(KeyboardInterrupt):
        list(items)
    assert counter.ended == [True]
    assert time.monotonic() - began < 5


def collect(engine, into, **how):
    return engine, lambda: into.extend(engine.numbers(40, seconds=0.01, **how))


def test_remote_engines_are_asked_at_the_same_time_and_local_ones_meanwhile(loop):
    order, here = [], FakeEngine()
    engines = [Counter(loop) for _ in range(3)]

    def mark(name):
        return lambda: (time.sleep(0.05), order.append(name))

    works = [collect(engine, order) for engine in engines]
    side_by_side([(here, mark("a")), *works, (here, mark("b"))])
    numbers = [item for item in order if isinstance(item, int)]
    assert numbers[: numbers.index(39)].count(0) == 3, "all have begun before one is done"
    assert [item for item in order if isinstance(item, str)] == ["a", "b"]
    assert sorted(item for item in order if isinstance(item, int)) == sorted([*range(40)] * 3)
    assert order.index("b") < len(order) - 3


def test_one_engine_is_asked_by_one_thread_at_a_time(counter):
    seen = []
    side_by_side([collect(counter, seen), collect(counter, seen)])
    assert seen == [*range(40)] * 2


def test_an_error_of_one_engine_ends_the_others(loop):
    first, second, seen = Counter(loop), Counter(loop), []
    works = [collect(first, [], error=ModelError("wrong key"))]
    works.append((second, lambda: seen.extend(second.numbers(10**6, seconds=0.01))))
    with pytest.raises(ModelError, match="wrong key"):
        side_by_side(works)
    assert second.ended == [True]
    assert seen == list(range(len(seen)))


def test_a_stop_of_one_engine_ends_only_the_waiting_for_batches(loop):
    first, second, waiting, seen = (*(Counter(loop) for _ in range(3)), [])
    waiting.by_batch = True
    works = [
        (first, lambda: list(first.numbers(1, error=Stopped("no money")))),
        collect(second, seen),
        (waiting, lambda: list(waiting.numbers(10**6, seconds=0.01))),
    ]
    with pytest.raises(Stopped, match="no money"):
        side_by_side(works)
    assert seen == list(range(40))


def test_ctrl_c_ends_all_engines(loop):
    engines, seen = [Counter(loop) for _ in range(2)], [[], []]
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        side_by_side(
            [
                (engine, lambda e=engine, s=into: s.extend(e.numbers(10**6, seconds=0.01)))
                for engine, into in zip(engines, seen, strict=True)
            ]
        )
    assert all(engine.ended == [True] for engine in engines)
    assert all(into == list(range(len(into))) and into for into in seen)
