"""kill -9 at a random moment of a study or command, then the same command again: the same end, no committed call made twice."""

import csv
import json
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tiny_study
from batch_server import BatchServer
from faithful_server import Server
from filelock import FileLock
from run import Outcome
from test_endpoint_study import environment as served_environment
from test_endpoint_study import write_study as write_served
from tiny_study import (
    calls_of,
    environment,
    finish,
    kill,
    make_base,
    stored_keys,
    write_data,
)
from warm import start

SECONDS = 900
"""The longest that a command may take on a busy machine."""
WORK = ("generate", "judge", "guard")
BEHAVIORS = 100
"""Behaviors of the served study; each is asked of two models, with its twin."""
IMPORTS = 3.0
"""Seconds that a command that is not forked takes to load torch and its like."""
Start = Callable[..., Any]
"""`warm.start`, or `tiny_study.start` for a process of its own."""


def timed(*command: object, env: dict[str, str], cwd: Path) -> float:
    """Run a command to its end; return how long that took once torch was there."""
    finish(start("--version", env=env, cwd=cwd), timeout=SECONDS)
    begun = time.monotonic()
    code, _, err = finish(start(*command, env=env, cwd=cwd), timeout=SECONDS)
    assert code == 0, err
    return time.monotonic() - begun


def killed_at(
    seconds: float, *command: object, env: dict[str, str], cwd: Path, start: Start = start
) -> tuple[int, str]:
    """Start a command, kill it after some seconds if it still runs; return exit code and standard error."""
    process = start(*command, env=env, cwd=cwd)
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    if process.poll() is None:
        kill(process)
    code, _, err = finish(process, timeout=60)
    return code, err


def once(folder: Path, make: Callable[[Path], float]) -> tuple[Path, float]:
    """Return what all trials share, made when first needed, and the seconds that its straight run took."""
    done = folder / "seconds.json"
    with FileLock(f"{folder}.lock"):
        if not done.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            seconds = make(folder)
            done.write_text(json.dumps(seconds))
    return folder, float(json.loads(done.read_text()))


def local_study(shared: Path) -> tuple[Path, float]:
    """Return the small study, trained, asked, judged and measured without a kill."""

    def make(folder: Path) -> float:
        make_base(folder / "base")
        write_data(folder)
        env = environment(shared / "cache", log=folder / "calls.log")
        return timed("run", "study.yaml", "--out", "out", env=env, cwd=folder)

    return once(shared / "local", make)


def fresh_local(shared: Path, folder: Path) -> Path:
    """Return the small study with nothing of it run."""
    straight, _ = local_study(shared)
    shutil.copytree(straight / "base", folder / "base")
    return write_data(folder)


def trial(number: int, folder: Path, shared: Path) -> Outcome:
    """Kill one of the stages: by turns a study on this machine, a served one, a batch, labelling, a merge.

    One in eight is a process of its own from its first import; the others are forked (`warm`).
    """
    draw = random.Random(f"kill {number}")  # noqa: S311 - reproducible, not a secret
    own = partial(local, start=tiny_study.start, imports=IMPORTS)
    kinds = (local, served, own, merging, labelling, served, batch, local)
    return kinds[number % len(kinds)](draw, folder, shared)


def local(
    draw: random.Random, folder: Path, shared: Path, start: Start = start, imports: float = 0.0
) -> Outcome:
    """Kill training, generation, guard, judges, measuring or writing: whatever runs at the moment."""
    straight, seconds = local_study(shared)
    fresh_local(shared, folder)
    log = folder / "calls.log"
    env = environment(shared / "cache", log=log)
    command = ("run", "study.yaml", "--out", "out")
    at = draw.uniform(0.3, seconds + imports)
    code, err = killed_at(at, *command, env=env, cwd=folder, start=start)
    committed = stored_keys(folder / "out" / "store.sqlite")
    before = len(calls_of(log, *WORK))
    again, _, last = finish(start(*command, env=env, cwd=folder), timeout=SECONDS)
    made = set(calls_of(log, *WORK)[before:])
    there = stored_keys(folder / "out" / "store.sqlite")
    whole = stored_keys(straight / "out" / "store.sqlite")
    same = (
        again == 0
        and (folder / "out" / "result.json").read_bytes()
        == (straight / "out" / "result.json").read_bytes()
    )
    return Outcome(
        tries=int(code == -signal.SIGKILL),
        lost=len(committed - there) + len(whole - there),
        twice=len(made & committed),
        tracebacks=("Traceback" in err) + ("Traceback" in last),
        wrong=int(not same),
        note="" if same else f"exit code {again}: {last[-300:]}",
    )


def answers_in(store: Path) -> int:
    """Return how many final answers a store holds."""
    return len(stored_keys(store))


def asked_in_all(server: Server) -> int:
    """Return how many calls a server got, once none is on its way any more."""
    count = -1
    while count != (now := sum(server.asked.values())):
        count = now
        time.sleep(0.5)
    return count


def served_study(shared: Path) -> float:
    """Return the seconds of a study of served models."""

    def make(folder: Path) -> float:
        with Server(seconds=0.2) as server:
            study = write_served(folder / "s", server, BEHAVIORS)
            command = ("run", study, "--out", study.parent / "run")
            return timed(*command, env=served_environment(), cwd=folder)

    return once(shared / "served", make)[1]


