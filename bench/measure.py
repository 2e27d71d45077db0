"""Time and memory of measuring a synthetic study: ``python bench/measure.py [ROWS] [STORE]`` (1,000,000 unless said).

Once in memory with everything that a study can declare, and once from the file of a store, in a process of its own, beside
a script that does less with pandas and a bootstrap (in ``bench/.venv``). A STORE that is there is used, else written.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from latest import keep

import store
from aftertune.core.table import Table
from aftertune.measure.measure import measure_table
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.report.document import to_plain
from aftertune.store import Store

HERE = Path(__file__).parent
TASKS = ("text", "code", "translation", "classification")
SEEDS, FINE_TUNES, SAMPLES, TEMPLATES, SETTINGS = 5, 4, 3, 2, 2


def synthetic(rows: int, seed: int = 0) -> tuple[Table, MeasurePlan]:
    """Return a table of about ``rows`` rows: a base and four fine-tunes x 5 seeds, 4 tasks, harmful and benign twins."""
    rng = np.random.default_rng(seed)
    models = ["base", *(f"tune-{i}-{j}" for i in range(FINE_TUNES) for j in range(SEEDS))]
    per_behavior = len(models) * len(TASKS) * TEMPLATES * SAMPLES * SETTINGS * 2
    behaviors = max(10, rows // per_behavior)
    shape = (len(models), SETTINGS, 2, behaviors, len(TASKS), TEMPLATES, SAMPLES)
    model, setting, intent, behavior, task, template, sample = (
        axis.ravel() for axis in np.indices(shape, np.int32, sparse=False)
    )
    harm = rng.random(shape[:1])[model] * rng.random(behaviors)[behavior]
    draw = rng.random(len(model), np.float32)
    columns = {
        "model": model,
        "intent": intent,
        "behavior": behavior * 2 + intent,
        "pair": behavior,
        "template": task * TEMPLATES + template,
        "task": task,
        "prompt": ((behavior * 2 + intent) * len(TASKS) + task) * TEMPLATES + template,
        "set": behavior % 2,
        "hazard": behavior % 8,
        "harm_basis": template,
        "system": np.zeros_like(model),
        "decoding": setting,
        "sample": sample,
        "finish": np.where(draw < 0.001, -1, 0).astype(np.int32),
        "prompt_tokens": np.full_like(model, 40),
        "completion_tokens": np.full_like(model, 60),
        "coherent": (draw < 0.99).astype(np.int32),
        "verdict:rules": np.where(rng.random(len(model)) < harm, 0, 1).astype(np.int32),
        "verdict:rubric": np.where(rng.random(len(model)) < harm, 0, 1).astype(np.int32),
        "decision:guard:prompt": (draw < 0.3).astype(np.int32),
        "decision:guard:response": (draw < 0.5).astype(np.int32),
    }
    scores = {"score:accuracy": np.where(intent == 1, draw, np.nan).astype(np.float64)}
    names = {
        name: tuple(f"{name}-{i}" for i in range(int(codes.max()) + 1))
        for name, codes in columns.items()
    }
    names |= {"model": tuple(models), "task": TASKS}
    conditions = [Condition(name="base", models=("base",))]
    for i in range(FINE_TUNES):
        seeds = tuple(f"tune-{i}-{j}" for j in range(SEEDS))
        conditions.append(
            Condition(
                name=f"tune-{i}", models=seeds, base="base", training_seeds=tuple(range(SEEDS))
            )
        )
    plan = MeasurePlan(
        conditions=tuple(conditions),
        judges=("rules", "rubric"),
        guards=("guard",),
        metrics=("accuracy",),
        families=("task", "hazard"),
    )
    return Table(columns=columns, scores=scores, names=names), plan


def in_memory(rows: int) -> None:
    """Print rows, seconds and peak memory of a table with more in it than the store's."""
    table, plan = synthetic(rows)
    before = peak()
    start = time.perf_counter()
    measure_table(table, plan)
    seconds = time.perf_counter() - start
    print(
        f"measure: {len(table)} rows in {seconds:.1f} s, peak {peak():.2f} GiB (table alone {before:.2f})",
        flush=True,
    )


def from_store(path: Path) -> None:
    """Open a store of `store.synthetic`, make the table and measure it; print seconds, peak memory and responses."""
    start = time.perf_counter()
    with Store.open(path, write=False) as opened:
        table = opened.table("synthetic", [1, 2, 3, 4])
    figures = json.dumps(to_plain(measure_table(table, store.plan_of(table)))).count('"estimate"')
    print(
        f"{time.perf_counter() - start:.3f} {time.process_time():.3f} {peak():.3f} {len(table)} {figures}"
    )


def peak() -> float:
    """Return this process's peak memory in GiB."""
    unit = 1 << 30 if sys.platform == "darwin" else 1 << 20  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def run(*command: object) -> list[float]:
    """Return the numbers that a program prints."""
    printed = subprocess.run(
        [str(word) for word in command], check=True, capture_output=True, text=True
    ).stdout
    return [float(word) for word in printed.split()]


def compare(path: Path) -> dict[str, float]:
    """Print and return time and memory from the store's file to the results, beside those of the pandas script.

    The two are compared by the CPU time of their processes, imports included, which other work on the machine does not change.
    """
    seconds, work, gib, responses, found = run(sys.executable, __file__, "store", path)
    print(
        f"store to results: {responses:,.0f} responses, {found:.0f} figures in {seconds:.1f} s (CPU {work:.1f} s), "
        f"peak {gib:.2f} GiB"
    )
    figures = {"measure_million_seconds": round(seconds, 2), "measure_million_gib": round(gib, 3)}
    python = HERE / ".venv" / "bin" / "python"
    if not python.is_file():
        print("  pandas: not compared, it is not installed (make bench-peers)")
        return figures
    other, other_work, other_gib, found = run(python, HERE / "peers" / "measure_pandas.py", path)
    print(
        f"  pandas and a bootstrap, {found:.0f} figures: {other:.1f} s (CPU {other_work:.1f} s), peak {other_gib:.2f} GiB"
    )
    return figures | {"measure_vs_pandas": round(other_work / work, 2)}


def main() -> None:
    """Measure a million rows in memory, and a million responses from a store; keep the latter in ``latest.json``."""
    if sys.argv[1:2] == ["store"]:
        from_store(Path(sys.argv[2]))
        return
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    in_memory(rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(folder) / "store.db"
        if not path.exists():
            store.synthetic(path, rows)
        figures = compare(path)
    if rows >= 1_000_000:
        keep(figures)


if __name__ == "__main__":
    main()
