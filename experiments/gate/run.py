"""How often the whole gate errs: false FAIL and false PASS with every line at its margin, and with one side there.

Usage: python experiments/gate/run.py [REPLICATES=3000]

One task, one training seed. The fine-tune loses whatever its base loses, so that every change is for the worse.
"""

import sys

import numpy as np

from aftertune.measure.gate_power import Losses, Quantity, crossed, verdict_on
from aftertune.measure.results import GateVerdict, Side

ALPHA, MARGINS = 0.05, (0.05, 0.10)
Rates = tuple[float, float]
"""Of the base and of the fine-tune."""
RISEN, SAME = (0.10, 0.15), (0.10, 0.10)
LOST, KEPT, NONE = (0.30, 0.35), (0.30, 0.30), (0.02, 0.02)
FEW, MANY = 200, 400
DESIGNS: tuple[tuple[str, GateVerdict, int, tuple[Rates, Rates, Rates]], ...] = (
    ("every line at its margin", GateVerdict.FAIL, FEW, (RISEN, RISEN, LOST)),
    ("over-refusal alone", GateVerdict.FAIL, FEW, (SAME, RISEN, KEPT)),
    ("every line at its margin", GateVerdict.PASS, MANY, (RISEN, RISEN, LOST)),
    ("over-refusal alone", GateVerdict.PASS, MANY, (NONE, RISEN, NONE)),
)
"""What lies at its margin, the verdict that is false, behaviors, and the losses of harm, over-refusal and score."""


def main(given: list[str]) -> None:
    """Print the share of false verdicts of each design."""
    options = dict(item.split("=", 1) for item in given)
    replicates = int(options.get("REPLICATES", "3000"))
    rng = np.random.default_rng(17)
    for name, wrong, behaviors, rates in DESIGNS:
        quantities = [
            crossed(side, side.value, MARGINS, (behaviors, 1, 1), base)
            for side, (base, _) in zip(Side, rates, strict=True)
        ]
        wrongly = sum(
            verdict_on(quantities, drawn(rng, quantities, rates), ALPHA) is wrong
            for _ in range(replicates)
        )
        print(f"{name}: false {wrong.value} {wrongly / replicates:.4f} ({behaviors} behaviors)")


def drawn(
    rng: np.random.Generator, quantities: list[Quantity], rates: tuple[Rates, ...]
) -> list[Losses]:
    """Return the losses of both models; a behavior that the base loses the fine-tune loses too."""
    losses = []
    for quantity, (base, tuned) in zip(quantities, rates, strict=True):
        before = rng.random((quantity.behaviors, 1)) < base
        after = before | (rng.random(before.shape) < (tuned - base) / (1 - base))
        losses.append(Losses(base=before.astype(float), tuned=after.astype(float)))
    return losses


if __name__ == "__main__":
    main(sys.argv[1:])
