"""Time and memory of measuring a synthetic study: ``python bench/measure.py [ROWS]`` (1,000,000 unless said)."""

import resource
import sys
import time

import numpy as np

from aftertune.core.table import Table
from aftertune.measure.measure import measure
from aftertune.measure.plan import Condition, MeasurePlan

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
    names = {name: tuple(f"{name}-{i}" for i in range(int(codes.max()) + 1)) for name, codes in columns.items()}
    names |= {"model": tuple(models), "task": TASKS}
    conditions = [Condition(name="base", models=("base",))]
    for i in range(FINE_TUNES):
        seeds = tuple(f"tune-{i}-{j}" for j in range(SEEDS))
        conditions.append(Condition(name=f"tune-{i}", models=seeds, base="base", training_seeds=tuple(range(SEEDS))))
    plan = MeasurePlan(
        conditions=tuple(conditions),
        judges=("rules", "rubric"),
        guards=("guard",),
        scorers=("accuracy",),
        families=("task", "hazard"),
    )
    return Table(columns=columns, scores=scores, names=names), plan


def main() -> None:
    """Print rows, seconds and peak memory."""
    table, plan = synthetic(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    measure(table, plan)
    seconds = time.perf_counter() - start
    unit = 1 << 30 if sys.platform == "darwin" else 1 << 20  # macOS counts bytes, Linux KiB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"measure: {len(table)} rows in {seconds:.1f} s, peak {peak / unit:.2f} GiB (table alone {before / unit:.2f})"
    )


if __name__ == "__main__":
    main()
