"""`aftertune tune-hosted`: a fine-tune that a provider does, shown with its cost before anything is sent."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aftertune.core.recipe import TrainingFile
from aftertune.data.exclusions import left_out, trainable
from aftertune.data.formats import FORMATS, Row
from aftertune.data.rows import read_columns, read_rows
from aftertune.errors import InputError, Stopped
from aftertune.models.endpoint.prices import read_prices
from aftertune.report.progress import Progress
from aftertune.train.hosted.job import HostedTune, Job, Provider, Service, read_job
from aftertune.train.hosted.openai import OpenAIService
from aftertune.train.hosted.tune import cancel_hosted, succeeded, tune_hosted
from aftertune.train.hosted.upload import check_request, check_rows, most_tokens
from aftertune.train.hosted.vertex import VertexService

PROVIDERS: tuple[Provider, ...] = ("openai", "vertex")
ASK = "Upload and pay for it?"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedRequest:
    """What the command line asks for."""

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
        request: what is asked for.
        confirm: asks the user a question; None means that it was answered beforehand.
        progress: where to say what happens.

    Raises:
        InputError: rows, settings or credentials that the provider would refuse.
        Stopped: the user does not want it, or Ctrl-C: the job goes on without us.
    """
    named = _named(request.base)
    rows = _rows(request, request.data, progress)
    validation = (
        None if request.validation is None else _rows(request, request.validation, progress)
    )
    asked = _asked(request, named, rows, validation)
    check_request(asked)

    def allow() -> None:
        progress.note(_offer(request, rows, asked))
        if confirm is not None and not confirm(ASK):
            raise Stopped("nothing was sent")

    known = read_job(request.out)
    if known is not None and known.ended and known.key == asked.key:
        progress.note(
            f"{request.out}: finished already, nothing was sent: {succeeded(request.out, known).reference}"
        )
        return
    try:
        service = _service(asked.provider, request.bucket)
        job = tune_hosted(asked, request.out, service, confirm=allow, note=progress.note)
    except KeyboardInterrupt:
        raise Stopped(
            "stopped watching; a job that was created goes on, and the same command picks it up again (--cancel ends it)"
        ) from None
    progress.note(f"{request.out}: tuned model {job.reference}")


def _asked(
    request: HostedRequest,
    named: tuple[Provider, str],
    rows: Sequence[Row],
    validation: Sequence[Row] | None,
) -> HostedTune:
    provider, base = named
    return HostedTune(
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


def cancel_hosted_model(request: HostedRequest, progress: Progress) -> None:
    """Cancel the job that a folder keeps."""
    provider, _ = _named(request.base)
    job: Job = cancel_hosted(request.out, _service(provider, request.bucket))
    progress.note(f"{request.out}: job {job.job or '(never created)'} is cancelled")


def _named(base: str) -> tuple[Provider, str]:
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
    rows, dropped = trainable(read_rows(file, Path()))
    if dropped:
        progress.note(f"{path}: {left_out(dropped)}")
    check_rows(rows, str(path))
    return rows


def _file(rows: Sequence[Row], provider: Provider) -> bytes:
    write = FORMATS[provider].write
    return "".join(json.dumps(write(row), ensure_ascii=False) + "\n" for row in rows).encode(
        "utf-8", "surrogatepass"
    )


def _offer(request: HostedRequest, rows: Sequence[Row], asked: HostedTune) -> str:
    prices = read_prices(request.prices)
    most = most_tokens(rows, asked.epochs)
    price = prices.training(f"{asked.provider}:{asked.base}")
    cost = (
        "at no known price" if price is None else f"at most {most * price:,.2f} {prices.currency}"
    )
    return (
        f"{request.base}: {len(rows):,} rows x {asked.epochs} epochs, {len(asked.training):,} bytes, at most {most:,} tokens, "
        f"{cost} ({prices.source})"
    )
