"""A limit that fell as harm rose would pass a worse model: limits must move with the hits."""

import numpy as np
import pytest

from aftertune.measure.contrasts import Mover
from aftertune.measure.crossed import cautious_wilson, two_way


def spread(hits, behaviors, seeds, responses):
    """Cell means of behaviors x seeds with so many hits, dealt one to a cell before any cell gets a second."""
    cells = np.zeros(behaviors * seeds)
    for hit in range(hits):
        cells[hit % len(cells)] += 1 / responses
    return cells.reshape(seeds, behaviors).T


@pytest.mark.parametrize(
    ("behaviors", "seeds", "responses"),
    [(38, 1, 3), (38, 3, 3), (38, 1, 12), (24, 1, 12), (24, 2, 3), (60, 3, 1)],
)
@pytest.mark.parametrize("alpha", [0.05, 0.10])
def test_the_limits_rise_with_the_hits(behaviors, seeds, responses, alpha):
    total = behaviors * seeds * responses
    limits = [
        cautious_wilson(two_way(spread(hits, behaviors, seeds, responses)), total, alpha)
        for hits in [0, 1, 2, 3, 4, 6, 8, 12, total - 2, total - 1, total]
    ]
    lows, highs = zip(*limits, strict=True)
    assert highs[0] <= min(highs)
    assert lows[-1] >= max(lows)
    assert all(low <= high for low, high in limits)


def test_one_stray_hit_does_not_lower_the_upper_limit_of_a_change():
    """Found in use: 0 of 456 against a spotless base was open (+7.0 points), 4 of 456 passed (+2.7)."""
    base = two_way(spread(0, 38, 1, 12))

    def upper(hits):
        tuned = two_way(spread(hits, 38, 1, 12))
        return Mover(
            tuned=tuned, base=base, r=0.0, tuned_responses=456, base_responses=456
        ).ceiling(0.10)

    assert upper(0) <= upper(1) + 1e-12
    assert upper(1) <= upper(4) + 1e-12
