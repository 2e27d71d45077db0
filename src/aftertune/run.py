"""The whole system on one screen: the stages in order.

Each stage reads records, does the jobs whose key is not in the store, and appends records; that single rule gives resume
after any stop, judges added without asking a model again, and changed studies at the price of the change.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from aftertune.core.files import write_whole
from aftertune.core.recipe import StudyModel, Trained
from aftertune.core.records import Prompt, Role
from aftertune.core.table import NONE, Table
from aftertune.data.recipe_rows import with_recipe_rows
from aftertune.data.study_prompts import StudyPrompts, load_sets, without_overlap
from aftertune.generate import generate, probed
from aftertune.measure.plan import MeasurePlan, RateName
from aftertune.measure.preregistration import Gating
from aftertune.measure.study_plan import measure_plan
from aftertune.report.document import Basis, ModelRecord, ResultDocument, prompt_counts
from aftertune.report.progress import Progress
from aftertune.result import Kept, build_result, keep, write_result
from aftertune.score.run import Scorers, build_scorers, score_responses, uncompared
from aftertune.stages.gating import Asked, ask_for_gate
from aftertune.stages.served import spending_notes
from aftertune.study import Study, to_yaml
from aftertune.train.stage import tune_models
from aftertune.workspace import STUDY, Run, open_run

SCORED_BY = {"verdict": "judge", "decision": "guard"}
"""The role that fills a column of the table, by the first part of its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What a study is run for, beyond its numbers."""

    command: str
    """What a reader types to get the same numbers."""
    gate: Gating | None = None
    """The conditions that the gate decides on, and how."""
    assumptions: Sequence[str] = ()
    """What was put in on purpose and a reader must know."""
    source: Path = Path()
    """The folder of the user's file: relative paths in the options of judges, guards and loaders start there."""
    trained_on: Callable[[Run, Trained], Trained] | None = None
    """Adds training rows that the study does not know of, for the overlap with the prompts; by default those that the
    recipes beside ready-made fine-tunes name."""


def run_study(study: Study, folder: Path, progress: Progress, purpose: Purpose) -> ResultDocument:
    """Do every missing piece of a study, measure it, and write its result and page into ``folder``.

    Returns:
        the result document, as result.json holds it.

    Raises:
        AftertuneError: what is wrong, in one line; everything done so far is kept and not done again.
    """
    with open_run(study, folder, progress, purpose.source) as run:
        scorers, sets = build_scorers(run), load_sets(run)
        run.engines.check_ready()
        trained = (purpose.trained_on or with_recipe_rows)(run, tune_models(run))
        questions = without_overlap(sets, trained.rows)
        plan = measure_plan(run.study, trained.models, _name_of_rate(run.study, scorers))
        ask = partial(_ask, models=trained.models, scorers=scorers)
        if purpose.gate is None:
            asked = ask(run, questions.prompts)
        else:
            asked = ask_for_gate(run, trained.models, questions.prompts, plan, purpose.gate, ask)
        questions = replace(
            questions, prompts=asked.prompts, notes=(*questions.notes, *asked.notes)
        )
        for note in spending_notes(run):
            progress.note(note)
        return _measure_and_report(run, trained, questions, plan, asked, purpose)


def _ask(
    run: Run, prompts: Sequence[Prompt], *, models: Sequence[StudyModel], scorers: Scorers
) -> Asked:
    """Put prompts to all models and let every scorer score the answers: what is in the store is not done again."""
    notes = generate(run, models, prompts)
    result = score_responses(run, scorers, models, prompts)
    return Asked(prompts=tuple(prompts), notes=(*notes, *result.notes), readers=result.versions)


def _measure_and_report(
    run: Run,
    trained: Trained,
    questions: StudyPrompts,
    plan: MeasurePlan,
    asked: Asked,
    purpose: Purpose,
) -> ResultDocument:
    study, table = run.study.name, run.store.table(run.study.name, asked.readers)
    versions = run.store.scorer_versions(asked.readers)
    basis = Basis(
        study=study,
        models=tuple(_model_records(run, trained.models, questions.prompts)),
        prompts=prompt_counts(questions.prompts, questions.dropped, questions.overlap),
        notes=(
            *trained.notes,
            *questions.notes,
            *_unanswered(run, table),
            *uncompared(table, trained.models, plan.preferences),
        ),
        gate=asked.verdict,
        scorers={scorer: versions[scorer] for scorer in plan.metrics},
    )
    document = build_result(run.store, plan, asked.readers, basis)
    kept = Kept(
        readers=asked.readers, command=purpose.command, assumptions=tuple(purpose.assumptions)
    )
    keep(run.store, study, kept)
    write_whole(run.folder / STUDY, [to_yaml(run.study, run.folder)])
    write_result(run.folder, run.store, plan, document)
    return document


def _model_records(
    run: Run, models: Sequence[StudyModel], prompts: Sequence[Prompt]
) -> Iterator[ModelRecord]:
    by_name = {model.name: model for model in models}
    for model in models:
        yield ModelRecord(
            name=model.name,
            condition=model.condition,
            base=model.base,
            training_seed=model.training_seed,
            identity=run.engines.open(model.reference).identity,
            recipe=None if model.recipe is None else model.recipe.key.hex(),
            probe=probed(run, model, by_name.get(model.base or ""), prompts),
        )


def _name_of_rate(study: Study, scorers: Scorers) -> RateName:
    """Say what the rate may be called: where refusal rules alone decide, it is no ASR, whoever else reads along."""
    kinds = [judge.kind for judge in scorers[Role.JUDGE].values()]
    deciding = kinds[:1] if study.measurement.panel == "first" else kinds
    return "non-refusal rate" if set(deciding) == {"rules"} else "ASR"


def _unanswered(run: Run, table: Table) -> Iterator[str]:
    """Say what has no answer now, so that nobody takes its absence for a choice; what was mended since is no matter."""
    answered = table.columns["finish"] != NONE
    thinking = run.store.thinking_counts(run.study.name)
    limit = run.study.decoding.max_new_tokens
    for model in thinking:
        if model.unfinished:
            yield (
                f"{model.model}: {model.unfinished:,} of {model.answers:,} answers ended inside their thinking: they have no final "
                f"answer and count as undecided; raise decoding.max_new_tokens (now {limit:,})"
            )
        if model.empty:
            yield (
                f"{model.model}: {model.empty:,} of {model.answers:,} answers are empty beside a reasoning: the server gave all "
                "that the model said as its reasoning; look at its reasoning parser"
            )
    if silent := int((~answered).sum()) - sum(model.unfinished for model in thinking):
        reasons = ", ".join(run.store.attempts(run.study.name)) or "never asked"
        yield f"{silent:,} of {len(table):,} calls have no answer ({reasons}) and count as undecided; run again to ask them again"
    for column, codes in table.columns.items():
        kind, _, name = column.partition(":")
        if kind in SCORED_BY and (unscored := int((answered & (codes == NONE)).sum())):
            yield f"{SCORED_BY[kind]} {name}: {unscored:,} of {len(table):,} were not scored (its calls failed); run again to ask it again"
