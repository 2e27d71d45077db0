"""`aftertune tune-hosted`: a fine-tune that a provider does, shown with its cost before anything is sent."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.options import QuietOption, command_app, screen
from aftertune.core.recipe import TrainingFile
from aftertune.data.formats import FORMATS, Row
from aftertune.data.rows import as_marked, read_columns, read_rows, trainable, whole
from aftertune.errors import InputError, Stopped
from aftertune.models.endpoint.budget import read_prices
from aftertune.report.progress import Progress
from aftertune.train.hosted.job import (
    HostedTune,
    Provider,
    Service,
    cancel_hosted,
    check_request,
    check_rows,
    most_tokens,
    read_job,
    succeeded,
    tune_hosted,
)
from aftertune.train.hosted.openai import OpenAIService
from aftertune.train.hosted.vertex import VertexService

app = command_app()


@app.command()
def command(
    base: Annotated[str, typer.Argument(help="What to fine-tune: openai:MODEL or vertex:MODEL.")],
    data: Annotated[
        Path, typer.Argument(help="The training file, in any format that `tune` reads.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Keeps the job, and stands for the tuned model afterwards.",
        ),
    ],
    validation: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A validation file.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="MAP", help="For CSV: prompt=COLUMN,completion=COLUMN[,input=COLUMN]."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the data; decides what it costs.")] = 3,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows per step; the provider's choice by default.")
    ] = None,
    learning_rate_multiplier: Annotated[
        float | None,
        typer.Option(help="Factor on the learning rate; the provider's choice by default."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Training seed (openai).")] = None,
    suffix: Annotated[str, typer.Option(help="Goes into the tuned model's name.")] = "",
    bucket: Annotated[
        str, typer.Option(metavar="URL", help="gs://BUCKET/FOLDER for the files (vertex).")
    ] = "",
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A price file of your own.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before paying.")] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel the job that DIR keeps.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Have a provider fine-tune a model; run again to go on where it stopped, and nothing is paid for twice."""
    name, _, model = base.partition(":")
    provider = next((provider for provider in PROVIDERS if provider == name and model), None)
    if provider is None:
        raise InputError(
            f"{base!r} is no model that a provider tunes; write openai:MODEL or vertex:MODEL"
        )
    progress = screen(quiet)
    if cancel:
        job = cancel_hosted(out, _service(provider, bucket))
        progress.note(f"{out}: job {job.job or '(never created)'} is cancelled")
        return
    rows = _rows(data, columns, provider, progress)
    held_out = None if validation is None else _rows(validation, columns, provider, progress)
    tune = HostedTune(
        provider=provider,
        base=model,
        training=_file(rows, provider),
        validation=None if held_out is None else _file(held_out, provider),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate_multiplier=learning_rate_multiplier,
        seed=seed,
        suffix=suffix,
    )
    check_request(tune)

    def allow() -> None:
        progress.note(_offer(rows, tune, prices))
        if not yes and not _confirmed():
            raise Stopped("nothing was sent")

    earlier = read_job(out)
    if earlier is not None and earlier.ended and earlier.key == tune.key:
        reference = succeeded(out, earlier).reference
        progress.note(f"{out}: finished already, nothing was sent: {reference}")
        return
    try:
        job = tune_hosted(tune, out, _service(provider, bucket), confirm=allow, note=progress.note)
    except KeyboardInterrupt:
        raise Stopped(
            "stopped watching; a job that was created goes on, and the same command picks it up again (--cancel ends it)"
        ) from None
    progress.note(f"{out}: tuned model {job.reference}")


PROVIDERS: tuple[Provider, ...] = ("openai", "vertex")


def _service(provider: Provider, bucket: str) -> Service:
    return OpenAIService() if provider == "openai" else VertexService(bucket)


def _rows(path: Path, columns: str | None, provider: Provider, progress: Progress) -> list[Row]:
    file = TrainingFile(path=str(path), columns=read_columns(columns))
    rows = trainable(
        read_rows(file, Path()),
        progress.note,
        path,
        as_marked if FORMATS[provider].marks else whole,
    )
    thinking = sum(any(turn.reasoning for turn in row) for row in rows)
    if thinking:
        progress.note(
            f"{path}: {thinking:,} rows keep their thinking apart (reasoning_content), for which {provider} has no place: it is "
            "not sent"
        )
    check_rows(rows, str(path))
    return rows


def _file(rows: Sequence[Row], provider: Provider) -> bytes:
    write = FORMATS[provider].write
    return "".join(json.dumps(write(row), ensure_ascii=False) + "\n" for row in rows).encode(
        "utf-8", "surrogatepass"
    )


def _offer(rows: Sequence[Row], tune: HostedTune, price_file: Path | None) -> str:
    prices, model = read_prices(price_file), f"{tune.provider}:{tune.base}"
    tokens, price = most_tokens(rows, tune.epochs), prices.training(model)
    cost = (
        "at no known price" if price is None else f"at most {tokens * price:,.2f} {prices.currency}"
    )
    return (
        f"{model}: {len(rows):,} rows x {tune.epochs} epochs, {len(tune.training):,} bytes, at most {tokens:,} tokens, "
        f"{cost} ({prices.source})"
    )


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise InputError("nobody can be asked whether to pay for it; give --yes")
    return typer.confirm("Upload and pay for it?", err=True)
