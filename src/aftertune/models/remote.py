"""The part of an engine that is the same for every model behind a server; see `aftertune.core.protocols.Engine`.

`Engine.generate` is a plain iterator, and a thousand open connections are asyncio's work. So one event loop runs in a
thread of its own, and `Remote.stream` hands out what its coroutines put into a queue.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, ClassVar, NoReturn, TypeVar

from aftertune.core.keys import Key
from aftertune.core.protocols import Answer, Engine
from aftertune.core.records import GenerateJob, Message, Thinking
from aftertune.errors import EngineError, Stopped

T = TypeVar("T")
Put = Callable[[tuple[Key, Answer]], object]
"""Hands an answer with its key to whoever iterates over `Engine.generate`."""

CLOSE_SECONDS = 10.0
"""Seconds that closing waits for cancelled work: a connection that does not let go must not keep the process alive."""


def in_seconds(seconds: float) -> str:
    """Return a time for a message: ``0.3 s``, ``12 s``, ``3,600 s``; never 0, since somebody waited."""
    return f"{max(seconds, 0.1):.1f} s" if seconds < 10 else f"{seconds:,.0f} s"


class Loop:
    """An event loop in a thread of its own, from the first use until it is closed; usable from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def here(self) -> bool:
        """Return whether the caller runs in the loop's own thread, where it must not wait for the loop."""
        return threading.current_thread() is self._thread

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine in the loop."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="endpoints", daemon=True
                )
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine that frees something, and wait `CLOSE_SECONDS` for it at most."""
        with suppress(TimeoutError):
            self.start(work).result(CLOSE_SECONDS)

    def cancel(self, task: "asyncio.Task[None]") -> None:
        """Cancel a task of the loop; one whose loop was closed has ended already."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(task.cancel)

    def cancel_all(self) -> None:
        """Cancel what runs in the loop, and wait until it has let go."""
        if self._loop is not None:
            self.run(_cancel_others())

    def close(self) -> None:
        """Cancel what runs in the loop and end its thread; the next use begins a new one."""
        self.cancel_all()
        with self._lock:
            if self._loop is None or self._thread is None:
                return
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CLOSE_SECONDS)
            if not self._thread.is_alive():
                self._loop.close()
            self._loop = self._thread = None


def _rest(answers: "SimpleQueue[T | None]") -> Iterator[T]:
    """Yield what is put into a queue until its end, waiting `CLOSE_SECONDS` at most for work that does not let go."""
    with suppress(Empty):
        while (answer := answers.get(timeout=CLOSE_SECONDS)) is not None:
            yield answer


