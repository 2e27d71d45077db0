"""An attempt to break Aftertune that anybody can repeat: kills, failing servers, full disks, damaged stores, broken files.

    python experiments/campaign/run.py [OUT=aftertune-runs/campaign] [TRIALS=1] [FAMILIES=kills,stores] [JOBS=1] [FIGURES=FILE]

Each trial is seeded by its number and kept as a line of ``OUT/trials.jsonl``; the same command goes on where it was. ``TRIALS``
is the share of the whole that is run, ``JOBS`` the number of processes that share the trials. The figures of all trials that were
ever run in OUT go into ``bench/campaign.json``.
"""

import contextlib
import fcntl
import importlib
import json
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODULES = [str(HERE), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "endpoint")]
"""The folders whose modules a campaign imports, beside what is installed."""
sys.path[:0] = MODULES

FIGURES = ROOT / "bench" / "campaign.json"
LEDGER, LOCK = "trials.jsonl", "lock"
TRIAL = "trial-"
"""The folders of trials begin so."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The counts of one trial; all but ``tries`` and ``seconds`` are 0 where nothing is wrong."""

    tries: int
    """Kills, calls that failed on purpose, damaged files, broken inputs: what the family counts."""
    lost: int = 0
    """Answers that were committed and are gone, or prompts that end without an answer."""
    twice: int = 0
    """Calls that were made again although their answer was committed."""
    tracebacks: int = 0
    """Commands that ended in a traceback, and errors in this process that are none of ours."""
    hangs: int = 0
    """Commands and calls that did not end in their time."""
    wrong: int = 0
    """Results that differ from those of the straight run, verdicts that flipped, damage that was not said."""
    note: str = ""
    """The first thing that was wrong."""


@dataclass(frozen=True)
class Family:
    """A family of trials: its module and function, how many belong to the whole, and the unit of its tries."""

    module: str
    function: str
    trials: int
    unit: str


FAMILIES: Mapping[str, Family] = {
    "kills": Family("kills", "trial", 1010, "kill -9"),
    "endpoint": Family("servers", "endpoint", 20, "failed call"),
    "cluster": Family("clusters", "trial", 20, "kill -9"),
    "disk": Family("machines", "full_disk", 60, "full disk"),
    "writers": Family("machines", "two_writers", 50, "second writer"),
    "clock": Family("machines", "clock_set_back", 20, "clock set back"),
    "stores": Family("stores", "trial", 1000, "damaged store"),
    "inputs": Family("inputs", "trial", 1310, "broken input"),
    "hostile": Family("hostile", "trial", 50, "hostile answer"),
}
COUNTS = ("lost", "twice", "tracebacks", "hangs", "wrong")


def kept_trials(ledger: Path) -> list[dict[str, object]]:
    """Return the trials that were run; a line that a kill cut off does not count."""
    if not ledger.is_file():
        return []
    trials = []
    for line in ledger.read_text(encoding="utf-8").splitlines():
        try:
            trials.append(json.loads(line))
        except ValueError:
            continue
    return trials


def run_trial(name: str, number: int, out: Path) -> Outcome:
    """Run one trial in a folder of its own."""
    family = FAMILIES[name]
    function = getattr(importlib.import_module(family.module), family.function)
    shared = out / "shared"
    shared.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{TRIAL}{name}-", dir=out) as folder:
        try:
            outcome: Outcome = function(number, Path(folder), shared)
        except subprocess.TimeoutExpired as error:
            return Outcome(tries=1, hangs=1, note=str(error)[-600:])
        except Exception:  # noqa: BLE001 - a trial of its own that breaks is counted, and the others go on
            return Outcome(tries=1, tracebacks=1, note=traceback.format_exc()[-600:])
    return outcome


def figures(trials: list[dict[str, object]]) -> dict[str, dict[str, object]]:
    """Return the sums by family."""
    sums: dict[str, dict[str, object]] = {}
    for name, family in FAMILIES.items():
        rows = [trial for trial in trials if trial["family"] == name]
        if rows:
            counts = {count: sum(int(row[count]) for row in rows) for count in ("tries", *COUNTS)}
            notes = [f"{row['trial']}: {row['note']}" for row in rows if row["note"]]
            sums[name] = {
                "unit": family.unit, "trials": len(rows), "of": family.trials, **counts, "notes": notes[:5],
            }  # fmt: skip
    return sums


