"""A hosted fine-tune: what is asked for, and how far it has come, kept in `HOSTED` so that nothing is paid for twice."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Literal, Protocol

from aftertune.core.files import write_whole
from aftertune.core.ids import content_key
from aftertune.errors import ModelError
from aftertune.models.reference import HOSTED

Provider = Literal["openai", "vertex"]
FORMAT = 1
"""1: what was asked for, and the state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedTune:
    """What is asked of a provider."""

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
        """The identity of the job (32 hexadecimal digits): equal rows and settings are one job."""
        return content_key(
            "hosted",
            1,
            [self.provider, self.base],
            [sha256(file).hexdigest() for file in (self.training, self.validation or b"")],
            [self.epochs, self.batch_size, self.learning_rate_multiplier, self.seed, self.suffix],
        ).hex()


class Step(StrEnum):
    """How far a job has come; each step is on disk before what it names is asked for."""

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
    """Why it failed."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.step in (Step.SUCCEEDED, Step.FAILED, Step.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a provider says of a job."""

    step: Step
    """`Step.WAITING` until it has ended."""
    said: str = ""
    """Its own word for the state."""
    model: str = ""
    """The tuned model as a model reference, once there is one."""
    checkpoints: tuple[str, ...] = ()
    trained_tokens: int | None = None
    problem: str = ""


class Service(Protocol):
    """A provider. The two finders make every step repeatable: what was asked for just before a kill is looked up."""

    def find_upload(self, name: str, content: bytes) -> str | None:
        """Return the id of the file of this name and size, None if there is none."""
        ...

    def upload(self, name: str, content: bytes) -> str:
        """Upload a training file and return its id."""
        ...

    def find_job(self, key: str) -> str | None:
        """Return the id of the job that carries this key, None if there is none that could still succeed."""
        ...

    def create(self, asked: HostedTune, training_file: str, validation_file: str) -> str:
        """Create the job, marked by the key, and return its id; never sent a second time by itself."""
        ...

    def status(self, job: str) -> Status:
        """Ask how far a job is."""
        ...

    def cancel(self, job: str) -> None:
        """Ask the provider to stop a job."""
        ...


def read_job(folder: Path) -> Job | None:
    """Read the state that a folder keeps; None if it keeps none.

    Raises:
        ModelError: the file is broken.
    """
    path = folder / HOSTED
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name: values[field.name] for field in fields(Job) if field.name in values}
        job = Job(**known)
        return replace(job, step=Step(job.step), checkpoints=tuple(job.checkpoints))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{path}: cannot be read ({error}); it names a job that may be paid for, so mend it"
        ) from error


def write_job(folder: Path, job: Job, asked: Mapping[str, object] | None = None) -> None:
    """Write the state, whole or not at all; ``asked`` is kept from the first time on."""
    kept = (
        asked
        if asked is not None
        else json.loads((folder / HOSTED).read_text(encoding="utf-8"))["asked"]
    )
    record = {"format": FORMAT, **asdict(job), "asked": dict(kept)}
    write_whole(folder / HOSTED, [json.dumps(record, indent=2) + "\n"])
