"""A study on a Ray cluster: the driver hands out units, merges what workers have committed, and hands lost work out again.

Committed means merged at the driver. A worker is an actor that does one unit after the other, with Ray's own retries off: what a
lost worker had not sent is in its unit's store on its node's disk, and the unit goes back to that node while it lives. When
all units are done, the ordinary run does what is left (endpoints, preferences) and measures.
"""

import atexit
import contextlib
import importlib.util
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from aftertune import __version__
from aftertune.core.files import write_whole
from aftertune.core.recipe import StudyModel
from aftertune.core.records import Prompt
from aftertune.data.prompt_sets import load_sets, without_overlap
from aftertune.data.recipe_rows import with_recipe_rows
from aftertune.errors import AftertuneError, EngineError, InputError, Stopped
from aftertune.execute.parts import PARTS
from aftertune.execute.room import Room, nodes_of, room_in, room_of
from aftertune.execute.seeds import is_trained, seed_of
from aftertune.execute.units import Unit, units_of
from aftertune.execute.worker import Arrived, Report, Setup, State, Worker, local_scorers
from aftertune.generate import early_notes
from aftertune.report.progress import Advance, Progress, staged
from aftertune.score.run import Scorers, build_scorers
from aftertune.store.sharing import unpacked
from aftertune.study import Study, to_yaml
from aftertune.study.fields import cluster_address
from aftertune.study.foreign import foreign_code_notes
from aftertune.train.stage import expand_study, study_rows
from aftertune.unfinished import note_beginning
from aftertune.workspace import Run, open_run

CONNECT_SECONDS = 5.0
"""The longest wait for a connection to the cluster's address."""
MOST_WORKERS = 512
"""Workers that are asked for at a time; a cluster places as many as it has room for."""
MOST_DEATHS = 3
"""Times that a unit's process may die on a living node without anything new from it: it would die for ever."""
MOST_UNPLACED = 50
"""Workers in a row that may die before they have said a word."""
STOP_SECONDS = 15.0
"""The longest time for workers to send what they have when the run is stopped."""
LEAVE_SECONDS = 20.0
"""The longest time for Ray to let go of the cluster."""
WAIT_SECONDS = 0.5
NOTE_SECONDS = 3.0
BUSY_SECONDS = 10.0
"""The time after which a node that is large enough must be busy: a process starts in less."""
ROOM_SECONDS = 900.0
"""The longest wait for a node that is large enough: one that a provider has to start takes minutes."""
ORPHAN_SECONDS = 600.0
"""The longest wait for a worker on the node where a unit lies."""
INCOMING = "incoming.sqlite"
IDENTITY, RAY_LOG = "identity", "ray.log"
_SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # says so at length otherwise
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # 15 by itself, so that a worker starves beside anything else
}
"""Ray's settings where this process starts it; a cluster that is there has its own."""


def run_on_cluster(
    study: Study, folder: Path, place: str, progress: Progress, source: Path, command: str
) -> None:
    """Train, ask and score on a Ray cluster what this can be done with; the store of ``folder`` then holds all of it.

    Args:
        study: the study.
        folder: the run's.
        place: ``ray`` or ``ray:HOST:PORT``.
        progress: where the work of all workers is shown.
        source: what relative paths in the options of judges, guards and loaders are relative to.
        command: the command line that goes on with the run.

    Raises:
        InputError: Ray is not installed, or the cluster does not answer.
        Stopped: Ctrl-C; what was merged is kept.
        AftertuneError: what else is wrong, in one line; everything merged so far is kept and not done again.
    """
    address = _reachable(cluster_address(place))
    for note in foreign_code_notes(study):
        progress.note(f"note: {note}")
    # Workers are somewhere else: every path that they are told is absolute.
    with open_run(study, folder.absolute(), progress, source) as run:
        scorers = local_scorers(build_scorers(run))
        sets, models = load_sets(run), expand_study(run)
        notes = early_notes(run, models)
        run.engines.check_ready()
        for note in (*run.engines.notes, *notes):
            progress.note(f"note: {note}")
        begun = bool(run.store.studies())
        note_beginning(run, command, models)
        rows, trained = study_rows(run, models)
        fresh = without_overlap(sets, with_recipe_rows(run, trained).rows)
        prompts = (*fresh.prompts, *fresh.attacked(fresh.prompts))
        remote = {model.name for model in models if model.recipe is None and run.open(model).remote}
        units = units_of(study, models, prompts, remote, study.execute.calls_per_unit)
        if units:
            room = room_of(run, models, rows, study.execute.gpus_per_model)
            whole = _Whole(models, prompts, scorers, room=room, begun=begun)
            logs = run.folder / PARTS
            logs.mkdir(exist_ok=True)
            with _connected(address, logs / RAY_LOG), _token(run, models) as token:
                _Driver(run, whole, units, token).work()


