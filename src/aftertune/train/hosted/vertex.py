"""Vertex AI's tuning of Gemini: the file goes to a bucket of Cloud Storage, the job to `tunings.tune`.

Project and place stand in ``GOOGLE_CLOUD_PROJECT`` and ``GOOGLE_CLOUD_LOCATION``, the credentials where Google's packages look
for them. The Gemini Developer API is not used: it took such a job without its training examples.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from aftertune.errors import EngineError, InputError, ModelError, PluginError
from aftertune.train.hosted.job import HostedTune, Job, Step

if TYPE_CHECKING:
    from google.genai import Client

T = TypeVar("T")
TRIES = 8
"""Tries of a request that changes nothing, or is only carried out once; the packages wait between them, about a minute in all."""
PASSING = (408, 429, 500, 502, 503, 504)
"""Status codes after which another try may help."""
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_ENDS = {
    "JOB_STATE_SUCCEEDED": Step.SUCCEEDED,
    "JOB_STATE_PARTIALLY_SUCCEEDED": Step.SUCCEEDED,
    "JOB_STATE_FAILED": Step.FAILED,
    "JOB_STATE_EXPIRED": Step.FAILED,
    "JOB_STATE_CANCELLED": Step.CANCELLED,
}
_DEAD = ("JOB_STATE_FAILED", "JOB_STATE_EXPIRED", "JOB_STATE_CANCELLED", "JOB_STATE_CANCELLING")


class VertexService:
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
            from google.genai.types import HttpOptions, HttpRetryOptions
        except ImportError as error:
            raise PluginError(
                "hosted fine-tuning needs the provider's package: pip install 'aftertune[hosted]'"
            ) from error
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        self._bucket, _, folder = bucket.removeprefix("gs://").strip("/").partition("/")
        if not bucket.startswith("gs://") or not self._bucket:
            raise InputError(
                "vertex needs a bucket for the training file; name one with --bucket gs://BUCKET/FOLDER"
            )
        self._folder = f"{folder}/" if folder else ""
        project = _environment("GOOGLE_CLOUD_PROJECT")
        self._location = _environment("GOOGLE_CLOUD_LOCATION")
        try:
            credentials, _ = google.auth.default(scopes=[SCOPE])
        except DefaultCredentialsError as error:
            raise ModelError(
                "vertex: no credentials; log in with gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
            ) from error

        def client(tries: int) -> "Client":
            return genai.Client(
                vertexai=True,
                project=project,
                location=self._location,
                credentials=credentials,
                http_options=HttpOptions(retry_options=HttpRetryOptions(attempts=tries)),
            )

        # No second try by itself: a job that was created though the reply was lost must be looked up, not sent again.
        self._writing, self._reading = client(1), client(TRIES)
        self._storage = AuthorizedSession(credentials)
        retry = Retry(
            total=TRIES - 1,
            backoff_factor=0.5,
            status_forcelist=PASSING,
            allowed_methods=None,  # POST too: `upload` cannot make a second object
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self._storage.mount(scheme, HTTPAdapter(max_retries=retry))
        self._storage_url = os.environ.get(
            "STORAGE_EMULATOR_HOST", "https://storage.googleapis.com"
        ).rstrip("/")

    def find_upload(self, name: str, content: bytes) -> str | None:
        """Return the address of the object of this name and size."""
        url = f"{self._storage_url}/storage/v1/b/{self._bucket}/o/{quote(self._folder + name, safe='')}"
        reply = self._stored("GET", url, (200, 404))
        if reply.status_code == 404 or int(reply.json()["size"]) != len(content):
            return None
        return f"gs://{self._bucket}/{self._folder}{name}"

    def upload(self, name: str, content: bytes) -> str:
        """Write the object, unless it is there (``ifGenerationMatch=0``): repeating it cannot make a second one."""
        url = f"{self._storage_url}/upload/storage/v1/b/{self._bucket}/o"
        options = {"uploadType": "media", "name": self._folder + name, "ifGenerationMatch": "0"}
        headers = {"Content-Type": "application/jsonl"}
        self._stored("POST", url, (200, 412), params=options, data=content, headers=headers)
        return f"gs://{self._bucket}/{self._folder}{name}"

    def find_job(self, key: str) -> str | None:
        """Return the name of the job whose label holds the key."""
        jobs = self._call(lambda: list(self._reading.tunings.list()))
        names = (
            job.name
            for job in jobs
            if (job.labels or {}).get("aftertune") == key and _state(job) not in _DEAD
        )
        return next(names, None)

    def create(self, request: HostedTune, training_file: str, validation_file: str) -> str:
        """Create a supervised tuning job."""
        from google.genai import types

        optional: dict[str, Any] = {
            "learning_rate_multiplier": request.learning_rate_multiplier,
            "batch_size": request.batch_size,
            "validation_dataset": types.TuningValidationDataset(gcs_uri=validation_file)
            if validation_file
            else None,
        }
        config = types.CreateTuningJobConfig(
            epoch_count=request.epochs,
            tuned_model_display_name=request.suffix or f"aftertune-{request.key[:16]}",
            labels={"aftertune": request.key},
            **{name: value for name, value in optional.items() if value is not None},
        )
        dataset = types.TuningDataset(gcs_uri=training_file)
        with warnings.catch_warnings():
            # The package calls its own tuning interface experimental.
            warnings.simplefilter("ignore")
            job = self._call(
                lambda: self._writing.tunings.tune(
                    base_model=request.base, training_dataset=dataset, config=config
                )
            )
        return str(job.name)

    def progress(self, job: Job) -> tuple[Job, str]:
        """Return the job as it stands now, and its state."""
        tuning = self._call(lambda: self._reading.tunings.get(name=job.job))
        state = _state(tuning)
        step = _ENDS.get(state, Step.WAITING)
        problem = str(getattr(tuning.error, "message", "") or "") if tuning.error else ""
        if step is not Step.SUCCEEDED:
            return replace(job, step=step, problem=problem), state
        tuned = tuning.tuned_model
        if tuned is None or not tuned.endpoint:  # PARTIALLY_SUCCEEDED may come without one
            problem = problem or f"{state}, but no endpoint was made"
            return replace(job, step=Step.FAILED, problem=problem), state
        endpoints = [
            checkpoint.endpoint
            for checkpoint in tuned.checkpoints or ()
            if checkpoint.endpoint and checkpoint.endpoint != tuned.endpoint
        ]
        done = replace(
            job,
            step=step,
            reference=self._reference(tuned.endpoint),
            checkpoints=tuple(map(self._reference, endpoints)),
        )
        return done, state

    def cancel(self, job: str) -> None:
        """Ask the provider to stop a job."""
        self._call(lambda: self._writing.tunings.cancel(name=job))

    def _reference(self, endpoint: str) -> str:
        """Return the model reference of an endpoint ``projects/P/locations/L/endpoints/ID``, by its chat completions."""
        return f"https://{self._location}-aiplatform.googleapis.com/v1/{endpoint}#{endpoint.rpartition('/')[2]}"

    def _stored(self, method: str, url: str, accepted: tuple[int, ...], **more: Any) -> Any:
        """Return Cloud Storage's reply, if its status is an accepted one; raise as `_call`."""
        reply = self._call(lambda: self._storage.request(method, url, timeout=300.0, **more))
        if reply.status_code in accepted:
            return reply
        message = f"Cloud Storage says {reply.status_code} for gs://{self._bucket}"
        if reply.status_code in PASSING or reply.status_code >= 500:
            raise EngineError(f"vertex: {message}; run again to go on")
        raise ModelError(f"vertex: {message}; check the bucket and your rights to it")

    def _call(self, request: Callable[[], T]) -> T:
        """Return the reply to a request; raise ModelError where another try cannot help, EngineError where it may."""
        import requests
        from google.auth.exceptions import GoogleAuthError
        from google.genai.errors import APIError

        # The HTTP library that Google's package came with; its name changed between versions.
        library = next(name for name in ("httpx2", "httpx") if find_spec(name))
        transport_error: type[Exception] = import_module(library).TransportError
        try:
            return request()
        except APIError as error:
            message = " ".join(str(error.message or error.code).split())[:300]
            if error.code in PASSING or error.code >= 500:
                raise EngineError(f"vertex: {message}; run again to go on") from error
            raise ModelError(f"vertex: the service refuses ({message})") from error
        except GoogleAuthError as error:
            raise ModelError(
                f"vertex: the credentials are refused ({' '.join(str(error).split())[:200]})"
            ) from error
        except (transport_error, requests.RequestException, OSError) as error:
            raise EngineError(
                f"vertex: no answer ({type(error).__name__}); run again to go on"
            ) from error


def _environment(variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise InputError(f"vertex: the environment variable {variable} is not set")
    return value


def _state(job: Any) -> str:
    return str(getattr(job.state, "value", job.state))
