"""A machine that fails: a disk that is full, a second process on the folder, a clock that goes back."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import tiny_study
from kills import SECONDS, WORK, fresh_local, killed_at, local_study
from run import Outcome
from tiny_study import calls_of, environment, finish, stored_keys
from warm import start

LARGEST = 3_000
"""Kilobytes that the small study needs, and a little more."""
COMMAND = ("run", "study.yaml", "--out", "out")


def mounted(folder: Path, kilobytes: int) -> bool:
    """Mount a small file system of memory; False where that is not allowed."""
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "campaign", str(folder)]
    mount = shutil.which("mount")
    return mount is not None and subprocess.run([mount, *options], check=False, capture_output=True).returncode == 0  # fmt: skip


def full_disk(number: int, folder: Path, shared: Path) -> Outcome:
    """Run the small study where its disk is full at some stage; with more room it ends as ever.

    Where nothing may be mounted, a limit on the size of files stands in for the disk.
    """
    draw = random.Random(f"disk {number}")  # noqa: S311 - reproducible, not a secret
    straight, _ = local_study(shared)
    fresh_local(shared, folder)
    out, env = folder / "out", environment(shared / "cache")
    out.mkdir()
    is_mounted = mounted(out, draw.randrange(100, LARGEST))
    limit = -1 if is_mounted else draw.randrange(10_000, 400_000)
    try:
        first, said, err = finish(
            start(*COMMAND, env=env, cwd=folder, largest_file=limit), timeout=SECONDS
        )
        if is_mounted:
            subprocess.run(["mount", "-o", "remount,size=100m", str(out)], check=True)  # noqa: S607
        code, _, last = finish(start(*COMMAND, env=env, cwd=folder), timeout=SECONDS)
        same = (
            code == 0
            and (out / "result.json").read_bytes()
            == (straight / "out" / "result.json").read_bytes()
        )
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(out)], check=True)  # noqa: S607
    several = first != 0 and sum(line.startswith("aftertune: ") for line in err.splitlines()) != 1
    return Outcome(
        tries=int(first != 0),
        tracebacks=("Traceback" in said + err) + ("Traceback" in last),
        wrong=int(not same) + several,
        note=""
        if same and not several
        else f"code {first}: {err[-300:]} then {code}: {last[-300:]}",
    )


def half_done(shared: Path, folder: Path) -> tuple[Path, Path]:
    """Return the small study with its fine-tunes trained and no answer, and its log."""
    straight, _ = local_study(shared)
    shutil.copytree(straight, folder, dirs_exist_ok=True)
    for file in (folder / "out").glob("store.sqlite*"):
        file.unlink()
    (folder / "out" / "result.json").unlink()
    (folder / "calls.log").unlink()
    return straight, folder / "calls.log"


def two_writers(number: int, folder: Path, shared: Path) -> Outcome:
    """Start a study twice on one folder: one works, the other is refused in a line, and nothing is asked twice."""
    draw = random.Random(f"writers {number}")  # noqa: S311 - reproducible, not a secret
    straight, log = half_done(shared, folder)
    env = environment(shared / "cache", log=log)
    processes = [start(*COMMAND, env=env, cwd=folder)]
    time.sleep(draw.uniform(0, 1.0))
    processes.append(start(*COMMAND, env=env, cwd=folder))
    ends = [finish(process, timeout=SECONDS) for process in processes]
    asked = calls_of(log, *WORK)
    same = (folder / "out" / "result.json").read_bytes() == (
        straight / "out" / "result.json"
    ).read_bytes()
    refused = [err for code, _, err in ends if code == 1]
    right = (
        same and any(code == 0 for code, *_ in ends) and all("is writing" in err for err in refused)
    )
    return Outcome(
        tries=len(refused),
        twice=len(asked) - len(set(asked)),
        tracebacks=sum("Traceback" in err for *_, err in ends),
        wrong=int(not right),
        note="" if right else str(ends)[-400:],
    )


def clock_set_back(number: int, folder: Path, shared: Path) -> Outcome:
    """Kill a study, set the clock back by up to ten years, and go on."""
    draw = random.Random(f"clock {number}")  # noqa: S311 - reproducible, not a secret
    straight, log = half_done(shared, folder)
    env = environment(shared / "cache", log=log)
    _, seconds = local_study(shared)
    code, _ = killed_at(draw.uniform(0.3, seconds / 2), *COMMAND, env=env, cwd=folder)
    committed = stored_keys(folder / "out" / "store.sqlite")
    before = len(calls_of(log, *WORK))
    hook = str(Path(__file__).parent / "clock")
    back = env | {
        "CAMPAIGN_SECONDS_BACK": str(draw.randrange(1, 10 * 365 * 86400)),
        "PYTHONPATH": os.pathsep.join([hook, env["PYTHONPATH"]]),
    }
    again, _, err = finish(tiny_study.start(*COMMAND, env=back, cwd=folder), timeout=SECONDS)
    made = calls_of(log, *WORK)[before:]
    same = (
        again == 0
        and (folder / "out" / "result.json").read_bytes()
        == (straight / "out" / "result.json").read_bytes()
    )
    return Outcome(
        tries=int(code == -signal.SIGKILL),
        lost=len(committed - stored_keys(folder / "out" / "store.sqlite")),
        twice=len(set(made) & committed),
        tracebacks=int("Traceback" in err),
        wrong=int(not same),
        note="" if same else err[-300:],
    )
