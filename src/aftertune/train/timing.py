"""How long training will take: the first optimisation steps are made for real, timed, and thrown away."""

import gc
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from aftertune.core.recipe import Recipe
from aftertune.core.records import Message
from aftertune.models.open import Engines
from aftertune.train.train import train

WARM, STEPS = 2, 6
"""Steps before the clock starts, and those that are timed."""


class _Enough(Exception):
    pass


def seconds_per_step(
    recipe: Recipe, rows: Sequence[tuple[Message, ...]], engines: Engines
) -> float:
    """Return the seconds that an optimisation step of a recipe takes on this machine.

    Training starts as it would (the same method, batch, lengths of rows drawn at random, optimiser) and is broken off;
    nothing of it is kept. Loading, step checkpoints and the writing of the weights are not counted. A round is timed
    from its base, which has the same shape.

    Raises:
        AftertuneError: as `train`.
    """
    training = recipe.training
    wanted = (WARM + STEPS + 1) * training.batch_size * training.gradient_accumulation
    shuffled = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
    short = replace(
        recipe,
        start=None,
        epoch=None,
        training=replace(training, epochs=1.0, save_steps=wanted + 1),
    )
    ends: list[float] = []

    def watch(step: int, steps: int) -> None:
        _finish_device(engines)
        ends.append(time.monotonic())
        if step >= min(WARM + STEPS, steps):
            raise _Enough

    with TemporaryDirectory() as folder:
        try:
            train(
                short,
                list(islice(cycle(shuffled), wanted)),
                Path(folder) / "timed",
                engines=engines,
                progress=watch,
            )
        except _Enough:
            gc.collect()  # the trainer's reference cycles hold the model
    timed = (
        ends[WARM:] if len(ends) > WARM + 1 else ends
    )  # few rows may have an answer with room for it
    return (timed[-1] - timed[0]) / (len(timed) - 1)


def _finish_device(engines: Engines) -> None:
    """Wait for a GPU, which works on while Python counts."""
    if engines.placement.device == "cpu":
        return
    import torch

    torch.accelerator.synchronize()
