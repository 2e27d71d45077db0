"""A worker does units of a study on a node of a cluster, and gives its driver what it has committed.

Each unit has a store file of its own on the node's disk, in a folder that is named by the run and the unit's content: a process
that dies loses nothing, since the next one on that node goes on from the file. Weights stay in memory from one unit to the next.
"""

import os
import shutil
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import yaml

from aftertune import __version__
from aftertune.core.protocols import Tools
from aftertune.core.recipe import StudyModel
from aftertune.core.records import Prompt
from aftertune.errors import AftertuneError, Stopped, StoreLocked
from aftertune.execute.parts import do_portion, shared
from aftertune.execute.units import Unit
from aftertune.models.open import Engines
from aftertune.report.progress import Advance, Quiet
from aftertune.score.run import Scorers, build_scorers
from aftertune.store import Store
from aftertune.store.sharing import Outbox, unpacked
from aftertune.study import Study, study_from_mapping
from aftertune.workspace import STORE, Run, open_engines

REPORT_SECONDS = 1.0
"""The longest time between two reports of a worker at work."""
ROWS_SECONDS = 5.0
"""The time between two reports that carry rows."""
LOCK_SECONDS = 60.0
"""The time for a process that is dying to let go of a unit's store."""
TICK = 0.2
OUTGOING, SEED = "outgoing.sqlite", "seed.sqlite"


class State(StrEnum):
    """The state of a unit in a worker."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All that the units of a study share."""

    version: str
    """The driver's version of this package."""
    study: str
    """The study's file, with absolute paths."""
    run: str
    """The run's identity."""
    source: str
    """The folder where relative paths in options start."""
    models_folder: str
    """The folder of the run's fine-tunes."""
    models: tuple[StudyModel, ...]
    prompts: tuple[Prompt, ...]
    identities: Mapping[str, Mapping[str, object]]
    """Everything that decides the answers of the models that are there, by their names, as the driver sees it."""
    token: str
    """The name of a file in the folder of fine-tunes; empty where nothing is trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A worker's first word: where it is, and the folders of units that lie on its disk."""

    node: str
    host: str
    units: frozenset[str]
    problem: str = ""
    """One line, where the worker cannot do the study's work as the driver would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The news of a unit since its worker's last report."""

    rows: bytes | None
    """A packed store with what was committed; None where nothing was, and between two reports with rows."""
    waiting: int
    """Answers, of models and scorers, that were committed and are in no report yet."""
    state: State
    """The unit's; nothing is left to be given once it is another one than running."""
    answers: int
    """Calls of the unit's models that have their answer, from before or by this worker."""
    lines: tuple[str, ...]
    """Lines for the unit's log."""
    error: str = ""
    """One line, where the unit failed or was stopped."""


class Worker:
    """Does one unit at a time in a thread of its own, so that reports can be taken meanwhile.

    Args:
        setup: of the study.
        node: the name of the node that it is on; by default that of Ray.
    """

    def __init__(self, setup: Setup, node: str = "") -> None:
        self._setup, self._node = setup, node or _node_of_ray()
        self._root = Path(tempfile.gettempdir()) / f"aftertune-{os.getuid()}" / self._node
        self._thread: threading.Thread | None = None
        self._engines: Engines | None = None
        self._scorers: Scorers | None = None
        self._job: _Job | None = None

    def arrived(self) -> Arrived:
        """Return where the worker is, and whether it sees the study as the driver does."""
        there = self._root.glob(f"*/{STORE}") if self._root.is_dir() else ()
        try:
            problem = self._problem()
        except (AftertuneError, OSError) as error:
            problem = str(error)
        return Arrived(
            node=self._node,
            host=socket.gethostname(),
            units=frozenset(path.parent.name for path in there),
            problem=problem,
        )

    def _problem(self) -> str:
        """Return a line on what is otherwise here than at the driver; empty where nothing is."""
        setup = self._setup
        if setup.version != __version__:
            return (
                f"Aftertune {__version__} is installed, at the driver {setup.version}: calls would have other keys; install the same "
                "version everywhere"
            )
        if setup.token and not (Path(setup.models_folder) / setup.token).is_file():
            return (
                f"it does not see the driver's {setup.models_folder}, where fine-tunes are kept; put that folder on a file system that "
                "all nodes share"
            )
        engines = self._opened_engines()
        for model in setup.models:
            if (expected := setup.identities.get(model.name)) is None:
                continue
            identity = engines.open(model.reference, base=self._base_of(model)).identity
            for field in sorted({*expected, *identity}):
                here, there = identity.get(field), expected.get(field)
                if here != there:
                    return (
                        f"model {model.name}: {field} is {here} here and {there} at the driver, so calls would have other keys; "
                        "give engine.dtype in the study, and every node the same files and versions"
                    )
        return ""

    def _base_of(self, model: StudyModel) -> str | None:
        references = {other.name: other.reference for other in self._setup.models}
        return None if model.base is None else references[model.base]

    def begin(self, unit: Unit, seed: bytes | None) -> None:
        """Begin a unit, or go on with it.

        Args:
            unit: the unit.
            seed: a packed store with what the driver holds of it; None for nothing.
        """
        self._job = _Job(unit, self._root / unit.key(self._setup.study, self._setup.run))
        self._thread = threading.Thread(
            target=self._work, args=(self._job, seed), name=unit.name, daemon=True
        )
        self._thread.start()

    def report(self, seconds: float = REPORT_SECONDS) -> Report:
        """Wait until the unit ends, at most so many seconds, and return what is new."""
        job, thread = self._job, self._thread
        assert job is not None
        assert thread is not None
        thread.join(seconds)
        ended = not thread.is_alive()  # before the rows are read: none comes after them
        rows = job.rows() if ended or job.is_due() else None
        waiting, state = job.waiting(), job.state if ended and rows is None else State.RUNNING
        if state is not State.RUNNING:
            job.close(finished=state is State.DONE)
        return Report(
            rows=rows,
            waiting=waiting,
            state=state,
            answers=job.answers,
            lines=job.taken_lines(),
            error=job.error,
        )

    def stop(self) -> None:
        """Stop the unit where it is next counted."""
        if self._job is not None:
            self._job.stopping = True

    def _work(self, job: "_Job", seed: bytes | None) -> None:
        try:
            job.note(f"begins on {socket.gethostname()}, process {os.getpid()}")
            self._do(job, seed)
            job.state = State.DONE
            job.note("done")
        except Stopped as stop:
            job.state, job.error = State.STOPPED, str(stop)
            job.note(job.error)
        except (AftertuneError, OSError) as error:
            job.state, job.error = State.FAILED, str(error)
            job.note(job.error)
        except BaseException as error:  # noqa: BLE001  # the driver must hear of it, whatever it is
            job.state, job.error = State.FAILED, f"{type(error).__name__}: {error}"
            job.note(traceback.format_exc())

    def _do(self, job: "_Job", seed: bytes | None) -> None:
        setup, engines = self._setup, self._opened_engines()
        job.folder.mkdir(parents=True, exist_ok=True)
        with _unlocked(job.folder / STORE) as store:
            job.open(seed, store)
            run = Run(
                study=self._study,
                folder=job.folder,
                models=Path(setup.models_folder),
                store=store,
                engines=engines,
                tools=Tools(
                    open_model=engines.open,
                    open_classifier=engines.open_classifier,
                    folder=Path(setup.source),
                ),
                progress=job,
            )
            if self._scorers is None:
                self._scorers = local_scorers(build_scorers(run))
            notes = do_portion(
                run, job.unit.portion(setup.models), setup.models, setup.prompts, self._scorers
            )
        for note in notes:
            job.note(f"note: {note}")

    @cached_property
    def _study(self) -> Study:
        return shared(study_from_mapping(yaml.safe_load(self._setup.study), Path()))

    def _opened_engines(self) -> Engines:
        """Return what opens models, which this process keeps until its end."""
        if self._engines is None:
            folder = self._root / f"process-{os.getpid()}"
            folder.mkdir(parents=True, exist_ok=True)
            self._opening = open_engines(self._study.engine, folder, Quiet())
            self._engines = self._opening.__enter__()
        return self._engines