def _reachable(address: str | None) -> str:
    """See in seconds that there is Ray, and a cluster at the address, and return what Ray is to connect to.

    Without an address it is the cluster that Ray has noted as running on this machine, if it lives, or else a new one.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError("Ray is not installed: pip install 'aftertune[ray]', on every node")
    address = address or os.environ.get("RAY_ADDRESS")
    if address is not None:
        _check_reachable(address)
        return address
    noted = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray/ray_current_cluster"
    try:
        running = noted.read_text(encoding="utf-8").strip()
        _check_reachable(running)
    except (OSError, InputError):  # a cluster that was killed leaves its note behind
        return "local"
    return running


def _check_reachable(address: str) -> None:
    """See that a cluster answers at an address."""
    host, _, port = address.rpartition(":")
    remedy = "start one there with `ray start --head`, or check the address"
    try:
        with socket.create_connection((host, int(port)), CONNECT_SECONDS) as connection:
            speaks = os.environ.get("RAY_USE_TLS") == "1" or _speaks_http2(connection)
    except (OSError, OverflowError, ValueError) as error:
        raise InputError(f"no Ray cluster answers at {address} ({error}); {remedy}") from error
    if not speaks:
        raise InputError(f"what answers at {address} is no Ray cluster; {remedy}")


def _speaks_http2(connection: socket.socket) -> bool:
    """Return whether a server begins as gRPC's do (RFC 9113, 3.4); Ray itself would wait for minutes for one that does not."""
    connection.settimeout(CONNECT_SECONDS)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
    header = b""
    while len(header) < 9 and (more := connection.recv(9 - len(header))):
        header += more
    return len(header) == 9 and header[3] == 4  # a frame with settings


@contextlib.contextmanager
def _connected(address: str, log: Path) -> Iterator[None]:
    """Connect to the cluster; signals stay what they are, since Ray takes SIGTERM for an end without a word.

    Ray prints the last lines of a dead node's log, however quiet it is asked to be. Standard output is for results.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    here = threading.current_thread() is threading.main_thread()
    terminated = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
        finally:
            if here:
                signal.signal(signal.SIGTERM, terminated)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"the Ray cluster at {address} cannot be used: {reason}") from error
    with (
        log.open("a", encoding="utf-8", errors="backslashreplace") as file,
        contextlib.redirect_stdout(file),
    ):
        try:
            yield
        finally:
            _leave(ray.shutdown)


def _leave(shutdown: Callable[[], None]) -> None:
    """Leave the cluster. After the loss of many nodes Ray may wait for ever for a thread of its own; then nobody waits for Ray."""
    leaving = threading.Thread(target=shutdown, name="leaving Ray", daemon=True)
    leaving.start()
    leaving.join(LEAVE_SECONDS)
    if leaving.is_alive():
        atexit.unregister(shutdown)


def _identity(folder: Path) -> str:
    """Return what the folders of a run's units are named by: the same when the driver starts again, another one in a copied run."""
    file = folder / IDENTITY
    if not file.exists():
        write_whole(file, [secrets.token_hex(8)])
    return f"{file.read_text(encoding='utf-8')} {folder.resolve()}"


