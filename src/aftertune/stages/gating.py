"""What a check declares before it asks: the rule of its gate, its margins, and the order of its behaviors.

The first declaration of a comparison is kept in the run's store; a later one that differs is shown as changed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from aftertune.core.ids import content_key
from aftertune.core.recipe import StudyModel
from aftertune.core.records import Intent, Prompt
from aftertune.core.rounding import percent, points
from aftertune.measure.gate import gate
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.results import Declaration, GateResult, Stopping
from aftertune.measure.rules import Exact, Fixed, Rule
from aftertune.measure.sequential import fewest_to_pass
from aftertune.measure.sequential_rule import Order, Sequential
from aftertune.report.progress import Quiet
from aftertune.stages.looks import Asked, until_decided
from aftertune.workspace import Run

Scope = Literal["prompts-like-these", "these-prompts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gating:
    """Which conditions the gate compares, and how it decides."""

    base: str
    tuned: str
    sequential: bool = False
    scope: Scope = "prompts-like-these"

    def rule(self, plan: MeasurePlan, order: Order) -> Rule:
        """Return the rule; only `Sequential` uses the order."""
        if self.sequential:
            return Sequential(
                alpha=plan.alpha, order=order, these_prompts=self.scope == "these-prompts"
            )
        return Exact() if self.scope == "these-prompts" else Fixed(alpha=plan.alpha)


def ask_for_gate(
    run: Run,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    plan: MeasurePlan,
    gating: Gating,
    ask: Callable[[Run, Sequence[Prompt]], Asked],
) -> Asked:
    """Declare, then ask all prompts, or as many as a sequential gate needs; return what was asked, with the verdict."""
    order = draw_order(run, models, prompts)
    rule = gating.rule(plan, order)
    declaration = declare_gate(run, models, gating, plan, order)
    notes = [*declaration.changed, *filter(None, [cannot_pass(plan, rule, order)])]
    for note in notes:
        run.progress.note(f"note: {note}")

    def decide(asked: Asked) -> GateResult:
        return gate(
            run.store.table(run.study.name, asked.readers), plan, gating.base, gating.tuned, rule
        )

    if gating.sequential:
        quiet = replace(run, progress=Quiet())
        with run.progress.stage("behaviors, one by one", len(order.tasks)) as advance:
            asked, stopping = until_decided(
                prompts, order, lambda some: ask(quiet, some), decide, advance
            )
        notes.append(_how_far(stopping))
    else:
        asked, stopping = ask(run, prompts), None
    found = decide(asked)
    verdict = replace(
        found, declaration=declaration, stopping=stopping, notes=(*notes, *found.notes)
    )
    return replace(asked, verdict=verdict)


def _how_far(stopping: Stopping) -> str:
    if stopping.behaviors == stopping.of_behaviors:
        return f"sequential: all {stopping.behaviors} behaviors had to be asked"
    saved = percent(1 - stopping.prompts / stopping.of_prompts)
    return (
        f"sequential: the verdict stood after {stopping.behaviors} of {stopping.of_behaviors} behaviors, in an order drawn "
        f"beforehand; {saved} of the prompts were not needed. Intervals outside the verdict's own table suppose a number "
        "of prompts that was fixed beforehand"
    )


def draw_order(run: Run, models: Sequence[StudyModel], prompts: Sequence[Prompt]) -> Order:
    """Return the harmful behaviors in an order that the models' hashes draw: random, fixed beforehand, the same again."""
    identities = _identities(run, models)
    tasks: dict[str, set[str]] = {}
    for prompt in prompts:
        if prompt.intent is Intent.HARMFUL:
            tasks.setdefault(prompt.behavior, set()).add(prompt.task)
    drawn = sorted(tasks, key=lambda behavior: content_key("order", identities, behavior))
    return Order(
        tasks={behavior: frozenset(tasks[behavior]) for behavior in drawn},
        weights=run.study.measurement.task_weights or {},
    )


def declare_gate(
    run: Run, models: Sequence[StudyModel], gating: Gating, plan: MeasurePlan, order: Order
) -> Declaration:
    """Keep what is declared for the comparison of these models, unless something was declared before; compare with that."""
    now: dict[str, Any] = {
        "margin": plan.margin,
        "task_margin": plan.task_margin,
        "max_asr": plan.max_asr,
        "alpha": plan.alpha,
        "scope": gating.scope,
        "sequential": gating.sequential,
        "verdict_by": plan.verdict_by,
        "order": order.digest,
    }
    name = f"declared:{content_key(_identities(run, models)).hex()}"
    first = run.store.get_meta(run.study.name, name)
    if first is None:
        run.store.set_meta(run.study.name, name, {**now, "behaviors": list(order.tasks)})
        first = now
    first = {"verdict_by": "judge", **first}
    return Declaration(
        first={key: first.get(key) for key in now},
        now=now,
        changed=tuple(_changes(first, now)),
        order=order.digest,
    )


def cannot_pass(plan: MeasurePlan, rule: Rule, order: Order) -> str | None:
    """Say beforehand if a sequential gate has too few behaviors to pass even a model without any change."""
    if not isinstance(rule, Sequential) or rule.these_prompts:
        return None
    tasks = {task for there in order.tasks.values() for task in there}
    reach = max(sum(there.values()) for there in order.shares(frozenset(tasks)).values())
    asked = {"overall": len(order.tasks)} | {
        task: sum(task in there for there in order.tasks.values()) for task in sorted(tasks)
    }
    for name, number in asked.items():
        margin, most = (plan.margin, reach) if name == "overall" else (plan.task_margin, 1.0)
        needed = fewest_to_pass(margin, plan.alpha, most)
        if number < needed:
            return (
                f"{name}: {number} behaviors can FAIL but not PASS a sequential gate: within {points(margin).lstrip('+')} points takes "
                f"{needed}; ask more, or leave out --sequential"
            )
    return None


def _identities(run: Run, models: Sequence[StudyModel]) -> list[dict[str, object]]:
    return [dict(run.engines.open(model.reference).identity) for model in models]


def _changes(first: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key, value in now.items():
        before = first.get(key)
        if before != value:
            if key == "order":
                yield "CHANGED: other behaviors are asked than when this comparison was first declared"
            else:
                yield (
                    f"CHANGED: {key.replace('_', ' ')} was first declared as {_word(key, before)}, and is now "
                    f"{_word(key, value)}; a verdict on the second try means less"
                )


def _word(key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {True: "on", False: "off", None: "none"}.get(value, str(value))
    return f"{points(value).lstrip('+')} points" if "margin" in key else percent(value)
