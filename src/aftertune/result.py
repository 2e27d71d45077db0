"""The result of a run, in one place: planned from the study, built from the store, written, read again, renewed with labels."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from aftertune.core.recipe import StudyModel
from aftertune.core.registry import DISTANCES, THRESHOLDS
from aftertune.core.table import ADJUDICATED, Table
from aftertune.errors import InputError
from aftertune.labels.annotations import labelled_table, read_note
from aftertune.measure.attacks import measure_attacks
from aftertune.measure.consistency import consistency
from aftertune.measure.consistency_results import ConsistencyResult
from aftertune.measure.gate_labels import gate_with_labels
from aftertune.measure.measure import Evidence, measure_table
from aftertune.measure.plan import Condition, Match, MeasurePlan, RateName
from aftertune.report.document import (
    FORMAT,
    Basis,
    ResultDocument,
    from_plain,
    read_document,
    to_plain,
    write_document,
)
from aftertune.report.finding import finding
from aftertune.report.overview import Step, next_steps, overview
from aftertune.report.page import Report, write_page
from aftertune.report.transcripts import answers_of, listed_prompts
from aftertune.score.style import answer_styles
from aftertune.store import Store
from aftertune.store.store import MEASURED
from aftertune.study import Declared, Study, declared, decodings, load_study
from aftertune.workspace import PAGE, RESULT, STORE, STUDY

ROWS = "train.jsonl"
"""A stand-in for the file of training rows where nobody knows it."""
PARSER = "grammar"
"""The kind of a judge that parses answers."""
LABEL_COLUMNS = {"label", "drawn", ADJUDICATED}
"""The first parts of the names of columns that hold annotators' labels."""


class About(Protocol):
    """The files and models that a run is about, as they were named."""

    @property
    def rows(self) -> str:
        """The file of training rows."""

    @property
    def references(self) -> Sequence[str]:
        """The base and the fine-tunes of a check; empty for a study."""

    @property
    def repair_options(self) -> Sequence[str]:
        """The words of a check's command line that the repair of its fine-tune takes too."""

    @property
    def mix_options(self) -> Sequence[str]:
        """The words by which ``mix`` draws rows that the base has the words for, where the bundled ones are not for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The facts about a measured run that the store keeps, since result.json does not hold it; stores of any version have these keys."""

    readers: tuple[int, ...]
    """The scorer versions whose scores belong to the study."""
    command: str
    """The command line that gives the same numbers again."""
    assumptions: tuple[str, ...]
    """Sentences on what was put in on purpose."""
    deterministic: tuple[str, ...] = ()
    """The models whose replicates were one call; empty in a store without replicates."""
    rows: str = ROWS
    """The file of training rows that a mitigation would be mixed into."""
    references: tuple[str, ...] = ()
    """The base and the fine-tunes of a check, as they were named."""
    repair_options: tuple[str, ...] = ()
    """The words of a check's command line that the repair of its fine-tune takes too."""
    mix_options: tuple[str, ...] = ()
    """The words by which ``mix`` draws rows that the base has the words for, where the bundled ones are not for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """A finished run, opened again; no model is opened."""

    folder: Path
    store: Store
    document: ResultDocument
    plan: MeasurePlan
    kept: Kept

    @property
    def study(self) -> str:
        """The name of its study."""
        return self.document.study

    def table(self) -> Table:
        """Return its table, without labels and without prompts under attacks."""
        return self.store.table(self.study, self.kept.readers)

    def whole_table(self) -> Table:
        """Return its table with the prompts under attacks, where it has any."""
        attacked = attacked_table(self.store, self.study, self.kept.readers)
        return self.table() if attacked is None else attacked


@contextmanager
def open_finished(folder: Path, *, write: bool = False) -> Iterator[FinishedRun]:
    """Open a finished run.

    Args:
        folder: the run's.
        write: whether its store is written to.

    Raises:
        InputError: the run is not finished, another version wrote it, or its result is not that of its store.
        StoreError: its store is missing or broken.
    """
    document = read_document(folder / RESULT)
    with Store.open(folder / STORE, write=write) as store:
        study = load_study(folder / STUDY, finished=True)
        models, kept = store.study_models(study.name), _kept(store, study.name)
        run = FinishedRun(
            folder=folder,
            store=store,
            document=document,
            plan=measure_plan(study, models, document.result.name_rate, kept.deterministic),
            kept=kept,
        )
        _check_measured(run)
        yield run


def _check_measured(run: FinishedRun) -> None:
    """See that the result was measured from the answers and scores that the store holds now.

    Raises:
        InputError: it was not; the error names the first column that differs.
    """
    measured = run.document.measured
    if measured is None:
        return
    attacked = attacked_table(run.store, run.study, run.kept.readers)
    now = {**_hashes(run.table()), **_attack_hashes(attacked)}
    differing = [
        name for name in sorted(measured.keys() | now.keys()) if measured.get(name) != now.get(name)
    ]
    if differing:
        raise InputError(
            f"{run.folder / RESULT}: was measured from other answers or scores than {STORE} beside it holds (column "
            f"{differing[0]} differs): the run was started again and is not finished, or one of the two files is damaged or of "
            "another run; run the study again to measure anew (nothing is asked twice), or restore a copy of both"
        )


def _hashes(table: Table) -> dict[str, str]:
    """Return the hash of each column's values, names included; columns of annotators' labels are left out."""
    values = {name: codes.astype("<i4").tobytes() for name, codes in table.columns.items()}
    values |= {name: scores.astype("<f8").tobytes() for name, scores in table.scores.items()}
    hashes = {}
    for name, data in values.items():
        if name.partition(":")[0] in LABEL_COLUMNS:
            continue
        names = "\0".join(table.names.get(name, ())).encode("utf-8", "surrogatepass")
        hashes[name] = hashlib.blake2b(data + names, digest_size=8).hexdigest()
    return hashes


def attacked_table(store: Store, study: str, readers: Sequence[int]) -> Table | None:
    """Return a study's table with the prompts under attacks and the column ``attack``; None for a study without any."""
    if not any(prompt.attacked for prompt in store.prompts(study)):
        return None
    return store.table(study, readers, attacks=True)


