"""The prompts of a check are asked as its gate needs them: all at once, or behavior by behavior until it decides."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aftertune.core.recipe import StudyModel
from aftertune.core.records import Prompt
from aftertune.measure.gate import design_notes, gate
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.preregistration import (
    Gating,
    compare_declarations,
    comparison_key,
    declared_now,
    draw_order,
    stopping_note,
)
from aftertune.measure.results import Declaration, GateResult
from aftertune.measure.sequential import Order, Sequential, cannot_pass, until_decided
from aftertune.report.progress import Quiet
from aftertune.workspace import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The prompts that all models have answered, with the versions of the scorers that scored the answers."""

    prompts: tuple[Prompt, ...]
    notes: tuple[str, ...]
    scorers: tuple[int, ...]
    """The scorer versions' numbers in the store."""
    verdict: GateResult | None = None


def ask_for_gate(
    run: Run,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    plan: MeasurePlan,
    gating: Gating,
    ask: Callable[[Run, Sequence[Prompt]], Answers],
) -> Answers:
    """Keep the gate's declaration, ask all prompts or as many as a sequential gate needs, and add the verdict."""
    identities = [dict(run.open(model).identity) for model in models]
    order = draw_order(prompts, identities, run.study.measurement.task_weights)
    rule = gating.rule(plan, order)
    declaration = _declare(run, comparison_key(identities), plan, gating, order)
    notes = [*declaration.changed, *design_notes(plan, rule, order.behaviors)]
    if isinstance(rule, Sequential) and (note := cannot_pass(plan, rule)) is not None:
        notes.append(note)
    for note in notes:
        run.progress.note(f"note: {note}")

    def decide(answers: Answers) -> GateResult:
        table = run.store.table(run.study.name, answers.scorers)
        return gate(table, plan, gating.base, gating.tuned, rule)

    if gating.sequential:
        quiet = replace(run, progress=Quiet())
        with run.progress.stage("behaviors, one by one", len(order.tasks)) as advance:
            answers, stopping = until_decided(
                prompts, order, lambda chosen: ask(quiet, chosen), decide, advance
            )
        notes.append(stopping_note(stopping))
    else:
        answers, stopping = ask(run, prompts), None
    result = decide(answers)
    verdict = replace(
        result, declaration=declaration, stopping=stopping, notes=(*notes, *result.notes)
    )
    return replace(answers, verdict=verdict)


def _declare(run: Run, key: str, plan: MeasurePlan, gating: Gating, order: Order) -> Declaration:
    """Keep the declaration of a comparison, unless one was kept before; return it compared with the first."""
    now = declared_now(plan, gating, order)
    first = run.store.get_meta(run.study.name, key)
    if first is None:
        run.store.set_meta(run.study.name, key, {**now, "behaviors": list(order.tasks)})
        first = now
    return compare_declarations(first, now)