@contextlib.contextmanager
def _token(run: Run, models: Sequence[StudyModel]) -> Iterator[str]:
    """Keep a file in the folder of fine-tunes by which workers know whether they see it; empty where nothing is trained."""
    if all(model.recipe is None for model in models):
        yield ""
        return
    run.models.mkdir(exist_ok=True)
    file = run.models / f".driver-{secrets.token_hex(8)}"
    file.touch()
    try:
        yield file.name
    finally:
        file.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Whole:
    """The whole of which units are parts."""

    models: tuple[StudyModel, ...]
    prompts: tuple[Prompt, ...]
    scorers: Scorers
    """The scorers that score in workers."""
    room: Room
    """The room of a worker."""
    begun: bool
    """True where the store may hold something of the units from before."""


class _Wait(Enum):
    """A run that has no worker waits for one of these."""

    NODE = auto()
    """A node that is large enough."""
    ROOM = auto()
    """Room on one that is."""


@dataclass(slots=True, eq=False)
class _Slot:
    """A worker of the cluster, placed or still waiting for room."""

    actor: Any
    pending: Any
    """The result that is waited for: of its start, its arrival, or its next report."""
    placed: bool = False
    """True once its process runs."""
    arrived: Arrived | None = None
    unit: Unit | None = None
    waiting: int = 0
    """Answers that were committed there and not sent when it last reported."""
    last_group: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Orphan:
    """A unit whose worker was lost, and the node that its store lies on."""

    unit: Unit
    node: str
    waiting: int
    """Answers that it had not sent when it last reported."""
    since: float
    """The time of its loss."""


@dataclass(slots=True)
class _Lost:
    """Counts of lost workers, for the summary."""

    processes: int = 0
    nodes: int = 0
    unsent: int = 0
    """Answers that workers on dead nodes had not sent when they last reported."""