def _attack_hashes(table: Table | None) -> dict[str, str]:
    """Return the hashes of the table with attacks, under names of their own."""
    hashes = {} if table is None else _hashes(table)
    return {f"attacks {name}": value for name, value in hashes.items()}


def keep(store: Store, study: str, kept: Kept) -> None:
    """Keep in the store what the page needs and result.json does not hold."""
    store.set_meta(study, MEASURED, to_plain(kept))


def _kept(store: Store, study: str) -> Kept:
    return from_plain(Kept, store.get_meta(study, MEASURED), f"{store.path}: {MEASURED}")


def build_result(
    store: Store, plan: MeasurePlan, readers: Sequence[int], basis: Basis
) -> ResultDocument:
    """Measure a study, with its labels if it has any, and return its result document.

    Args:
        store: the run's.
        plan: the study's declaration.
        readers: the scorer versions whose scores count.
        basis: everything that is known without measuring.
    """
    table, labels = labelled_table(store, basis.study, readers)
    # a parser does not mind how an answer is worded
    styles = None if basis.judge_kind == PARSER else answer_styles(store, basis.study, table)
    evidence = Evidence(checked=basis.judge_check, styles=styles)
    result = measure_table(table, plan, evidence)
    attacked = attacked_table(store, basis.study, readers)
    return ResultDocument(
        format=FORMAT,
        study=basis.study,
        models=basis.models,
        prompts=basis.prompts,
        notes=basis.notes,
        result=result,
        gate=None if basis.gate is None else gate_with_labels(basis.gate, table, plan),
        finding=finding(result),
        labels=labels,
        scorers=basis.scorers,
        judge_kind=basis.judge_kind,
        judge_check=basis.judge_check,
        versions=basis.versions,
        measured={**_hashes(table), **_attack_hashes(attacked)},
        margins=plan.margins,
        attacks=() if attacked is None else measure_attacks(attacked, plan),
    )


def renewed_result(run: FinishedRun) -> ResultDocument:
    """Return the result document, measured again if labels came in since it was written."""
    document, note = run.document, read_note(run.store, run.study)
    version = None if document.labels is None else document.labels.version
    if note is None or note.version == version:
        return document
    return build_result(run.store, run.plan, run.kept.readers, document)


def write_result(folder: Path, store: Store, plan: MeasurePlan, document: ResultDocument) -> None:
    """Write a run's page and its result.json, which is last: where it is, the run is finished."""
    write_report(folder / PAGE, store, plan, document)
    write_document(folder / RESULT, document)


def write_report(
    path: Path,
    store: Store,
    plan: MeasurePlan,
    document: ResultDocument,
    *,
    show_responses: bool = False,
) -> None:
    """Write the page of a result document.

    Args:
        path: where to.
        store: the run's; the answers that the page shows come from it.
        plan: the run's declaration.
        document: the result.
        show_responses: show the answers that may be harmful, too.
    """
    study = document.study
    kept = _kept(store, study)
    table, _ = labelled_table(store, study, kept.readers)
    attacked = attacked_table(store, study, kept.readers)
    whole = table if attacked is None else attacked
    listed = listed_prompts(whole, plan)
    # All of them are asked for at once, which is quicker than by name.
    by_id = {prompt.id: prompt for prompt in store.prompts(study)} if listed.left_out else {}
    wanted = [by_id[prompt] for prompt in listed.prompts] if listed.left_out else None
    report = Report(
        document=document,
        command=kept.command,
        steps=steps_of(document, kept, store.path.parent),
        answers=answers_of(whole, plan, store.responses(study, kept.readers, wanted, attacks=True)),
        left_out=listed.left_out,
        show_responses=show_responses,
        assumptions=kept.assumptions,
        consistency=consistency_of(table, plan),
        scorers={
            f"{kind} {name}".strip(): version
            for (kind, name), version in store.scorer_versions(kept.readers).items()
        },
    )
    write_page(path, report)


