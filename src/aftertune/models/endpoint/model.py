"""The engine for a served model; see `aftertune.core.protocols.Engine`."""

import asyncio
import importlib.util
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from aftertune.core.keys import Key
from aftertune.core.protocols import Answer
from aftertune.core.records import Attempt, Decoding, GenerateJob, Message, Price, Response
from aftertune.errors import EngineError, KeysChanged, ModelError, Stopped
from aftertune.models.endpoint import chat
from aftertune.models.endpoint.batch import Batches, Batching, Ledger, batched
from aftertune.models.endpoint.budget import Prices, Spending, in_batch, read_prices
from aftertune.models.endpoint.chat import Failure, RequestForm, read_reply
from aftertune.models.endpoint.http import (
    MOST,
    ConnectionLimit,
    Session,
    Timeouts,
    retry_after,
    until_answered,
)
from aftertune.models.endpoint.providers import Address
from aftertune.models.endpoint.requests import RequestForms
from aftertune.models.remote import Loop, Put, Remote, all_of, in_seconds

ENGINE = "endpoint"
"""The name of this engine in `identity`."""
_TRIED_AGAIN = 3 * MOST
"""Calls that wait for their next try, beside those that are open; the jobs behind them wait unasked."""
_HOPELESS = 8
"""First calls that all have to be refused as malformed before the request itself is held to be wrong."""
_UNREACHED = 4
"""Failed connections after which a server that has never answered is held to be down."""
_PROBE = (
    Message(
        role="user",
        content="Name one fruit, one colour, one animal and one city, each chosen at random.",
    ),
)
_PROBE_DECODING = Decoding(temperature=1.0, max_new_tokens=32, seed=1)


