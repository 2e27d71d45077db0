"""The whole system on one screen: train, generate, score, measure, report, in this order.

Each stage reads records, does the jobs whose key is not in the store, and appends records. That single rule gives resume
after any stop, a new judge without asking a model again, and a changed study at the price of the change.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from aftertune.core.files import write_whole
from aftertune.core.protocols import Scorer
from aftertune.core.recipe import StudyModel, Trained
from aftertune.core.records import Prompt, Role
from aftertune.core.table import NONE, Table
from aftertune.data.prompt_sets import StudyPrompts, load_sets, without_overlap
from aftertune.data.recipe_rows import with_recipe_rows
from aftertune.estimate import announcement
from aftertune.gating import Answers, Stages, ask_for_gate
from aftertune.generate import divergence_version, early_notes, generate, probed
from aftertune.labels.judge_check import figures_of
from aftertune.measure.judge_bounds import CheckedJudge
from aftertune.measure.plan import MeasurePlan, RateName
from aftertune.measure.preregistration import Gating
from aftertune.report.document import Basis, ModelRecord, ResultDocument, prompt_counts
from aftertune.report.progress import Progress
from aftertune.result import ROWS, Kept, build_result, keep, measure_plan, write_result
from aftertune.score.run import (
    Scorers,
    build_scorers,
    score_responses,
    scorer_notes,
    uncompared,
)
from aftertune.study import Study, to_yaml
from aftertune.study.foreign import foreign_code_notes
from aftertune.train.stage import expand_study, tune_models
from aftertune.unfinished import note_beginning
from aftertune.workspace import STUDY, Run, open_run, spending_notes

SCORED_BY = {"verdict": "judge", "decision": "guard"}
"""The role that fills a column of the table, by the first part of the column's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """The purpose of a run beyond its numbers: the command, a gate's decision, and what its reader must know."""

    command: str
    """The command line that gives the same numbers again."""
    gate: Gating | None = None
    """The conditions that the gate decides on, and its rule; None for a study without a verdict."""
    assumptions: Sequence[str] = ()
    """Sentences on what was put in on purpose."""
    rows: str = ROWS
    """The file of training rows that a mitigation would be mixed into."""
    references: Sequence[str] = ()
    """The base and the fine-tunes of a check, as they were named."""
    repair_options: Sequence[str] = ()
    """The words of a check's command line that the repair of its fine-tune takes too."""
    mix_options: Sequence[str] = ()
    """The words by which ``mix`` draws rows that the base has the words for, where the bundled ones are not for it."""
    announces: bool = False
    """True where the calls that will be made are told before."""
    source: Path = Path()
    """The folder of the user's file: relative paths in the options of scorers and loaders start there."""
    trained_on: Callable[[Run, Trained], Trained] | None = None
    """Adds training rows that the study does not know of, for the overlap with the prompts; by default those that the
    recipes beside ready-made fine-tunes name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Declared:
    """The declaration of a measurement, with what is known of the judge that decides."""

    plan: MeasurePlan
    judge_kind: str
    judge_check: CheckedJudge | None


def run_study(study: Study, folder: Path, progress: Progress, purpose: Purpose) -> ResultDocument:
    """Do every missing piece of a study, measure it, and write its result and page into ``folder``.

    Returns:
        the result document, as result.json holds it.

    Raises:
        AftertuneError: what is wrong, in one line; everything done so far is kept and not done again.
    """
    for note in foreign_code_notes(study):
        progress.note(f"note: {note}")
    with open_run(study, folder, progress, purpose.source) as run:
        # A mistyped scorer, a set or model that cannot be used or a missing key must come out before hours of training.
        scorers, sets = build_scorers(run), load_sets(run)
        judge = _first_judge(run.study, scorers)
        judge_check = figures_of(judge, run.study.measurement.judge_check)
        models = expand_study(run)
        notes = early_notes(run, models)
        run.engines.check_ready()
        for note in (*run.engines.notes, *scorer_notes(scorers), *notes):
            progress.note(f"note: {note}")
        note_beginning(run, purpose.command, models)
        trained = (purpose.trained_on or with_recipe_rows)(run, tune_models(run, models))
        asked_prompts = without_overlap(sets, trained.rows)
        name_rate, again = _name_of_rate(study, scorers), study.decoding.replicates > 1
        deterministic = [model.name for model in trained.models if run.open(model).deterministic]
        plan = measure_plan(study, trained.models, name_rate, deterministic if again else ())
        ask = partial(_generate_and_score, models=trained.models, scorers=scorers)
        if purpose.announces:
            for line in announcement(run, trained.models, asked_prompts, scorers):
                progress.note(line)
        answers = Answers(prompts=asked_prompts.prompts, notes=(), scorers=())
        if purpose.gate is not None:
            bases = [model for model in trained.models if model.base is None]
            deciding = _deciding(scorers, study, plan)
            stages = Stages(
                all_models=ask,
                base=partial(_generate_and_score, models=bases, scorers=deciding),
                attacked=asked_prompts.attacked,
            )
            answers = ask_for_gate(
                run, trained.models, asked_prompts.prompts, plan, purpose.gate, stages
            )
        # Attacks are no part of a verdict: they stand around the prompts that it took.
        attacked = asked_prompts.attacked(answers.prompts)
        if purpose.gate is None or attacked:
            together = ask(run, (*answers.prompts, *attacked), lambda: None)
            noted = tuple(dict.fromkeys((*answers.notes, *together.notes)))
            answers = replace(answers, notes=noted, scorers=together.scorers)
        for note in spending_notes(run.engines):
            progress.note(note)
        # A sequential gate may have left prompts unasked.
        asked_prompts = replace(
            asked_prompts,
            prompts=answers.prompts,
            notes=(*asked_prompts.notes, *answers.notes),
        )
        declared = _Declared(plan=plan, judge_kind=judge.kind, judge_check=judge_check)
        return _measure_and_report(run, trained, asked_prompts, declared, answers, purpose)


def _generate_and_score(
    run: Run,
    prompts: Sequence[Prompt],
    declare: Callable[[], None],
    *,
    models: Sequence[StudyModel],
    scorers: Scorers,
) -> Answers:
    """Ask all models, and let every scorer score the answers: what is in the store is not done again.

    ``declare`` is called before the first answer is kept, or, where all are there already, before they are scored.
    """
    notes = generate(run, models, prompts, declare)
    declare()
    scored = score_responses(run, scorers, models, prompts)
    moved = divergence_version(run, models)
    return Answers(
        prompts=tuple(prompts),
        notes=(*notes, *scored.notes),
        scorers=(*scored.versions, *([] if moved is None else [moved])),
    )


def _measure_and_report(
    run: Run,
    trained: Trained,
    asked_prompts: StudyPrompts,
    declared: _Declared,
    answers: Answers,
    purpose: Purpose,
) -> ResultDocument:
    name, prompts, plan = run.study.name, asked_prompts.prompts, declared.plan
    table = run.store.table(name, answers.scorers)
    whole = run.store.table(name, answers.scorers, attacks=True)
    versions = run.store.scorer_versions(answers.scorers)
    basis = Basis(
        study=name,
        models=tuple(_model_records(run, trained.models, prompts)),
        prompts=prompt_counts(prompts, asked_prompts.dropped, asked_prompts.overlap),
        notes=(
            *trained.notes,
            *asked_prompts.notes,
            *_missing_notes(run, whole),
            *uncompared(table, trained.models, plan.preferences),
        ),
        gate=answers.verdict,
        scorers={metric: versions["scorer", metric] for metric in (*plan.metrics, *plan.toxicity)},
        judge_kind=declared.judge_kind,
        judge_check=declared.judge_check,
        versions={f"{kind} {name}".strip(): version for (kind, name), version in versions.items()},
    )
    document = build_result(run.store, plan, answers.scorers, basis)
    kept = Kept(
        readers=answers.scorers,
        command=purpose.command,
        assumptions=tuple(purpose.assumptions),
        deterministic=tuple(sorted(plan.deterministic)),
        rows=purpose.rows,
        references=tuple(purpose.references),
        repair_options=tuple(purpose.repair_options),
        mix_options=tuple(purpose.mix_options),
    )
    keep(run.store, name, kept)
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
            identity=run.open(model).identity,
            recipe=None if model.recipe is None else model.recipe.key.hex(),
            probe=probed(run, model, by_name.get(model.base or ""), prompts),
        )


def _first_judge(study: Study, scorers: Scorers) -> Scorer:
    return scorers[Role.JUDGE][study.judges[0].name]


def _deciding(scorers: Scorers, study: Study, plan: MeasurePlan) -> Scorers:
    """Return the scorers that a gate decides by: the first judge or the panel, and the metrics with a margin."""
    judges = scorers[Role.JUDGE]
    names = list(judges) if plan.panel != "first" else [study.judges[0].name]
    return {
        Role.JUDGE: {name: judges[name] for name in names},
        Role.METRIC: {name: scorers[Role.METRIC][name] for name in plan.score_margins},
    }


def _name_of_rate(study: Study, scorers: Scorers) -> RateName:
    """Return the name of the rate: where refusal rules alone decide it is no ASR, whichever other judges there are."""
    kinds = [judge.kind for judge in scorers[Role.JUDGE].values()]
    deciding = kinds[:1] if study.measurement.panel == "first" else kinds
    return "non-refusal rate" if set(deciding) == {"rules"} else "ASR"


def _missing_notes(run: Run, table: Table) -> Iterator[str]:
    """Yield notes on calls without a final answer and answers without a score, which count as undecided."""
    answered = table.columns["finish"] != NONE
    thinking = run.store.thinking_counts(run.study.name)
    decoding = run.study.decoding
    raised = (
        f"decoding.max_new_tokens (now {decoding.max_new_tokens:,})"
        if decoding.max_reasoning_tokens is None
        else f"decoding.max_reasoning_tokens (now {decoding.max_reasoning_tokens:,})"
    )
    for model in thinking:
        if model.unfinished:
            yield (
                f"{model.model}: {model.unfinished:,} of {model.answers:,} answers ended inside their thinking: they have no final "
                f"answer and count as undecided; raise {raised}"
            )
        if model.reasoned and decoding.thinking == "off":
            yield (
                f"{model.model}: {model.reasoned:,} of {model.answers:,} answers hold a reasoning although decoding.thinking is off: "
                "the server or the model does not obey the switch"
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