def served(draw: random.Random, folder: Path, shared: Path) -> Outcome:
    """Kill a study of served models; the server counts what it is asked."""
    seconds, whole = served_study(shared), 4 * BEHAVIORS
    with Server(seconds=0.2) as server:
        study = write_served(folder / "s", server, BEHAVIORS)
        store = study.parent / "run" / "store.sqlite"
        env = served_environment()
        command = ("run", study, "--out", study.parent / "run")
        code, err = killed_at(draw.uniform(0.3, seconds), *command, env=env, cwd=folder)
        asked = asked_in_all(server)
        committed = answers_in(store)
        again, _, last = finish(start(*command, env=env, cwd=folder), timeout=SECONDS)
        made = sum(server.asked.values()) - asked
    return Outcome(
        tries=int(code == -signal.SIGKILL),
        lost=whole - answers_in(store),
        twice=max(0, made - (whole - committed)),
        tracebacks=("Traceback" in err) + ("Traceback" in last),
        wrong=int(again != 0),
        note=last[-300:] if again else "",
    )


def batch(draw: random.Random, folder: Path, shared: Path) -> Outcome:
    """Kill a study that is asked by batch; there must be one batch and one upload in the end."""

    def make(place: Path) -> float:
        with BatchServer(looks=2) as server:
            return timed(*batched(place, server), env=served_environment(), cwd=place)

    def batched(place: Path, server: BatchServer) -> tuple[object, ...]:
        models = [{"name": "base", "reference": f"{server.url}#base"}]
        study = write_served(place / "s", server, 20, models=models, engine={"batch": True})
        return "run", study, "--out", study.parent / "run"

    _, seconds = once(shared / "batch", make)
    with BatchServer(looks=2) as server:
        command, env = batched(folder, server), served_environment()
        code, err = killed_at(draw.uniform(0.3, seconds), *command, env=env, cwd=folder)
        again, _, last = finish(start(*command, env=env, cwd=folder), timeout=SECONDS)
        batches = len(server.batches)
    return Outcome(
        tries=int(code == -signal.SIGKILL),
        lost=40 - answers_in(folder / "s" / "run" / "store.sqlite"),
        twice=40 * max(0, batches - 1),
        tracebacks=("Traceback" in err) + ("Traceback" in last),
        wrong=int(again != 0),
        note=last[-300:] if again else "",
    )


def content(store: Path) -> list[tuple[object, ...]]:
    """Return every answer of a store by key."""
    connection = sqlite3.connect(store)
    rows = connection.execute(
        "SELECT key, finish, text, detail FROM call JOIN answer ON answer.call = id JOIN text ON text.call = id ORDER BY key"
    ).fetchall()
    healthy = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    return [*rows, *healthy]


def merging(draw: random.Random, folder: Path, shared: Path) -> Outcome:
    """Kill `aftertune store merge` of three stores."""
    from stores import filled

    def make(place: Path) -> float:
        for part in range(3):
            filled(place / f"part-{part}.sqlite", range(part * 1500, part * 1500 + 2000))
        env = environment(shared / "cache")
        return timed("store", "merge", "all.sqlite", *parts, env=env, cwd=place)

    parts = [f"part-{part}.sqlite" for part in range(3)]
    straight, seconds = once(shared / "merge", make)
    for part in parts:
        shutil.copy(straight / part, folder)
    command = ("store", "merge", "all.sqlite", *parts)
    env = environment(shared / "cache")
    code, err = killed_at(draw.uniform(0.1, seconds), *command, env=env, cwd=folder)
    again, _, last = finish(start(*command, env=env, cwd=folder), timeout=SECONDS)
    same = again == 0 and content(folder / "all.sqlite") == content(straight / "all.sqlite")
    return Outcome(
        tries=int(code == -signal.SIGKILL),
        tracebacks=("Traceback" in err) + ("Traceback" in last),
        wrong=int(not same),
        note="" if same else last[-300:],
    )


def labels_of(run: Path) -> list[tuple[object, ...]]:
    """Return the labels that a run's store holds."""
    connection = sqlite3.connect(run / "store.sqlite")
    rows = connection.execute(
        "SELECT reader.name, call.key, value FROM reading JOIN reader ON reader.id = reader JOIN call ON call.id = call "
        "WHERE reader.kind = 'person' ORDER BY 1, 2"
    ).fetchall()
    connection.close()
    return rows


def labelling(draw: random.Random, folder: Path, shared: Path) -> Outcome:
    """Kill `aftertune label import` of labels that were drawn and filled in."""
    straight, _ = local_study(shared)
    env = environment(shared / "cache")

    def make(place: Path) -> float:
        shutil.copytree(straight, place / "study", dirs_exist_ok=True)
        out = place / "study" / "out"
        export = ("label", "export", out, "-o", place / "labels.csv", "--n", 20)
        timed(*export, env=env, cwd=place)
        with (place / "labels.csv").open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        for row, label in zip(rows, ["refused", "complied"] * len(rows), strict=False):
            row["label"] = label
        with (place / "labels.csv").open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        shutil.copytree(place / "study", place / "before")
        return timed("label", "import", out, place / "labels.csv", env=env, cwd=place / "study")

    labelled, seconds = once(shared / "labels", make)
    shutil.copytree(labelled / "before", folder / "study")
    command = ("label", "import", "out", labelled / "labels.csv")
    code, err = killed_at(draw.uniform(0.2, seconds), *command, env=env, cwd=folder / "study")
    again, _, last = finish(start(*command, env=env, cwd=folder / "study"), timeout=SECONDS)
    wanted, kept = labels_of(labelled / "study" / "out"), labels_of(folder / "study" / "out")
    same = again == 0 and kept == wanted
    return Outcome(
        tries=int(code == -signal.SIGKILL),
        lost=max(0, len(wanted) - len(kept)),
        tracebacks=("Traceback" in err) + ("Traceback" in last),
        wrong=int(not same),
        note="" if same else last[-300:],
    )
