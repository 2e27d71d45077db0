"""Results under attacks as typed records; figures without attack are never among them, and none of them is pooled with those."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from aftertune.measure.results import Breakdown, Change, Interval, Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackFigures:
    """A condition under one attack."""

    asr: Breakdown[Rate]
    over_refusal: Breakdown[Rate]
    """The refusals of the benign twins under the same attack."""
    effect: Breakdown[Change]
    """The ASR under the attack minus that of the same models without it, on the same behaviors."""
    asr_change: Breakdown[Change] | None
    """Fine-tune minus base, both under the attack; None for a base, as the next two."""
    over_refusal_change: Breakdown[Change] | None
    change_of_change: Breakdown[Change] | None
    """The change of the ASR under the attack minus the change without it: what fine-tuning did to the attack's effect."""
    guards: Mapping[str, Breakdown[Rate]] = field(default_factory=lambda: MappingProxyType({}))
    """Guard -> the ASR behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstAttack:
    """The largest figure over several attacks, with an interval that accounts for its having been picked."""

    attack: str
    """The attack with the largest estimate."""
    attacks: int
    """The number of attacks that it was picked from."""
    estimate: float
    """Its estimate; the largest of several tends to be too large."""
    interval: Interval
    """The interval of the largest true figure, whichever attack has it; level 0.95."""
    at_most: float
    """The upper limit if undecided and incoherent responses counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackedCondition:
    """A condition under every attack of a study."""

    name: str
    base: str | None
    seeds: int
    attacks: Mapping[str, AttackFigures]
    """By attack, in the order of the study."""
    worst: WorstAttack | None
    """The attack with the largest ASR; None where there is no figure."""
    worst_gain: WorstAttack | None
    """The attack whose effect fine-tuning raised most; None for a base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackedSetting:
    """One system prompt and decoding setting under attacks."""

    system: str
    decoding: str
    attacks: tuple[str, ...]
    conditions: tuple[AttackedCondition, ...]

    def condition(self, name: str) -> AttackedCondition:
        """Return the result of the condition called ``name`` (KeyError if there is none)."""
        return {condition.name: condition for condition in self.conditions}[name]
