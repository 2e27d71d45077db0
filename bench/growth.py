"""Growth of stores: ``python bench/growth.py [RESPONSES...] [--keep FOLDER]`` (10,000 and 100,000 unless said).

For each size a study is written as eight parts, as `aftertune run --part` leaves them: two judges, a guard and coherence, so
four scores a response. Then the parts are merged, the whole study is planned again as the run after the merge does, its table
is made, and it is measured. Every stage is a process of its own, for its own CPU seconds and peak of memory. With ``--keep`` the
files stay in the folder, and parts that are whole are not written again; 10,000,000 responses take about 15 GB of disk.
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from aftertune.core.records import DecisionValue, Prompt, Score, VerdictValue
from aftertune.measure.measure import measure_table
from aftertune.store import PlannedJob, Scored, Store
from store import answer, plan_of, planned, prompts_of

PARTS = 8
STUDY = "synthetic"
SCORERS = (("judge", "rules"), ("judge", "rubric"), ("guard", "guard"), ("coherence", "coherence"))
STAGES = ("merge", "plan", "table", "measure")
"""The stages that are measured, in their order; ``measure`` makes the table too, as a report does."""


def jobs_of(prompts: list[Prompt], part: int) -> Iterator[PlannedJob]:
    """Yield the jobs of a part: all that ask about its behaviors, a twin with its harmful one."""
    return planned(prompts, lambda prompt: int(str(prompt.pair)[1:]) // 2 % PARTS == part)


def write_part(path: Path, responses: int, part: int) -> None:
    """Write the store of a part with the package's own calls, whole or not at all."""
    draft = path.with_name(f"{path.name}.unfinished")
    draft.unlink(missing_ok=True)
    values = {
        "judge": list(VerdictValue),
        "guard": list(DecisionValue),
        "coherence": [True, True],
    }
    with Store.open(draft) as store:
        jobs = list(jobs_of(prompts_of(responses), part))
        store.plan(STUDY, jobs)
        store.append("generate", ((job.key, answer(job.key)) for job in jobs))
        for kind, name in SCORERS:
            scores = (
                Scored(
                    prompt=job.prompt,
                    key=job.key,
                    score=Score(value=values[kind][job.key[0] % 2], number=job.key[1] / 255),
                )
                for job in jobs
            )
            store.add_scores(store.add_scorer(kind, name, "1"), scores)
    draft.replace(path)


def merge(path: Path, parts: Sequence[Path]) -> None:
    """Merge the parts into a store."""
    with Store.open(path) as store:
        for part in parts:
            store.merge(part)


def plan(path: Path, responses: int) -> None:
    """Plan the whole study, and see that no call is missing and nothing is unscored."""
    with Store.open(path) as store:
        prompts = prompts_of(responses)
        store.plan(STUDY, planned(prompts))
        left = store.missing(job.key for job in planned(prompts))
        unscored = sum(len(store.unscored(STUDY, number)) for number in range(1, len(SCORERS) + 1))
    if left or unscored:
        raise SystemExit(f"{path}: {len(left)} calls and {unscored} scores are missing")


def table(path: Path) -> None:
    """Make the table of the whole study."""
    with Store.open(path, write=False) as store:
        store.table(STUDY, range(1, len(SCORERS) + 1))


def measure(path: Path) -> None:
    """Make the table of the whole study and measure it."""
    with Store.open(path, write=False) as store:
        whole = store.table(STUDY, range(1, len(SCORERS) + 1))
    measure_table(whole, plan_of(whole))


def stage(name: str, *arguments: object) -> tuple[float, float, float]:
    """Run a stage in a process of its own; return its wall seconds, its CPU seconds and the GiB of its peak."""
    began = time.perf_counter()
    command = [sys.executable, __file__, "--stage", name, *map(str, arguments)]
    _, status, usage = os.wait4(os.posix_spawn(command[0], command, os.environ), 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{name} ended with exit code {code}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, peak / 2**30


def run_stage(name: str, path: Path, *rest: str) -> None:
    """Do a stage in this process."""
    if name == "part":
        write_part(path, int(rest[0]), int(rest[1]))
    elif name == "merge":
        merge(path, [Path(part) for part in rest])
    elif name == "plan":
        plan(path, int(rest[0]))
    else:
        {"table": table, "measure": measure}[name](path)


def measured(folder: Path, responses: int) -> dict[str, float]:
    """Write the parts and measure every stage after them; return the figures by name."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [folder / f"part-{number}.sqlite" for number in range(PARTS)]
    for number, part in enumerate(parts):
        if not part.exists():
            stage("part", part, responses, number)
    whole = folder / "store.sqlite"
    for left in folder.glob(f"{whole.name}*"):
        left.unlink()
    figures: dict[str, float] = {}
    for name in STAGES:
        rest = {"merge": parts, "plan": [responses]}.get(name, [])
        wall, cpu, peak = stage(name, whole, *rest)
        print(
            f"{responses:>11,} {name:<8} {wall:8.1f} s, CPU {cpu:8.1f} s, "
            f"{cpu / responses * 1e6:6.1f} us a response; peak {peak:.2f} GiB",
            flush=True,
        )
        figures |= {f"{name}_s": wall, f"{name}_cpu_s": cpu, f"{name}_gib": peak}
    print(f"{responses:>11,} file     {whole.stat().st_size / 2**30:8.2f} GiB", flush=True)
    return figures


def main() -> None:
    """Print the figures of all sizes, and the exponent of growth between the first and the last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("responses", nargs="*", type=int, default=[10_000, 100_000])
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = {
            responses: measured((chosen.keep or Path(temporary)) / str(responses), responses)
            for responses in chosen.responses
        }
    first, last = min(figures), max(figures)
    if last > first:
        for name in STAGES:
            ratio = figures[last][f"{name}_cpu_s"] / figures[first][f"{name}_cpu_s"]
            exponent = math.log(ratio) / math.log(last / first)
            print(f"{name:<8} CPU seconds grow as n^{exponent:.2f} from {first:,} to {last:,}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stage"]:
        run_stage(sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
    else:
        main()
