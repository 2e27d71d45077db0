"""Asks one served model: one session, connections used again, every call tried until it has an answer or its time is up."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aftertune.core.ids import Key
from aftertune.core.protocols import Answer
from aftertune.core.records import Attempt, GenerateJob, Response
from aftertune.errors import EngineError, ModelError, Stopped
from aftertune.models.endpoint import request
from aftertune.models.endpoint.calls import Calls
from aftertune.models.endpoint.concurrency import MOST, Gate
from aftertune.models.endpoint.failures import Failure, of_exception
from aftertune.models.endpoint.nextdoor import NextDoor, is_next_door
from aftertune.models.endpoint.providers import Address, Secret
from aftertune.models.endpoint.reply import read_reply
from aftertune.models.endpoint.session import Session
from aftertune.models.endpoint.spending import Spending
from aftertune.models.endpoint.stream import Outlet
from aftertune.models.endpoint.waiting import asked_to_wait, backoff, until_reset

OUTSTANDING = 4 * MOST
"""Calls that are open or wait for their next try; what is behind them waits unasked."""
_UNDELIVERED = 4096
"""Answers that may wait for whoever stores them before no more are asked for."""
_HOPELESS = 8
"""First calls that all have to be refused as malformed before the request itself is held to be wrong."""
_UNREACHED = 4
"""Failed connections after which a server that has never answered is held to be down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait, in seconds."""

    call: float = 120.0
    """For one reply."""
    retry: float = 300.0
    """For an answer to one call, all its tries together; also for any answer at all."""
    run: float | None = None
    """For all calls of a run; None for no end."""


class Client:
    """Asks one served model.

    Args:
        address: whom to ask for what.
        key: goes into a header of the session and nowhere else; replies that repeat it are freed of it.
        patience: how long to wait.
        spending: where calls are accounted for.
        began: when the run began (`time.monotonic`).
    """

    def __init__(
        self,
        address: Address,
        key: Secret | None,
        patience: Patience,
        spending: Spending,
        began: float,
    ) -> None:
        self._address = address
        self._key = key
        self._patience = patience
        self._spending = spending
        self._price = spending.price(address)
        self._gate = Gate()
        self._server: NextDoor | Session | None = None
        self._run_ends = None if patience.run is None else began + patience.run
        self._answers = 0
        self._last_answer = 0.0
        self._refused = 0
        self._unreached = 0
        self._over = False
        """A call met what ends them all; known before the place that it leaves is taken by the next."""

    async def answer_all(
        self, jobs: Iterable[GenerateJob], outlet: Outlet[tuple[Key, Answer]]
    ) -> None:
        """Ask everything and put each answer out when it is there.

        Raises:
            ModelError, EngineError: no further call can succeed; open calls are dropped.
            Stopped: budget or time are used up; calls that were open get their answers first.
        """
        self._last_answer = time.monotonic()
        calls = Calls()
        try:
            # beside the calls: it waits for places that a call which broke may never give back
            calls.start(self._start_all(jobs, calls, outlet))
            await calls.finish()
        finally:
            await calls.cancel()

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        if self._server is not None:
            await self._server.close()
        self._server = None

    async def answer(self, fields: Mapping[str, Any]) -> Response | Failure:
        """Ask one thing once."""
        most = self._most(dict(fields))
        await self._admit(most)
        return (await self._send(dict(fields), most))[0]

    async def _start_all(
        self, jobs: Iterable[GenerateJob], calls: Calls, outlet: Outlet[tuple[Key, Answer]]
    ) -> None:
        """Start every call as soon as there is a place for it, unless one that is under way ends them all."""
        for job in jobs:
            while (len(calls) >= OUTSTANDING or len(outlet) > _UNDELIVERED) and not calls.ended:
                await calls.change()
            fields = request.job_body(self._address, job)
            most = self._most(fields)
            try:
                self._check_time()
                await self._admit(most)
            except Stopped as error:
                calls.end(error)
                break
            if calls.ended or self._over:
                self._spending.withdraw(most)
                self._gate.failed(overload=False)
                break
            calls.start(self._put(job, fields, most, outlet))

    def _check_time(self) -> None:
        if self._run_ends is not None and time.monotonic() > self._run_ends:
            raise Stopped(
                f"{self._address.name}: the {self._patience.run:g} s of engine.run_seconds are used up; run again to go on"
            )

    def _most(self, fields: dict[str, Any]) -> float:
        limit: int = fields.get(self._address.provider.limit_field, 0)
        return (
            0.0
            if self._price is None
            else self._price.of(request.most_prompt_tokens(fields), limit)
        )

    async def _admit(self, most: float) -> None:
        await self._gate.enter()
        try:
            await self._spending.set_aside(self._address.name, most)
        except BaseException:
            self._gate.failed(overload=False)
            raise

    async def _put(
        self,
        job: GenerateJob,
        fields: dict[str, Any],
        most: float,
        outlet: Outlet[tuple[Key, Answer]],
    ) -> None:
        outlet.put((job.key, await self._answered(fields, most)))

    async def _answered(self, fields: dict[str, Any], most: float) -> Answer:
        """Try an admitted call until it is answered, cannot be, or its time is up."""
        began = time.monotonic()
        failures = 0
        while True:
            result, asked = await self._send(fields, most)
            if isinstance(result, Response):
                self._answers += 1
                self._last_answer = time.monotonic()
                return result
            self._give_up_if_hopeless(result)
            self._come_back_later(asked)
            failures += 1
            wait = max(backoff(failures), asked)
            if not result.retried or time.monotonic() + wait > began + self._patience.retry:
                self._give_up_if_gone(result, began)
                return Attempt(reason=result.reason, detail=result.detail)
            await asyncio.sleep(wait)
            await self._admit(most)

    async def _send(self, fields: dict[str, Any], most: float) -> tuple[Response | Failure, float]:
        """Make an admitted call once; return what came of it and the seconds that the server asks to wait."""
        result: Response | Failure | None = None
        wait = 0.0
        try:
            result, headers = await self._post(self._address.place(fields), request.encoded(fields))
            wait = self._asked_to_wait(result, headers)
        except Exception:
            self._over = True
            raise
        finally:
            self._spending.settle(self._address.name, most, self._price, result)
            if isinstance(result, Response):
                self._gate.answered()
            else:
                self._gate.failed(overload=result is not None and result.overload)
        return result, wait

    def _asked_to_wait(self, result: Response | Failure, headers: Mapping[str, str]) -> float:
        """Hold back every call for as long as the server asks, if that is not too long, and return how long that is."""
        wait = asked_to_wait(headers) if isinstance(result, Failure) else 0.0
        if wait <= self._patience.retry:
            self._gate.close_for(max(wait, min(until_reset(headers), self._patience.retry)))
        return wait

    async def _post(self, url: str, data: bytes) -> tuple[Response | Failure, Mapping[str, str]]:
        self._server = self._server or self._opened()
        try:
            status, headers, body = await self._server.post(url, data)
        except OSError as error:
            return of_exception(error), {}
        return read_reply(self._address, status, self._without_key(body)), headers

    def _opened(self) -> NextDoor | Session:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            **self._address.headers(self._key),
        }
        call, connect = self._patience.call, min(30.0, self._patience.call)
        if is_next_door(self._address):
            return NextDoor(headers, call, connect)
        return Session(headers, call, connect, proxies=not self._address.local)

    def _without_key(self, body: bytes) -> bytes:
        """Return a reply without our key: servers repeat it in errors, and a model might repeat anything."""
        return body if self._key is None else body.replace(self._key.encode(), b"[key removed]")

    def _give_up_if_hopeless(self, failure: Failure) -> None:
        """End the run when the first calls show that all will fail."""
        if self._answers:
            return
        self._refused += failure.reason == "bad_request"
        self._unreached += failure.reason == "unreachable"
        if self._refused >= _HOPELESS:
            raise ModelError(
                f"model {self._address.name!r}: the server accepts none of our calls ({failure.detail})"
            )
        if self._unreached >= _UNREACHED:
            raise ModelError(
                f"model {self._address.name!r}: nobody answers at {self._address.url} ({failure.detail}); start the server or mend the address"
            )

    def _come_back_later(self, asked: float) -> None:
        if asked > self._patience.retry:
            raise Stopped(
                f"{self._address.name}: the server asks to wait {asked:,.0f} s; run again then to go on"
            )

    def _give_up_if_gone(self, failure: Failure, began: float) -> None:
        """End the run when nothing at all was answered for as long as this call was tried."""
        if failure.retried and self._last_answer < began:
            raise EngineError(
                f"model {self._address.name!r}: no answer for {time.monotonic() - began:.0f} s ({failure.reason}: "
                f"{failure.detail}); run again to go on"
            )
