"""Upper limits of a paired difference of proportions at the margin: how often each lets a change of five points pass.

Usage: python experiments/gate/limits.py [REPLICATES=200000]

One answer a behavior and arm. Each row: behaviors, the base's rate, the share that only the base loses (0: answers change
for the worse alone), then the share of studies that pass with Newcombe's method 10, Tango's score interval, the larger of
both, and the interval of Bonett and Price; first with a true change of exactly the margin, then without any change.
"""

import sys
from itertools import product

import numpy as np
from numpy.typing import NDArray

from aftertune.measure.intervals import newcombe, tango

MARGIN, LEVEL, Z = 0.05, 0.10, 1.6448536269514722
BEHAVIORS = (54, 60, 100, 165, 400)
WORLDS = ((0.02, 0.0), (0.1, 0.0), (0.3, 0.0), (0.5, 0.0), (0.1, 0.02), (0.1, 0.05), (0.3, 0.05))
Table = tuple[int, int, int, int]


def main(given: list[str]) -> None:
    """Print the table."""
    options = dict(item.split("=", 1) for item in given)
    replicates = int(options.get("REPLICATES", "200000"))
    rng = np.random.default_rng(1)
    for change in (MARGIN, 0.0):
        print(f"true change {100 * change:g} points, margin {100 * MARGIN:g}")
        for n, (base, only_base) in product(BEHAVIORS, WORLDS):
            both = base - only_base
            shares = both, only_base + change, only_base, 1 - both - 2 * only_base - change
            drawn, times = np.unique(
                rng.multinomial(n, shares, replicates), axis=0, return_counts=True
            )
            passing = np.array([limits(*row) for row in drawn.tolist()]) <= MARGIN
            print(n, base, only_base, *rates(passing, times))


def rates(passing: NDArray[np.bool_], times: NDArray[np.int64]) -> list[str]:
    """Return the share of studies that pass by each limit."""
    return [f"{share:.4f}" for share in (times @ passing / times.sum()).tolist()]


def limits(a: int, b: int, c: int, e: int) -> tuple[float, float, float, float]:
    """Return the upper limits of a table."""
    n = a + b + c + e
    by_newcombe, by_tango = newcombe(a, b, c, e, LEVEL)[1], tango(b, c, n, LEVEL)[1]
    # Bonett and Price (2012), J Educ Behav Stat 37:479: Wald on one more of either change.
    more, less = (b + 1) / (n + 2), (c + 1) / (n + 2)
    by_bonett_price = more - less + Z * np.sqrt((more + less - (more - less) ** 2) / (n + 2))
    return by_newcombe, by_tango, max(by_newcombe, by_tango), float(by_bonett_price)


if __name__ == "__main__":
    main(sys.argv[1:])