async def _cancel_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def all_of(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines side by side; the first error cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def side_by_side(works: Sequence[tuple[Engine, Callable[[], object]]]) -> None:
    """Do the works of remote engines at the same time, a thread an engine, and meanwhile those of local ones in order.

    So the batches of all models are under way together. Ctrl-C and any error but `Stopped` end the works of all
    engines. A `Stopped` (a budget, a time limit) only ends the waiting for batches: the others finish what they can.

    Raises:
        AftertuneError: the first error of a work; when all have ended.
    """
    groups: dict[int, list[Callable[[], object]]] = {}
    for engine, work in works:
        groups.setdefault(id(engine) if engine.remote else 0, []).append(work)
    local = groups.pop(0, [])
    engines = {id(engine): engine for engine, _ in works}
    with ThreadPoolExecutor(max(1, len(groups))) as pool:
        futures = {pool.submit(_in_order, group): engines[id_] for id_, group in groups.items()}
        try:
            _in_order(local)
            ends = [_end_of(future, futures) for future in as_completed(futures)]
        except BaseException as error:
            _interrupt(futures)
            wait(futures)
            errors = (future.exception() for future in futures)
            stops = [stop for stop in errors if isinstance(stop, Stopped)]
            if isinstance(error, KeyboardInterrupt) and stops:
                raise stops[0] from None  # it says which batches go on
            raise
    for stop in filter(None, ends):
        raise stop


def _in_order(works: Sequence[Callable[[], object]]) -> None:
    for work in works:
        work()


def _end_of(future: "Future[None]", futures: Mapping["Future[None]", Engine]) -> Stopped | None:
    """Return the stop that ended a thread, and end the waiting for batches then; raise any other error."""
    error = future.exception()
    if isinstance(error, Stopped):
        _interrupt({other: engine for other, engine in futures.items() if engine.by_batch})
        return error
    if error is not None and not isinstance(error, KeyboardInterrupt):  # of a thread that was ended
        raise error
    return None


def _interrupt(futures: Mapping["Future[None]", Engine]) -> None:
    for future, engine in futures.items():
        if not future.done():
            engine.interrupt()


class NoLikelihoods:
    """A model that a server answers for: servers do not give the likelihoods of given answers.

    Attributes:
        name: for messages and tables.
        served_by: for messages.
        deterministic: never; a server's batches change from call to call.
    """

    name: str
    served_by: ClassVar[str] = "an endpoint"
    deterministic = False

    def choice_logprobs(
        self,
        prompts: Sequence[Sequence[Message]],  # noqa: ARG002 - the Protocol's names
        choices: Sequence[str],  # noqa: ARG002
    ) -> list[list[float]]:
        """Raise: servers do not agree on log-probabilities of given answers."""
        self._cannot("score choices")

    def nll(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[float]:  # noqa: ARG002 - the Protocol's names
        """Raise: chat completions give no likelihood of a given answer."""
        self._cannot("give likelihoods")

    def nll_without_adapter(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> None:
        """Return None: there are no likelihoods."""

    def first_token_logprobs(
        self,
        prompts: Sequence[Sequence[Message]],  # noqa: ARG002 - the Protocol's names
        thinking: Thinking,  # noqa: ARG002
    ) -> NoReturn:
        """Raise: servers give the likelihoods of a few tokens at most."""
        self._cannot("give the likelihoods of all tokens")

    @property
    def token_names(self) -> str:
        """Return nothing: the tokens are the server's."""
        return ""

    def _cannot(self, what: str) -> NoReturn:
        raise EngineError(
            f"model {self.name!r}: {self.served_by} cannot {what}; use a local model for this"
        )


class Remote(NoLikelihoods):
    """A model that only gives answers: its tokens and likelihoods stay with the server.

    Attributes:
        loop: where its calls are made; several models may share one.
    """

    loop: Loop
    remote = served = True
    begins_turn = True
    _task: "asyncio.Task[None] | None" = None
    _interrupted = False

    def stream(
        self, work: Callable[[Put], Coroutine[Any, Any, None]]
    ) -> Iterator[tuple[Key, Answer]]:
        """Yield the answers that ``work`` puts out, as it does, then raise what it raised.

        Whoever stops iterating cancels the work. On Ctrl-C, and on `interrupt` from another thread, the answers that
        were put out by then are still yielded before `KeyboardInterrupt` is raised.
        """
        answers: SimpleQueue[tuple[Key, Answer] | None] = SimpleQueue()

        async def begin() -> "asyncio.Task[None]":
            task = asyncio.create_task(work(answers.put))
            # the callback also comes for a task that is cancelled before its first step, where a `finally` would not
            task.add_done_callback(lambda _: answers.put(None))
            return task

        task = self._task = self.loop.start(begin()).result()
        if self._interrupted:  # before there was a task
            self.loop.cancel(task)
        ended = False
        try:
            while (answer := answers.get()) is not None:
                yield answer
            ended = True
        except KeyboardInterrupt:
            self.loop.cancel(task)
            yield from _rest(answers)
            ended = True
            raise
        finally:
            self._task = None
            if not ended:
                self.loop.cancel(task)
                # garbage may be collected in any thread: the loop's own thread would wait for itself
                for _ in () if self.loop.here else _rest(answers):
                    pass
        if task.cancelled():
            self._interrupted = False
            raise KeyboardInterrupt
        task.result()

    def interrupt(self) -> None:
        """End a `generate` that runs in another thread, as Ctrl-C does in the main thread."""
        self._interrupted = True
        if (task := self._task) is not None:
            self.loop.cancel(task)

    def input_tokens(self, jobs: Sequence[GenerateJob]) -> None:
        """Return None: the tokenizer is the server's."""

    @property
    def folds_system(self) -> bool:
        """Return False: a server is sent the system prompt as a turn of its own."""
        return False

    @property
    def continues_answers(self) -> bool:
        """Return False: most servers take an answer's beginning for a finished answer."""
        return False

    @property
    def refusals(self) -> str:
        """Return nothing: no server is known to refuse a setting."""
        return ""

    def altered(self, job: GenerateJob) -> Mapping[str, object]:  # noqa: ARG002 - the Protocol's names
        """Return nothing: no request differs from the usual ones."""
        return {}

    def unknown_share(self, texts: Sequence[str]) -> float:  # noqa: ARG002 - the Protocol's names
        """Return 0.0: a server does not tell its tokens."""
        return 0.0
