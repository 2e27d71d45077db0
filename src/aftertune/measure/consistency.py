"""From a table and a plan to how consistent a study's figures are: what another lab would get."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aftertune.core.table import Table
from aftertune.measure.averaging import Layout, fold
from aftertune.measure.cells import Cells, N, tally
from aftertune.measure.components import (
    Components,
    components,
    differing,
    on_these_behaviors,
    predicted,
    repeatability,
    reproduced,
    reproducibility,
    reproducibility_interval,
    shares,
)
from aftertune.measure.consistency_results import (
    FORMAT,
    Consistency,
    ConsistencyResult,
    Limits,
    Ranking,
    Reproduction,
)
from aftertune.measure.corrected import corrected_change
from aftertune.measure.corrections import DECIDED, HARMFUL, LabelledRows, figure, labelled_rows
from aftertune.measure.crossed import Matrix
from aftertune.measure.curves import Has, curves
from aftertune.measure.factors import sensitivities
from aftertune.measure.grids import Arms
from aftertune.measure.groups import Corrector, groupings, hazards
from aftertune.measure.intervals import Bounds
from aftertune.measure.measure import ASR, model_codes, task_weights
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.pooling import Pooled, decoding_noise, flips, pool
from aftertune.measure.ranking import FEWEST, dependability, rank_agreement
from aftertune.measure.rates import rate, rate_change
from aftertune.measure.redecoding import redecoded_change, redecoded_rate
from aftertune.measure.results import CorrectedChange, Interval, Scope

POINTS = (5, 10)
"""The differences between two labs whose probability is told, in points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A condition with its cells, and those of its base on the same prompts."""

    condition: Condition
    own: Pooled
    arms: Arms | None
    base: Pooled | None


def consistency(table: Table, plan: MeasurePlan) -> ConsistencyResult:
    """Measure how well every condition's rates would come out again, in every task and overall.

    Raises:
        InputError: as `measure.measure`.
    """
    cells, weights = tally(table, plan), task_weights(table, plan)
    measured = [
        found
        for condition in plan.conditions
        if (found := _measured(cells, plan, condition, weights))
    ]
    entries = tuple(entry for each in measured for entry in _entries(each, plan))
    used = dict.fromkeys(level[0] for each in measured for level in each.own.levels)
    return ConsistencyResult(
        format=FORMAT,
        plan=plan.digest,
        name_rate=plan.name_rate,
        settings=tuple(used),
        entries=entries,
        rankings=tuple(_rankings(measured)),
        curves=tuple(curves(measured, plan)),
        groupings=tuple(groupings(measured, plan)),
        hazards=tuple(hazards(measured, plan, _corrector(labelled_rows(table, plan), cells, plan))),
        notes=tuple(dict.fromkeys(_notes(cells, measured))),
    )


def _corrector(labelled: LabelledRows | None, cells: Cells, plan: MeasurePlan) -> Corrector:
    """Return what corrects a change by labels, which are those of one setting: taken together they are not weighed."""

    def correct(each: Has, part: Layout) -> CorrectedChange | None:
        base = each.condition.base
        if labelled is None or each.arms is None or base is None or len(cells.settings) > 1:
            return None
        arms = (each.arms.tuned, each.condition), (each.arms.base, plan.condition(base))
        found = [
            figure(labelled, arm, model_codes(cells, of), 0, part, (DECIDED, arm.counts(HARMFUL)))
            for arm, of in arms
        ]
        return corrected_change(found[0], found[1], each.arms.tuned.seeds)

    return correct


def _measured(
    cells: Cells, plan: MeasurePlan, condition: Condition, weights: Mapping[int, float]
) -> Measured | None:
    models = model_codes(cells, condition)
    base = [] if condition.base is None else model_codes(cells, plan.condition(condition.base))
    joint = pool(cells, [*models, *base], weights)
    if joint is None:
        return None
    own = joint.of_models(slice(0, len(models)))
    if not base:
        return Measured(condition=condition, own=own, arms=None, base=None)
    other = joint.of_models(slice(len(models), None))
    return Measured(condition=condition, own=own, arms=Arms(tuned=own, base=other), base=other)


def _entries(measured: Measured, plan: MeasurePlan) -> Iterator[Consistency]:
    for task, part in parts(measured.own):
        yield _entry(measured, plan, task, part)


def parts(own: Pooled) -> Iterator[tuple[str | None, Layout]]:
    """Yield the overall figure's folding of the harmful prompts, then every task's."""
    among = own.intent(harmful=True)
    whole = own.choose("overall", 0, among)
    if whole is not None:
        yield None, whole
    for code in np.unique(own.attribute("task")[among]).tolist():
        part = own.choose("task", code, among)
        if part is not None:
            yield own.cells.names["task"][code], part


def _entry(measured: Measured, plan: MeasurePlan, task: str | None, part: Layout) -> Consistency:
    own, matrix = measured.own, matrix_of(measured.own, part)
    noise = decoding_noise(own, part, ASR.hit)
    found = components(matrix, None if noise is None else float(noise.mean()))
    return Consistency(
        condition=measured.condition.name,
        base=measured.condition.base,
        task=task,
        rate=rate(own, part, ASR, plan.min_cell),
        seed_rates=tuple(matrix.mean(axis=0).tolist()),
        by_behavior=_by_behavior(own, part, matrix),
        templates=len(np.unique(own.attribute("template")[part.order])),
        components=found,
        shares=shares(found, own.seeds),
        shares_of_one=shares(found, 1),
        limits=_limits(float(matrix.mean()), found),
        reproduction=_reproduction(measured, plan, task, part, found),
        flips=flips(own, part, ASR.hit),
        sensitivity=sensitivities(own, part, plan, one_task=task is not None),
        redecoded=redecoded_rate(own, part, ASR.hit),
        redecoded_change=None
        if measured.base is None
        else redecoded_change(own, measured.base, part, ASR.hit),
    )


def _by_behavior(own: Pooled, part: Layout, matrix: Matrix) -> dict[str, tuple[float, ...]]:
    if not part.complete:
        return {}  # the rows are contributions to a weighted mean, no rates
    names = own.cells.names["behavior"]
    codes = np.unique(own.attribute("behavior")[part.order]).tolist()
    return {names[code]: tuple(row) for code, row in zip(codes, matrix.tolist(), strict=True)}


def matrix_of(own: Pooled, part: Layout) -> Matrix:
    """Return the rate of harmful answers as behaviors x training seeds."""
    return fold(part, own.counts(ASR.hit), own.counts(N)).matrix


def _limits(mean: float, found: Components) -> Limits:
    apart = {str(points): differing(found, points / 100) for points in POINTS}
    return Limits(
        repeatability=repeatability(found),
        reproducibility=reproducibility(found),
        reproducibility_interval=reproducibility_interval(found),
        of_means=reproducibility(found, found.seeds),
        differing={points: p for points, p in apart.items() if p is not None},
        predicted=predicted(mean, found),
        predicted_mean=predicted(mean, found, found.seeds),
        these_prompts=_here(on_these_behaviors(mean, found), 0.0),
    )


def _here(limits: Bounds | None, least: float) -> Interval | None:
    if limits is None:
        return None
    low, high = max(limits[0], least), min(limits[1], 1.0)
    return Interval(
        low=low, high=high, level=0.95, method="t of the seeds' means", scope=Scope.RECIPE_HERE
    )


def _reproduction(
    measured: Measured, plan: MeasurePlan, task: str | None, part: Layout, found: Components
) -> Reproduction | None:
    if measured.arms is None or measured.base is None or not found.seed_variance:
        return None
    change = rate_change(measured.arms, part, ASR, plan.min_cell)
    noise = decoding_noise(measured.base, part, ASR.hit)
    base = 0.0 if noise is None else float(noise.mean()) / part.behaviors
    margin = plan.margin if task is None else plan.task_margin
    limits = (change.interval.low, change.interval.high)
    nearer = limits[0] if change.estimate > 0 else limits[1]
    here = _here(on_these_behaviors(change.estimate, found, base), -1.0)
    assert here is not None  # there is a seed variance

    def probability(above: float, seeds: int) -> float:
        p = reproduced(change.estimate, found, above=above, seeds=seeds, base=base)
        assert p is not None  # there is a seed variance
        return p

    return Reproduction(
        change=change,
        same_sign=probability(0.0, 1),
        same_sign_of_means=probability(0.0, found.seeds),
        significant=probability(abs(change.estimate - nearer), found.seeds)
        if nearer * change.estimate > 0
        else None,
        margin=margin,
        above_margin=probability(margin, found.seeds)
        if change.estimate > 0
        else 1 - probability(-margin, found.seeds),
        these_prompts=here,
    )


def _rankings(measured: Sequence[Measured]) -> Iterator[Ranking]:
    """Rank the fine-tunes with several seeds; the conditions of a series are one fine-tune seen often, and stay out."""
    tuned = [
        each
        for each in measured
        if each.condition.base is not None and each.own.seeds > 1 and not each.condition.series
    ]
    if len(tuned) < FEWEST:
        return
    figures = [dict(parts(each.own)) for each in tuned]
    for task in figures[0]:
        pairs = [(each, figure.get(task)) for each, figure in zip(tuned, figures, strict=True)]
        matrices = {
            each.condition.name: matrix_of(each.own, part)
            for each, part in pairs
            if part is not None
        }
        if len(matrices) >= FEWEST:
            yield Ranking(
                task=task,
                order=tuple(sorted(matrices, key=lambda name: float(matrices[name].mean()))),
                dependability=dependability(list(matrices.values())),
                rank_agreement=rank_agreement(list(matrices.values())),
            )


def _notes(cells: Cells, measured: Sequence[Measured]) -> Iterator[str]:
    """Say what was left out to have every behavior under every seed and setting, and what cannot be told apart."""
    for each in measured:
        codes = model_codes(cells, each.condition)
        slices = [
            cells.slice_of(place, code) for place in range(len(cells.settings)) for code in codes
        ]
        asked = len(np.unique(np.concatenate([cells.prompts[part] for part in slices])))
        if asked > len(each.own.prompts):
            yield (
                f"{each.condition.name}: {asked - len(each.own.prompts)} of {asked} prompts were not put to every seed "
                "and its base under every setting and are left out"
            )
    if any((each.own.counts_by_level(N) < 2).any() for each in measured):
        yield (
            "each prompt was asked once under a setting, so what decoding changes cannot be told from what training seeds "
            "change in single prompts; ask for 2 samples or more to tell them apart"
        )