def _node_of_ray() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def local_scorers(scorers: Scorers) -> Scorers:
    """Return the scorers that ask no other machine: those that do are asked from one place, with one budget."""
    return {
        role: {
            name: scorer
            for name, scorer in of_role.items()
            if scorer.engine is None or not scorer.engine.remote
        }
        for role, of_role in scorers.items()
    }


@contextmanager
def _unlocked(path: Path) -> Iterator[Store]:
    """Open a unit's store, once a process that did the unit before has let go of it."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            store = Store.open(path)
            break
        except StoreLocked:
            if time.monotonic() > deadline:
                raise
            time.sleep(TICK)
    with store:
        yield store


class _Job:
    """A unit in work: its folder, its log, and how far it is. The stages take it for the progress that they speak to."""

    def __init__(self, unit: Unit, folder: Path) -> None:
        self.unit, self.folder = unit, folder
        self.state, self.error, self.stopping = State.RUNNING, "", False
        self.answers = 0
        self._lines: list[str] = []
        self._outbox: Outbox | None = None
        self._rows_at = time.monotonic()

    def open(self, seed: bytes | None, store: Store) -> None:
        """Begin to give what is new in the unit's store beside what the driver holds already."""
        outbox = Outbox(store.path)
        if seed is not None:
            with unpacked(seed, self.folder / SEED) as file:
                store.merge(file)
                outbox.leave_out(file)
        self._outbox = outbox

    def is_due(self) -> bool:
        """Return whether the last rows were given long enough ago."""
        return time.monotonic() - self._rows_at >= ROWS_SECONDS

    def rows(self) -> bytes | None:
        """Return what is new in the store."""
        self._rows_at = time.monotonic()
        return None if self._outbox is None else self._outbox.take(self.folder / OUTGOING)

    def waiting(self) -> int:
        """Return the number of answers in the store that were not given yet."""
        return 0 if self._outbox is None else self._outbox.waiting()

    def close(self, *, finished: bool) -> None:
        """Let go of the store; that of a finished unit is deleted, since the driver has all of it."""
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None
        if finished:
            shutil.rmtree(self.folder, ignore_errors=True)

    def taken_lines(self) -> tuple[str, ...]:
        """Return the lines of the log since the last time."""
        lines, self._lines = self._lines, []
        return tuple(lines)

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """Follow a stage; a stop comes where it counts."""
        began, done = time.monotonic(), 0
        generates = name == "generate"
        if generates:
            self.answers = self.unit.calls - total

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if generates:
                self.answers += count
            if self.stopping:
                raise KeyboardInterrupt

        try:
            yield advance
        finally:
            if total:
                self.note(f"{name}: {done:,} of {total:,}, {time.monotonic() - began:.1f} s")

    def at(self, place: str) -> None:
        """Note the model in work."""
        self.note(place)

    def note(self, text: str) -> None:
        """Add a line to the log."""
        self._lines = [*self._lines, f"{time.strftime('%H:%M:%S')} {text}"]
