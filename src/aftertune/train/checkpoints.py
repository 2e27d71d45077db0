"""Step checkpoints that survive a kill at any moment.

A checkpoint counts once its marker file is there, and the marker is written last. What a killed run left without one is
deleted before training goes on.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aftertune.core.drafts import claim

_MARKER = "complete"


def prepare(folder: Path, key: str) -> Path | None:
    """Make ``folder`` ready for the training of one recipe and return its newest complete checkpoint, if any.

    Args:
        folder: where the checkpoints are; emptied when they belong to another recipe.
        key: what decides the result: the recipe's key and the rows' hash.

    Raises:
        InputError: the folder holds something that no training of ours put there.
    """
    claim(folder, key)
    complete = {}
    for path in folder.glob("checkpoint-*"):
        if (path / _MARKER).exists():
            complete[int(path.name.rpartition("-")[2])] = path
        else:
            shutil.rmtree(path)
    return complete[max(complete)] if complete else None


def bookkeeper(
    folder: Path,
    progress: Callable[[int, int], None] | None,
    at_epoch: Callable[[int, Any], None] | None = None,
) -> Any:
    """Return a trainer callback that marks checkpoints complete and reports ``progress(steps done, all steps)``.

    ``at_epoch`` is called with the epoch and the model as soon as one is over. A step checkpoint of that moment is
    written after it, so a run that goes on from one has what was to be kept.
    """
    from transformers import TrainerCallback

    class Bookkeeper(TrainerCallback):
        """Marks checkpoints, reports progress, and says when an epoch is over."""

        def __init__(self) -> None:
            self.folder = folder

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the interface's
            self._report(state)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the interface's
            if at_epoch is not None:
                epoch, rest = divmod(
                    state.global_step, state.max_steps // int(args.num_train_epochs)
                )
                if rest == 0:
                    at_epoch(epoch, kwargs["model"])
            self._report(state)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the interface's
            (folder / f"checkpoint-{state.global_step}" / _MARKER).touch()

        def _report(self, state: Any) -> None:
            if progress is not None:
                progress(state.global_step, state.max_steps)

    return Bookkeeper()
