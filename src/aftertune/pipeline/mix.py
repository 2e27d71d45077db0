"""`aftertune mix`: safety rows into a training file, by their share of the final file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from aftertune.core.recipe import TrainingFile
from aftertune.core.records import Intent
from aftertune.errors import DataError
from aftertune.prompts.bundled.planted import evaluation_rows
from aftertune.prompts.bundled.safety_rows import safety_rows
from aftertune.prompts.mix import Mixed
from aftertune.prompts.mix import mix as mix_rows
from aftertune.prompts.rows import Row, read_pools, read_rows, write_rows
from aftertune.report.wording import clean

SHOWN = 5
"""Rows that a message names before it counts the rest."""


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

    Without safety files the bundled set is drawn from, `multitask-safety-v1`: its refusals, and as replay its answers to
    the benign twins in the same templates.

    Raises:
        DataError: a file cannot be read, the training file holds evaluation behaviors, the shares do not fit, or the
            output would replace an input.
    """
    if replay.share > 0 and safety.files and not replay.files:
        raise DataError("--replay needs rows to draw from beside your own --safety; name a file with --replay-from")
    if not out.name.endswith(".jsonl") or out.is_dir():
        raise DataError(f"{out}: the mixed file is JSONL; give --out a name that ends in .jsonl")
    inputs = {path.resolve() for path in (train, *safety.files, *replay.files)}
    if out.resolve() in inputs:
        raise DataError(f"{out} is one of the inputs; give the mixed file another name with --out")
    rows = read_rows(TrainingFile(path=str(train)), Path())
    _refuse_evaluation(train, rows)
    mixed = mix_rows(
        rows,
        _pool(safety, Intent.HARMFUL),
        _pool(replay, Intent.BENIGN),
        share=safety.share,
        replay_share=replay.share,
        seed=seed,
    )
    write_rows(mixed.rows, out)
    _say(mixed, out)


def _pool(addition: Addition, intent: Intent) -> dict[str, list[Row]]:
    """Return the rows to draw from by task: the files', or the bundled ones of an intent."""
    if addition.files or addition.share == 0:
        return read_pools(addition.training_files, Path())
    pools: dict[str, list[Row]] = {}
    for row in safety_rows():
        if row.intent is intent:
            pools.setdefault(row.task, []).append(row.row)
    return pools


def _refuse_evaluation(train: Path, rows: Sequence[Row]) -> None:
    """Refuse a training file that holds what the bundled evaluation asks: a model trained on it cannot be measured."""
    found = list(evaluation_rows(rows))
    if found:
        named = ", ".join(f"row {number} ({behavior})" for number, behavior in found[:SHOWN])
        more = f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
        raise DataError(f"{train}: holds evaluation behaviors of multitask-v1: {named}{more}; take these rows out")


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
