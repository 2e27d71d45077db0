"""Vertex AI's tuning of Gemini: the file goes to a bucket of Cloud Storage, the job to `tunings.tune`.

Project and place stand in ``GOOGLE_CLOUD_PROJECT`` and ``GOOGLE_CLOUD_LOCATION``, the credentials where Google's packages look
for them. The Gemini Developer API is not used: it took such a job without its training examples.
"""

import os
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aftertune.errors import EngineError, InputError, ModelError, PluginError
from aftertune.train.hosted.asking import Asking, T
from aftertune.train.hosted.job import HostedTune, Status, Step

if TYPE_CHECKING:
    from google.genai import Client

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_ENDS = {
    "JOB_STATE_SUCCEEDED": Step.SUCCEEDED,
    "JOB_STATE_PARTIALLY_SUCCEEDED": Step.SUCCEEDED,
    "JOB_STATE_FAILED": Step.FAILED,
    "JOB_STATE_EXPIRED": Step.FAILED,
    "JOB_STATE_CANCELLED": Step.CANCELLED,
}
_DEAD = ("JOB_STATE_FAILED", "JOB_STATE_EXPIRED", "JOB_STATE_CANCELLED", "JOB_STATE_CANCELLING")


class VertexService(Asking):
    """Tuning jobs of one project, with their files in one bucket.

    Args:
        bucket: ``gs://BUCKET`` or ``gs://BUCKET/FOLDER``, where files go.

    Raises:
        PluginError: the package is missing.
        InputError: no bucket, project, place or credentials.
    """

    def __init__(self, bucket: str) -> None:
        try:
            import google.auth
            from google import genai
            from google.auth.exceptions import DefaultCredentialsError
            from google.auth.transport.requests import AuthorizedSession
        except ImportError as error:
            raise PluginError(
                "hosted fine-tuning needs the provider's package: pip install 'aftertune[hosted]'"
            ) from error
        self._bucket, _, folder = bucket.removeprefix("gs://").strip("/").partition("/")
        if not bucket.startswith("gs://") or not self._bucket:
            raise InputError(
                "vertex needs a bucket for the training file; name one with --bucket gs://BUCKET/FOLDER"
            )
        self._folder = f"{folder}/" if folder else ""
        project, place = (
            _needed(name) for name in ("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION")
        )
        try:
            credentials, _ = google.auth.default(scopes=[SCOPE])
        except DefaultCredentialsError as error:
            raise ModelError(
                "vertex: no credentials; log in with gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
            ) from error
        self._place = place
        self._client: Client = genai.Client(
            vertexai=True, project=project, location=place, credentials=credentials
        )
        self._storage = AuthorizedSession(credentials)
        self._storage_url = os.environ.get(
            "STORAGE_EMULATOR_HOST", "https://storage.googleapis.com"
        ).rstrip("/")

    def find_upload(self, name: str, content: bytes) -> str | None:
        """Return the address of the object of this name and size."""
        url = f"{self._storage_url}/storage/v1/b/{self._bucket}/o/{quote(self._folder + name, safe='')}"
        reply = self.asked(lambda: self._stored("GET", url, (200, 404)))
        if reply.status_code == 404 or int(reply.json()["size"]) != len(content):
            return None
        return f"gs://{self._bucket}/{self._folder}{name}"

    def upload(self, name: str, content: bytes) -> str:
        """Write the object, unless it is there (``ifGenerationMatch=0``): repeating it cannot make a second one."""
        url = f"{self._storage_url}/upload/storage/v1/b/{self._bucket}/o"
        options = {"uploadType": "media", "name": self._folder + name, "ifGenerationMatch": "0"}
        headers = {"Content-Type": "application/jsonl"}
        self.asked(
            lambda: self._stored(
                "POST", url, (200, 412), params=options, data=content, headers=headers
            )
        )
        return f"gs://{self._bucket}/{self._folder}{name}"

    def find_job(self, key: str) -> str | None:
        """Return the name of the job whose label holds the key."""
        jobs = self.asked(lambda: list(self._client.tunings.list()))
        fit = (
            one.name
            for one in jobs
            if (one.labels or {}).get("aftertune") == key and _state(one) not in _DEAD
        )
        return next(fit, None)

    def create(self, asked: HostedTune, training_file: str, validation_file: str) -> str:
        """Create a supervised tuning job."""
        from google.genai import types

        optional: dict[str, Any] = {
            "learning_rate_multiplier": asked.learning_rate_multiplier,
            "batch_size": asked.batch_size,
            "validation_dataset": types.TuningValidationDataset(gcs_uri=validation_file)
            if validation_file
            else None,
        }
        config = types.CreateTuningJobConfig(
            epoch_count=asked.epochs,
            tuned_model_display_name=asked.suffix or f"aftertune-{asked.key[:16]}",
            labels={"aftertune": asked.key},
            **{name: value for name, value in optional.items() if value is not None},
        )
        dataset = types.TuningDataset(gcs_uri=training_file)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # the package calls its own tuning interface experimental
            job = self.once(
                lambda: self._client.tunings.tune(
                    base_model=asked.base, training_dataset=dataset, config=config
                )
            )
        return str(job.name)

    def status(self, job: str) -> Status:
        """Ask how far a job is."""
        found = self.asked(lambda: self._client.tunings.get(name=job))
        state = _state(found)
        step = _ENDS.get(state, Step.WAITING)
        problem = str(getattr(found.error, "message", "") or "") if found.error else ""
        tuned = found.tuned_model
        if step is not Step.SUCCEEDED:
            return Status(step=step, said=state, problem=problem)
        if tuned is None or not tuned.endpoint:  # PARTIALLY_SUCCEEDED may come without one
            return Status(
                step=Step.FAILED,
                said=state,
                problem=problem or f"{state}, but no endpoint was made",
            )
        saved = [
            one.endpoint
            for one in tuned.checkpoints or ()
            if one.endpoint and one.endpoint != tuned.endpoint
        ]
        return Status(
            step=step,
            said=state,
            model=self._reference(tuned.endpoint),
            checkpoints=tuple(map(self._reference, saved)),
        )

    def cancel(self, job: str) -> None:
        """Ask the provider to stop a job."""
        self.once(lambda: self._client.tunings.cancel(name=job))

    def _reference(self, endpoint: str) -> str:
        """Return the model reference of an endpoint ``projects/P/locations/L/endpoints/ID``, by its chat completions."""
        return f"https://{self._place}-aiplatform.googleapis.com/v1/{endpoint}#{endpoint.rpartition('/')[2]}"

    def _stored(self, method: str, url: str, fine: tuple[int, ...], **more: Any) -> Any:
        reply = self._storage.request(method, url, timeout=300.0, **more)
        if reply.status_code in fine:
            return reply
        said = f"{reply.status_code} for gs://{self._bucket}"
        if reply.status_code in (408, 429) or reply.status_code >= 500:
            raise EngineError(f"vertex: Cloud Storage says {said}; run again to go on")
        raise ModelError(
            f"vertex: Cloud Storage says {said}; check the bucket and your rights to it"
        )

    def once(self, ask: Callable[[], T]) -> T:
        """Ask once; raises as `Asking.once`."""
        import requests
        from google.auth.exceptions import GoogleAuthError
        from google.genai.errors import APIError

        try:
            return ask()
        except APIError as error:
            said = " ".join(str(error.message or error.code).split())[:300]
            if error.code in (408, 429) or error.code >= 500:
                raise EngineError(f"vertex: {said}; run again to go on") from error
            raise ModelError(f"vertex: the service refuses ({said})") from error
        except GoogleAuthError as error:
            raise ModelError(
                f"vertex: the credentials are refused ({' '.join(str(error).split())[:200]})"
            ) from error
        except (_transport_error(), requests.RequestException, OSError) as error:
            raise EngineError(
                f"vertex: no answer ({type(error).__name__}); run again to go on"
            ) from error


def _needed(variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise InputError(f"vertex: the environment variable {variable} is not set")
    return value


def _transport_error() -> type[Exception]:
    """Return the error of the HTTP library that Google's package came with (its name changed between versions)."""
    name = next(name for name in ("httpx2", "httpx") if find_spec(name))
    found: type[Exception] = import_module(name).TransportError
    return found


def _state(job: Any) -> str:
    return str(getattr(job.state, "value", job.state))
