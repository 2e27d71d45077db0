"""The engine for a served model; see `aftertune.core.protocols.Engine`."""

import importlib.util
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from aftertune.core.ids import Key
from aftertune.core.protocols import Answer
from aftertune.core.records import Attempt, Decoding, GenerateJob, Message, Price, Response
from aftertune.errors import ModelError, Stopped
from aftertune.models.endpoint import request
from aftertune.models.endpoint.batch_ledger import Batching, Ledger, Step
from aftertune.models.endpoint.batch_lines import batched
from aftertune.models.endpoint.batch_service import BatchService
from aftertune.models.endpoint.batches import Batches
from aftertune.models.endpoint.client import Client, Patience
from aftertune.models.endpoint.prices import Prices, in_batch, read_prices
from aftertune.models.endpoint.providers import Address
from aftertune.models.endpoint.spending import Spending
from aftertune.models.endpoint.stream import Loop, Outlet, stream
from aftertune.models.remote import Remote

ENGINE = "endpoint"
"""What `identity` calls this engine."""
_PROBE = (
    Message(
        role="user",
        content="Name one fruit, one colour, one animal and one city, each chosen at random.",
    ),
)
_PROBE_DECODING = Decoding(temperature=1.0, max_new_tokens=32, seed=1)


class _Submitted(BaseException):
    """Ends the asking of what was only to be sent; no plug-in catches it by catching every error."""


class EndpointModel(Remote):
    """A served model.

    Attributes:
        name: for messages and tables.
        identity: base URL and model name. What stands behind them is the server's affair; what it says of that is in
            `Response.detail` (``served_model``, ``system_fingerprint``).
        by_batch: whether it is asked by OpenAI's batch API; the same call has the same key either way.
    """

    served_by = "an endpoint"
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
        self.address = address
        self._endpoints = endpoints
        self.by_batch = by_batch
        self._client: Client | None = None
        self._batches: Batches | None = None
        self._submitting = False
        self._seed = "sent" if address.provider.seed else "not sent"

    def keys(
        self, conversations: Sequence[Sequence[Message]], decoding: Decoding, sample: int
    ) -> list[Key]:
        """Return the key of each call: base URL, model, the exact request body, decoding seed and sample number."""
        return [
            request.key_of(
                self.address,
                request.body(self.address, messages, decoding, sample),
                decoding,
                sample,
            )
            for messages in conversations
        ]

    def generate(self, jobs: Iterable[GenerateJob]) -> Iterator[tuple[Key, Answer]]:
        """Answer each job, in any order; many are open at a time.

        An answer's ``detail`` says what the server calls itself, and where it ignores the ``seed``
        (``"seed": "ignored"``) or is sent none (``"not sent"``). A call without an answer gives an attempt with its reason.

        Raises:
            ModelError: the key, the model or the address is wrong.
            EngineError: the server answers nothing any more, or the account has no credit.
            Stopped: the budget or the run's time is used up.
        """
        listed = list(jobs)
        if self._submitting:
            self.submit(listed)
            raise _Submitted
        if self.by_batch and (waiting := [job for job in listed if batched(job)]):
            listed = [job for job in listed if not batched(job)]
            yield from self._generate_by_batch(waiting)
        if not listed:
            return
        client = self._opened()

        async def work(outlet: Outlet[tuple[Key, Answer]]) -> None:
            if self._draws(listed):
                self._seed = await self._probe_seed(client)
            await client.answer_all(listed, outlet)

        for key, answer in stream(self._endpoints.loop, work):
            yield key, self._told(answer)

    def submit(self, jobs: Iterable[GenerateJob]) -> None:
        """Send jobs without waiting, if this model is asked by batch: `generate` waits for what is under way already.

        Raises:
            ModelError, EngineError: as `generate`.
        """
        waiting = [job for job in jobs if batched(job)] if self.by_batch else []
        if waiting:
            self._opened_batches().submit(waiting)

    def submit_questions(self, asking: Iterator[object]) -> None:
        """Let a guard or judge ask this model, and only send its first questions."""
        self._submitting = True
        try:
            for _ in asking:
                pass
        except _Submitted:
            return
        finally:
            self._submitting = False

    @property
    def price(self) -> Price | None:
        """What a token costs, as this model is asked; None for an unknown price."""
        price = self._endpoints.prices.of(self.address)
        return in_batch(price) if self.by_batch and price is not None else price

    @property
    def price_source(self) -> str:
        """Return the price file with its date and source."""
        return self._endpoints.prices.source

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

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        if self._client is not None:
            self._endpoints.loop.start(self._client.close()).result()
        if self._batches is not None:
            self._batches.close()
        self._client = self._batches = None

    def _opened(self) -> Client:
        if self._client is None:
            ends = self._endpoints
            self._client = Client(
                self.address, self.address.key(), ends.patience, ends.spending, ends.began()
            )
        return self._client

    def _opened_batches(self) -> Batches:
        if self._batches is None:
            ends = self._endpoints
            service = BatchService(self.address, self.address.key(), ends.loop, ends.patience.call)
            deadline = None if ends.patience.run is None else ends.began() + ends.patience.run
            self._batches = Batches(
                self.address, service, ends.ledger, ends.spending, ends.batching.note, deadline
            )
        return self._batches

    def _generate_by_batch(self, jobs: Sequence[GenerateJob]) -> Iterator[tuple[Key, Answer]]:
        if self._draws(jobs):
            self._seed = self._endpoints.loop.start(self._probe_seed(self._opened())).result()
        try:
            for key, answer in self._opened_batches().generate(jobs):
                yield key, self._told(answer)
        except KeyboardInterrupt:
            raise Stopped(
                f"{self.name}: stopped watching; batches under way go on, and the same command picks them up"
            ) from None

    def _draws(self, jobs: Iterable[GenerateJob]) -> bool:
        """Return whether it has to be found out what the server makes of a seed."""
        return self._seed == "sent" and any(job.decoding.temperature > 0 for job in jobs)

    async def _probe_seed(self, client: Client) -> str:
        """Ask something harmless twice with one seed; say what became of the seed."""
        fields = request.body(self.address, _PROBE, _PROBE_DECODING, 0)
        replies = [await client.answer(fields) for _ in range(2)]
        texts = {reply.text for reply in replies if isinstance(reply, Response)}
        return "ignored" if len(texts) == len(replies) else "honoured"

    def _told(self, answer: Answer) -> Answer:
        """Add to an answer what its seed was worth, where that is little."""
        if isinstance(answer, Attempt) or self._seed in ("sent", "honoured"):
            return answer
        return replace(answer, detail={**answer.detail, "seed": self._seed})


