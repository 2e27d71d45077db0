"""Money: the price file, what calls to each model came to, and a budget that stops a run before it is passed.

Before a call is sent, the most that it can cost is reserved: every byte of the prompt as a token, every token of the
answer's limit. What the server reports then takes the place of that estimate. The sums are written to a file of the run's
folder at least every second while calls end, so that a rerun knows what was spent; a kill loses about a second of them.
The most that a batch can cost is held back from when it is sent until it has ended, over runs.
"""

import asyncio
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, field
from fnmatch import fnmatchcase
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from aftertune.core.files import write_whole
from aftertune.core.records import FREE, Price
from aftertune.errors import AftertuneError, InputError, ModelError, Stopped
from aftertune.models.endpoint.providers import Address

SHIPPED = Path(__file__).with_name("prices.yaml")
BATCH_SHARE = 0.5
"""Price of a token in a batch, as a share of its price at once; OpenAI's, for every model."""
_SAVE_SECONDS = 1.0
_PATIENCE_SECONDS = 10.0
_PER = 1_000_000
_FORM = 'write {currency: USD, models: {"openai:MODEL": {input: 0.15, output: 0.60}}}, prices per million tokens'


def in_batch(price: Price) -> Price:
    """Return the price in a batch."""
    return Price(price.input * BATCH_SHARE, price.output * BATCH_SHARE)


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of models by name; names may be patterns, and the first that fits counts."""

    currency: str
    source: str
    """The file, its date and its source, for people who ask where a figure comes from."""
    models: Mapping[str, Price]
    tuning: Mapping[str, float] = field(default_factory=dict)
    """Price of a trained token of a hosted fine-tune, by the same names."""

    def training(self, name: str) -> float | None:
        """Return the price of a trained token of a base model; None is an unknown price."""
        prices = (price for pattern, price in self.tuning.items() if fnmatchcase(name, pattern))
        return next(prices, None)

    def of(self, address: Address) -> Price | None:
        """Return the price of a served model; a server of one's own costs nothing, None is an unknown price."""
        prices = (p for pattern, p in self.models.items() if fnmatchcase(address.name, pattern))
        return next(prices, FREE if address.local else None)


class _Entry(BaseModel):
    """The prices of a model in a price file, per million tokens."""

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    training: float | None = Field(None, ge=0, allow_inf_nan=False)


class _File(BaseModel):
    """A price file."""

    models: dict[str, _Entry]
    currency: str = "USD"
    date: Any = "undated"
    source: str = "source not stated"


def read_prices(path: Path | None = None) -> Prices:
    """Read a price file; the shipped one by default.

    Raises:
        InputError: no such file, or not the keys ``currency`` and ``models`` with ``input`` and ``output`` (and, for
            fine-tuning, ``training``) per million.
    """
    path = path or SHIPPED
    try:
        file = _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(
            f"{path}: the price file cannot be read ({error.strerror}); check engine.prices"
        ) from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the price file"
        raise InputError(f"{path}: {where}: {fault['msg']}; {_FORM}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: the price file is no YAML; {_FORM}") from error
    models = file.models.items()
    return Prices(
        currency=file.currency,
        source=f"{path.name}, {file.date}, {file.source}",
        models={name: Price(entry.input / _PER, entry.output / _PER) for name, entry in models},
        tuning={
            name: entry.training / _PER for name, entry in models if entry.training is not None
        },
    )


class Usage(NamedTuple):
    """The tokens that a call used, as far as the server tells."""

    answered: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unknown: bool = False
    """The call may have been charged for without token counts."""


@dataclass(slots=True)
class Account:
    """The sums of the calls to one model."""

    calls: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    def book(self, most: float, price: Price | None, usage: Usage) -> None:
        """Add a call, at the most that it can cost where its usage is not known.

        Args:
            most: the most that the call can cost.
            price: of a token.
            usage: what the call used.
        """
        self.calls += usage.answered
        self.failures += not usage.answered
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        self.cost += (
            most
            if usage.unknown
            else (price or FREE).of(usage.prompt_tokens, usage.completion_tokens)
        )


