"""The part of a driver's store that a worker needs to go on with a unit: which calls are done, and the texts still to be read.

A driver that starts again, and one whose worker was lost with its node, holds calls and scores of units that are not done.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from aftertune.core.keys import Key
from aftertune.core.recipe import StudyModel
from aftertune.core.records import Prompt
from aftertune.execute.parts import alone, shared
from aftertune.execute.units import Unit
from aftertune.generate import plan_model
from aftertune.models.reference import finished
from aftertune.score.run import Scorers, pending_scores
from aftertune.store import Store
from aftertune.store.sharing import add_calls, copy_known, packed_without_texts
from aftertune.train.stage import Files, self_answer_jobs, task_rows
from aftertune.workspace import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """The state of a unit at the driver."""

    missing: int
    """Calls without an answer."""
    unscored: int
    """Scores that are still to be given to the answers."""
    packed: bytes
    """A packed store for the worker."""

    @property
    def complete(self) -> bool:
        """Return whether nothing of the unit is left to do."""
        return not self.missing and not self.unscored


def is_trained(unit: Unit, models: Sequence[StudyModel]) -> bool:
    """Return whether all fine-tunes of a training are there."""
    return all(
        finished(Path(model.reference), model.recipe)
        for model in models
        if model.recipe is not None and model.name in unit.trains
    )


def seed_of(
    run: Run,
    unit: Unit,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    scorers: Scorers,
) -> Seed:
    """Return what the run's store holds of a unit.

    Args:
        run: the driver's.
        unit: the unit; the fine-tunes that it asks are there.
        models: all models of the study.
        prompts: all its prompts.
        scorers: those that score in workers.
    """
    portion = unit.portion(models)
    planned = [
        row
        for model in portion.models
        for row in plan_model(
            run, model, [prompt for prompt in prompts if portion.takes(model, prompt)]
        )[0]
    ]
    own_answers = _own_answers(run, portion.trains)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "seed.sqlite"
        with Store.open(file) as store:
            store.plan(run.study.name, planned)
        add_calls(file, "generate", own_answers)
        copy_known(file, run.store.path)
        with Store.open(file) as store:
            pending = pending_scores(
                replace(run, store=store, study=shared(run.study)),
                alone(scorers),
                portion.models,
                prompts,
                portion.screens,
            )
            missing = store.missing([row.key for row in planned])
        add_calls(file, "judge", pending.calls)
        copy_known(file, run.store.path)
        packed = packed_without_texts(file, {*own_answers, *pending.answers, *pending.calls})
    return Seed(missing=len(missing), unscored=pending.scores, packed=packed)


def _own_answers(run: Run, models: Sequence[StudyModel]) -> list[Key]:
    """Return the calls for the base's own answers that fine-tunes are trained on."""
    files = Files(folder=run.tools.folder)
    return [
        job.key
        for model in models
        if model.recipe is not None
        for job in self_answer_jobs(run, model.recipe, task_rows(model.recipe, files, {}))
    ]
