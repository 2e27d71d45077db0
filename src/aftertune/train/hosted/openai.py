"""OpenAI's fine-tuning service, by its own package."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aftertune.errors import EngineError, ModelError, PluginError
from aftertune.train.hosted.asking import Asking, T
from aftertune.train.hosted.job import HostedTune, Status, Step

if TYPE_CHECKING:
    from openai import OpenAI

_ENDS = {"succeeded": Step.SUCCEEDED, "failed": Step.FAILED, "cancelled": Step.CANCELLED}


class OpenAIService(Asking):
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
            # No tries of its own: a job that was created without our hearing of it must be looked up, not sent again.
            self._client: OpenAI = openai.OpenAI(max_retries=0, timeout=120.0)
        except openai.OpenAIError as error:
            raise ModelError(
                "openai: no key; set the environment variable OPENAI_API_KEY"
            ) from error

    def find_upload(self, name: str, content: bytes) -> str | None:
        """Return the id of the file of this name and size."""
        files = self.asked(lambda: list(self._client.files.list(purpose="fine-tune")))
        fit = (
            one.id
            for one in files
            if (one.filename, one.bytes) == (name, len(content)) and one.status != "error"
        )
        return next(fit, None)

    def upload(self, name: str, content: bytes) -> str:
        """Upload a training file."""
        try:
            return self.once(
                lambda: self._client.files.create(file=(name, content), purpose="fine-tune").id
            )
        except EngineError:
            found = self.find_upload(name, content)
            if found is None:
                raise
            return found

    def find_job(self, key: str) -> str | None:
        """Return the id of the job whose metadata hold the key."""
        jobs = self.asked(lambda: list(self._client.fine_tuning.jobs.list()))
        fit = (one.id for one in jobs if (one.metadata or {}).get("aftertune") == key)
        alive = (
            one
            for one in fit
            if one not in {job.id for job in jobs if job.status in ("failed", "cancelled")}
        )
        return next(alive, None)

    def create(self, asked: HostedTune, training_file: str, validation_file: str) -> str:
        """Create a supervised job."""
        chosen: dict[str, Any] = {"n_epochs": asked.epochs}
        if asked.batch_size is not None:
            chosen["batch_size"] = asked.batch_size
        if asked.learning_rate_multiplier is not None:
            chosen["learning_rate_multiplier"] = asked.learning_rate_multiplier
        fields: dict[str, Any] = {
            "model": asked.base,
            "training_file": training_file,
            "method": {"type": "supervised", "supervised": {"hyperparameters": chosen}},
            "metadata": {"aftertune": asked.key},
        }
        optional = {
            "seed": asked.seed,
            "suffix": asked.suffix or None,
            "validation_file": validation_file or None,
        }
        fields |= {name: value for name, value in optional.items() if value is not None}
        return self.once(lambda: self._client.fine_tuning.jobs.create(**fields).id)

    def status(self, job: str) -> Status:
        """Ask how far a job is; its newest event is what is said."""
        found = self.asked(lambda: self._client.fine_tuning.jobs.retrieve(job))
        step = _ENDS.get(found.status, Step.WAITING)
        if step is not Step.SUCCEEDED:
            problem = getattr(found.error, "message", None) or ""
            events = self.asked(
                lambda: self._client.fine_tuning.jobs.list_events(job, limit=1).data
            )
            said = f"{found.status}: {events[0].message}" if events else found.status
            return Status(step=step, said=" ".join(said.split()), problem=problem)
        if not found.fine_tuned_model:
            return Status(
                step=Step.FAILED, said=found.status, problem="it ended without a tuned model"
            )
        saved = self.asked(lambda: list(self._client.fine_tuning.jobs.checkpoints.list(job)))
        return Status(
            step=step,
            said=found.status,
            model=f"openai:{found.fine_tuned_model}",
            checkpoints=tuple(
                f"openai:{one.fine_tuned_model_checkpoint}"
                for one in sorted(saved, key=lambda one: one.step_number)
            ),
            trained_tokens=found.trained_tokens,
        )

    def cancel(self, job: str) -> None:
        """Ask the provider to stop a job."""
        self.once(lambda: self._client.fine_tuning.jobs.cancel(job))

    def once(self, ask: Callable[[], T]) -> T:
        """Ask once; raises as `Asking.once`."""
        import openai

        try:
            return ask()
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ModelError(
                f"openai: the service refuses ({_said(error)}); set OPENAI_API_KEY to a key that may fine-tune"
            ) from error
        except openai.APIStatusError as error:
            if error.status_code in (408, 409, 429) or error.status_code >= 500:
                raise EngineError(f"openai: {_said(error)}; run again to go on") from error
            raise ModelError(
                f"openai: the service refuses the fine-tune ({_said(error)})"
            ) from error
        except openai.APIConnectionError as error:
            raise EngineError(
                f"openai: no answer from {self._client.base_url} ({error}); run again to go on"
            ) from error


def _said(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return " ".join(str(body.get("message") or error.status_code).split())[:300]
