"""`aftertune tune-hosted`: a fine-tune that a provider does, shown with its cost before anything is sent."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.options import QuietOption, command_app, screen
from aftertune.core.recipe import TrainingFile
from aftertune.data.files import trainable
from aftertune.data.formats import FORMATS, Row
from aftertune.data.rows import read_columns, read_rows
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
    request = HostedRequest(
        base=base,
        data=data,
        out=out,
        validation=validation,
        columns=columns,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate_multiplier=learning_rate_multiplier,
        seed=seed,
        suffix=suffix,
        bucket=bucket,
        prices=prices,
    )
    if cancel:
        cancel_hosted_model(request, screen(quiet))
    else:
        tune_hosted_model(request, None if yes else _confirmed, screen(quiet))


PROVIDERS: tuple[Provider, ...] = ("openai", "vertex")
ASK = "Upload and pay for it?"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedRequest:
    """The arguments and options of the command."""

    base: str
    """``openai:MODEL`` or ``vertex:MODEL``."""
    data: Path
    out: Path
    validation: Path | None = None
    columns: str | None = None
    epochs: int = 3
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    seed: int | None = None
    suffix: str = ""
    bucket: str = ""
    prices: Path | None = None


def tune_hosted_model(
    request: HostedRequest, confirm: Callable[[str], bool] | None, progress: Progress
) -> None:
    """Have a model fine-tuned, or go on where an earlier call of this command stopped.

    Args:
        request: arguments and options.
        confirm: asks the user a question; None where --yes has answered it.
        progress: prints what happens.

    Raises:
        InputError: rows, settings or credentials that the provider would refuse.
        Stopped: the user does not want it, or Ctrl-C: the job goes on without us.
    """
    provider, base = _provider(request.base)
    rows = _rows(request, request.data, progress)
    validation = (
        None if request.validation is None else _rows(request, request.validation, progress)
    )
    tune = HostedTune(
        provider=provider,
        base=base,
        training=_file(rows, provider),
        validation=None if validation is None else _file(validation, provider),
        epochs=request.epochs,
        batch_size=request.batch_size,
        learning_rate_multiplier=request.learning_rate_multiplier,
        seed=request.seed,
        suffix=request.suffix,
    )
    check_request(tune)

    def allow() -> None:
        progress.note(_offer(request, rows, tune))
        if confirm is not None and not confirm(ASK):
            raise Stopped("nothing was sent")

    earlier = read_job(request.out)
    if earlier is not None and earlier.ended and earlier.key == tune.key:
        reference = succeeded(request.out, earlier).reference
        progress.note(f"{request.out}: finished already, nothing was sent: {reference}")
        return
    try:
        service = _service(provider, request.bucket)
        job = tune_hosted(tune, request.out, service, confirm=allow, note=progress.note)
    except KeyboardInterrupt:
        raise Stopped(
            "stopped watching; a job that was created goes on, and the same command picks it up again (--cancel ends it)"
        ) from None
    progress.note(f"{request.out}: tuned model {job.reference}")


def cancel_hosted_model(request: HostedRequest, progress: Progress) -> None:
    """Cancel the job that a folder keeps."""
    provider, _ = _provider(request.base)
    job = cancel_hosted(request.out, _service(provider, request.bucket))
    progress.note(f"{request.out}: job {job.job or '(never created)'} is cancelled")


def _provider(base: str) -> tuple[Provider, str]:
    """Return the provider and its name of the model in ``openai:MODEL`` or ``vertex:MODEL``."""
    name, _, model = base.partition(":")
    for provider in PROVIDERS:
        if name == provider and model:
            return provider, model
    raise InputError(
        f"{base!r} is no model that a provider tunes; write openai:MODEL or vertex:MODEL"
    )


def _service(provider: Provider, bucket: str) -> Service:
    return OpenAIService() if provider == "openai" else VertexService(bucket)


def _rows(request: HostedRequest, path: Path, progress: Progress) -> list[Row]:
    file = TrainingFile(path=str(path), columns=read_columns(request.columns))
    rows = trainable(read_rows(file, Path()), progress.note, path)
    check_rows(rows, str(path))
    return rows


def _file(rows: Sequence[Row], provider: Provider) -> bytes:
    write = FORMATS[provider].write
    return "".join(json.dumps(write(row), ensure_ascii=False) + "\n" for row in rows).encode(
        "utf-8", "surrogatepass"
    )


def _offer(request: HostedRequest, rows: Sequence[Row], tune: HostedTune) -> str:
    prices = read_prices(request.prices)
    tokens = most_tokens(rows, tune.epochs)
    price = prices.training(f"{tune.provider}:{tune.base}")
    cost = (
        "at no known price" if price is None else f"at most {tokens * price:,.2f} {prices.currency}"
    )
    return (
        f"{request.base}: {len(rows):,} rows x {tune.epochs} epochs, {len(tune.training):,} bytes, at most {tokens:,} tokens, "
        f"{cost} ({prices.source})"
    )


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise InputError("nobody can be asked whether to pay for it; give --yes")
    return typer.confirm(question, err=True)