class Client:
    """Asks one served model, call by call; used from one event loop.

    Args:
        session: the connections to it.
        endpoints: how long to wait, and where calls are accounted for.
    """

    def __init__(self, session: Session, endpoints: "Endpoints") -> None:
        self._address, self._session = session.address, session
        self._timeouts, self._spending = endpoints.timeouts, endpoints.spending
        self._price = self._spending.price(self._address)
        self._most_open = endpoints.connections
        self._limit, self._turn = ConnectionLimit(self._most_open), asyncio.Lock()
        self._deadline = endpoints.deadline
        self._forms, self._form, self._trying = endpoints.forms, chat.USUAL, asyncio.Lock()
        self._in_vain: set[tuple[str, ...]] = set()
        """Refusals of fields that no other form of the request could mend."""
        self._kept: dict[Key, Response] = {}
        """Answers to requests whose form was tried, until their jobs come again under their new keys."""
        self._stopped: Stopped | KeysChanged | None = None
        self._answers, self._failures = 0, Counter[str]()
        self._last_answer = 0.0

    async def answer_all(
        self, jobs: Sequence[GenerateJob], put: Put, form: RequestForm = chat.USUAL
    ) -> None:
        """Ask everything and put each answer out when it is there.

        Args:
            jobs: what to ask.
            put: takes the answers.
            form: of the requests, from which the keys of the jobs were made.

        Raises:
            ModelError, EngineError: no further call can succeed; open calls are dropped.
            Stopped: budget or time are used up; calls that were open get their answers first.
            KeysChanged: the server refuses a field, and answers without it; calls that were open get their answers first.
        """
        self._last_answer, self._form = time.monotonic(), form
        left = iter(jobs)
        try:
            await all_of(
                [
                    self._work(left, put)
                    for _ in range(min(self._most_open + _TRIED_AGAIN, len(jobs)))
                ]
            )
        except BaseException:
            # calls that were dropped kept their places
            self._limit, self._stopped = ConnectionLimit(self._most_open), None
            raise
        stopped, self._stopped = self._stopped, None
        if stopped is not None:
            raise stopped

    async def ask(self, fields: dict[str, Any]) -> Response | Failure:
        """Make a call once, as soon as there is a place for it; raises as `answer_all`."""
        await self._limit.enter()
        return await self._send(fields)

    async def _send(self, fields: dict[str, Any]) -> Response | Failure:
        """Make a call that has a place, as soon as there is money for it, and give the place back.

        A call that ends the run keeps its place, so that no other call takes it in the meantime.
        """
        name, most = self._address.name, chat.most_cost(self._price, fields)
        if self._stopped is None and time.monotonic() > self._deadline:
            self._stopped = Stopped(
                f"{name}: the {self._timeouts.run:g} s of engine.run_seconds are used up; run again to go on"
            )
        if self._stopped is not None:
            self._limit.leave()
            raise self._stopped
        try:
            await self._spending.reserve(name, most)
        except Stopped:
            self._limit.leave()
            raise
        result: Response | Failure | None = None
        try:
            result = await self._post(fields)
        finally:
            self._spending.settle(name, most, self._price, chat.usage_of(result))
        if isinstance(result, Failure):
            self._limit.leave(
                overload=result.overload,
                wait=result.wait if result.wait <= self._timeouts.retry else 0.0,
            )
            self._give_up_if_hopeless(result)
        else:
            self._limit.leave(answered=True)
            self._answers, self._last_answer = self._answers + 1, time.monotonic()
        return result

    async def _work(self, left: Iterator[GenerateJob], put: Put) -> None:
        """Do jobs of a list that several workers share, one after the other.

        One worker at a time waits for a place for a new call, so that calls that are tried again do not wait behind all.
        """
        while True:
            async with self._turn:
                await self._limit.enter()
                job = next(left, None)
            if job is None:
                self._limit.leave()
                return
            try:
                answer = await self._answer(job)
            except (Stopped, KeysChanged) as error:
                self._stopped = self._stopped or error
                return
            put((job.key, answer))

    async def _answer(self, job: GenerateJob) -> Answer:
        """Try a call that has a place until it is answered, cannot be, or its time is up."""
        began, tries = time.monotonic(), count()
        fields = chat.job_body(self._address, job, self._form)
        if self._kept and (kept := self._kept.pop(self._key(fields, job), None)):
            self._limit.leave()
            return kept

        async def again() -> Response | Failure:
            return await (self.ask(fields) if next(tries) else self._send(fields))

        result: Response | Failure = await until_answered(self._timeouts)(again)
        if isinstance(result, Response):
            return result
        if result.refused and result.refused not in self._in_vain:
            await self._try_forms(job, result.refused, fields)
        if result.retried and self._last_answer < began:
            raise EngineError(
                f"model {self._address.name!r}: no answer for {in_seconds(time.monotonic() - began)} ({result.reason}: "
                f"{result.detail}); run again to go on"
            )
        return Attempt(reason=result.reason, detail=result.detail)

    async def _try_forms(
        self, job: GenerateJob, refused: tuple[str, ...], fields: dict[str, Any]
    ) -> None:
        """Make a call without what the server refuses in it; return if that helps nothing.

        Raises:
            KeysChanged: a form of the request was answered, and is kept.
        """
        async with self._trying:
            form: RequestForm | None = self._forms.of(self._address)
            if form == self._form:
                form = self._form.changed(refused, fields)
                while form is not None:
                    fields = chat.job_body(self._address, job, form)
                    result: Response | Failure = await until_answered(self._timeouts)(
                        self.ask, fields
                    )
                    if isinstance(result, Response):
                        self._forms.keep(self._address, form)
                        self._kept[self._key(fields, job)] = result
                        break
                    if result.retried:  # nothing was learnt; a rerun finds out
                        return
                    form = form.changed(result.refused, fields)
            if form is None:
                self._in_vain.add(refused)
                return
            raise KeysChanged(f"{self._address.name}: {form.in_words}; run again to go on")

    def _key(self, fields: dict[str, Any], job: GenerateJob) -> Key:
        return chat.key_of(self._address, fields, job.decoding, job.sample)

    async def _post(self, fields: dict[str, Any]) -> Response | Failure:
        url = self._address.url + chat.path_of(fields)
        reply = await self._session.request(
            "POST",
            url,
            data=chat.encoded(fields),
            headers={"Content-Type": "application/json"},
        )
        if isinstance(reply, Failure):
            return reply
        if reply.dropped:
            self._limit.halve()
        if reply.redirects:
            return self._session.redirected(url, reply)
        value, text = self._session.decoded(reply.data), self._session.text(reply.data)
        limit = chat.token_limit(fields)
        result = read_reply(self._address, reply.status, value, text, limit)
        if isinstance(result, Failure) and result.retried:
            return replace(result, wait=retry_after(reply.headers))
        if isinstance(result, Response):
            self._session.answering.add(url)
        return result

    def _give_up_if_hopeless(self, failure: Failure) -> None:
        """End the run when the server asks for patience that it will not get, or the first calls show that all will fail."""
        name = self._address.name
        if failure.wait > self._timeouts.retry:
            raise Stopped(
                f"{name}: the server asks to wait {in_seconds(failure.wait)}; run again then to go on"
            )
        mended = failure.refused and failure.refused not in self._in_vain
        if self._answers or mended:
            return
        self._failures[failure.reason] += 1
        if self._failures["bad_request"] >= _HOPELESS:
            raise ModelError(
                f"model {name!r}: the server accepts none of our calls ({failure.detail})"
            )
        if self._failures["unreachable"] >= _UNREACHED:
            raise ModelError(
                f"model {name!r}: nobody answers at {self._address.url} ({failure.detail}); start the server or mend the address"
            )


