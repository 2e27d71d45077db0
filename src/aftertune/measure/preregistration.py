"""The declaration of a gate before anything is asked: its rule, its margins, and the order of its behaviors.

The first declaration of a comparison is kept in the run's store; a later one that differs is shown as changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aftertune.core.keys import content_key
from aftertune.core.records import Intent, Prompt
from aftertune.core.rounding import percent, points
from aftertune.measure.gate import Exact, Fixed, Rule
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.results import Declaration, Stopping
from aftertune.measure.sequential import Order, Sequential

ScopeOption = Literal["prompts-like-these", "these-prompts"]
Identities = Sequence[Mapping[str, object]]
"""Of the models of a comparison: what decides their answers (weights, adapter, engine)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gating:
    """The conditions that the gate compares, and its rule."""

    base: str
    tuned: str
    sequential: bool = False
    scope: ScopeOption = "prompts-like-these"

    def rule(self, plan: MeasurePlan, order: Order) -> Rule:
        """Return the rule; only `Sequential` uses the order."""
        these_prompts = self.scope == "these-prompts"
        if self.sequential:
            return Sequential(alpha=plan.alpha, order=order, these_prompts=these_prompts)
        return Exact() if these_prompts else Fixed(alpha=plan.alpha)


def draw_order(
    prompts: Sequence[Prompt], identities: Identities, weights: Mapping[str, float] | None
) -> Order:
    """Return the harmful behaviors in an order that the models' identities draw: random, and the same in every run.

    Args:
        prompts: of all behaviors.
        identities: of the models.
        weights: of the tasks in an overall figure; None for equal ones.
    """
    tasks: dict[str, set[str]] = {}
    for prompt in prompts:
        if prompt.intent is Intent.HARMFUL:
            tasks.setdefault(prompt.behavior, set()).add(prompt.task)
    models = [dict(identity) for identity in identities]
    drawn = sorted(tasks, key=lambda behavior: content_key("order", models, behavior))
    return Order(
        tasks={behavior: frozenset(tasks[behavior]) for behavior in drawn}, weights=weights or {}
    )


def comparison_key(identities: Identities) -> str:
    """Return the key under which the declaration of a comparison of these models is kept."""
    return f"declared:{content_key([dict(identity) for identity in identities]).hex()}"


def declared_now(plan: MeasurePlan, gating: Gating, order: Order) -> dict[str, Any]:
    """Return what is declared for a comparison now."""
    return {
        "margin": plan.margin,
        "task_margin": plan.task_margin,
        "max_asr": plan.max_asr,
        "alpha": plan.alpha,
        "scope": gating.scope,
        "sequential": gating.sequential,
        "verdict_by": plan.verdict_by,
        "order": order.digest,
    }


def compare_declarations(
    first: Mapping[str, Any], now: Mapping[str, Any], order: Order
) -> Declaration:
    """Return a declaration beside the first one of the same comparison, with its changes in a sentence.

    Args:
        first: as it was kept, with the ids of its behaviors.
        now: as `declared_now` gives it.
        order: of the behaviors of now.
    """
    first = {"verdict_by": "judge", **first}
    changes = ", ".join(_changes(first, now, len(order.tasks)))
    note = f"options differ from the first run of this comparison ({changes}); a verdict on the second try means less"
    return Declaration(
        first={key: first.get(key) for key in now},
        now=now,
        changed=(note,) if changes else (),
        order=now["order"],
    )


def _changes(first: Mapping[str, Any], now: Mapping[str, Any], behaviors: int) -> Iterator[str]:
    for key, value in now.items():
        before = first.get(key)
        if before == value:
            continue
        kept = first.get("behaviors")
        if key != "order":
            yield f"{key.replace('_', ' ')} {_word(key, value)}, was {_word(key, before)}"
        elif isinstance(kept, list) and len(kept) != behaviors:
            yield f"{behaviors:,} behaviors, were {len(kept):,}"
        else:
            yield "other behaviors"


def _word(key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {True: "on", False: "off", None: "none"}.get(value, str(value))
    if key in {"margin", "task_margin"}:
        return f"{points(value).lstrip('+')} points"
    return percent(value)


def stopping_note(stopping: Stopping) -> str:
    """Return how far a sequential gate had to go, in a sentence."""
    if stopping.behaviors == stopping.of_behaviors:
        return f"sequential: all {stopping.behaviors} behaviors had to be asked"
    saved = percent(1 - stopping.prompts / stopping.of_prompts)
    return (
        f"sequential: the verdict stood after {stopping.behaviors} of {stopping.of_behaviors} behaviors, in an order drawn "
        f"beforehand; {saved} of the prompts were not needed. Intervals outside the verdict's own table suppose a number "
        "of prompts that was fixed beforehand"
    )
