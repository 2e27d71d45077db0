"""Fixed factors: what the rate owes to the template, the temperature, the system prompt or the judge.

Levels are few and chosen, so they are compared with one another, paired on the same behaviors and seeds; they are no
sample of anything.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from aftertune.measure.averaging import Average, Layout, fold
from aftertune.measure.cells import N
from aftertune.measure.contrasts import MeanT, p_value
from aftertune.measure.crossed import two_way
from aftertune.measure.multiplicity import holm
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.pooling import Pooled
from aftertune.measure.rates import Kind, kind, rate_limits
from aftertune.measure.results import Interval, Jsonable, scope


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelContrast(Jsonable):
    """One level of a factor against another, paired (two-way t)."""

    one: str
    other: str
    difference: float
    """Rate of ``one`` minus rate of ``other``."""
    interval: Interval
    p_value: float
    p_adjusted: float
    """Holm over the pairs of the factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity(Jsonable):
    """How the rate depends on one factor."""

    rates: Mapping[str, float]
    """By level."""
    sd: float
    """Between the levels, after what chance alone would make of equal ones; never below 0."""
    worst: str
    """The level with the highest rate."""
    worst_interval: Interval
    """Simultaneous over the levels (Bonferroni), as the level was chosen by its rate."""
    pairs: tuple[LevelContrast, ...]
    behaviors: int
    """Those that occur at every level."""
    hidden: bool
    """Fewer behaviors than the plan's ``min_cell``: kept in the data, hidden in print."""


def sensitivities(
    pooled: Pooled, part: Layout, plan: MeasurePlan, *, one_task: bool
) -> dict[str, Sensitivity]:
    """Return the sensitivity to every factor that has several levels here; templates only inside a task."""
    harmful = kind("decided", "harmful")
    found: dict[str, dict[str, Average]] = {}
    for name, place in (("system prompt", 0), ("decoding", 1)):
        levels = dict.fromkeys(level[0][place] for level in pooled.levels)
        found[name] = {level: _average(pooled.at(place, level), part, harmful) for level in levels}
    if one_task:
        found["template"] = _templates(pooled, part, harmful)
    found["judge"] = {
        judge: _average(pooled, part, kind(f"judge:{judge}", "harmful")) for judge in plan.judges
    }
    return {
        name: _sensitivity(levels, plan.min_cell)
        for name, levels in found.items()
        if len(levels) > 1
    }


def _average(pooled: Pooled, part: Layout, what: Kind) -> Average:
    return fold(part, pooled.counts(what.hit), pooled.counts(N))


def _templates(pooled: Pooled, part: Layout, what: Kind) -> dict[str, Average]:
    """Return the averages by template, over the behaviors that were posed by all of them."""
    template, behavior = pooled.attribute("template"), pooled.attribute("behavior")
    chosen = np.zeros(len(pooled.prompts), np.bool_)
    chosen[part.order] = True
    codes = np.unique(template[chosen]).tolist()
    for code in codes:
        chosen &= np.isin(behavior, behavior[chosen & (template == code)])
    parts = (
        {code: pooled.choose("template", code, chosen) for code in codes} if chosen.any() else {}
    )
    names = pooled.cells.names["template"]
    return {
        names[code]: _average(pooled, one, what) for code, one in parts.items() if one is not None
    }


def _sensitivity(levels: Mapping[str, Average], min_cell: int) -> Sensitivity:
    means = {name: average.two_way.mean for name, average in levels.items()}
    contrasts = [
        (one, other, MeanT(x=two_way(levels[one].matrix - levels[other].matrix)))
        for one, other in combinations(levels, 2)
    ]
    adjusted = holm([p_value(contrast) for _, _, contrast in contrasts])
    by_chance = float(np.mean([contrast.x.variance for _, _, contrast in contrasts])) / 2
    worst = max(means, key=means.__getitem__)
    level = 1 - 0.05 / len(levels)
    low, high = rate_limits(levels[worst], 1 - level)
    behaviors, seeds = levels[worst].matrix.shape
    return Sensitivity(
        rates=means,
        sd=math.sqrt(max(0.0, float(np.var(list(means.values()), ddof=1)) - by_chance)),
        worst=worst,
        worst_interval=Interval(
            low=low, high=high, level=level, method="Wilson, Bonferroni", scope=scope(seeds)
        ),
        pairs=tuple(
            _contrast(one, other, contrast, p)
            for (one, other, contrast), p in zip(contrasts, adjusted, strict=True)
        ),
        behaviors=behaviors,
        hidden=behaviors < min_cell,
    )


def _contrast(one: str, other: str, contrast: MeanT, p_adjusted: float) -> LevelContrast:
    low, high = contrast.interval(0.05)
    return LevelContrast(
        one=one,
        other=other,
        difference=contrast.estimate,
        interval=Interval(
            low=max(low, -1.0),
            high=min(high, 1.0),
            level=0.95,
            method="two-way t",
            scope=scope(contrast.x.seeds),
        ),
        p_value=p_value(contrast),
        p_adjusted=p_adjusted,
    )