class EndpointModel(Remote):
    """A served model.

    Attributes:
        name: for messages and tables.
        identity: base URL and model name. What stands behind them is the server's affair; what it says of that is in
            `Response.detail` (``served_model``, ``system_fingerprint``).
        by_batch: whether it is asked by OpenAI's batch API; the same call has the same key either way.
    """

    moderates = True

    def __init__(
        self, name: str, address: Address, endpoints: "Endpoints", *, by_batch: bool = False
    ) -> None:
        self.name = name
        self.identity: Mapping[str, object] = {
            "engine": ENGINE,
            "url": address.url,
            "model": address.model,
        }
        self.address, self.by_batch, self.loop = address, by_batch, endpoints.loop
        self._endpoints = endpoints
        self._form = endpoints.forms.of(address)
        self._seed_honoured: bool | None = None

    @property
    def price(self) -> Price | None:
        """Return the price of a token, as this model is asked; None for an unknown price."""
        price = self._endpoints.prices.of(self.address)
        return in_batch(price) if self.by_batch and price is not None else price

    @property
    def price_source(self) -> str:
        """Return the price file with its date and source."""
        return self._endpoints.prices.source

    @property
    def refusals(self) -> str:
        """Return what the server refuses to be sent, in words; empty where it takes everything."""
        return self._form.in_words

    @property
    def continues_answers(self) -> bool:
        """Return whether the server takes the beginning of an answer as the last message, and goes on behind it."""
        return self.address.provider.continuing is not None

    @property
    def folds_system(self) -> bool:
        """Return whether the server takes no system turn, so that its text stands at the head of the user's turn."""
        return self._form.folds_system

    def altered(self, job: GenerateJob) -> Mapping[str, object]:
        """Return the fields of a job's request that differ from the usual ones; None stands for one that is left out."""
        usual = chat.job_body(self.address, job)
        sent = chat.job_body(self.address, job, self._form)
        names = sorted(usual.keys() | sent.keys())
        return {n: sent.get(n) for n in names if sent.get(n) != usual.get(n)}

    @property
    def destination(self) -> str:
        """Return the base URL, unless it lies on this machine or in its network."""
        return "" if self.address.local else self.address.url

    def check_ready(self) -> None:
        """See that the key is there, and a price if there is a budget.

        Raises:
            ModelError: one of them is missing.
        """
        self.address.key()
        self._endpoints.spending.price(self.address)

    @cached_property
    def _session(self) -> Session:
        ends = self._endpoints
        return Session(self.address, self.address.key(), ends.timeouts, ends.answering)

    @cached_property
    def _client(self) -> Client:
        return Client(self._session, self._endpoints)

    @cached_property
    def _batches(self) -> Batches:
        ends = self._endpoints
        return Batches(
            self._session, ends.ledger, ends.spending, ends.batching, ends.deadline, ends.forms
        )

    def keys(
        self, conversations: Sequence[Sequence[Message]], decoding: Decoding, sample: int
    ) -> list[Key]:
        """Return the key of each call: base URL, model, the exact request body, decoding seed, sample number and replicate."""
        bodies = (
            chat.body(self.address, messages, decoding, sample, self._form)
            for messages in conversations
        )
        return [chat.key_of(self.address, fields, decoding, sample) for fields in bodies]

    def generate(self, jobs: Iterable[GenerateJob]) -> Iterator[tuple[Key, Answer]]:
        """Answer each job, in any order; many are open at a time, or all of them wait for their batch.

        An answer's ``detail`` says what the server calls itself, and where it ignores the ``seed``
        (``"seed": "ignored"``) or is sent none (``"not sent"``). A call without an answer gives an attempt with its reason.

        Raises:
            ModelError: the key, the model or the address is wrong; the server has no batches.
            EngineError: the server answers nothing any more, or the account has no credit.
            Stopped: the budget or the run's time is used up; batches under way go on.
            KeysChanged: the server refuses a field, and answers without it: `keys` gives other keys now.
        """
        listed = list(jobs)
        waiting = [job for job in listed if self.by_batch and batched(job)]
        at_once = [job for job in listed if not (self.by_batch and batched(job))]
        if waiting:
            try:
                yield from self._answers(waiting, self._batches.answer_all)
            except KeyboardInterrupt:
                raise Stopped(
                    f"{self.name}: stopped watching; batches under way go on, and the same command picks them up"
                ) from None
        if at_once:
            yield from self._answers(at_once, self._client.answer_all)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        if "_session" in self.__dict__:  # it was used
            self.loop.run(self._session.close())
        for name in ("_session", "_client", "_batches"):
            self.__dict__.pop(name, None)

    def _answers(
        self,
        jobs: Sequence[GenerateJob],
        answer_all: Callable[[Sequence[GenerateJob], Put, RequestForm], Awaitable[None]],
    ) -> Iterator[tuple[Key, Answer]]:
        draws = any(job.decoding.temperature > 0 for job in jobs)
        seed = self.address.provider.seed and "seed" not in self._form.left_out

        async def work(put: Put) -> None:
            if draws and seed and self._seed_honoured is None:
                # something harmless is asked twice with one seed, to see whether the server honours it
                fields = chat.body(self.address, _PROBE, _PROBE_DECODING, 0, self._form)
                replies = [await self._client.ask(fields) for _ in range(2)]
                texts = {reply.text for reply in replies if isinstance(reply, Response)}
                if not any(isinstance(reply, Failure) and reply.refused for reply in replies):
                    self._seed_honoured = len(texts) != len(replies)
            await answer_all(jobs, put, self._form)

        try:
            for key, answer in self.stream(work):
                remark = (
                    "not sent" if not seed else "ignored" if self._seed_honoured is False else ""
                )
                if isinstance(answer, Response) and remark:
                    answer = replace(answer, detail={**answer.detail, "seed": remark})  # noqa: PLW2901
                yield key, answer
        except KeysChanged:
            self._form = self._endpoints.forms.of(self.address)
            raise


