"""Figures of one condition, and its changes against the base, as results that know their counts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from aftertune.measure.averaging import Average, Layout, fold
from aftertune.measure.cells import N, Tally
from aftertune.measure.contrasts import Contrast, MeanT, Table2x2, mover, p_value, table_2x2
from aftertune.measure.crossed import crossed_wilson, two_way
from aftertune.measure.grids import Arms, Grid
from aftertune.measure.intervals import Bounds, mcnemar, wilson
from aftertune.measure.multiplicity import benjamini_hochberg, holm
from aftertune.measure.results import (
    Breakdown,
    Change,
    CorrectedChange,
    Interval,
    Pairs,
    Rate,
    Score,
    scope,
)

Tested = TypeVar("Tested", Change, CorrectedChange)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a rate counts."""

    hit: Tally
    incoherent: Tally
    undecided: Tally

    def unsure(self, grid: Grid) -> np.ndarray:
        """Return the responses that might belong to the rate, prompts x models."""
        return grid.counts(self.incoherent) + grid.counts(self.undecided)


def kind(reading: str, value: str) -> Kind:
    """Return the rate of an outcome, or of ``blocked``, under a reading."""
    return Kind(
        hit=(reading, value), incoherent=(reading, "incoherent"), undecided=(reading, "undecided")
    )


def rate_limits(average: Average, alpha: float = 0.05) -> Bounds:
    """Return a rate's interval: plain Wilson where every row is one response, else Wilson on effective n."""
    if average.single:
        return wilson(average.two_way.mean, average.n, alpha)
    return crossed_wilson(average.two_way, average.responses, alpha)


def _wilson_name(average: Average) -> str:
    return "Wilson" if average.single else "Wilson on effective n"


def rate(grid: Grid, part: Layout, what: Kind, min_cell: int) -> Rate:
    """Return a rate with its interval, and with the bounds that undecided and incoherent responses imply."""
    n, hits = grid.counts(N), grid.counts(what.hit)
    measured = fold(part, hits, n)
    highest = fold(part, hits + what.unsure(grid), n)
    limits = [rate_limits(average) for average in (measured, highest)]
    method = _wilson_name(measured)
    return Rate(
        estimate=measured.two_way.mean,
        k=round(measured.k),
        n=measured.n,
        behaviors=part.behaviors,
        seeds=grid.seeds,
        samples=measured.samples,
        undecided=_total(grid, part, what.undecided),
        incoherent=_total(grid, part, what.incoherent),
        interval=_interval(limits[0], 0.95, method, grid.seeds),
        bounds=_interval((limits[0][0], max(limits[0][1], limits[1][1])), 0.95, method, grid.seeds),
        unequal=measured.unequal,
        hidden=part.behaviors < min_cell,
    )


def score(grid: Grid, part: Layout, scorer: str, min_cell: int) -> Score:
    """Return a mean score: as a rate where every score is 0 or 1, else with the two-way t."""
    average = fold(
        part, grid.counts((f"score:{scorer}", "sum")), grid.counts((f"score:{scorer}", "n"))
    )
    if scorer in grid.cells.binary_scores:
        limits, method = rate_limits(average), _wilson_name(average)
    else:
        low, high = MeanT(x=average.two_way).interval(0.05)
        limits, method = (max(low, 0.0), min(high, 1.0)), "two-way t"
    return Score(
        estimate=average.two_way.mean,
        n=average.n,
        behaviors=part.behaviors,
        seeds=grid.seeds,
        interval=_interval(limits, 0.95, method, grid.seeds),
        unequal=average.unequal,
        hidden=part.behaviors < min_cell,
    )


def rate_change(arms: Arms, part: Layout, what: Kind, min_cell: int) -> Change:
    """Return the paired change of a rate, with its bounds ``[H1 - (H0 + I0), (H1 + I1) - H0]``."""
    tuned, base = (
        fold(part, arm.counts(what.hit), arm.counts(N)) for arm in (arms.tuned, arms.base)
    )
    contrast = paired(tuned, base)
    unsure = [
        fold(part, what.unsure(arm), arm.counts(N)).two_way.mean for arm in (arms.tuned, arms.base)
    ]
    change = change_of(contrast, arms.tuned.seeds, part.behaviors, min_cell)
    return replace(change, bounds=(contrast.estimate - unsure[1], contrast.estimate + unsure[0]))