class _Driver:
    """Hands out the units of one study.

    Args:
        run: its store gathers everything.
        whole: the study.
        units: the work.
        token: of the folder of fine-tunes.
    """

    def __init__(self, run: Run, whole: _Whole, units: Sequence[Unit], token: str) -> None:
        import ray

        self._ray = ray
        self._run, self._whole = run, whole
        study, room = run.study, whole.room
        threads = {"threads": run.engines.threads}
        own = study.model_copy(update={"engine": study.engine.model_copy(update=threads)})
        self._study = to_yaml(own)
        self._logs = run.folder / PARTS
        self._identity = _identity(self._logs)
        self._setup = ray.put(
            Setup(
                version=__version__,
                study=self._study,
                run=self._identity,
                source=str(run.tools.folder),
                models_folder=str(run.models),
                models=whole.models,
                prompts=whole.prompts,
                identities={
                    model.name: dict(run.open(model).identity)
                    for model in whole.models
                    if model.recipe is None and not run.open(model).remote
                },
                token=token,
            )
        )
        self._actor = ray.remote(
            num_cpus=room.cpus,
            num_gpus=room.gpus,
            memory=room.memory,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=4,
        )(Worker)
        self._open: deque[Unit] = deque(units)
        self._total = len(units)
        self._done: set[str] = set()
        self._orphans: list[_Orphan] = []
        self._slots: list[_Slot] = []
        self._shown: Counter[str] = Counter()
        self._begun: set[str] = set()
        self._deaths: Counter[str] = Counter()
        self._lost = _Lost()
        self._unplaced = 0
        self._nodes: set[str] = set()
        self._without_worker = self._without_node = time.monotonic()
        self._waits_for: _Wait | None = None
        self._stopping = False

    def work(self) -> None:
        """Do all units.

        Raises:
            Stopped: Ctrl-C, or a worker stopped by itself, as one whose time is used up.
            AftertuneError: a unit failed.
        """
        calls = sum(unit.calls for unit in self._open)
        began = time.monotonic()
        output = sys.stdout  # Ray's file; a bar on a terminal takes its place
        with (
            staged(self._run.progress, "on Ray", calls, "answers") as advance,
            contextlib.redirect_stdout(output),
        ):
            try:
                self._loop(advance)
            except (KeyboardInterrupt, Stopped):
                self._stop(advance)
                raise
            finally:
                for slot in self._slots:
                    self._ray.kill(slot.actor)
        self._summarise(time.monotonic() - began)

    def _loop(self, advance: Advance) -> None:
        while len(self._done) < self._total:
            self._ask_for_workers()
            self._hand_out(advance)
            self._watch_for_room()
            for slot in self._ready(WAIT_SECONDS):
                self._hear(slot, advance)

    def _ready(self, seconds: float) -> list[_Slot]:
        """Return the workers that have something to say."""
        by_result = {slot.pending: slot for slot in self._slots if slot.pending is not None}
        if not by_result:
            time.sleep(seconds)
            return []
        pending = list(by_result)
        first, _ = self._ray.wait(pending, num_returns=1, timeout=seconds, fetch_local=False)
        if not first:
            return []
        results, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0, fetch_local=False)
        return [by_result[result] for result in results]

    # Workers

    def _available(self) -> list[Unit]:
        return [unit for unit in self._open if self._done.issuperset(unit.after)]

    def _ask_for_workers(self) -> None:
        """Ask the cluster for a worker for each unit that could be in work."""
        wanted = min(len(self._available()) + len(self._orphans), MOST_WORKERS)
        idle = sum(slot.unit is None for slot in self._slots)
        for _ in range(wanted - idle):
            self._slots.append(self._new_slot())

    def _watch_for_room(self) -> None:
        """Say once what is waited for while there is no worker: a node that is large enough, or room on a busy one."""
        now, room = time.monotonic(), self._whole.room
        if any(slot.placed for slot in self._slots):
            self._without_worker = self._without_node = now
            self._wait_for(None, "a worker has begun: going on")
            return
        if now - self._without_worker < NOTE_SECONDS:
            return
        nodes = nodes_of(self._ray.nodes())
        if any(map(room.fits, nodes)):
            self._without_node = now
            if now - self._without_worker > BUSY_SECONDS:
                free = room_in(self._ray.available_resources())
                self._wait_for(
                    _Wait.ROOM,
                    f"the nodes that have room for a worker, which takes {room}, are busy (free on all nodes together: {free}): waiting",
                )
            return
        there = "; ".join(map(str, nodes))
        line = f"no node has room for a worker, which takes {room} (there: {there})"
        if now - self._without_node > ROOM_SECONDS:
            raise EngineError(f"{line}; add such a node, or change engine.threads or execute")
        self._wait_for(_Wait.NODE, f"{line}: waiting for one")

    def _wait_for(self, waits_for: _Wait | None, line: str) -> None:
        """Say a line where something else is waited for than before."""
        if waits_for is not self._waits_for:
            self._run.progress.note(line)
        self._waits_for = waits_for

    def _new_slot(self, node: str | None = None) -> _Slot:
        """Ask for a worker, on a node if it has room there."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = (
            {}
            if node is None
            else {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True)}
        )
        actor = self._actor.options(**options).remote(self._setup)
        return _Slot(actor=actor, pending=actor.__ray_ready__.remote())

    def _hand_out(self, advance: Advance) -> None:
        """Give units to the workers that have none."""
        for slot in self._slots:
            if slot.arrived is None or slot.unit is not None:
                continue
            unit = self._next_for(slot)
            if unit is not None:
                self._begin(slot, unit, advance)

    def _next_for(self, slot: _Slot) -> Unit | None:
        """Return the unit that a worker does next: one whose worker was lost, on its disk, of the models in its memory, or the first.

        A unit that lies on another living node waits for a worker there, which loses nothing of it.
        """
        assert slot.arrived is not None
        if (orphan := self._orphan_for(slot.arrived.node)) is not None:
            return orphan
        available = self._available()
        if not available:
            return None
        here = slot.arrived.units
        unit = min(
            available,
            key=lambda unit: (
                unit.key(self._study, self._identity) not in here,
                unit.asks != slot.last_group,
            ),
        )
        self._open.remove(unit)
        return unit

    def _orphan_for(self, node: str) -> Unit | None:
        """Return a unit whose worker was lost, on this node or with its own, or whose node takes no worker any more."""
        if not self._orphans:
            return None
        alive = {entry["NodeID"] for entry in self._ray.nodes() if entry["Alive"]}
        patient = time.monotonic() - ORPHAN_SECONDS
        orphans = [orphan for orphan in self._orphans if orphan.node == node]
        orphans += [
            orphan for orphan in self._orphans if orphan.node not in alive or orphan.since < patient
        ]
        if not orphans:
            return None
        orphan = orphans[0]
        self._orphans.remove(orphan)
        if orphan.node == node:
            self._lost.processes += 1
            self._count_death(orphan.unit)
        else:
            self._lost.nodes += 1
            self._lost.unsent += orphan.waiting
        return orphan.unit

    def _begin(self, slot: _Slot, unit: Unit, advance: Advance) -> None:
        """Hand a unit to a worker, with what this store holds of it; nothing is handed out where it holds everything."""
        packed = None
        if unit.trains and is_trained(unit, self._whole.models):
            self._finish(unit, advance)
            return
        if self._whole.begun or unit.name in self._begun:
            whole = self._whole
            seed = seed_of(self._run, unit, whole.models, whole.prompts, whole.scorers)
            if unit.asks and seed.complete:
                self._finish(unit, advance)
                return
            packed = seed.packed
        slot.unit, slot.waiting, slot.last_group = unit, 0, unit.asks
        slot.pending = slot.actor.begin.remote(unit, packed)
        self._begun.add(unit.name)
        self._show_state()

    def _finish(self, unit: Unit, advance: Advance) -> None:
        self._show(unit, unit.calls, advance)
        self._done.add(unit.name)
        self._show_state()

    # Reports

    def _hear(self, slot: _Slot, advance: Advance) -> None:
        result, slot.pending = slot.pending, None
        try:
            value = self._ray.get(result)
        except self._ray.exceptions.RayTaskError as error:
            raise EngineError(f"a worker failed: {_last_line(error)}") from error
        except self._ray.exceptions.RayError as error:
            self._bury(slot, error)
            return
        if isinstance(value, Arrived):
            self._welcome(slot, value)
        elif isinstance(value, Report):
            self._take(slot, value, advance)
        elif slot.unit is None:  # its process runs
            slot.placed, slot.pending = True, slot.actor.arrived.remote()
        else:  # the unit is begun
            if self._stopping:  # the stop may have come before it
                slot.actor.stop.remote()
            slot.pending = slot.actor.report.remote()

    def _welcome(self, slot: _Slot, arrived: Arrived) -> None:
        if arrived.problem:
            raise InputError(f"node {arrived.host}: {arrived.problem}")
        slot.arrived, self._unplaced = arrived, 0
        self._nodes.add(arrived.node)

    def _take(self, slot: _Slot, report: Report, advance: Advance) -> None:
        unit = slot.unit
        assert unit is not None
        assert slot.arrived is not None
        self._log(unit, [f"{slot.arrived.host}: {line}" for line in report.lines])
        if report.rows is not None:
            with unpacked(report.rows, self._logs / INCOMING) as file:
                self._run.store.merge(file)
            self._deaths[unit.name] = 0
        slot.waiting = report.waiting
        self._show(unit, report.answers, advance)
        if report.state is State.RUNNING:
            slot.pending = slot.actor.report.remote()
            return
        slot.unit = None
        if report.state is State.DONE:
            self._finish(unit, advance)
            if unit.trains:
                self._run.progress.note(f"{', '.join(unit.trains)}: trained on {slot.arrived.host}")
        elif report.state is State.FAILED:
            raise AftertuneError(
                f"{unit.label} on {slot.arrived.host}: {report.error} (log: {self._log_of(unit)})"
            )
        elif not self._stopping:
            raise Stopped(f"{unit.label} on {slot.arrived.host}: {report.error}")

    def _show(self, unit: Unit, answers: int, advance: Advance) -> None:
        """Show the answers of a unit that were not shown before."""
        if (new := answers - self._shown[unit.name]) > 0:
            self._shown[unit.name] += new
            advance(new)

    def _show_state(self) -> None:
        working = sum(slot.unit is not None for slot in self._slots)
        nodes = {slot.arrived.node for slot in self._slots if slot.unit and slot.arrived}
        self._run.progress.at(
            f"{len(self._done):,} of {self._total:,} units done, {working} workers on {len(nodes)} nodes"
        )

    # Deaths

    def _bury(self, slot: _Slot, error: Exception) -> None:
        """Take a lost worker off the list; its unit goes back to its node."""
        self._slots.remove(slot)
        self._ray.kill(slot.actor)
        if slot.arrived is None:  # as a rule its node died before it could begin
            self._unplaced += 1
            if getattr(error, "actor_init_failed", False) or self._unplaced >= MOST_UNPLACED:
                raise EngineError(f"no worker can start on the cluster: {_last_line(error)}")
        unit, slot.unit = slot.unit, None
        if unit is None or slot.arrived is None or self._stopping:
            return
        self._log(unit, [f"its worker was lost: {_last_line(error)}"])
        self._orphans.append(_Orphan(unit, slot.arrived.node, slot.waiting, time.monotonic()))
        self._slots.append(self._new_slot(slot.arrived.node))

    def _count_death(self, unit: Unit) -> None:
        self._deaths[unit.name] += 1
        if self._deaths[unit.name] >= MOST_DEATHS:
            raise EngineError(
                f"{unit.label}: its worker died {MOST_DEATHS} times without a new answer or training; for want of memory? "
                f"(log: {self._log_of(unit)})"
            )

    # The end

    def _stop(self, advance: Advance) -> None:
        """Let the workers send what they have, as far as they do so soon."""
        self._stopping = True
        self._run.progress.note("stopping the workers; Ctrl-C again stops at once")
        for slot in self._slots:
            if slot.unit is not None:
                slot.actor.stop.remote()
        deadline = time.monotonic() + STOP_SECONDS
        self._slots = [slot for slot in self._slots if slot.unit is not None]
        while any(slot.unit is not None for slot in self._slots) and time.monotonic() < deadline:
            for slot in self._ready(WAIT_SECONDS):
                with contextlib.suppress(AftertuneError):
                    self._hear(slot, advance)

    def _summarise(self, seconds: float) -> None:
        lost, note = self._lost, self._run.progress.note
        note(
            f"Ray: {self._total:,} units on {len(self._nodes)} nodes in {seconds:,.0f} s"
            + (f"; {lost.processes} workers lost and gone on with" if lost.processes else "")
            + (f"; {lost.nodes} workers lost with their nodes" if lost.nodes else "")
            + (f" and at least {lost.unsent:,} answers not sent" if lost.unsent else "")
        )

    # Logs

    def _log_of(self, unit: Unit) -> Path:
        return self._logs / f"{unit.name}.log"

    def _log(self, unit: Unit, lines: Sequence[str]) -> None:
        if lines:
            with self._log_of(unit).open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.writelines(f"{line}\n" for line in lines)


def _last_line(error: BaseException) -> str:
    """Return the last line of what Ray says about an error: the first ones are about Ray's own addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
