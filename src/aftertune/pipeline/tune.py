"""`aftertune tune`: one fine-tune, with its recipe beside the weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aftertune.core.ids import file_sha256
from aftertune.core.recipe import Recipe, Training, TrainingFile
from aftertune.engine.open import Engines
from aftertune.errors import DataError, InputError
from aftertune.prompts.rows import read_rows
from aftertune.report.progress import Progress
from aftertune.tune.train import train

METHODS = ("full", "lora", "qlora")


def tune(
    base: str,
    data: Sequence[Path],
    out: Path,
    options: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Fine-tune ``base`` on the rows of ``data``.

    Args:
        base: a model reference.
        data: training files.
        out: where the weights go.
        options: ``method``, ``seed``, ``system``, ``threads`` and the fields of `Training`.
        progress: where to show it.

    Raises:
        InputError: an option, a file or the base cannot be used.
    """
    keys = dict(options)
    method, seed, system = keys.pop("method"), keys.pop("seed"), keys.pop("system")
    threads = keys.pop("threads")
    if method not in METHODS:
        raise InputError(f"--method {method}: use one of {', '.join(METHODS)}")
    for name, value in keys.items():
        if value <= 0:
            raise InputError(f"--{name.replace('_', '-')} is {value}; it must be above 0")
    files = tuple(_training_file(path) for path in data)
    rows = [row for file in files for row in read_rows(file, Path())]
    with Engines(threads=threads) as engines:
        identity = engines.open(base).identity
        recipe = Recipe(
            name=out.name,
            base=base,
            base_identity=identity,
            data=files,
            method=method,
            training=Training(**keys),
            seed=seed,
            system=system,
            template_sha256=engines.tokenizer_sha256(base),
        )
        steps = max(1, round(recipe.training.epochs * len(rows) / recipe.training.batch_size))
        with progress.stage("tune", steps) as advance:
            last = [0]

            def report(step: int, _total: int) -> None:
                advance(step - last[0])
                last[0] = step

            train(recipe, rows, out, engines=engines, progress=report)
    progress.note(f"{out}: {method} fine-tune of {base} on {len(rows):,} rows, seed {seed}")


def _training_file(path: Path) -> TrainingFile:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give JSONL (messages or prompt/completion) or CSV")
    return TrainingFile(path=str(path.resolve()), sha256=file_sha256(path))
