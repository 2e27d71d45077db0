"""The workspace of a run, shared by its stages: the study, its folder, the open store and the open models."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from aftertune.core.protocols import Tools
from aftertune.core.recipe import StudyModel
from aftertune.errors import StoreError
from aftertune.models.endpoint.batch import Batching
from aftertune.models.endpoint.http import Timeouts
from aftertune.models.endpoint.model import Endpoints
from aftertune.models.open import Engines, OpenedModel
from aftertune.models.vllm import VllmServer
from aftertune.report.progress import Progress
from aftertune.store import Store
from aftertune.study import Study
from aftertune.study.config import EngineKeys, ModelKeys

RUNS = Path("aftertune-runs")
"""The folder of runs whose place nobody names."""
STORE = "store.sqlite"
MODELS = "models"
"""The folder of a run that holds its fine-tunes, each under its recipe's key."""
RESULT = "result.json"
PAGE = "report.html"
STUDY = "study.yaml"
SPENDING = "spending.json"
REQUESTS = "requests.json"
BATCHES = "batches"
VLLM_LOG = "vllm.log"


def called(reference: str) -> str:
    """Return the last part of a model's reference: the model's name behind an address, a folder's or a hub id's own name."""
    return Path(reference.rpartition("#")[2] if "://" in reference else reference).name or "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """An open run."""

    study: Study
    folder: Path
    models: Path
    """The folder that holds its fine-tunes."""
    store: Store
    engines: Engines
    tools: Tools
    progress: Progress

    def open(self, model: StudyModel | ModelKeys) -> OpenedModel:
        """Return the engine of a model of the study; an adapter is put on the base that the study compares it with.

        Raises:
            ModelError: the reference cannot be used, or the adapter belongs to another base.
        """
        return self.engines.open(model.reference, base=self.base_of(model))

    def base_of(self, model: StudyModel | ModelKeys) -> str | None:
        """Return the reference of the base of a model of the study; None for a base."""
        references = {entry.name: entry.reference for entry in self.study.models}
        return None if model.base is None else references[model.base]


@contextmanager
def open_run(
    study: Study,
    folder: Path,
    progress: Progress,
    source: Path,
    *,
    models: Path | None = None,
    write: bool = True,
) -> Iterator[Run]:
    """Open store and engines for a study; both are closed again whatever happens.

    Args:
        study: what is run.
        folder: where the run is kept; it is made if it is not there.
        progress: where the work is shown.
        source: what relative paths in the options of judges, guards and loaders are relative to.
        models: where its fine-tunes are kept; by default in the folder of the run.
        write: False to look only: nothing is made or changed in the folder, and another run may be writing there.

    Raises:
        StoreError: the folder cannot be made or written.
    """
    if write:
        make_folder(folder)
    with (
        open_engines(study.engine, folder, progress) as engines,
        _store(folder, write=write) as store,
    ):
        tools = Tools(
            open_model=engines.open,
            open_classifier=engines.open_classifier,
            folder=source.absolute(),
        )
        yield Run(
            study=study,
            folder=folder,
            models=models or folder / MODELS,
            store=store,
            engines=engines,
            tools=tools,
            progress=progress,
        )


@contextmanager
def open_engines(keys: EngineKeys, folder: Path, progress: Progress) -> Iterator[Engines]:
    """Open what opens models, with the engine settings of a study; all models are closed again whatever happens.

    Args:
        keys: the settings.
        folder: the run's, where spending and batches are noted as soon as something is asked.
        progress: where a batch's wait is shown.
    """
    engines = Engines(
        threads=keys.threads,
        device=keys.device,
        dtype=keys.dtype,
        trust_remote_code=keys.trust_remote_code,
        endpoints=Endpoints(
            timeouts=Timeouts(
                call=keys.call_seconds, retry=keys.retry_seconds, run=keys.run_seconds
            ),
            budget=keys.budget,
            prices=None if keys.prices is None else Path(keys.prices),
            accounts=folder / SPENDING,
            batching=Batching(models=keys.batch, folder=folder / BATCHES, note=progress.note),
            connections=keys.connections,
            requests=folder / REQUESTS,
        ),
        vllm=VllmServer(keys.vllm_arguments, folder / VLLM_LOG) if keys.backend == "vllm" else None,
    )
    with _rare_garbage_collection(), engines:
        yield engines


def spending_notes(engines: Engines) -> Iterator[str]:
    """Yield the calls, tokens and cost of each endpoint so far, those of earlier runs in this folder included."""
    endpoints = engines.endpoints
    for name, account in endpoints.spending.accounts.items() if endpoints.models else ():
        cost = (
            f"about {account.cost:.4f} {endpoints.spending.prices.currency}"
            if account.cost
            else "at no known price"
        )
        yield (
            f"{name}: {account.calls:,} calls answered, {account.failures:,} failed, {account.prompt_tokens:,} tokens in, "
            f"{account.completion_tokens:,} out, {cost}"
        )


@contextmanager
def _store(folder: Path, *, write: bool) -> Iterator[Store]:
    """Open the folder's store; to look at a folder without one, an empty store elsewhere."""
    if write or (folder / STORE).is_file():
        with Store.open(folder / STORE, write=write) as store:
            yield store
    else:
        with TemporaryDirectory() as elsewhere, Store.open(Path(elsewhere) / STORE) as store:
            yield store


def make_folder(folder: Path) -> None:
    """Make a folder for a run.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make the folder {folder}: {error.strerror}; name another one with --out"
        ) from error


_OBJECTS_BETWEEN_COLLECTIONS = 20_000
"""New objects between two searches; Python's 700 are a few calls, and a tenth of the time goes into searching."""


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Search for garbage less often; what nothing refers to is freed at once all the same."""
    usual = gc.get_threshold()
    gc.set_threshold(max(usual[0], _OBJECTS_BETWEEN_COLLECTIONS), *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
