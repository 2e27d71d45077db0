"""Win-rates: how often an answer of a fine-tune is better than its base's, to the same benign prompt.

Every pair is shown in both orders; won in one order and lost in the other is half won, like a tie. What a comparer did
not decide counts half as well, and the bounds say what it could come to.
"""

import numpy as np

from aftertune.measure.averaging import Layout, fold
from aftertune.measure.contrasts import MeanT, p_value
from aftertune.measure.grids import Grid, breakdown
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.results import Breakdown, Interval, WinRate, scope

EVEN = 0.5
LOW, HIGH, UNDECIDED = "0", "1", "2"
"""Places of a comparison's counts (`core.counts.WINS`)."""


def win_rates(own: Grid, comparer: str, plan: MeasurePlan) -> Breakdown[WinRate]:
    """Return a comparer's win-rate over the benign prompts with a comparison under every seed."""
    compared = own.intent(harmful=False) & (own.counts((f"score:{comparer}", "n")) > 0).all(axis=1)
    return breakdown(
        own, compared, lambda part: _rate(own, part, comparer, plan.min_cell), ("task", "set")
    )


def _rate(own: Grid, part: Layout, comparer: str, min_cell: int) -> WinRate:
    count = own.counts((f"score:{comparer}", "n"))
    average = fold(part, own.counts((f"score:{comparer}", "sum")), count)
    contrast = MeanT(x=average.two_way)
    low, high = contrast.interval(0.05)
    group = f"said:{comparer}"
    least, most = (
        fold(part, own.counts((group, place)), count).two_way.mean for place in (LOW, HIGH)
    )
    return WinRate(
        estimate=average.two_way.mean,
        n=average.n,
        undecided=round(float(np.sum(own.counts((group, UNDECIDED))[part.order]))),
        behaviors=part.behaviors,
        seeds=own.seeds,
        interval=Interval(
            low=max(low, 0.0),
            high=min(high, 1.0),
            level=0.95,
            method=contrast.method,
            scope=scope(own.seeds),
        ),
        bounds=(least, most),
        p_value=p_value(contrast, EVEN),
        hidden=part.behaviors < min_cell,
    )