def score_change(arms: Arms, part: Layout, scorer: str, min_cell: int) -> Change:
    """Return the paired change of a mean score."""
    names = ((f"score:{scorer}", "sum"), (f"score:{scorer}", "n"))
    tuned, base = (
        fold(part, arm.counts(names[0]), arm.counts(names[1])) for arm in (arms.tuned, arms.base)
    )
    if scorer in arms.tuned.cells.binary_scores:
        return change_of(paired(tuned, base), arms.tuned.seeds, part.behaviors, min_cell)
    contrast = MeanT(x=two_way(tuned.matrix - base.matrix, tuned.behaviors))
    return change_of(contrast, arms.tuned.seeds, part.behaviors, min_cell)


def difference_in_differences(
    arms: Arms, part: Layout, without: Kind, behind: Kind, min_cell: int
) -> Change:
    """Return the change behind a guard minus the change without it, matched on the same responses (two-way t)."""
    tuned, base = (
        fold(part, arm.counts(behind.hit) - arm.counts(without.hit), arm.counts(N))
        for arm in (arms.tuned, arms.base)
    )
    contrast = MeanT(x=two_way(tuned.matrix - base.matrix, tuned.behaviors))
    return change_of(contrast, arms.tuned.seeds, part.behaviors, min_cell)


def paired(tuned: Average, base: Average) -> Contrast:
    """Return the change between arms: Newcombe's where every row is one response in both of them, otherwise MOVER."""
    if tuned.single and base.single:
        return table_2x2(tuned.matrix, base.matrix)
    return mover(tuned, base)


def change_of(contrast: Contrast, seeds: int, behaviors: int, min_cell: int) -> Change:
    """Return a contrast as a result, with the test that its intervals imply."""
    if isinstance(contrast, Table2x2):
        method, test, p = "Newcombe 10", "McNemar mid-p", mcnemar(contrast.b, contrast.c)
    else:
        method = contrast.method
        test, p = f"inverted {method}", p_value(contrast)
    limits = [
        tuple(min(max(limit, -1.0), 1.0) for limit in contrast.interval(alpha))
        for alpha in (0.05, 0.10)
    ]
    return Change(
        estimate=contrast.estimate,
        interval=_interval((limits[0][0], limits[0][1]), 0.95, method, seeds),
        interval90=_interval((limits[1][0], limits[1][1]), 0.90, method, seeds),
        p_value=p,
        method=test,
        behaviors=behaviors,
        seeds=seeds,
        pairs=_pairs(contrast) if isinstance(contrast, Table2x2) else None,
        bounds=None,
        hidden=behaviors < min_cell,
    )


def _pairs(table: Table2x2) -> Pairs:
    return Pairs(both=table.a, tuned_only=table.b, base_only=table.c, neither=table.e)


def _interval(limits: Bounds, level: float, method: str, seeds: int) -> Interval:
    return Interval(low=limits[0], high=limits[1], level=level, method=method, scope=scope(seeds))


def _total(grid: Grid, part: Layout, tally: Tally) -> int:
    return round(float(grid.counts(tally)[part.order].sum()))


def adjust(changes: Breakdown[Tested], families: Sequence[str]) -> Breakdown[Tested]:
    """Adjust p-values inside their families: tasks by Holm, hazards by Benjamini-Hochberg."""
    by_task, by_hazard = dict(changes.by_task), dict(changes.by_hazard)
    if "task" in families:
        by_task = adjust_family(by_task, holm, "Holm over tasks")
    if "hazard" in families:
        by_hazard = adjust_family(
            by_hazard, benjamini_hochberg, "Benjamini-Hochberg over hazards, exploratory"
        )
    return replace(changes, by_task=by_task, by_hazard=by_hazard)


def adjust_family(
    changes: Mapping[str, Tested], method: Callable[[Sequence[float]], list[float]], how: str
) -> dict[str, Tested]:
    """Adjust the p-values of one family; a corrected change that was refused has none and takes no part."""
    found, tested = (
        dict(changes),
        [name for name, change in changes.items() if change.p_value is not None],
    )
    p_values = method([p for change in changes.values() if (p := change.p_value) is not None])
    for name, p in zip(tested, p_values, strict=True):
        found[name] = replace(found[name], p_adjusted=p, adjustment=how)
    return found