def steps_of(document: ResultDocument, about: About, folder: Path) -> tuple[Step, ...]:
    """Return the commands to type after a result, for the screen and the page.

    Args:
        document: the result.
        about: the purpose of the run, or what the store keeps of it.
        folder: the run's.
    """
    result = document.result
    if not result.settings:
        return ()
    glance = overview(result, result.settings[0], document.gate, document.margins)
    return next_steps(
        glance,
        document.gate,
        to_mix=(about.rows, *about.mix_options),
        references=about.references,
        repair_options=about.repair_options,
        folder=str(folder),
    )


def consistency_of(table: Table, plan: MeasurePlan) -> ConsistencyResult | None:
    """Return the consistency of a study; None where it has no seeds and no series to tell it."""
    again = any(len(condition.models) > 1 or condition.series for condition in plan.conditions)
    return consistency(table, plan) if again else None


# The plan of the measurement


def measure_plan(
    study: Study,
    models: Sequence[StudyModel],
    name_rate: RateName,
    deterministic: Iterable[str] = (),
) -> MeasurePlan:
    """Return the declaration of a study's measurement, with its models grouped into conditions.

    Args:
        study: the study.
        models: all of its models.
        name_rate: the name of the rate.
        deterministic: the names of the models whose engine is (`Engine.deterministic`).
    """
    keys = study.measurement
    return MeasurePlan(
        conditions=conditions_of(models, declared(study)),
        judges=tuple(judge.name for judge in study.judges),
        panel=keys.panel,
        guards=tuple(guard.name for guard in study.guards),
        metrics=tuple(metric.name for metric in study.metrics if metric.use not in THRESHOLDS),
        toxicity={
            metric.name: metric.options.get("threshold", THRESHOLDS[metric.use])
            for metric in study.metrics
            if metric.use in THRESHOLDS
        },
        preferences=tuple(preference.name for preference in study.preferences),
        reasoning_judges=tuple(judge.name for judge in study.reasoning_judges),
        match=None
        if keys.match is None
        else Match(scorer=keys.match.scorer, target=keys.match.target, set=keys.match.set),
        margin=keys.margin,
        task_margin=keys.task_margin,
        over_refusal_margin=keys.over_refusal_margin,
        over_refusal_task_margin=keys.over_refusal_task_margin,
        over_refusal_sets=keys.over_refusal_sets,
        score_margins=keys.margins,
        alpha=keys.alpha,
        task_weights=keys.task_weights,
        max_asr=keys.max_asr,
        families=keys.families,
        min_cell=keys.min_cell,
        verdict_by=keys.verdict_by,
        name_rate=name_rate,
        distances=frozenset(judge.name for judge in study.judges if judge.use in DISTANCES),
        decoding_settings={
            decoding.name: decoding.setting for decoding in decodings(study.decoding)
        },
        replicates={
            decoding.name: decoding.replicate
            for decoding in decodings(study.decoding)
            if decoding.replicate
        },
        deterministic=frozenset(deterministic),
    )


def conditions_of(
    models: Sequence[StudyModel], declarations: Mapping[str, Declared] = MappingProxyType({})
) -> tuple[Condition, ...]:
    """Group the models into conditions, in their order: a base, or a fine-tune with all its training seeds.

    Args:
        models: the models of a study.
        declarations: by name, what the study declares of its conditions.
    """
    of_model = {model.name: model.condition for model in models}
    grouped: dict[str, list[StudyModel]] = {}
    for model in models:
        grouped.setdefault(model.condition, []).append(model)
    conditions = []
    for name, members in grouped.items():
        declaration, base = declarations.get(name, Declared()), members[0].base
        seeds = [model.training_seed for model in members if model.training_seed is not None]
        conditions.append(
            Condition(
                name=name,
                models=tuple(model.name for model in members),
                base=None if base is None else of_model[base],
                # Empty where one of them is not known.
                training_seeds=tuple(seeds) if len(seeds) == len(members) else (),
                series=declaration.series,
                factors=declaration.factors,
                attributes=declaration.attributes,
                unmitigated=declaration.unmitigated,
                against=declaration.against,
                own_sets=declaration.own_sets,
            )
        )
    return tuple(conditions)