class Endpoints:
    """The served models of a run: one event loop, one account.

    Attributes:
        models: those that were opened.
        answering: the URLs that have given a good reply, whichever model they were asked for.

    Args:
        timeouts: how long to wait for replies.
        budget: most that may be spent, in the currency of the prices; None for no end.
        prices: a price file; None for the shipped one.
        accounts: the file that keeps tokens and money between runs; None forgets them.
        batching: the models that are asked by batch; by default none.
        connections: most calls that are open at a time to one model.
        requests: the file that keeps what servers refuse between runs; None forgets it.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of a run, by its name
        self,
        *,
        timeouts: Timeouts | None = None,
        budget: float | None = None,
        prices: Path | None = None,
        accounts: Path | None = None,
        batching: Batching | None = None,
        connections: int = MOST,
        requests: Path | None = None,
    ) -> None:
        self.timeouts, self.batching = timeouts or Timeouts(), batching or Batching()
        self.budget, self.connections = budget, connections
        self.loop = Loop()
        self.models: list[EndpointModel] = []
        self.answering: set[str] = set()
        self._files = (prices, accounts, requests)

    @cached_property
    def prices(self) -> Prices:
        """The prices; read from their file at the first use."""
        return read_prices(self._files[0])

    @cached_property
    def forms(self) -> RequestForms:
        """The forms of requests that servers take; read from their file at the first use."""
        return RequestForms(self._files[2], self.batching.note)

    @cached_property
    def ledger(self) -> Ledger:
        """The batches; read from their folder at the first use."""
        return Ledger(self.batching.folder)

    @cached_property
    def spending(self) -> Spending:
        """The account; read from its file at the first use."""
        return Spending(self.prices, self.budget, self._files[1], held=self.ledger.held)

    @cached_property
    def deadline(self) -> float:
        """The moment at which the run's time is up (`time.monotonic`); it begins with the first call."""
        return time.monotonic() + (self.timeouts.run or math.inf)

    def open(self, address: Address, name: str, *, own: bool = False) -> EndpointModel:
        """Open a served model; asks nobody, and needs no key yet.

        Args:
            address: whom to ask.
            name: for messages and tables.
            own: this run started the server, which has no batches.

        Raises:
            ModelError: aiohttp or tenacity is not installed; or the model shall be asked by batch and cannot.
        """
        by_batch = not own and self.batching.covers(address)
        missing = [
            package for package in ("aiohttp", "tenacity") if not importlib.util.find_spec(package)
        ]
        if missing:
            raise ModelError(
                f"model {name!r}: endpoints need {missing[0]}; pip install 'aftertune[endpoint]'"
            )
        model = EndpointModel(name, address, self, by_batch=by_batch)
        self.models.append(model)
        return model

    def close(self) -> None:
        """Close all connections and write the account.

        Raises:
            AftertuneError: the account cannot be written.
        """
        self.loop.cancel_all()
        for model in self.models:
            model.close()
        self.loop.close()
        if "spending" in self.__dict__:  # it was used
            self.spending.save()
