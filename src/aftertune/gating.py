"""The prompts of a check are asked as its gate needs them: the base first, or behavior by behavior until it decides."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from aftertune.core.recipe import StudyModel
from aftertune.core.records import Intent, Prompt
from aftertune.data.prompt_sets import limit
from aftertune.errors import NoVerdictLeft
from aftertune.generate import plan_model
from aftertune.measure.gate import gate
from aftertune.measure.gate_base import base_alone
from aftertune.measure.gate_rules import Rule
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.preregistration import (
    Gating,
    compare_declarations,
    comparison_key,
    declared_now,
    design_notes,
    draw_order,
    stopping_note,
)
from aftertune.measure.results import Declaration, GateResult
from aftertune.measure.sequential import Order, until_decided
from aftertune.report.document import from_plain
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


Ask = Callable[[Run, Sequence[Prompt], Callable[[], None]], Answers]
"""Asks prompts, calls its last argument before the first answer is kept, and scores the answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The two ways in which a check has prompts answered and scored."""

    all_models: Ask
    """All models, by all scorers."""
    base: Ask
    """The base alone, by the scorers that decide."""
    attacked: Callable[[Sequence[Prompt]], Sequence[Prompt]]
    """Returns the same prompts under the attacks, which are asked beside the verdict."""


def ask_for_gate(
    run: Run,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    plan: MeasurePlan,
    gating: Gating,
    stages: Stages,
) -> Answers:
    """Ask all prompts or as many as a sequential gate needs, and add the verdict.

    The gate's declaration is kept just before the first answer: a run that was stopped before it has seen nothing.
    Without a sequential rule the base answers first, and the fine-tunes only where a verdict is still possible.

    Args:
        run: the check's.
        models: the base and the fine-tunes.
        prompts: of all behaviors.
        plan: of the measurement.
        gating: the conditions that are compared, and the rule.
        stages: ask all models some prompts, or the base alone.

    Raises:
        NoVerdictLeft: no fine-tune could PASS or FAIL any more.
    """
    identities = _identities(run, models, gating)
    if gating.within is not None:
        prompts = _fit(run, prompts, identities, gating.within, stages)
    order = draw_order(prompts, identities, plan)
    rule = gating.rule(plan, order)
    declaring = _Declaring(
        run, comparison_key(identities), declared_now(plan, gating, order), order
    )
    declaration = declaring.compared()
    notes = [*declaration.changed, *design_notes(plan, rule, order)]
    for note in notes:
        run.progress.note(f"note: {note}")

    def decide(answers: Answers) -> GateResult:
        table = run.store.table(run.study.name, answers.scorers)
        return gate(table, plan, gating.base, gating.tuned, rule)

    if gating.sequential:
        quiet = replace(run, progress=Quiet())
        with run.progress.stage("behaviors, one by one", len(order.tasks)) as advance:
            answers, stopping = until_decided(
                prompts,
                order,
                lambda chosen: stages.all_models(quiet, chosen, declaring.keep),
                decide,
                advance,
            )
        notes.append(stopping_note(stopping))
    else:
        if plan.verdict_by == "judge" and _gains_by_order(run, models, prompts):
            _check_base(run, stages.base(run, prompts, declaring.keep), plan, gating, rule)
        answers, stopping = stages.all_models(run, prompts, declaring.keep), None
    result = decide(answers)
    verdict = replace(
        result, declaration=declaration, stopping=stopping, notes=(*notes, *result.notes)
    )
    return replace(answers, verdict=verdict)


def _identities(run: Run, models: Sequence[StudyModel], gating: Gating) -> list[dict[str, object]]:
    """Return the identities of the gate's models; others are measured beside it and change neither order nor declaration."""
    return [
        dict(run.open(model).identity)
        for model in models
        if model.condition in (gating.base, gating.tuned)
    ]


def notes_on_design(
    run: Run,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    plan: MeasurePlan,
    gating: Gating,
) -> list[str]:
    """Return why the prompts can hardly have a verdict, or a PASS; asks nothing and keeps nothing."""
    order = draw_order(prompts, _identities(run, models, gating), plan)
    return list(design_notes(plan, gating.rule(plan, order), order))


