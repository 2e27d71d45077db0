"""The generate stage: the probe, then every call of every cell that has no answer yet."""

from collections.abc import Sequence

from aftertune.core.ids import Key, content_key
from aftertune.core.protocols import Engine
from aftertune.core.recipe import StudyModel
from aftertune.core.records import GenerateJob, Prompt
from aftertune.errors import ModelError
from aftertune.generate.calls import calls
from aftertune.generate.probe import likelihoods, probe
from aftertune.pipeline.run_folder import Run
from aftertune.pipeline.served import is_served, served_notes
from aftertune.store import PlannedJob
from aftertune.study import cells_of

PROBE = "probe"


def generate(run: Run, models: Sequence[StudyModel], prompts: Sequence[Prompt]) -> list[str]:
    """Ask every model every prompt of its cells; what is in the store is not asked again.

    Returns:
        notes on models that are not what their names say, or cannot be seen to be (`same_weights`, `served_notes`).

    Raises:
        ModelError: an adapter belongs to another base, or a fine-tune gives exactly the probabilities of its base, so it
            was not measured.
    """
    _check_bases(run, models)
    planned = [(model, plan_model(run, model, prompts)) for model in models]
    declare(run, models, [job for _, (jobs, _) in planned for job in jobs])
    missing = {model.name: run.store.missing(job.key for job in asked) for model, (_, asked) in planned}
    with run.progress.stage("generate", sum(map(len, missing.values()))) as advance:
        for model, (_, asked) in planned:
            wanted = set(missing[model.name])
            if not wanted:
                continue
            engine = run.engines.open(model.reference)
            _prove(run, model, models, prompts)
            run.store.complete("generate", [job for job in asked if job.key in wanted], engine.generate, advance)
    return [*same_weights(run, models), *served_notes(run, models)]


def _check_bases(run: Run, models: Sequence[StudyModel]) -> None:
    """Refuse an adapter that the study compares with another base than its own."""
    references = {model.name: model.reference for model in models}
    for model in models:
        if model.base is not None and model.recipe is None:
            run.engines.check_base(model.reference, references[model.base])


def same_weights(run: Run, models: Sequence[StudyModel]) -> list[str]:
    """Say which fine-tunes have the very weights of their base or of another seed."""
    first: dict[Key, str] = {}
    notes = []
    for model in models:
        key = content_key(dict(run.engines.open(model.reference).identity))
        if key in first:
            notes.append(f"{model.name} has the weights of {first[key]}: the two are one model")
        first.setdefault(key, model.name)
    return notes


def plan_model(run: Run, model: StudyModel, prompts: Sequence[Prompt]) -> tuple[list[PlannedJob], list[GenerateJob]]:
    """Return the jobs of one model, for the store's plan and for the engine; loads no weights."""
    engine = run.engines.open(model.reference)
    planned, asked = [], []
    for cell, prompt, job in calls(engine, cells_of(run.study, model.name), prompts, run.study.systems):
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


def probed(run: Run, model: StudyModel) -> object:
    """Return how far the fine-tune's probabilities lie from its base's, as the probe found; None for a base."""
    return run.store.get_meta(run.study.name, f"{PROBE}:{model.name}")


def _prove(run: Run, model: StudyModel, models: Sequence[StudyModel], prompts: Sequence[Prompt]) -> None:
    """Compare a fine-tune with its base before it answers anything; a base under a second name is noted elsewhere."""
    base = next((other for other in models if other.name == model.base), None)
    if base is None:
        return
    tuned = run.engines.open(model.reference)
    if tuned.identity == run.engines.open(base.reference).identity or is_served(run, model) or is_served(run, base):
        return  # of endpoints `served_notes` says that they were not probed
    before = _base_likelihoods(run, run.engines.open(base.reference), base, prompts)
    found = probe(before, tuned, prompts)
    if not found.changed:
        raise ModelError(
            f"{model.name} gives exactly the probabilities of its base {base.name} on {found.prompts} prompts: the fine-tune "
            "is not active or has no effect; check that the folder holds its own weights"
        )
    run.store.set_meta(
        run.study.name, f"{PROBE}:{model.name}", {"prompts": found.prompts, "largest_change": found.largest_change}
    )


def _base_likelihoods(run: Run, engine: Engine, base: StudyModel, prompts: Sequence[Prompt]) -> list[float]:
    """Return the base's likelihoods, computed once per study: opening the base again evicts the fine-tune's weights."""
    name = f"{PROBE}-base:{base.name}:{prompts[0].id}"
    kept = run.store.get_meta(run.study.name, name)
    if isinstance(kept, list):
        return [float(value) for value in kept]
    values = likelihoods(engine, prompts)
    run.store.set_meta(run.study.name, name, values)
    return values
