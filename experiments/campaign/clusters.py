"""kill -9 of nodes, workers and the driver of a Ray cluster of three nodes, on this machine, while it runs one study."""

import random
import time
from pathlib import Path

import tiny_study
from kills import SECONDS, fresh_local, local_study
from ray_nodes import nodes, workers_of
from run import Outcome
from tiny_study import calls_of, environment, finish, kill, lines_of, stored_keys

KILLS = ("node", "worker", "driver", "worker", "node")
BETWEEN = (10, 60)
"""Training steps and calls between two kills."""
PACE = 0.2
"""Seconds that a batch of four answers waits, so that there is something to kill."""
WORK = ("train", "generate", "judge", "guard")


def trial(number: int, folder: Path, shared: Path) -> Outcome:
    """Kill five times during the small study; the driver is started again by the same command."""
    draw = random.Random(f"cluster {number}")  # noqa: S311 - reproducible, not a secret
    straight, _ = local_study(shared)
    fresh_local(shared, folder)
    log, store = folder / "calls.log", folder / "out" / "store.sqlite"
    env = environment(shared / "cache", log=log, pace=PACE) | {"TMPDIR": str(folder)}
    due = list(KILLS)
    draw.shuffle(due)
    marks, errors = [], []
    with nodes(2, env) as cluster:
        command = ("run", "study.yaml", "--out", "out", "--on", f"ray:{cluster.address}")
        driver = tiny_study.start(*command, env=env, cwd=folder)
        at, until = draw.randint(*BETWEEN), time.monotonic() + SECONDS
        while driver.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
            if not due or len(calls_of(log, *WORK)) < at:
                continue
            workers = workers_of(log)
            if due[-1] == "worker" and not workers:  # all of them are starting
                continue
            at = len(calls_of(log, *WORK)) + draw.randint(*BETWEEN)
            marks.append((len(lines_of(log)), stored_keys(store)))
            victim = due.pop()
            if victim == "driver":
                kill(driver)
                errors.append(finish(driver)[2])
                driver = tiny_study.start(*command, env=env, cwd=folder)
            elif victim == "worker":
                draw.choice(workers).kill()
            else:
                cluster.kill(draw.randrange(2))
                cluster.add()
        code, _, err = finish(driver, timeout=60)
    lines = lines_of(log)
    twice = sum(
        kind == "generate" and key in committed
        for begun, committed in marks
        for _, kind, key in lines[begun:]
    )
    whole = stored_keys(straight / "out" / "store.sqlite")
    result = folder / "out" / "result.json"
    same = code == 0 and result.read_bytes() == (straight / "out" / "result.json").read_bytes()
    return Outcome(
        tries=len(marks),
        lost=len(whole - stored_keys(store)),
        twice=twice,
        tracebacks=sum("Traceback" in text for text in [*errors, err]),
        wrong=int(not same),
        note="" if same else f"exit code {code}: {err[-300:]}",
    )
