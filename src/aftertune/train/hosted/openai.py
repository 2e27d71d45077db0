"""OpenAI's fine-tuning service, by its own package."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from aftertune.errors import EngineError, ModelError, PluginError
from aftertune.train.hosted.job import HostedTune, Job, Step

if TYPE_CHECKING:
    from openai import OpenAI

T = TypeVar("T")
RETRIES = 10
"""Further tries of a request that changes nothing; the package waits between them, a minute in all."""
_ENDS = {"succeeded": Step.SUCCEEDED, "failed": Step.FAILED, "cancelled": Step.CANCELLED}


class OpenAIService:
    """Files and jobs of the account whose key ``OPENAI_API_KEY`` holds (address: ``OPENAI_BASE_URL``).

    Raises:
        PluginError: the package is missing.
        ModelError: no key.
    """

    def __init__(self) -> None:
        try:
            import openai
        except ImportError as error:
            raise PluginError(
                "hosted fine-tuning needs the provider's package: pip install 'aftertune[hosted]'"
            ) from error
        try:
            # No second try by itself: a job that was created though the reply was lost must be looked up, not sent again.
            self._writing: OpenAI = openai.OpenAI(max_retries=0, timeout=120.0)
        except openai.OpenAIError as error:
            raise ModelError(
                "openai: no key; set the environment variable OPENAI_API_KEY"
            ) from error
        self._reading = self._writing.with_options(max_retries=RETRIES)

    def find_upload(self, name: str, content: bytes) -> str | None:
        """Return the id of the file of this name and size."""
        files = self._call(lambda: list(self._reading.files.list(purpose="fine-tune")))
        ids = (
            file.id
            for file in files
            if (file.filename, file.bytes) == (name, len(content)) and file.status != "error"
        )
        return next(ids, None)

    def upload(self, name: str, content: bytes) -> str:
        """Upload a training file."""
        try:
            return self._call(
                lambda: self._writing.files.create(file=(name, content), purpose="fine-tune").id
            )
        except EngineError:
            # The reply was lost, perhaps not the file.
            file = self.find_upload(name, content)
            if file is None:
                raise
            return file

    def find_job(self, key: str) -> str | None:
        """Return the id of the job whose metadata hold the key."""
        jobs = self._call(lambda: list(self._reading.fine_tuning.jobs.list()))
        ids = (
            job.id
            for job in jobs
            if (job.metadata or {}).get("aftertune") == key
            and job.status not in ("failed", "cancelled")
        )
        return next(ids, None)

    def create(self, request: HostedTune, training_file: str, validation_file: str) -> str:
        """Create a supervised job."""
        hyperparameters = {
            "n_epochs": request.epochs,
            "batch_size": request.batch_size,
            "learning_rate_multiplier": request.learning_rate_multiplier,
        }
        fields = {
            "model": request.base,
            "training_file": training_file,
            "validation_file": validation_file or None,
            "method": {
                "type": "supervised",
                "supervised": {"hyperparameters": _given(hyperparameters)},
            },
            "metadata": {"aftertune": request.key},
            "seed": request.seed,
            "suffix": request.suffix or None,
        }
        return self._call(lambda: self._writing.fine_tuning.jobs.create(**_given(fields)).id)

    def progress(self, job: Job) -> tuple[Job, str]:
        """Return the job as it stands now, and its state with the message of its newest event."""
        jobs = self._reading.fine_tuning.jobs
        tuning = self._call(lambda: jobs.retrieve(job.job))
        step = _ENDS.get(tuning.status, Step.WAITING)
        if step is not Step.SUCCEEDED:
            events = self._call(lambda: jobs.list_events(job.job, limit=1).data)
            message = f"{tuning.status}: {events[0].message}" if events else tuning.status
            problem = getattr(tuning.error, "message", None) or ""
            return replace(job, step=step, problem=problem), " ".join(message.split())
        if not tuning.fine_tuned_model:
            problem = "it ended without a tuned model"
            return replace(job, step=Step.FAILED, problem=problem), tuning.status
        saved = self._call(lambda: list(jobs.checkpoints.list(job.job)))
        saved.sort(key=lambda checkpoint: checkpoint.step_number)
        done = replace(
            job,
            step=step,
            reference=f"openai:{tuning.fine_tuned_model}",
            checkpoints=tuple(
                f"openai:{checkpoint.fine_tuned_model_checkpoint}" for checkpoint in saved
            ),
            trained_tokens=tuning.trained_tokens,
        )
        return done, tuning.status

    def cancel(self, job: str) -> None:
        """Ask the provider to stop a job."""
        self._call(lambda: self._writing.fine_tuning.jobs.cancel(job))

    def _call(self, request: Callable[[], T]) -> T:
        """Return the reply to a request; raise ModelError where another try cannot help, EngineError where it may."""
        import openai

        try:
            return request()
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ModelError(
                f"openai: the service refuses ({_message(error)}); set OPENAI_API_KEY to a key that may fine-tune"
            ) from error
        except openai.APIStatusError as error:
            if error.status_code in (408, 409, 429) or error.status_code >= 500:
                raise EngineError(f"openai: {_message(error)}; run again to go on") from error
            raise ModelError(
                f"openai: the service refuses the fine-tune ({_message(error)})"
            ) from error
        except openai.APIConnectionError as error:
            raise EngineError(
                f"openai: no answer from {self._writing.base_url} ({error}); run again to go on"
            ) from error


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are set; the rest is left to the provider."""
    return {name: value for name, value in values.items() if value is not None}


def _message(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return " ".join(str(body.get("message") or error.status_code).split())[:300]
