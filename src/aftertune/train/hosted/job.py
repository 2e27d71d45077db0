"""A hosted fine-tune: the request, its state on disk (`HOSTED`), and the steps that take it to its end.

Each step is on disk before it is sent, and whatever a kill or a lost reply leaves in doubt is looked up at the provider
before it is sent again: nothing is uploaded or paid for twice.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Literal, Protocol

from aftertune.core.files import write_whole
from aftertune.core.keys import content_key
from aftertune.core.records import Message
from aftertune.errors import DataError, EngineError, ModelError, OptionError
from aftertune.models.reference import HOSTED

Provider = Literal["openai", "vertex"]
FORMAT = 1
"""Formats of `HOSTED`. 1: the request (``asked``) and the state."""
FIRST_WAIT, LONGEST_WAIT, GROWTH = 2.0, 60.0, 1.5
"""Seconds between two questions after a job's state, and their growth."""
LEAST_ROWS = 10
"""OpenAI's least number of rows; Vertex names none, and fewer are no fine-tune there either."""
MOST_BYTES: Mapping[Provider, int] = {"openai": 512 * 2**20, "vertex": 2**30}
MOST_SUFFIX = 64
MOST_SEED = 2**31 - 1
_ROW_TOKENS = 16
"""Upper bound of the tokens of the chat markup around a turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedTune:
    """The request to a provider."""

    provider: Provider
    base: str
    """The provider's name of the model."""
    training: bytes
    """The training file, in the provider's own format."""
    validation: bytes | None = None
    epochs: int
    batch_size: int | None = None
    """None leaves it to the provider."""
    learning_rate_multiplier: float | None = None
    """None leaves it to the provider."""
    seed: int | None = None
    suffix: str = ""
    """Goes into the name of the tuned model."""

    @property
    def key(self) -> str:
        """Return the identity of the job (32 hexadecimal digits): equal rows and settings are one job."""
        return content_key(
            "hosted",
            1,
            [self.provider, self.base],
            [sha256(file).hexdigest() for file in (self.training, self.validation or b"")],
            [self.epochs, self.batch_size, self.learning_rate_multiplier, self.seed, self.suffix],
        ).hex()

    @property
    def record(self) -> dict[str, object]:
        """Return the request as `HOSTED` keeps it, with the hashes of its files."""
        settings = ("epochs", "batch_size", "learning_rate_multiplier", "seed", "suffix")
        return {
            "training_sha256": sha256(self.training).hexdigest(),
            "validation_sha256": None
            if self.validation is None
            else sha256(self.validation).hexdigest(),
            **{name: getattr(self, name) for name in settings},
        }


class Step(StrEnum):
    """The progress of a job; each step is on disk before its request is sent."""

    UPLOADING = "uploading"
    CREATING = "creating"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The state of a hosted fine-tune, as `HOSTED` keeps it."""

    key: str
    provider: Provider
    base: str
    step: Step = Step.UPLOADING
    training_file: str = ""
    """The provider's id of the uploaded file; empty until it is known."""
    validation_file: str = ""
    job: str = ""
    """The provider's id of the job."""
    reference: str = ""
    """The tuned model as a model reference."""
    checkpoints: tuple[str, ...] = ()
    """Models of earlier epochs, as references."""
    trained_tokens: int | None = None
    problem: str = ""
    """The reason for which it failed."""

    @property
    def ended(self) -> bool:
        """Return whether nothing more will come."""
        return self.step in (Step.SUCCEEDED, Step.FAILED, Step.CANCELLED)


class Service(Protocol):
    """A provider. Every method raises ModelError where another try cannot help, and EngineError where it may."""

    def find_upload(self, name: str, content: bytes) -> str | None:
        """Return the id of the file of this name and size, None if there is none."""
        ...

    def upload(self, name: str, content: bytes) -> str:
        """Upload a training file and return its id."""
        ...

    def find_job(self, key: str) -> str | None:
        """Return the id of the job that carries this key, None if there is none that could still succeed."""
        ...

    def create(self, request: HostedTune, training_file: str, validation_file: str) -> str:
        """Create the job, marked by the key, and return its id; never sent a second time by itself."""
        ...

    def progress(self, job: Job) -> tuple[Job, str]:
        """Return the job as it stands now, and the provider's own word for its state."""
        ...

    def cancel(self, job: str) -> None:
        """Ask the provider to stop a job."""
        ...


def tune_hosted(
    request: HostedTune,
    out: Path,
    service: Service,
    *,
    confirm: Callable[[], None],
    note: Callable[[str], None],
) -> Job:
    """Upload, create and wait, from whatever step ``out`` says was reached; return the job once it succeeded.

    Args:
        request: the rows and settings.
        out: the folder that keeps the state, and stands for the tuned model afterwards.
        service: the provider.
        confirm: raises if the user does not want to pay; called before anything is sent, and never again.
        note: prints a line about the progress.

    Raises:
        ModelError: the folder holds another job, or the job failed or was cancelled.
    """
    job = read_job(out)
    if job is None:
        if out.is_dir() and any(out.iterdir()):
            raise ModelError(
                f"{out}: holds something that is no hosted fine-tune ({HOSTED}); give another folder"
            )
        confirm()
        out.mkdir(parents=True, exist_ok=True)
        job = Job(key=request.key, provider=request.provider, base=request.base)
        write_job(out, job, request.record)
    elif job.key != request.key:
        raise ModelError(
            f"{out}: holds a hosted fine-tune of other rows or settings; give another folder"
        )
    if job.step is Step.UPLOADING:
        if not job.training_file:
            file = _upload(request.key, "training", request.training, service, note)
            job = write_job(out, replace(job, training_file=file))
        if request.validation is not None and not job.validation_file:
            file = _upload(request.key, "validation", request.validation, service, note)
            job = write_job(out, replace(job, validation_file=file))
        job = write_job(out, replace(job, step=Step.CREATING))
    if job.step is Step.CREATING:
        number = _create(request, job, service)
        job = write_job(out, replace(job, step=Step.WAITING, job=number))
        note(f"job {job.job}: it goes on without us, and the same command picks it up again")
    return _wait(out, job, service, note)


