"""The engine for a served model; see `aftertune.core.protocols.Engine`."""

import importlib.util
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from aftertune.core.ids import Key
from aftertune.core.protocols import Answer
from aftertune.core.records import Attempt, Decoding, GenerateJob, Message, Response
from aftertune.engine.endpoint import request
from aftertune.engine.endpoint.client import Client, Patience
from aftertune.engine.endpoint.nextdoor import is_next_door
from aftertune.engine.endpoint.prices import read_prices
from aftertune.engine.endpoint.providers import Address
from aftertune.engine.endpoint.spending import Spending
from aftertune.engine.endpoint.stream import Loop, Outlet, stream
from aftertune.errors import EngineError, ModelError

ENGINE = "endpoint"
"""What `identity` calls this engine."""
_PROBE = (Message(role="user", content="Name one fruit, one colour, one animal and one city, each chosen at random."),)
_PROBE_DECODING = Decoding(temperature=1.0, max_new_tokens=32, seed=1)


class EndpointModel:
    """A served model.

    Attributes:
        name: for messages and tables.
        identity: base URL and model name. What stands behind them is the server's affair; what it says of that is in
            `Response.detail` (``served_model``, ``system_fingerprint``).
    """

    def __init__(self, name: str, address: Address, endpoints: "Endpoints") -> None:
        self.name = name
        self.identity: Mapping[str, object] = {"engine": ENGINE, "url": address.url, "model": address.model}
        self.address = address
        self._endpoints = endpoints
        self._client: Client | None = None
        self._seed = "sent" if address.provider.seed else "not sent"

    def keys(self, conversations: Sequence[Sequence[Message]], decoding: Decoding, sample: int) -> list[Key]:
        """Return the key of each call: base URL, model, the exact request body, decoding seed and sample number."""
        return [
            request.key_of(self.address, request.body(self.address, messages, decoding, sample), decoding, sample)
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
        if not listed:
            return
        client = self._opened()

        async def work(outlet: Outlet[tuple[Key, Answer]]) -> None:
            if self._seed == "sent" and any(job.decoding.temperature > 0 for job in listed):
                self._seed = await self._probe_seed(client)
            await client.answer_all(listed, outlet)

        for key, answer in stream(self._endpoints.loop, work):
            yield key, self._told(answer)

    def most_cost(self, jobs: Iterable[GenerateJob]) -> float | None:
        """Return the most that jobs can cost, in the currency of the prices, each answered at once; None without a price.

        Every byte of a prompt counts as a token, and every answer as long as it may be.
        """
        price = self._endpoints.spending.prices.of(self.address)
        if price is None:
            return None
        asked = [request.body(self.address, job.messages, job.decoding, job.sample) for job in jobs]
        limit = self.address.provider.limit_field
        return sum(price.of(request.most_prompt_tokens(fields), fields[limit]) for fields in asked)

    def unknown_share(self, texts: Sequence[str]) -> float:  # noqa: ARG002 - the Protocol's names
        """Return 0.0: a server does not tell its tokens."""
        return 0.0

    def choice_logprobs(self, prompts: Sequence[Sequence[Message]], choices: Sequence[str]) -> list[list[float]]:  # noqa: ARG002 - the Protocol's names
        """Raise: servers do not agree on log-probabilities of given answers."""
        self._cannot("score choices")

    def nll(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[float]:  # noqa: ARG002 - the Protocol's names
        """Raise: chat completions give no likelihood of a given answer."""
        self._cannot("give likelihoods")

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        if self._client is not None:
            self._endpoints.loop.start(self._client.close()).result()
        self._client = None

    def _opened(self) -> Client:
        if self._client is None:
            ends = self._endpoints
            self._client = Client(self.address, self.address.key(), ends.patience, ends.spending, ends.began())
        return self._client

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

    def _cannot(self, what: str) -> NoReturn:
        raise EngineError(f"model {self.name!r}: an endpoint cannot {what}; use a local model for this")


class Endpoints:
    """The served models of a run: one event loop, one account.

    Attributes:
        models: those that were opened.

    Args:
        patience: how long to wait for replies.
        budget: most that may be spent, in the currency of the prices; None for no end.
        prices: a price file; None for the shipped one.
        accounts: the file that keeps tokens and money between runs; None forgets them.
    """

    def __init__(
        self,
        *,
        patience: Patience | None = None,
        budget: float | None = None,
        prices: Path | None = None,
        accounts: Path | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self.loop = Loop()
        self._limits = (prices, budget, accounts)
        self._spending: Spending | None = None
        self._began: float | None = None
        self.models: list[EndpointModel] = []

    @property
    def budget(self) -> float | None:
        """Most that may be spent; None for no end."""
        return self._limits[1]

    @property
    def spending(self) -> Spending:
        """The account; read from its file at the first use."""
        if self._spending is None:
            prices, budget, accounts = self._limits
            self._spending = Spending(read_prices(prices), budget, accounts)
        return self._spending

    def check_ready(self) -> None:
        """See that the opened models have their keys, and prices if there is a budget; before hours of other work.

        Raises:
            ModelError: one of them has not.
        """
        for model in self.models:
            model.address.key()
            self.spending.price(model.address)

    def began(self) -> float:
        """Return when the first call was about to be made (`time.monotonic`)."""
        self._began = time.monotonic() if self._began is None else self._began
        return self._began

    def open(self, address: Address, name: str) -> EndpointModel:
        """Open a served model; asks nobody, and needs no key yet.

        Raises:
            ModelError: aiohttp is not installed, which all servers but those next door need.
        """
        if not is_next_door(address) and importlib.util.find_spec("aiohttp") is None:
            raise ModelError(f"model {name!r}: endpoints need aiohttp; pip install 'aftertune[endpoint]'")
        model = EndpointModel(name, address, self)
        self.models.append(model)
        return model

    def close(self) -> None:
        """Close all connections and write the account."""
        for model in self.models:
            model.close()
        self.loop.close()
        if self._spending is not None:
            self._spending.save()
