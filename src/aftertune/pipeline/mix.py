"""`aftertune mix`: safety rows into a training file, by their share of the final file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from aftertune.core.recipe import TrainingFile
from aftertune.errors import DataError
from aftertune.prompts.mix import Mixed
from aftertune.prompts.mix import mix as mix_rows
from aftertune.prompts.rows import read_pools, read_rows, write_rows
from aftertune.report.wording import clean


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """Rows to draw from and their share of the final file."""

    files: Sequence[Path] = field(default=())
    share: float = 0.0

    @property
    def training_files(self) -> list[TrainingFile]:
        """The files as records."""
        return [TrainingFile(path=str(path)) for path in self.files]


def mix(train: Path, out: Path, *, safety: Addition, replay: Addition, seed: int) -> None:
    """Write the mixed file and say what went into it.

    Raises:
        DataError: a file cannot be read, the shares do not fit, or the output would replace an input.
    """
    if replay.share > 0 and not replay.files:
        raise DataError("--replay needs rows to draw from; name a file with --replay-from")
    inputs = {path.resolve() for path in (train, *safety.files, *replay.files)}
    if out.resolve() in inputs:
        raise DataError(f"{out} is one of the inputs; give the mixed file another name with --out")
    here = Path()
    mixed = mix_rows(
        read_rows(TrainingFile(path=str(train)), here),
        read_pools(safety.training_files, here),
        read_pools(replay.training_files, here),
        share=safety.share,
        replay_share=replay.share,
        seed=seed,
    )
    write_rows(mixed.rows, out)
    _say(mixed, out)


def _say(mixed: Mixed, out: Path) -> None:
    console = Console(highlight=False, soft_wrap=True)
    total = len(mixed.rows)
    for count, what in ((mixed.user, "yours"), (mixed.safety, "safety"), (mixed.replay, "benign replay")):
        console.print(f"{count:>8,}  {count / total:6.1%}  {what}", markup=False)
    console.print(f"{total:>8,}          rows in {out}", markup=False)
    if len(mixed.by_task) > 1:
        drawn = ", ".join(f"{task} {count}" for task, count in mixed.by_task.items())
        console.print(clean(f"safety rows by task: {drawn}"), markup=False)
    for note in mixed.notes:
        console.print(clean(f"note: {note}"), markup=False)
