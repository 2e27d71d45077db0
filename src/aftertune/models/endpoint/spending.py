"""Tokens and money of a run, and a budget that stops it before it is passed.

Before a call is sent, the most that it can cost is set aside: every byte of the prompt as a token, every token of the
answer's limit. What the server reports then takes the place of that bound. A file keeps the sum between runs. It is
written ahead of the spending, so that a kill can only make it too high, by about one per cent of the budget. The most
that a batch can cost is held back from when it is sent until it has ended, over runs; the ledger of batches keeps it.
"""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from aftertune.core.files import write_whole
from aftertune.core.records import Price, Response
from aftertune.errors import InputError, ModelError, Stopped
from aftertune.models.endpoint.failures import Failure
from aftertune.models.endpoint.prices import Prices
from aftertune.models.endpoint.providers import Address

_AHEAD = 0.01
"""Share of the budget by which the file may run ahead."""


@dataclass(slots=True)
class Account:
    """What the calls to one model came to."""

    calls: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


@dataclass(slots=True)
class Spending:
    """The accounts of a run; used from one event loop.

    Args:
        prices: what tokens cost.
        budget: most that may be spent over all runs with this file, in the currency of the prices; None for no end.
        file: where the sum is kept between runs; None forgets it.

    Raises:
        InputError: the file is not what this class wrote.
    """

    prices: Prices
    budget: float | None = None
    file: Path | None = None
    accounts: dict[str, Account] = field(default_factory=dict)
    """By the model's name, over all runs with this file."""
    held: dict[str, float] = field(default_factory=dict)
    """The most that each batch under way can cost, by its key."""
    settled: list[str] = field(default_factory=list)
    """Keys of the batches that have ended: what they cost is in the accounts."""
    _aside: float = 0.0
    _open: int = 0
    _written: float = 0.0
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        if self.file is not None and self.file.is_file():
            self.accounts, self.settled = _read(self.file, self.prices.currency)
        self._written = self.spent

    @property
    def spent(self) -> float:
        """The sum of all accounts."""
        return sum(account.cost for account in self.accounts.values())

    @property
    def room(self) -> float:
        """What may be set aside now; negative where more was spent than the budget is now."""
        return (
            inf
            if self.budget is None
            else self.budget - self.spent - self._aside - sum(self.held.values())
        )

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

    async def set_aside(self, name: str, most: float) -> None:
        """Take the most that a call can cost out of the budget; wait for open calls to settle where that is needed.

        Raises:
            Stopped: it could pass the budget, and no open call can change that.
        """
        while self.budget is not None and most > self.room:
            if not self._open:
                raise self.used_up(name, most)
            self._settled.clear()
            await self._settled.wait()
        self._aside += most
        self._open += 1
        self._write_ahead(name, most)

    def used_up(self, name: str, most: float) -> Stopped:
        """Return the end of a run whose next call might pass the budget."""
        held = sum(self.held.values())
        under_way = f", batches under way may cost {held:.4f}" if held else ""
        return Stopped(
            f"{name}: {self.spent:.4f} of the budget of {self.budget or 0:g} {self.prices.currency} is spent{under_way}, and "
            f"the next call may cost {most:.4f}; raise engine.budget and run again to go on"
        )

    def hold(self, batch: str, most: float) -> None:
        """Hold back the most that a batch can cost, unless it has ended."""
        if batch not in self.settled:
            self.held[batch] = most

    def settle_batch(
        self,
        batch: str,
        name: str,
        price: Price | None,
        results: Iterable[tuple[float, Response | Failure]],
    ) -> None:
        """Put what a batch cost in the place of what was held back; once, however often it is called.

        Args:
            batch: its key.
            name: of the model.
            price: in a batch.
            results: each line, and the most that it can have cost.
        """
        self.held.pop(batch, None)
        if batch in self.settled:
            return
        account = self.accounts.setdefault(name, Account())
        for most, result in results:
            _book(account, most, price, result)
        self.settled.append(batch)
        self._write(self.spent)

    def drop(self, batch: str) -> None:
        """Hold nothing back any more for a batch that was never created."""
        self.held.pop(batch, None)

    def withdraw(self, most: float) -> None:
        """Put back what was set aside for a call that was never sent."""
        self._aside -= most
        self._open -= 1
        self._settled.set()

    def settle(
        self, name: str, most: float, price: Price | None, result: Response | Failure | None
    ) -> None:
        """Put what a call cost in the place of what was set aside; ``None`` for a call that was cancelled."""
        self.withdraw(most)
        _book(self.accounts.setdefault(name, Account()), most, price, result)

    def save(self) -> None:
        """Write the accounts as they are."""
        if self.accounts:
            self._write(self.spent)

    def _write_ahead(self, name: str, most: float) -> None:
        ahead = self.spent + self._aside
        if ahead > self._written and self.file is not None:
            step = max(64 * most, _AHEAD * (self.budget or 0.0))
            self._write(ahead + step, name)

    def _write(self, total: float, ahead: str = "") -> None:
        """Write the accounts; what stands ahead of them is booked on one model."""
        self._written = total
        if self.file is None:
            return
        models = {
            name: {key: getattr(account, key) for key in Account.__slots__}
            for name, account in self.accounts.items()
        }
        if ahead:
            models.setdefault(ahead, {key: getattr(Account(), key) for key in Account.__slots__})[
                "cost"
            ] += total - self.spent
        told = {
            "format": 1,
            "currency": self.prices.currency,
            "prices": self.prices.source,
            "models": models,
        }
        told |= {"batches": self.settled} if self.settled else {}
        write_whole(self.file, [json.dumps(told, indent=2) + "\n"])


def _book(
    account: Account, most: float, price: Price | None, result: Response | Failure | None
) -> None:
    if isinstance(result, Response):
        account.calls += 1
        account.prompt_tokens += result.prompt_tokens
        account.completion_tokens += result.completion_tokens
        reported = (price or Price(0.0, 0.0)).of(result.prompt_tokens, result.completion_tokens)
        account.cost += most if result.detail.get("usage") == "missing" else reported
    else:
        account.failures += 1
        account.cost += most if result is None or result.billed else 0.0


def _read(file: Path, currency: str) -> tuple[dict[str, Account], list[str]]:
    try:
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        accounts = {name: Account(**entry) for name, entry in told["models"].items()}
        found, settled = told["currency"], [str(key) for key in told.get("batches", ())]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: is no account of a run; move it away to begin a new one"
        ) from error
    if found != currency:
        raise InputError(
            f"{file}: is kept in {found}, the prices are in {currency}; use one currency for one run"
        )
    return accounts, settled
