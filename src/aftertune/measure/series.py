"""Comparisons across the conditions of a study: curves along epochs, rounds and doses, groups of models, hazards within tasks.

Groups and hazards are exploratory: they say where to look, not what is so.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from aftertune.measure.arrays import Layout, breakdown
from aftertune.measure.changes import rate_change
from aftertune.measure.consistency_results import (
    Curve,
    Group,
    GroupContrast,
    Grouping,
    HazardChange,
    Point,
)
from aftertune.measure.counts import Source, SourceKind
from aftertune.measure.intervals import benjamini_hochberg
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.pooling import PooledCondition
from aftertune.measure.rates import ASR, OVER_REFUSAL, rate, score
from aftertune.measure.results import Change, CorrectedChange

OVER_HAZARDS = "Benjamini-Hochberg over hazards within tasks, exploratory"
FEWEST_BEHAVIORS = 25
"""Behaviors of a hazard in a task from which on its change is measured."""


def curves(conditions: Sequence[PooledCondition], plan: MeasurePlan) -> Iterator[Curve]:
    """Yield a curve for every series, its points in the order of its factors, starting from the base."""
    by_series: dict[str, list[PooledCondition]] = {}
    for pooled in conditions:
        if pooled.condition.series:
            by_series.setdefault(pooled.condition.series, []).append(pooled)
    by_name = {pooled.condition.name: pooled for pooled in conditions}
    for series, members in by_series.items():
        ordered = sorted(members, key=_place)
        base = by_name.get(ordered[0].condition.base or "")
        yield Curve(
            series=series,
            axes=tuple(ordered[0].condition.factors),
            start=None if base is None else _point(base, plan),
            points=tuple(_point(pooled, plan) for pooled in ordered),
        )


def _place(pooled: PooledCondition) -> tuple[float, ...]:
    return tuple(pooled.condition.factors.values())


def _point(pooled: PooledCondition, plan: MeasurePlan) -> Point:
    own, harmful = pooled.own, pooled.own.intent(harmful=True)
    rates = breakdown(own, harmful, lambda part: rate(own, part, ASR, plan.min_cell), ("task",))
    assert rates.overall is not None, "a measured condition was asked harmful prompts"
    benign = own.choose("overall", 0, own.intent(harmful=False))
    sources = {scorer: Source(SourceKind.SCORE, scorer) for scorer in plan.metrics}
    return Point(
        condition=pooled.condition.name,
        factors=pooled.condition.factors,
        asr=rates.overall,
        asr_by_task=rates.by_task,
        over_refusal=None if benign is None else rate(own, benign, OVER_REFUSAL, plan.min_cell),
        scores={
            scorer: score(own, part, source, plan.min_cell).estimate
            for scorer, source in sources.items()
            if (part := own.choose("overall", 0, own.scored(source, harmful=False))) is not None
        },
        change=_overall_change(pooled, plan),
    )


def _overall_change(pooled: PooledCondition, plan: MeasurePlan) -> Change | None:
    part = pooled.own.choose("overall", 0, pooled.own.intent(harmful=True))
    if pooled.arms is None or part is None:
        return None
    return rate_change(pooled.arms, part, ASR, plan.min_cell)


def groupings(conditions: Sequence[PooledCondition], plan: MeasurePlan) -> Iterator[Grouping]:
    """Yield the overall changes grouped by every attribute that has several values.

    A condition is one draw of its group, whatever its seeds: models of a family differ by more than their seeds. So is a
    series (epochs, rounds or doses of one fine-tune), by its last condition.
    """
    last = {
        pooled.condition.series or pooled.condition.name: pooled.condition.name
        for pooled in sorted(conditions, key=_place)
    }
    changes: dict[str, float] = {}
    members: dict[str, dict[str, list[str]]] = {}
    for pooled in conditions:
        condition = pooled.condition
        change = _overall_change(pooled, plan) if condition.name in last.values() else None
        if change is None:
            continue
        changes[condition.name] = change.estimate
        for attribute, value in condition.attributes.items():
            members.setdefault(attribute, {}).setdefault(value, []).append(condition.name)
    several = {name: groups for name, groups in members.items() if len(groups) > 1}
    contrasts = [
        (
            attribute,
            _welch(pair, *([changes[name] for name in groups[value]] for value in pair)),
        )
        for attribute, groups in several.items()
        for pair in combinations([value for value in groups if len(groups[value]) > 1], 2)
    ]
    adjusted = benjamini_hochberg([contrast.p_value for _, contrast in contrasts])
    for attribute, groups in several.items():
        yield Grouping(
            attribute=attribute,
            groups=tuple(
                Group(
                    value=value,
                    conditions=tuple(names),
                    change=float(np.mean([changes[name] for name in names])),
                    lowest=min(changes[name] for name in names),
                    highest=max(changes[name] for name in names),
                )
                for value, names in groups.items()
            ),
            contrasts=tuple(
                replace(contrast, p_adjusted=p)
                for (name, contrast), p in zip(contrasts, adjusted, strict=True)
                if name == attribute
            ),
        )


def _welch(
    values: tuple[str, str], first: Sequence[float], second: Sequence[float]
) -> GroupContrast:
    """Return the comparison of two means with unequal variances (Welch 1947, Biometrika 34:28)."""
    from scipy.stats import ttest_ind

    interval, p = None, 1.0
    if np.ptp(first) > 0 or np.ptp(second) > 0:  # otherwise nothing varies, and t is not defined
        test = ttest_ind(first, second, equal_var=False)
        limits = test.confidence_interval(0.95)
        interval, p = (float(limits.low), float(limits.high)), float(test.pvalue)
    return GroupContrast(
        first=values[0],
        second=values[1],
        difference=float(np.mean(first) - np.mean(second)),
        interval=interval,
        p_value=p,
        p_adjusted=p,
    )


Corrector = Callable[[PooledCondition, Layout], CorrectedChange | None]


def hazards(
    conditions: Sequence[PooledCondition], plan: MeasurePlan, correct: Corrector
) -> Iterator[HazardChange]:
    """Yield the change in every hazard of every task with enough behaviors, if the plan declares that family.

    All of a fine-tune are one family, adjusted by Benjamini-Hochberg.

    Args:
        conditions: bases are passed over.
        plan: declares the families.
        correct: returns what annotators' labels make of a change; None without labels.
    """
    if "hazard within task" not in plan.families:
        return
    for pooled in conditions:
        changes = list(_hazards(pooled, plan, correct))
        adjusted = benjamini_hochberg([hazard.change.p_value for hazard in changes])
        for hazard, p in zip(changes, adjusted, strict=True):
            change = replace(hazard.change, p_adjusted=p, adjustment=OVER_HAZARDS)
            yield replace(hazard, change=change)


def _hazards(
    pooled: PooledCondition, plan: MeasurePlan, correct: Corrector
) -> Iterator[HazardChange]:
    own, arms = pooled.own, pooled.arms
    if arms is None:
        return
    harmful, tasks, names = own.intent(harmful=True), own.attribute("task"), own.counted.names
    for task in np.unique(tasks[harmful]).tolist():
        of_task = harmful & (tasks == task)
        for hazard in np.unique(own.attribute("hazard")[of_task]).tolist():
            part = own.choose("hazard", hazard, of_task)
            if part is not None and part.behaviors >= FEWEST_BEHAVIORS:
                yield HazardChange(
                    condition=pooled.condition.name,
                    task=names["task"][task],
                    hazard=names["hazard"][hazard],
                    change=rate_change(arms, part, ASR, plan.min_cell),
                    corrected=correct(pooled, part),
                )
