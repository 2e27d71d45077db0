"""Takes a hosted fine-tune from wherever it is to its end."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from aftertune.errors import EngineError, ModelError
from aftertune.models.reference import HOSTED
from aftertune.train.hosted.job import HostedTune, Job, Service, Step, read_job, write_job

FIRST_WAIT, LONGEST_WAIT, GROWTH = 2.0, 60.0, 1.5
"""Seconds between two looks at a job."""


def tune_hosted(
    asked: HostedTune,
    out: Path,
    service: Service,
    *,
    confirm: Callable[[], None],
    note: Callable[[str], None],
) -> Job:
    """Upload, create and wait, from whatever step ``out`` says was reached; return the job once it succeeded.

    Args:
        asked: what is asked for.
        out: the folder that keeps the state, and stands for the tuned model afterwards.
        service: the provider.
        confirm: raises if the user does not want to pay; asked before anything is sent, and never again.
        note: where to say what happens.

    Raises:
        ModelError: the folder holds another job, or the job failed or was cancelled.
    """
    job = read_job(out)
    if job is None:
        _check_empty(out)
        confirm()
        out.mkdir(parents=True, exist_ok=True)
        job = Job(key=asked.key, provider=asked.provider, base=asked.base)
        write_job(out, job, _described(asked))
    elif job.key != asked.key:
        raise ModelError(
            f"{out}: holds a hosted fine-tune of other rows or settings; give another folder"
        )
    job = _uploaded(asked, out, job, service, note)
    job = _created(asked, out, job, service, note)
    return _waited(out, job, service, note)


def cancel_hosted(out: Path, service: Service) -> Job:
    """Cancel the job that ``out`` keeps.

    Raises:
        ModelError: it keeps none, or one that has ended.
    """
    job = read_job(out)
    if job is None:
        raise ModelError(f"{out}: holds no hosted fine-tune, so there is nothing to cancel")
    found = job.job or service.find_job(job.key)
    if job.ended:
        raise ModelError(
            f"{out}: the job has ended already ({job.step}), so there is nothing to cancel"
        )
    if found:
        service.cancel(found)
    job = replace(job, job=found or "", step=Step.CANCELLED)
    write_job(out, job)
    return job


def file_name(key: str, part: str) -> str:
    """Return the name under which a file is uploaded; it is found again by it."""
    return f"aftertune-{key[:16]}-{part}.jsonl"


def _uploaded(
    asked: HostedTune, out: Path, job: Job, service: Service, note: Callable[[str], None]
) -> Job:
    if job.step is not Step.UPLOADING:
        return job
    if not job.training_file:
        job = replace(
            job, training_file=_upload(asked.key, "training", asked.training, service, note)
        )
        write_job(out, job)
    if asked.validation is not None and not job.validation_file:
        job = replace(
            job, validation_file=_upload(asked.key, "validation", asked.validation, service, note)
        )
        write_job(out, job)
    return job


def _upload(
    key: str, part: str, content: bytes, service: Service, note: Callable[[str], None]
) -> str:
    name = file_name(key, part)
    found = service.find_upload(name, content)
    note(f"{part} file: {'found again' if found else 'uploading'} ({len(content):,} bytes)")
    return found or service.upload(name, content)


def _created(
    asked: HostedTune, out: Path, job: Job, service: Service, note: Callable[[str], None]
) -> Job:
    if job.step not in (Step.UPLOADING, Step.CREATING):
        return job
    job = replace(job, step=Step.CREATING)
    write_job(out, job)
    found = service.find_job(
        asked.key
    )  # a kill, a lost reply, a lost folder: it may be there, and is not paid for twice
    if found is None:
        try:
            found = service.create(asked, job.training_file, job.validation_file)
        except EngineError:
            found = service.find_job(asked.key)
            if found is None:
                raise
    job = replace(job, step=Step.WAITING, job=found)
    write_job(out, job)
    note(f"job {found}: it goes on without us, and the same command picks it up again")
    return job


def _waited(out: Path, job: Job, service: Service, note: Callable[[str], None]) -> Job:
    wait, said = FIRST_WAIT, ""
    while not job.ended:
        status = service.status(job.job)
        if status.said != said:
            said, wait = status.said, FIRST_WAIT
            note(f"job {job.job}: {said}")
        if status.step is not Step.WAITING:
            job = replace(
                job,
                step=status.step,
                reference=status.model,
                checkpoints=status.checkpoints,
                trained_tokens=status.trained_tokens,
                problem=status.problem,
            )
            write_job(out, job)
            break
        time.sleep(wait)
        wait = min(wait * GROWTH, LONGEST_WAIT)
    return succeeded(out, job)


def succeeded(out: Path, job: Job) -> Job:
    """Return a job that has ended.

    Raises:
        ModelError: it failed or was cancelled.
    """
    if job.step is not Step.SUCCEEDED:
        why = f": {job.problem}" if job.problem else ""
        raise ModelError(
            f"{out}: the job {job.job} {job.step}{why}; a new try, which is paid for anew, needs another folder"
        )
    return job


def _check_empty(out: Path) -> None:
    with suppress(OSError):
        if any(out.iterdir()):
            raise ModelError(
                f"{out}: holds something that is no hosted fine-tune ({HOSTED}); give another folder"
            )


def _described(asked: HostedTune) -> Mapping[str, object]:
    return {
        "training_sha256": sha256(asked.training).hexdigest(),
        "validation_sha256": None
        if asked.validation is None
        else sha256(asked.validation).hexdigest(),
        "epochs": asked.epochs,
        "batch_size": asked.batch_size,
        "learning_rate_multiplier": asked.learning_rate_multiplier,
        "seed": asked.seed,
        "suffix": asked.suffix,
    }