@dataclass(slots=True)
class Spending:
    """The accounts of a run with its budget; used from one event loop.

    Args:
        prices: of tokens.
        budget: most that may be spent over all runs with this file, in the currency of the prices; None for no end.
        file: where the sums are kept between runs; None forgets them.

    Raises:
        InputError: the file is not what this class wrote.
    """

    prices: Prices
    budget: float | None = None
    file: Path | None = None
    accounts: dict[str, Account] = field(default_factory=dict)
    """By the model's name, over all runs with this file."""
    settled: list[str] = field(default_factory=list)
    """Keys of the batches that have ended: their costs are in the accounts."""
    held: Callable[[Collection[str]], float] = lambda _: 0.0
    """Returns the most that the batches under way can cost, those that are settled left out."""
    _reserved: float = 0.0
    _open: int = 0
    _tried: float = 0.0
    """The time at which the file was to be written last (`time.monotonic`)."""
    _saved: float = field(default_factory=time.monotonic)
    """The time at which it was written last."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        file = self.file
        if file is None or not file.is_file():
            return
        try:
            document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            entries = {name: asdict(Account(**entry)) for name, entry in document["models"].items()}
            self.accounts = TypeAdapter(dict[str, Account]).validate_python(entries)
            self.settled = [str(key) for key in document.get("batches", ())]
            currency = document["currency"]
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{file}: is no account of a run; move it away to begin a new one"
            ) from error
        sums = [total for account in self.accounts.values() for total in astuple(account)]
        if not all(0 <= total < inf for total in sums):
            raise InputError(
                f"{file}: has a sum that is below 0 or without end; move it away to begin a new account"
            )
        if currency != self.prices.currency:
            raise InputError(
                f"{file}: is kept in {currency}, the prices are in {self.prices.currency}; use one currency for one run"
            )

    @property
    def spent(self) -> float:
        """The sum of all accounts."""
        return sum(account.cost for account in self.accounts.values())

    @property
    def room(self) -> float:
        """Money that may be reserved now; negative where more was spent than the budget is now."""
        if self.budget is None:
            return inf
        return self.budget - self.spent - self._reserved - self.held(self.settled)

    def price(self, address: Address) -> Price | None:
        """Return a model's price; None where it is not known and nothing depends on it.

        Raises:
            ModelError: there is a budget, and no price to hold it with.
        """
        price = self.prices.of(address)
        if price is None and self.budget is not None:
            raise ModelError(
                f"model {address.name!r}: engine.budget is set, but {self.prices.source} has no price for it; add one "
                "(engine.prices names a file of yours)"
            )
        return price

    async def reserve(self, name: str, most: float) -> None:
        """Reserve the most that a call can cost; wait for open calls to end where that may leave room.

        Raises:
            Stopped: it could pass the budget, and no open call can change that.
        """
        while most > self.room:
            if not self._open:
                raise self.used_up(name, most)
            self._changed.clear()
            await self._changed.wait()
        self._reserved += most
        self._open += 1

    def settle(self, name: str, most: float, price: Price | None, usage: Usage) -> None:
        """Put the cost of a call in the place of what was reserved (see `Account.book`).

        A file that cannot be written is tried again for `_PATIENCE_SECONDS`: where the disk is full the store cannot be
        written either, and that is what the run should end with.

        Raises:
            AftertuneError: the file cannot be written for longer.
        """
        self._reserved -= most
        self._open -= 1
        self._changed.set()
        self.accounts.setdefault(name, Account()).book(most, price, usage)
        now = time.monotonic()
        if now > self._tried + _SAVE_SECONDS:
            try:
                self.save()
            except AftertuneError:
                if now > self._saved + _PATIENCE_SECONDS:
                    raise

    def used_up(self, name: str, most: float) -> Stopped:
        """Return the end of a run whose next call might pass the budget."""
        held = self.held(self.settled)
        under_way = f", batches under way may cost {held:.4f}" if held else ""
        return Stopped(
            f"{name}: {self.spent:.4f} of the budget of {self.budget or 0:g} {self.prices.currency} is spent{under_way}, and "
            f"the next call may cost {most:.4f}; raise engine.budget and run again to go on"
        )

    def settle_batch(
        self, batch: str, name: str, price: Price | None, most: float, usages: Iterable[Usage]
    ) -> None:
        """Put the cost of a batch in the place of what was held back; once, however often it is called.

        Args:
            batch: its key.
            name: of the model.
            price: in a batch.
            most: the most that one of its calls can have cost.
            usages: what each call used.
        """
        if batch in self.settled:
            return
        account = self.accounts.setdefault(name, Account())
        for usage in usages:
            account.book(most, price, usage)
        self.settled.append(batch)
        self.save()

    def save(self) -> None:
        """Write the accounts."""
        self._tried = time.monotonic()
        if self.file is None or not self.accounts:
            return
        document = {
            "format": 1,
            "currency": self.prices.currency,
            "prices": self.prices.source,
            "models": {name: asdict(account) for name, account in self.accounts.items()},
            **({"batches": self.settled} if self.settled else {}),
        }
        write_whole(self.file, [json.dumps(document, indent=2) + "\n"])
        self._saved = self._tried
