"""The train stage: every recipe of the study becomes a folder with weights, unless it is one already."""

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from aftertune.core.ids import Key
from aftertune.core.recipe import Recipe, StudyModel, Trained
from aftertune.core.records import Message
from aftertune.data.bundled.safety import SAFETY_SET, safety_sha256
from aftertune.data.rows import Row
from aftertune.models.open import Engines
from aftertune.study import expand_models
from aftertune.train.rows import Files, training_rows
from aftertune.train.train import adopt, train, trained
from aftertune.workspace import Run

WARM_STEPS, TIMED_STEPS = 2, 6
"""Optimisation steps before the clock starts, and steps that are timed."""


def expand_study(run: Run) -> tuple[StudyModel, ...]:
    """Return the study's models before any is trained; engines give the identities of bases and load no weights for it."""
    return expand_models(
        run.study,
        run.engines.training_identity,
        folder=run.models_folder,
        template_sha256=run.engines.tokenizer_sha256,
        bundled_sha256=lambda name: safety_sha256() if name == SAFETY_SET else "",
    )


def study_rows(run: Run, models: tuple[StudyModel, ...]) -> tuple[dict[str, list[Row]], Trained]:
    """Return the training rows of every fine-tune by its name, and the record of what the study trains.

    Raises:
        DataError: a training file cannot be used, or shares and tasks do not fit.
    """
    files = Files(folder=run.tools.folder)
    notes: dict[str, None] = {}
    rows = {
        model.name: training_rows(model.recipe, files, notes)
        for model in models
        if model.recipe is not None
    }
    return rows, Trained(models=models, rows=files.by_name(), notes=tuple(notes))


def tune_models(run: Run) -> Trained:
    """Expand the study's models and train those that are not there yet.

    Raises:
        DataError, ModelError: a training file or a base cannot be used.
    """
    models = expand_study(run)
    rows, record = study_rows(run, models)
    recipes = [
        (Path(model.reference), model.recipe, rows[model.name])
        for model in models
        if model.recipe is not None
    ]
    epochs = _kept_epochs((folder, recipe) for folder, recipe, _ in recipes)
    missing = {
        replace(recipe, epoch=None).key: own_rows
        for folder, recipe, own_rows in recipes
        if not trained(folder, recipe, own_rows)
    }
    trainings = [
        (folder, recipe)
        for folder, recipe, _ in recipes
        if recipe.epoch is None and recipe.key in missing
    ]
    steps = {recipe.key: steps_of(recipe, len(missing[recipe.key])) for _, recipe in trainings}
    folders: dict[Key, Path] = {}
    with run.progress.stage("tune", sum(steps.values())) as advance:
        for folder, recipe in trainings:
            # One recipe under two names is trained once and copied.
            adopt(folders.setdefault(recipe.key, folder), folder, recipe)
            train(
                recipe,
                missing[recipe.key],
                folder,
                epochs=epochs.get(recipe.key, {}),
                engines=run.engines,
                progress=step_progress(advance),
            )
    for folder, recipe, _ in recipes:
        if recipe.epoch is not None:
            # Training kept the epoch under the first of its names only.
            adopt(epochs[replace(recipe, epoch=None).key][recipe.epoch], folder, recipe)
    return record


def _kept_epochs(recipes: Iterable[tuple[Path, Recipe]]) -> dict[Key, dict[int, Path]]:
    """Return, by the key of each whole training, the epochs to keep on its way and their folders."""
    epochs: dict[Key, dict[int, Path]] = {}
    for folder, recipe in recipes:
        if recipe.epoch is not None:
            kept = epochs.setdefault(replace(recipe, epoch=None).key, {})
            kept.setdefault(recipe.epoch, folder)
    return epochs


def steps_of(recipe: Recipe, rows: int) -> int:
    """Return about how many optimisation steps a training on so many rows has."""
    training = recipe.training
    batch = training.batch_size * training.gradient_accumulation
    return max(1, round(training.epochs * rows / batch))


def step_progress(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """Return a callback that turns "step s of n" into "so many steps more", for a bar over several trainings."""
    last = 0

    def report(step: int, _steps: int) -> None:
        nonlocal last
        advance(step - last)
        last = step

    return report


class _Timed(Exception):
    """Breaks a training off once enough of its steps were timed."""


def seconds_per_step(
    recipe: Recipe, rows: Sequence[tuple[Message, ...]], engines: Engines
) -> float:
    """Return the seconds that an optimisation step of a recipe takes on this machine.

    Training starts as usual (the same method, batch, optimiser, rows drawn at random for their lengths) and is broken
    off; nothing of it is kept. Loading, step checkpoints and the writing of the weights are not counted. A round is
    timed from its base, which has the same shape.

    Raises:
        AftertuneError: as `train`.
    """
    training = recipe.training
    batch = training.batch_size * training.gradient_accumulation
    wanted = (WARM_STEPS + TIMED_STEPS + 1) * batch
    shuffled = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
    short = replace(
        recipe,
        start=None,
        epoch=None,
        training=replace(training, epochs=1.0, save_steps=wanted + 1),
    )
    ends: list[float] = []

    def clock(step: int, steps: int) -> None:
        engines.synchronize()
        ends.append(time.monotonic())
        if step >= min(WARM_STEPS + TIMED_STEPS, steps):
            raise _Timed

    with TemporaryDirectory() as folder:
        try:
            train(
                short,
                list(islice(cycle(shuffled), wanted)),
                Path(folder) / "timed",
                engines=engines,
                progress=clock,
            )
        except _Timed:
            gc.collect()  # the trainer's reference cycles hold the model
    # Fewer steps than planned are made where few rows have an answer that fits.
    timed = ends[WARM_STEPS:] if len(ends) > WARM_STEPS + 1 else ends
    return (timed[-1] - timed[0]) / (len(timed) - 1)
