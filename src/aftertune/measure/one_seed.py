"""One training seed: what could be said of the recipe if its seeds were known to differ by so much.

Nothing in one seed's data tells how far another seed would lie off, so these are no findings: each line supposes a
standard deviation between training seeds.
"""

import math

from aftertune.measure.crossed import quantiles
from aftertune.measure.intervals import Bounds
from aftertune.measure.results import Change, IfSeedsVary, Rate

SUPPOSED = (0.02, 0.05, 0.10)
"""Standard deviations between training seeds, as shares."""


def if_seeds_vary(rate: Rate | None, change: Change | None) -> tuple[IfSeedsVary, ...]:
    """Return what the supposed spreads would make of a checkpoint's figures; nothing for several seeds, or without a base."""
    if rate is None or change is None or change.seeds > 1:
        return ()
    return tuple(
        IfSeedsVary(
            seed_sd=sd,
            asr=widened(rate.estimate, (rate.interval.low, rate.interval.high), sd, 0.0),
            asr_change=widened(change.estimate, (change.interval.low, change.interval.high), sd),
        )
        for sd in SUPPOSED
    )


def widened(estimate: float, limits: Bounds, sd: float, least: float = -1.0) -> Bounds:
    """Join a checkpoint's 95 % limits with those of a seed's effect of a known spread, z ``sd`` to either side.

    Args:
        estimate: the rate or the change.
        limits: of the checkpoint.
        sd: standard deviation between training seeds.
        least: the least possible value; the greatest is 1.

    Source: Zou and Donner (2008), Stat Med 27:1693 (MOVER), for the sum of two independent parts.
    """
    own = quantiles(0.05, 1.0)[0] * sd
    low, high = math.hypot(estimate - limits[0], own), math.hypot(limits[1] - estimate, own)
    return max(estimate - low, least), min(estimate + high, 1.0)
