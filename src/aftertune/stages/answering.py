"""The generate stage: the probe, then every call of every cell that has no answer yet."""

from collections.abc import Iterable, Sequence

from aftertune.core.ids import Key, content_key
from aftertune.core.recipe import StudyModel
from aftertune.core.records import GenerateJob, Prompt
from aftertune.errors import ModelError
from aftertune.models.endpoint.model import EndpointModel
from aftertune.stages.calls import calls
from aftertune.stages.probing import prove
from aftertune.stages.served import served_notes
from aftertune.store import PlannedJob
from aftertune.study import cells_of
from aftertune.study.config import DecodingKeys
from aftertune.workspace import Run


def generate(run: Run, models: Sequence[StudyModel], prompts: Sequence[Prompt]) -> list[str]:
    """Ask every model every prompt of its cells; what is in the store is not asked again.

    Returns:
        notes on models that are not what their names say, or cannot be seen to be (`same_weights`, `served_notes`).

    Raises:
        ModelError: an adapter belongs to another base, two seeds are one model, or a fine-tune gives exactly the
            probabilities of its base, so it was not measured.
    """
    _check_bases(run, models)
    _check_seeds(run, models)
    by_name = {model.name: model for model in models}
    planned = [(model, plan_model(run, model, prompts)) for model in models]
    declare(run, models, [job for _, (jobs, _) in planned for job in jobs])
    missing = {
        model.name: set(run.store.missing(job.key for job in asked))
        for model, (_, asked) in planned
    }
    _submit(
        run,
        (
            (model, [job for job in asked if job.key in missing[model.name]])
            for model, (_, asked) in planned
        ),
    )
    with run.progress.stage("generate", sum(map(len, missing.values()))) as advance:
        for model, (_, asked) in planned:
            wanted = missing[model.name]
            if not wanted:
                continue
            engine = run.engines.open(model.reference)
            if model.base is not None:
                prove(run, model, by_name[model.base], prompts)
            run.store.complete(
                "generate", [job for job in asked if job.key in wanted], engine.generate, advance
            )
    return [
        *same_weights(run, models),
        *served_notes(run, models),
        *_system_notes(run, models),
        *greedy_notes(run.study.decoding),
    ]


def _submit(run: Run, missing: Iterable[tuple[StudyModel, Sequence[GenerateJob]]]) -> None:
    """Send what is asked by batch before anything is waited for: the batches of all models are under way together."""
    for model, jobs in missing:
        engine = run.engines.open(model.reference)
        if isinstance(engine, EndpointModel):
            engine.submit(jobs)


def _system_notes(run: Run, models: Sequence[StudyModel]) -> list[str]:
    """Say of which models the system prompt was put where their template has no place for it."""
    if all(text is None for text in run.study.systems.values()):
        return []
    opened = ((model, run.engines.open(model.reference)) for model in models)
    folded = [model.name for model, engine in opened if engine.folds_system]
    said = "chat template takes no system turn: the system prompt stands at the head of the user's turn"
    return [f"{', '.join(folded)}: the {said}"] if folded else []


def greedy_notes(keys: DecodingKeys) -> list[str]:
    """Say that several draws at temperature 0 are one answer, counted as many times."""
    draws = keys.samples * len(keys.seeds)
    if draws == 1 or 0.0 not in keys.temperatures:
        return []
    told = (
        f"temperature 0 draws nothing: the {draws} answers to each prompt (samples x decoding seeds) are the same, unless a server "
        "says otherwise; each is counted, so counts say more than was learnt (intervals are over behaviors). Take one sample and seed"
    )
    return [told]


def _check_bases(run: Run, models: Sequence[StudyModel]) -> None:
    """Refuse an adapter that the study compares with another base than its own."""
    references = {model.name: model.reference for model in models}
    for model in models:
        if model.base is not None and model.recipe is None:
            run.engines.check_base(model.reference, references[model.base])


def _check_seeds(run: Run, models: Sequence[StudyModel]) -> None:
    """Refuse one model under two seeds of a condition: it would count as two draws of the recipe."""
    seen: dict[Key, str] = {}
    for model in models:
        key = content_key(model.condition, dict(run.engines.open(model.reference).identity))
        if key in seen:
            raise ModelError(
                f"{seen[key]} and {model.name} are the same weights, so they are one training seed and not two; give each once"
            )
        seen[key] = model.name


def same_weights(run: Run, models: Sequence[StudyModel]) -> list[str]:
    """Say which models have the very weights of another one, for instance of their base."""
    first: dict[Key, str] = {}
    notes = []
    for model in models:
        key = content_key(dict(run.engines.open(model.reference).identity))
        if key in first:
            notes.append(f"{model.name} has the weights of {first[key]}: the two are one model")
        first.setdefault(key, model.name)
    return notes


def plan_model(
    run: Run, model: StudyModel, prompts: Sequence[Prompt]
) -> tuple[list[PlannedJob], list[GenerateJob]]:
    """Return the jobs of one model, for the store's plan and for the engine; loads no weights."""
    engine = run.engines.open(model.reference)
    planned, asked = [], []
    for cell, prompt, job in calls(
        engine, cells_of(run.study, model.name), prompts, run.study.systems
    ):
        planned.append(
            PlannedJob(
                model=model.name,
                prompt=prompt,
                system=cell.system,
                decoding=cell.decoding,
                sample=job.sample,
                key=job.key,
            )
        )
        asked.append(job)
    return planned, asked


def declare(run: Run, models: Sequence[StudyModel], jobs: Sequence[PlannedJob]) -> None:
    """Write what the study consists of into the store."""
    identities = {model.name: run.engines.open(model.reference).identity for model in models}
    run.store.add_models(run.study.name, models, identities)
    run.store.plan(run.study.name, jobs)
