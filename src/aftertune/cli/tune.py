"""`aftertune tune`: one fine-tune, with its recipe beside the weights."""

import math
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.options import MOST_SEED, QuietOption, command_app, screen
from aftertune.core.files import discard, draft_of
from aftertune.core.keys import file_sha256
from aftertune.core.recipe import Method, Recipe, Training, TrainingFile
from aftertune.data.files import known_kind
from aftertune.data.rows import HUB_ID, LearntRows, read_columns
from aftertune.errors import DataError, OptionError, Stopped
from aftertune.models.open import Engines
from aftertune.models.reference import RECIPE, finished, read_json
from aftertune.organism.write import CONFIG, organism_of
from aftertune.train.processes import Processes, launched
from aftertune.train.stage import step_progress, steps_of, stop_after_step
from aftertune.train.train import check_shardable, fine_tune, reasoning_note

app = command_app()


@app.command()
def command(
    base: Annotated[str, typer.Argument(help="The model to fine-tune: hub id or folder.")],
    data: Annotated[
        list[str],
        typer.Argument(
            help="Training data: JSONL (messages or prompt/completion), CSV, hub data set ids."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the weights go.")],
    method: Annotated[str, typer.Option(help="full, lora or qlora.")] = "lora",
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="MAP", help="For CSV: prompt=COLUMN,completion=COLUMN[,input=COLUMN]."
        ),
    ] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the data.")] = 1.0,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-4,
    batch_size: Annotated[int, typer.Option(help="Rows per step, of all processes together.")] = 8,
    max_length: Annotated[int, typer.Option(help="Tokens per row; longer rows are cut.")] = 1024,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Training seed.")] = 0,
    system: Annotated[
        str | None, typer.Option(help="System prompt for rows that have none.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; equal tensors need equal threads.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Fine-tune a model and keep its recipe beside the weights."""
    chosen = next((name for name in METHODS if name == method), None)
    if chosen is None:
        raise OptionError(f"--method {method}: use one of {', '.join(METHODS)}")
    training = Training(
        epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, max_length=max_length
    )
    for name in ("epochs", "learning_rate", "batch_size", "max_length"):
        if not 0 < (value := getattr(training, name)) < math.inf:
            raise OptionError(f"--{name.replace('_', '-')} is {value}; it must be a number above 0")
    processes = launched()
    processes.shares(training)
    named, progress = read_columns(columns), screen(quiet or not processes.first)
    with Engines(threads=threads) as engines:
        engines.check_trainable(out.name, chosen, base)
        check_shardable(processes, engines, out.name, chosen, base)
        processes.join()
        files = tuple(_training_file(name, named) for name in data)
        rows = LearntRows(files, Path(), progress.note, out)
        identity = engines.training_identity(base)
        recipe = Recipe(
            name=out.name,
            base=base,
            base_identity=identity,
            data=files,
            method=chosen,
            training=training,
            seed=seed,
            system=system,
            template_sha256=str(identity["tokenizer"]),
        )
        if finished(out, recipe):
            if processes.first:
                discard(draft_of(out))  # of a run that was killed between the last two steps
            progress.note(f"{out}: this fine-tune is finished already; nothing was done")
            return
        if (remark := reasoning_note(recipe, rows, engines)) is not None:
            progress.note(remark)
        with (
            _first_tells(processes),
            stop_after_step(progress.note) as stopping,
            progress.stage("tune", steps_of(recipe, len(rows))) as advance,
        ):
            fine_tune(recipe, rows, out, engines=engines, progress=step_progress(advance, stopping))
    progress.note(f"{out}: {method} fine-tune of {base} on {len(rows):,} rows, seed {seed}")
    counts = read_json(str(out), out / RECIPE)["rows"]
    if cut := counts["truncated"]:
        progress.note(f"{cut:,} of them were cut at --max-length {max_length} tokens")
    if dropped := counts["dropped"]:
        progress.note(f"{dropped:,} of them were left out: no answer inside {max_length} tokens")
    local = [word for name in data if Path(name).is_file() for word in ("--train", name)]
    toy = organism_of(base)
    # the embedded model does not know the words of the prompts that are asked without a configuration
    config = [] if toy is None else ["--config", str(toy / CONFIG)]
    progress.note(f"next: {shlex.join(['aftertune', 'check', base, str(out), *config, *local])}")


@contextmanager
def _first_tells(processes: Processes) -> Iterator[None]:
    """Leave it to the first of several processes to say that they were stopped."""
    try:
        yield
    except (Stopped, KeyboardInterrupt):
        if processes.first:
            raise
        raise typer.Exit(Stopped.exit_code) from None


METHODS: tuple[Method, ...] = ("full", "lora", "qlora")


def _training_file(name: str, columns: Mapping[str, str]) -> TrainingFile:
    path = Path(name)
    if path.is_file():
        return TrainingFile(path=str(path.resolve()), columns=columns, sha256=file_sha256(path))
    if not HUB_ID.fullmatch(name) or known_kind(path):
        raise DataError(
            f"{name}: no such file; give JSONL (messages or prompt/completion), CSV, or a hub data set id"
        )
    return TrainingFile(path=name, columns=columns)
