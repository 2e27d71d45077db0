"""The looks of a sequential gate: ask some behaviors, read, decide; go on only while nothing stands."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from aftertune.core.records import Intent, Prompt
from aftertune.measure.results import GateResult, GateVerdict, Stopping
from aftertune.measure.sequential_rule import Order
from aftertune.report.progress import Advance

FIRST, GROWTH = 10, 5
"""Behaviors of the first look; each further one adds a fifth of what was asked, at least half of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Prompts that were put to all models, and what came of it."""

    prompts: tuple[Prompt, ...]
    notes: tuple[str, ...]
    readers: tuple[int, ...]
    verdict: GateResult | None = None


Ask = Callable[[Sequence[Prompt]], Asked]


def looks(behaviors: int) -> Iterator[int]:
    """Yield how many behaviors have been asked at each look; the last is all of them."""
    asked = min(FIRST, behaviors)
    while asked < behaviors:
        yield asked
        asked = min(behaviors, asked + max(FIRST // 2, asked // GROWTH))
    yield behaviors


def in_order(prompts: Sequence[Prompt], order: Order, behaviors: int) -> tuple[Prompt, ...]:
    """Return the prompts of the first behaviors of the order and of their benign twins, behavior by behavior."""
    place: dict[str | None, int] = {
        name: rank for rank, name in enumerate(order.tasks) if rank < behaviors
    }
    ranked = [(place.get(_behavior(prompt)), prompt) for prompt in prompts]
    return tuple(
        prompt
        for _, prompt in sorted(
            ((rank, prompt) for rank, prompt in ranked if rank is not None), key=_rank
        )
    )


def until_decided(
    prompts: Sequence[Prompt],
    order: Order,
    ask: Ask,
    decide: Callable[[Asked], GateResult],
    advance: Advance,
) -> tuple[Asked, Stopping]:
    """Ask behaviors in their order until the gate says PASS or FAIL, or there are no more.

    What is in the store is not asked again, so a run that was killed goes through the same looks to the same verdict.
    Benign prompts that are no behavior's twin are asked at the end, once.
    """
    before = 0
    for behaviors in looks(len(order.tasks)):
        asked = ask(in_order(prompts, order, behaviors))
        advance(behaviors - before)
        before = behaviors
        if decide(asked).verdict in (GateVerdict.PASS, GateVerdict.FAIL):
            break
    others = [
        prompt
        for prompt in prompts
        if prompt.intent is Intent.BENIGN and prompt.pair not in order.tasks
    ]
    if others:
        asked = ask((*asked.prompts, *others))
    return asked, Stopping(
        behaviors=before,
        of_behaviors=len(order.tasks),
        prompts=len(asked.prompts),
        of_prompts=len(prompts),
    )


def _behavior(prompt: Prompt) -> str | None:
    return prompt.behavior if prompt.intent is Intent.HARMFUL else prompt.pair


def _rank(ranked: tuple[int, Prompt]) -> int:
    return ranked[0]