def _upload(
    key: str, part: str, content: bytes, service: Service, note: Callable[[str], None]
) -> str:
    name = f"aftertune-{key[:16]}-{part}.jsonl"
    file = service.find_upload(name, content)
    note(f"{part} file: {'found again' if file else 'uploading'} ({len(content):,} bytes)")
    return file or service.upload(name, content)


def _create(request: HostedTune, job: Job, service: Service) -> str:
    """Return the id of the job, which a killed run, or one whose folder is lost, may have created already."""
    number = service.find_job(request.key)
    if number is None:
        try:
            number = service.create(request, job.training_file, job.validation_file)
        except EngineError:
            # The reply was lost, perhaps not the job.
            number = service.find_job(request.key)
            if number is None:
                raise
    return number


def _wait(out: Path, job: Job, service: Service, note: Callable[[str], None]) -> Job:
    pause, message = FIRST_WAIT, ""
    while not job.ended:
        before = message
        job, message = service.progress(job)
        if message != before:
            pause = FIRST_WAIT
            note(f"job {job.job}: {message}")
        if job.ended:
            return succeeded(out, write_job(out, job))
        time.sleep(pause)
        pause = min(pause * GROWTH, LONGEST_WAIT)
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


def cancel_hosted(out: Path, service: Service) -> Job:
    """Cancel the job that ``out`` keeps.

    Raises:
        ModelError: it keeps none, or one that has ended.
    """
    job = read_job(out)
    if job is None:
        raise ModelError(f"{out}: holds no hosted fine-tune, so there is nothing to cancel")
    if job.ended:
        raise ModelError(
            f"{out}: the job has ended already ({job.step}), so there is nothing to cancel"
        )
    number = job.job or service.find_job(job.key)
    if number:
        service.cancel(number)
    return write_job(out, replace(job, job=number or "", step=Step.CANCELLED))


def read_job(folder: Path) -> Job | None:
    """Return the state that a folder keeps; None if it keeps none.

    Raises:
        ModelError: the file is broken.
    """
    path = folder / HOSTED
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        job = Job(
            **{field.name: values[field.name] for field in fields(Job) if field.name in values}
        )
        return replace(job, step=Step(job.step), checkpoints=tuple(job.checkpoints))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, TypeError) as error:
        raise ModelError(
            f"{path}: cannot be read ({error}); it names a job that may be paid for, so mend it"
        ) from error


def write_job(folder: Path, job: Job, request: Mapping[str, object] | None = None) -> Job:
    """Write the state, whole or not at all, and return it; the request stays as the first call gave it."""
    if request is None:
        request = json.loads((folder / HOSTED).read_text(encoding="utf-8"))["asked"]
    record = {"format": FORMAT, **asdict(job), "asked": request}
    write_whole(folder / HOSTED, [json.dumps(record, indent=2) + "\n"])
    return job


def check_rows(rows: Sequence[Sequence[Message]], name: str) -> None:
    """See that the rows of the file ``name`` make a training file, before anything is sent.

    Raises:
        DataError: too few rows, or a row with an empty turn.
    """
    if len(rows) < LEAST_ROWS:
        raise DataError(f"{name}: {len(rows)} rows; hosted fine-tuning takes {LEAST_ROWS} or more")
    for number, row in enumerate(rows, start=1):
        empty = next((turn.role for turn in row if not turn.content.strip()), None)
        if empty is not None:
            raise DataError(
                f"{name}, row {number}: the {empty} turn is empty; the provider would refuse the whole file"
            )


def check_request(request: HostedTune) -> None:
    """See that the provider takes settings and files like these, before anything is sent.

    Raises:
        OptionError: an option is out of range; DataError: a file is too large.
    """
    for name, value in (("--epochs", request.epochs), ("--batch-size", request.batch_size)):
        if value is not None and value < 1:
            raise OptionError(f"{name} is {value}; it must be 1 or more")
    multiplier = request.learning_rate_multiplier
    if multiplier is not None and not 0 < multiplier < math.inf:
        raise OptionError(
            f"--learning-rate-multiplier is {multiplier}; it must be a number above 0"
        )
    if request.seed is not None and not 0 <= request.seed <= MOST_SEED:
        raise OptionError(f"--seed is {request.seed}; it must lie between 0 and {MOST_SEED}")
    if request.seed is not None and request.provider == "vertex":
        raise OptionError(
            "--seed: Vertex takes none; leave it out, and tell its runs apart with --suffix"
        )
    if len(request.suffix) > MOST_SUFFIX:
        raise OptionError(
            f"--suffix has {len(request.suffix)} characters; at most {MOST_SUFFIX} are taken"
        )
    most = MOST_BYTES[request.provider]
    for part, content in (
        ("training", request.training),
        ("validation", request.validation or b""),
    ):
        if len(content) > most:
            raise DataError(
                f"the {part} file would have {len(content):,} bytes; {request.provider} takes {most:,}"
            )


def most_tokens(rows: Sequence[Sequence[Message]], epochs: int) -> int:
    """Return an upper bound of the trained tokens: one for each byte, and the markup around each turn."""
    return epochs * sum(
        _ROW_TOKENS * (1 + len(row))
        + sum(len(turn.content.encode("utf-8", "surrogatepass")) for turn in row)
        for row in rows
    )