def table(sums: Mapping[str, Mapping[str, object]]) -> str:
    """Return the table as Markdown."""
    heads = ("what", "tries", "lost", "asked twice", "tracebacks", "hangs", "wrong")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, row in sums.items():
        cells = [f"{name} ({row['unit']})", *(f"{row[count]:,}" for count in ("tries", *COUNTS))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def run_trials(todo: Sequence[tuple[str, int]], turn: "Synchronized[int]", out: Path) -> None:
    """Run the trials that no other process has taken; each becomes a line of the ledger when it ends. Ctrl-C ends the last one without a line."""
    with contextlib.suppress(KeyboardInterrupt), (out / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        _run_trials(todo, turn, out)


def _run_trials(todo: Sequence[tuple[str, int]], turn: "Synchronized[int]", out: Path) -> None:
    campaign = multiprocessing.parent_process()
    while campaign is not None and campaign.is_alive():
        with turn.get_lock():
            place, turn.value = turn.value, turn.value + 1
        if place >= len(todo):
            return
        name, number = todo[place]
        begun = time.monotonic()
        outcome = run_trial(name, number, out)
        line = {"family": name, "trial": number, **asdict(outcome)}
        line["seconds"] = round(time.monotonic() - begun, 1)
        ledger = os.open(out / LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(
            ledger, f"\n{json.dumps(line)}".encode()
        )  # at once: other processes write here too
        os.close(ledger)
        wrong = [f"{count} {line[count]}" for count in COUNTS if line[count]]
        print(f"{name} {number}: {outcome.tries} {', '.join(wrong) or 'ok'}", flush=True)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The words of the command line, read and checked before the first trial."""

    out: Path
    """The folder of the trials."""
    figures: Path
    """The file of the sums."""
    share: float
    """The share of the whole that is run, above 0."""
    families: tuple[str, ...]
    jobs: int
    """The number of processes."""


def read_options(words: Sequence[str]) -> Options:
    """Return the options that the words ``NAME=VALUE`` give.

    Raises:
        ValueError: one is unknown or has no such value.
    """
    values = {
        "OUT": str(ROOT / "aftertune-runs" / "campaign"),
        "FIGURES": str(FIGURES),
        "TRIALS": "1",
        "FAMILIES": ",".join(FAMILIES),
        "JOBS": "1",
    }
    for word in words:
        name, _, value = word.partition("=")
        if name not in values or not value:
            raise ValueError(f"{word}: use NAME=VALUE, with one of {', '.join(values)}")
        values[name] = value
    try:
        share, jobs = float(values["TRIALS"]), int(values["JOBS"])
    except ValueError as error:
        raise ValueError(f"TRIALS and JOBS are numbers: {error}") from error
    if not 0 < share < math.inf or jobs < 1:
        raise ValueError("TRIALS is a share above 0, and JOBS at least 1")
    families = tuple(values["FAMILIES"].split(","))
    if unknown := [name for name in families if name not in FAMILIES]:
        raise ValueError(f"FAMILIES: no {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
    out, sums = Path(values["OUT"]).absolute(), Path(values["FIGURES"]).absolute()
    if sums.parent != out and not sums.parent.is_dir():
        raise ValueError(f"FIGURES: there is no folder {sums.parent}")
    return Options(out=out, figures=sums, share=share, families=families, jobs=jobs)


def locked(out: Path) -> TextIO:
    """Return the lock of a campaign's folder, held alone: whoever runs trials there shares it."""
    lock = (out / LOCK).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for the trials of another campaign in {out}", file=sys.stderr)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def main() -> int:
    """Run what is missing; return 1 where anything was wrong, now or before, 2 for wrong options, 5 where it was stopped."""
    try:
        options = read_options(sys.argv[1:])
    except ValueError as error:
        print(f"campaign: {error}", file=sys.stderr)
        return 2
    out, jobs, stopped = options.out, options.jobs, False
    out.mkdir(parents=True, exist_ok=True)
    lock = locked(out)
    for left in out.glob(f"{TRIAL}*"):  # of the last trials of a campaign that was killed
        shutil.rmtree(left, ignore_errors=True)
    fcntl.flock(lock, fcntl.LOCK_SH)
    done = {(trial["family"], trial["trial"]) for trial in kept_trials(out / LEDGER)}
    todo = [
        (name, number)
        for name in options.families
        for number in range(math.ceil(FAMILIES[name].trials * options.share))
        if (name, number) not in done
    ]
    context = multiprocessing.get_context("spawn")
    turn = context.Value("q", 0)
    parts = [context.Process(target=run_trials, args=(todo, turn, out)) for _ in range(jobs)]
    try:
        for part in parts:
            part.start()
        for part in parts:
            part.join()
    except KeyboardInterrupt:
        stopped = True
        for part in parts:
            if part.pid is not None:
                part.join()
        print("stopped; the same command goes on", file=sys.stderr)
    sums = figures(kept_trials(out / LEDGER))
    options.figures.write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
    print(table(sums))
    if stopped:
        return 5
    unfinished = any(part.exitcode for part in parts)
    return int(unfinished or any(row[count] for row in sums.values() for count in COUNTS))


assert {field.name for field in fields(Outcome)} >= set(COUNTS)

if __name__ == "__main__":
    raise SystemExit(main())
