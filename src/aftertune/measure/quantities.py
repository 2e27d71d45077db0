"""Measured quantities: they know their counts, method and scope, and print themselves honestly."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from aftertune.core.rounding import percent, points

CHECKPOINT = "this checkpoint, prompts like these"
RECIPE = "the recipe, prompts like these"
CHECKPOINTS = "these checkpoints"
"""Several training seeds of which nothing is said beyond themselves."""
THESE_PROMPTS = "these prompts"
RECIPE_HERE = "the recipe, these prompts"
"""New training seeds on the same prompts: what another lab finds that repeats the training."""
T = TypeVar("T")


class Jsonable:
    """Gives ``to_json``: plain dicts, lists, strings and numbers in the order of the fields; nothing is rounded."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return plain


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval(Jsonable):
    """A confidence interval with what it may be said about."""

    low: float
    high: float
    level: float
    """Two-sided confidence level, 0.95 unless said otherwise."""
    method: str
    scope: str
    """`CHECKPOINT`, `RECIPE`, or one of these prompts alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(Jsonable):
    """A share of responses (ASR, over-refusal, false blocks), averaged inside behaviors first."""

    estimate: float
    """The averaged rate in [0, 1]."""
    k: int
    """Raw count of the responses that it counts."""
    n: int
    """Raw count of all responses, undecided and incoherent ones included."""
    behaviors: int
    seeds: int
    """Training seeds."""
    samples: int
    """Responses per behavior and training seed (tasks x templates x samples x decoding seeds); the largest if unequal."""
    undecided: int
    incoherent: int
    interval: Interval
    bounds: Interval
    """From the interval's lower limit to the upper limit when undecided and incoherent responses count too."""
    unequal: bool
    """Cells or weights are unequal, so the estimate is not k / n and the count is marked raw."""
    hidden: bool
    """Fewer behaviors than the plan's ``min_cell``: kept in the data, hidden in print."""

    def __str__(self) -> str:
        """Return ``15.5 % (31 of 200)``."""
        raw = "raw " if self.unequal else ""
        return f"{percent(self.estimate)} ({raw}{self.k} of {self.n})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score(Jsonable):
    """A mean score in [0, 1] of benign responses, averaged inside behaviors first."""

    estimate: float
    n: int
    behaviors: int
    seeds: int
    interval: Interval
    unequal: bool
    hidden: bool

    def __str__(self) -> str:
        """Return ``0.831 (n = 200)``."""
        return f"{self.estimate:.3f} (n = {self.n})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs(Jsonable):
    """The 2 x 2 table of paired yes/no outcomes (a, b, c, e of the literature)."""

    both: int
    tuned_only: int
    base_only: int
    neither: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Jsonable):
    """A paired change from base to fine-tune, as a difference of shares (0.21 = 21 points)."""

    estimate: float
    interval: Interval
    """Level 0.95."""
    interval90: Interval
    """Level 0.90."""
    p_value: float
    """Two-sided, against no change."""
    method: str
    """How the p-value was found."""
    behaviors: int
    seeds: int
    pairs: Pairs | None
    """Only with one task, one template, one sample and one training seed."""
    bounds: tuple[float, float] | None
    """The change if undecided and incoherent base responses counted and tuned ones did not, and the reverse; None for
    scores."""
    hidden: bool
    p_adjusted: float | None = None
    """Adjusted over the declared family; None outside one."""
    adjustment: str | None = None
    """``Holm over tasks`` or ``Benjamini-Hochberg over hazards, exploratory``."""

    def __str__(self) -> str:
        """Return ``+21.0 points [+12.4, +30.1]``."""
        return f"{points(self.estimate)} points [{points(self.interval.low)}, {points(self.interval.high)}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown(Jsonable, Generic[T]):
    """One figure overall and along each dimension; a name without data is absent."""

    overall: T | None
    """None when there is nothing to average."""
    by_task: Mapping[str, T] = field(default_factory=lambda: MappingProxyType({}))
    by_set: Mapping[str, T] = field(default_factory=lambda: MappingProxyType({}))
    by_harm_basis: Mapping[str, T] = field(default_factory=lambda: MappingProxyType({}))
    by_hazard: Mapping[str, T] = field(default_factory=lambda: MappingProxyType({}))
