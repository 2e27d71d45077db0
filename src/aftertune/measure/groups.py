"""Exploratory comparisons: conditions grouped by what is declared of their models, and hazards within tasks."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from scipy.special import stdtr, stdtrit

from aftertune.measure.averaging import Layout
from aftertune.measure.consistency_results import Group, GroupContrast, Grouping, HazardChange
from aftertune.measure.curves import Has
from aftertune.measure.measure import ASR
from aftertune.measure.multiplicity import benjamini_hochberg
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.rates import rate_change
from aftertune.measure.results import CorrectedChange

FEWEST_BEHAVIORS = 25
"""Behaviors of a hazard in a task from which on its change is looked at."""


def groupings(measured: Sequence[Has], plan: MeasurePlan) -> Iterator[Grouping]:
    """Yield the overall changes grouped by every attribute that has several values.

    A condition is one draw of its group, whatever its seeds: models of a family differ by more than their seeds. So is a
    series (epochs, rounds or doses of one fine-tune), by its last condition.
    """
    changes = dict(_overall_changes(measured, plan))
    members = {
        each.condition.name: each.condition.attributes
        for each in measured
        if each.condition.name in changes
    }
    found: list[tuple[str, dict[str, list[str]]]] = []
    for attribute in dict.fromkeys(name for values in members.values() for name in values):
        groups: dict[str, list[str]] = {}
        for name, values in members.items():
            if attribute in values:
                groups.setdefault(values[attribute], []).append(name)
        if len(groups) > 1:
            found.append((attribute, groups))
    contrasts = [
        (
            attribute,
            _welch(
                one, other, [[changes[name] for name in groups[value]] for value in (one, other)]
            ),
        )
        for attribute, groups in found
        for one, other in combinations([value for value in groups if len(groups[value]) > 1], 2)
    ]
    adjusted = benjamini_hochberg([contrast.p_value for _, contrast in contrasts])
    for attribute, groups in found:
        yield Grouping(
            attribute=attribute,
            groups=tuple(
                _group(value, names, [changes[name] for name in names])
                for value, names in groups.items()
            ),
            contrasts=tuple(
                replace(contrast, p_adjusted=p)
                for (of, contrast), p in zip(contrasts, adjusted, strict=True)
                if of == attribute
            ),
        )


def _overall_changes(measured: Sequence[Has], plan: MeasurePlan) -> Iterator[tuple[str, float]]:
    last = {
        each.condition.series or each.condition.name: each.condition.name
        for each in sorted(measured, key=lambda each: tuple(each.condition.factors.values()))
    }
    for each in (each for each in measured if each.condition.name in last.values()):
        part = each.own.choose("overall", 0, each.own.intent(harmful=True))
        if each.arms is not None and part is not None:
            yield each.condition.name, rate_change(each.arms, part, ASR, plan.min_cell).estimate


def _group(value: str, names: Sequence[str], changes: Sequence[float]) -> Group:
    return Group(
        value=value,
        conditions=tuple(names),
        change=float(np.mean(changes)),
        lowest=min(changes),
        highest=max(changes),
    )


def _welch(one: str, other: str, changes: Sequence[Sequence[float]]) -> GroupContrast:
    """Return Welch's (1947) comparison of two means; without interval where nothing varies."""
    (mean, variance, size), (mean2, variance2, size2) = (
        (float(np.mean(each)), float(np.var(each, ddof=1)), len(each)) for each in changes
    )
    parts = variance / size, variance2 / size2
    difference, spread = mean - mean2, math.sqrt(sum(parts))
    if spread == 0:
        interval, p = None, 1.0
    else:
        df = spread**4 / (parts[0] ** 2 / (size - 1) + parts[1] ** 2 / (size2 - 1))
        half = float(stdtrit(df, 0.975)) * spread
        interval, p = (
            (difference - half, difference + half),
            2 * float(stdtr(df, -abs(difference) / spread)),
        )
    return GroupContrast(
        one=one, other=other, difference=difference, interval=interval, p_value=p, p_adjusted=p
    )


Corrector = Callable[[Has, Layout], CorrectedChange | None]


def hazards(
    measured: Sequence[Has], plan: MeasurePlan, correct: Corrector
) -> Iterator[HazardChange]:
    """Yield the change in every hazard of every task with enough behaviors; one family for all of a fine-tune.

    Adjusted by Benjamini-Hochberg, and exploratory: it says where to look, not what is so.

    Args:
        measured: the fine-tunes.
        plan: declares the family, or none.
        correct: finds what people's labels make of a change; None without labels.
    """
    if "hazard within task" not in plan.families:
        return
    for each in measured:
        if each.arms is None:
            continue
        found = list(_hazards(each, plan, correct))
        adjusted = benjamini_hochberg([one.change.p_value for one in found])
        for one, p in zip(found, adjusted, strict=True):
            how = "Benjamini-Hochberg over hazards within tasks, exploratory"
            yield replace(one, change=replace(one.change, p_adjusted=p, adjustment=how))


def _hazards(each: Has, plan: MeasurePlan, correct: Corrector) -> Iterator[HazardChange]:
    own, among = each.own, each.own.intent(harmful=True)
    tasks, names = own.attribute("task"), own.cells.names
    for task in np.unique(tasks[among]).tolist():
        of_task = among & (tasks == task)
        for hazard in np.unique(own.attribute("hazard")[of_task]).tolist():
            part = own.choose("hazard", hazard, of_task)
            if each.arms is not None and part is not None and part.behaviors >= FEWEST_BEHAVIORS:
                yield HazardChange(
                    condition=each.condition.name,
                    task=names["task"][task],
                    hazard=names["hazard"][hazard],
                    change=rate_change(each.arms, part, ASR, plan.min_cell),
                    corrected=correct(each, part),
                )