class Endpoints:
    """The served models of a run: one event loop, one account.

    Attributes:
        models: those that were opened.

    Args:
        patience: how long to wait for replies.
        budget: most that may be spent, in the currency of the prices; None for no end.
        prices: a price file; None for the shipped one.
        accounts: the file that keeps tokens and money between runs; None forgets them.
        batching: the models that are asked by batch; by default none.
    """

    def __init__(
        self,
        *,
        patience: Patience | None = None,
        budget: float | None = None,
        prices: Path | None = None,
        accounts: Path | None = None,
        batching: Batching | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self.loop = Loop()
        self.batching = batching or Batching()
        self._limits = (prices, budget, accounts)
        self._ledger: Ledger | None = None
        self._prices: Prices | None = None
        self._spending: Spending | None = None
        self._began: float | None = None
        self.models: list[EndpointModel] = []

    @property
    def budget(self) -> float | None:
        """Most that may be spent; None for no end."""
        return self._limits[1]

    @property
    def by_batch(self) -> bool:
        """Whether any opened model is asked by batch."""
        return any(model.by_batch for model in self.models)

    @property
    def prices(self) -> Prices:
        """The prices; read from their file at the first use."""
        if self._prices is None:
            self._prices = read_prices(self._limits[0])
        return self._prices

    @property
    def spending(self) -> Spending:
        """The account; read from its file at the first use."""
        if self._spending is None:
            _, budget, accounts = self._limits
            self._spending = Spending(self.prices, budget, accounts)
            for batch in self.ledger.batches.values():
                if batch.step is not Step.ENDED:
                    self._spending.hold(batch.key, batch.most)
        return self._spending

    @property
    def ledger(self) -> Ledger:
        """The batches; read from their folder at the first use."""
        if self._ledger is None:
            self._ledger = Ledger(self.batching.folder)
        return self._ledger

    def began(self) -> float:
        """Return when the first call was about to be made (`time.monotonic`)."""
        self._began = time.monotonic() if self._began is None else self._began
        return self._began

    def open(self, address: Address, name: str, *, own: bool = False) -> EndpointModel:
        """Open a served model; asks nobody, and needs no key yet.

        Args:
            address: whom to ask.
            name: for messages and tables.
            own: this run started the server, which has no batches.

        Raises:
            ModelError: aiohttp or httptools is not installed; or the model shall be asked by batch and cannot.
        """
        by_batch = not own and self.batching.covers(address)
        if missing := [
            package
            for package in ("aiohttp", "httptools")
            if importlib.util.find_spec(package) is None
        ]:
            raise ModelError(
                f"model {name!r}: endpoints need {missing[0]}; pip install 'aftertune[endpoint]'"
            )
        model = EndpointModel(name, address, self, by_batch=by_batch)
        self.models.append(model)
        return model

    def close(self) -> None:
        """Close all connections and write the account."""
        for model in self.models:
            model.close()
        self.loop.close()
        if self._spending is not None:
            self._spending.save()