def _gains_by_order(run: Run, models: Sequence[StudyModel], prompts: Sequence[Prompt]) -> bool:
    """Return whether the base's answers come any earlier: fine-tunes have questions left, and no batch is waited for."""
    if any(run.open(model).by_batch for model in models):
        return False
    tuned = [model for model in models if model.base is not None]
    return any(
        run.store.missing(job.key for job in plan_model(run, model, prompts)[1]) for model in tuned
    )


def _check_base(run: Run, answers: Answers, plan: MeasurePlan, gating: Gating, rule: Rule) -> None:
    """Tell the lines in which no rise can show; the result says so of its own, whichever run it comes from.

    Raises:
        NoVerdictLeft: no fine-tune could PASS or FAIL, and no judge beside the deciding ones is to be heard.
    """
    table = run.store.table(run.study.name, answers.scorers)
    facts = base_alone(table, plan, gating.base, gating.tuned, rule)
    for note in facts.notes:
        run.progress.note(f"note: {note}")
    if facts.undecidable is not None and (len(plan.judges) == 1 or plan.panel != "first"):
        raise NoVerdictLeft(
            f"NOT ENOUGH DATA: after the base's answers no fine-tune could PASS or FAIL, so none was asked ({facts.undecidable}). "
            "The base's answers are kept: run again with other prompts or another judge, or let labels decide (--verdict-by labels)"
        )


PILOT = 8
"""Behaviors of the first part of a check that has a time to keep."""


def _fit(
    run: Run,
    prompts: Sequence[Prompt],
    identities: Sequence[Mapping[str, object]],
    seconds: float,
    stages: Stages,
) -> Sequence[Prompt]:
    """Return the prompts of as many behaviors, balanced over hazards, as are answered and scored in some seconds, under attacks too.

    Parts are asked of which each is at most as large as all before it, since small batches are slow and the first part
    loads the weights. Nobody looks at an outcome meanwhile, so the number hangs on speed alone; it is kept, and the same
    command takes the same behaviors again.
    """
    behaviors = len({prompt.behavior for prompt in prompts if prompt.intent is Intent.HARMFUL})
    attacks = sorted({prompt.attack for prompt in stages.attacked(prompts)})
    name = ":".join([f"within:{seconds:g}", comparison_key(identities), *attacks])
    kept = run.store.get_meta(run.study.name, name)
    if isinstance(kept, int):
        number = min(kept, behaviors)
    else:
        began, before, number = time.monotonic(), 0, min(PILOT, behaviors)
        while number > before:
            start = time.monotonic()
            chosen = limit(prompts, number)
            stages.all_models(run, (*chosen, *stages.attacked(chosen)), lambda: None)
            now = time.monotonic()
            per_behavior = (now - start) / (number - before)
            room = int(max(seconds - (now - began), 0.0) / max(per_behavior, 1e-9))
            before, number = number, min(number + min(room, number), behaviors)
        run.store.set_meta(run.study.name, name, number)
    run.progress.note(
        f"note: within {seconds:g} seconds {number:,} of {behaviors:,} harmful behaviors are asked, with their twins"
        f"{' and under attacks' if attacks else ''}"
    )
    return limit(prompts, number)


@dataclass(frozen=True, slots=True)
class _Declaring:
    """The declaration of a comparison of now, and the first one that is kept under the comparison's key."""

    run: Run
    key: str
    now: Mapping[str, object]
    order: Order

    def compared(self) -> Declaration:
        """Return the declaration beside the first one."""
        first = self.run.store.get_meta(self.run.study.name, self.key)
        if first is None:
            return compare_declarations(self.now, self.now, self.order)
        source = f"{self.run.store.path}: {self.key}"
        return compare_declarations(
            from_plain(dict[str, object], first, source), self.now, self.order
        )

    def keep(self) -> None:
        """Keep the declaration, unless one was kept before."""
        if self.run.store.get_meta(self.run.study.name, self.key) is None:
            kept = {**self.now, "behaviors": list(self.order.tasks)}
            self.run.store.set_meta(self.run.study.name, self.key, kept)
