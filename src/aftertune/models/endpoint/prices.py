"""What calls cost: a price file, by default the shipped one, which says how far it can be trusted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from aftertune.core.records import FREE, Price
from aftertune.errors import InputError
from aftertune.models.endpoint.providers import Address

SHIPPED = Path(__file__).with_name("prices.yaml")
BATCH_SHARE = 0.5
"""What a token costs in a batch, as a share of what it costs at once; OpenAI's, for every model."""
_PER = 1_000_000
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
    """What a trained token of a hosted fine-tune costs, by the same names."""

    def training(self, name: str) -> float | None:
        """Return what a trained token of a base model costs; None is an unknown price."""
        return next(
            (price for pattern, price in self.tuning.items() if fnmatchcase(name, pattern)), None
        )

    def of(self, address: Address) -> Price | None:
        """Return the price of a served model; a server of one's own costs nothing, None is an unknown price."""
        name = address.name
        known = next(
            (price for pattern, price in self.models.items() if fnmatchcase(name, pattern)), None
        )
        return FREE if known is None and address.local else known


def read_prices(path: Path | None = None) -> Prices:
    """Read a price file; the shipped one by default.

    Raises:
        InputError: no such file, or not the keys ``currency`` and ``models`` with ``input`` and ``output`` (and, for
            fine-tuning, ``training``) per million.
    """
    path = path or SHIPPED
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _SafeLoader)  # noqa: S506 - safe, and in C where PyYAML was built so
    except OSError as error:
        raise InputError(
            f"{path}: the price file cannot be read ({error.strerror}); check engine.prices"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: the price file is no YAML; {_FORM}") from error
    if not isinstance(data, dict) or not isinstance(data.get("models"), dict):
        raise InputError(f"{path}: the price file has no models; {_FORM}")
    models = {str(name): _price(path, name, entry) for name, entry in data["models"].items()}
    source = (
        f"{path.name}, {data.get('date', 'undated')}, {data.get('source', 'source not stated')}"
    )
    tuning = {
        str(name): _number(path, name, entry["training"]) / _PER
        for name, entry in data["models"].items()
        if "training" in entry
    }
    return Prices(str(data.get("currency", "USD")), source, models, tuning)


_FORM = 'write {currency: USD, models: {"openai:MODEL": {input: 0.15, output: 0.60}}}, prices per million tokens'


def _price(path: Path, name: object, entry: Any) -> Price:
    if not isinstance(entry, dict):
        entry = {}
    return Price(*(_number(path, name, entry.get(side)) / _PER for side in ("input", "output")))


def _number(path: Path, name: object, value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise InputError(f"{path}: {name} needs input and output as numbers of at least 0; {_FORM}")
    return float(value)
