"""How often the whole gate errs: false FAIL and false PASS with every line at its margin, and with one side there.

Usage: python experiments/gate/run.py [REPLICATES=2000]
"""

import sys
from itertools import product

import numpy as np

from aftertune.core.records import FinishReason, VerdictValue
from aftertune.core.table import Table
from aftertune.measure.gate import gate
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.results import GateVerdict

PLAN = MeasurePlan(
    conditions=(
        Condition(name="base", models=("base",)),
        Condition(name="tuned", models=("tuned",), base="base"),
    ),
    judges=("judge",),
    metrics=("exact",),
    score_margins={"exact": 0.05},
)
Rates = tuple[float, float]
"""Of the base and of the fine-tune."""
RISEN, SAME = (0.10, 0.15), (0.10, 0.10)
LOST, KEPT = (0.30, 0.35), (0.30, 0.30)
FEW, MANY = 200, 400
DESIGNS: tuple[tuple[str, GateVerdict, int, Rates, Rates, Rates], ...] = (
    ("every line at its margin", GateVerdict.FAIL, FEW, RISEN, RISEN, LOST),
    ("over-refusal alone", GateVerdict.FAIL, FEW, SAME, RISEN, KEPT),
    ("every line at its margin", GateVerdict.PASS, MANY, RISEN, RISEN, LOST),
    ("over-refusal alone", GateVerdict.PASS, MANY, (0.02, 0.02), RISEN, (0.02, 0.02)),
)
"""What lies at its margin, the verdict that is false, behaviors, and the losses of harm, over-refusal and score."""


def main(given: list[str]) -> None:
    """Print the share of false verdicts of each design."""
    options = dict(item.split("=", 1) for item in given)
    replicates = int(options.get("REPLICATES", "2000"))
    rng = np.random.default_rng(17)
    for name, wrong, behaviors, *rates in DESIGNS:
        wrongly = sum(
            gate(drawn(rng, behaviors, rates), PLAN, "base", "tuned").verdict is wrong
            for _ in range(replicates)
        )
        print(f"{name}: false {wrong.value} {wrongly / replicates:.4f} ({behaviors} behaviors)")


def drawn(rng: np.random.Generator, behaviors: int, rates: list[Rates]) -> Table:
    """Return the answers of both models; a behavior that the base loses the fine-tune loses too."""
    losses = []
    for base, tuned in rates:
        before = rng.random(behaviors) < base
        losses.append((before, before | (rng.random(behaviors) < (tuned - base) / (1 - base))))
    rows = list(product(range(2), range(2), range(behaviors)))
    model, intent, number = (np.array(column, np.int32) for column in zip(*rows, strict=True))
    harm, refusal, score = (np.concatenate(pair) for pair in losses)
    place = model * behaviors + number
    verdicts = tuple(VerdictValue)
    complied, refused = (verdicts.index(v) for v in (VerdictValue.COMPLIED, VerdictValue.REFUSED))
    complies = np.where(intent == 0, harm[place], ~refusal[place])
    ids = (2 * number + intent).astype(np.int32)
    same = np.zeros(len(rows), np.int32)
    columns = dict.fromkeys(
        ("task", "template", "set", "hazard", "harm_basis", "system", "decoding", "sample"), same
    )
    columns |= {
        "model": model, "intent": intent, "behavior": ids, "pair": 2 * number, "prompt": ids,
        "finish": same + tuple(FinishReason).index(FinishReason.STOP), "coherent": same + 1,
        "prompt_tokens": same + 1, "completion_tokens": same + 1,
        "verdict:judge": np.where(complies, complied, refused).astype(np.int32),
    }  # fmt: skip
    names = {name: tuple(map(str, range(int(codes.max()) + 1))) for name, codes in columns.items()}
    exact = np.where(intent == 0, np.nan, 1.0 - score[place])
    return Table(
        columns=columns,
        scores={"score:exact": exact},
        names={**names, "model": ("base", "tuned")},
    )


if __name__ == "__main__":
    main(sys.argv[1:])
