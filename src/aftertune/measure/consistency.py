"""The consistency of a study's rates: variance components, limits of two labs, flips, and fixed factors.

Rates are means over the system prompts and decodings that all models of a comparison share. Training seeds and behaviors
are drawn, so their parts of the variance are estimated (`components`). Templates, decodings, system prompts and judges are
few and chosen, so their levels are compared with one another, paired on the same behaviors and seeds.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from aftertune.core.table import Table
from aftertune.measure.arrays import Average, Layout, model_codes, task_weights
from aftertune.measure.changes import rate_change
from aftertune.measure.components import (
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
    Components,
    Consistency,
    ConsistencyResult,
    Flips,
    LevelContrast,
    Limits,
    Reproduction,
    Sensitivity,
)
from aftertune.measure.contrasts import MeanT, p_value
from aftertune.measure.corrections import corrected_change
from aftertune.measure.counts import HARMFUL, Counts, N, Source, SourceKind, Tally, count
from aftertune.measure.crossed import Matrix, two_way
from aftertune.measure.intervals import holm
from aftertune.measure.labelled import LabelledRows, labelled_arm, labelled_rows
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.pooling import (
    DECODING,
    SYSTEM,
    Pooled,
    PooledCondition,
    decoding_flips,
    decoding_noise,
    pool,
)
from aftertune.measure.rates import ASR, rate, rate_limits
from aftertune.measure.results import DIFFERENCE, CorrectedChange, Noise, Scope, interval, scope
from aftertune.measure.series import Corrector, curves, groupings, hazards

POINTS = (5, 10)
"""Differences between two labs whose probability is given, in points."""


def consistency(table: Table, plan: MeasurePlan) -> ConsistencyResult:
    """Measure how well every condition's rates would come out again, in every task and overall.

    Raises:
        InputError: as `measure_table`.
    """
    counted, weights = count(table, plan), task_weights(table, plan)
    conditions = [
        pooled
        for condition in plan.conditions
        if (pooled := _pooled(counted, plan, condition, weights)) is not None
    ]
    correct = _corrector(labelled_rows(table, plan), counted, plan)
    return ConsistencyResult(
        format=FORMAT,
        plan=plan.digest,
        name_rate=plan.name_rate,
        settings=tuple(dict.fromkeys(names for x in conditions for names, _ in x.own.levels)),
        entries=tuple(
            _entry(pooled, plan, task, part)
            for pooled in conditions
            for task, part in parts(pooled.own)
        ),
        curves=tuple(curves(conditions, plan)),
        groupings=tuple(groupings(conditions, plan)),
        hazards=tuple(hazards(conditions, plan, correct)),
        notes=tuple(dict.fromkeys(_notes(counted, conditions))),
    )


def _pooled(
    counted: Counts, plan: MeasurePlan, condition: Condition, weights: Mapping[int, float]
) -> PooledCondition | None:
    models = model_codes(counted, condition)
    base = [] if condition.base is None else model_codes(counted, plan.condition(condition.base))
    joint = pool(counted, [*models, *base], weights)
    if joint is None:
        return None
    return PooledCondition(
        condition=condition,
        own=joint.of_models(slice(0, len(models))),
        base=joint.of_models(slice(len(models), None)) if base else None,
    )


def _corrector(labelled: LabelledRows | None, counted: Counts, plan: MeasurePlan) -> Corrector:
    """Return what corrects a change by labels; those of several settings taken together would need weights of their own."""

    def correct(pooled: PooledCondition, part: Layout) -> CorrectedChange | None:
        base = pooled.condition.base
        if labelled is None or pooled.base is None or base is None or len(counted.settings) > 1:
            return None
        tuned, was = (
            labelled_arm(labelled, arm, model_codes(counted, condition), 0).figure(part, HARMFUL)
            for arm, condition in (
                (pooled.own, pooled.condition),
                (pooled.base, plan.condition(base)),
            )
        )
        return corrected_change(tuned, was, pooled.own.seeds)

    return correct


def parts(own: Pooled) -> Iterator[tuple[str | None, Layout]]:
    """Yield the overall figure's folding of the harmful prompts, then every task's."""
    harmful = own.intent(harmful=True)
    whole = own.choose("overall", 0, harmful)
    if whole is not None:
        yield None, whole
    for code in np.unique(own.attribute("task")[harmful]).tolist():
        part = own.choose("task", code, harmful)
        if part is not None:
            yield own.counted.names["task"][code], part


def _entry(
    pooled: PooledCondition, plan: MeasurePlan, task: str | None, part: Layout
) -> Consistency:
    own = pooled.own
    matrix = own.fold(part, ASR.hit).matrix  # behaviors x training seeds
    noise = decoding_noise(own, part, ASR.hit)
    split = components(matrix, None if noise is None else float(noise.mean()))
    measured = rate(own, part, ASR, plan.min_cell)
    return Consistency(
        condition=pooled.condition.name,
        base=pooled.condition.base,
        task=task,
        rate=measured,
        seed_rates=tuple(matrix.mean(axis=0).tolist()),
        by_behavior=_by_behavior(own, part, matrix),
        components=split,
        shares=shares(split, own.seeds),
        limits=_limits(float(matrix.mean()), split, measured.noise),
        reproduction=_reproduction(pooled, plan, part, split),
        flips=flips(own, part, ASR.hit),
        sensitivity=_sensitivities(own, part, plan, one_task=task is not None),
    )


def _by_behavior(own: Pooled, part: Layout, matrix: Matrix) -> dict[str, tuple[float, ...]]:
    if not part.complete:
        return {}  # the rows are contributions to a weighted mean, no rates
    names = own.counted.names["behavior"]
    codes = np.unique(own.attribute("behavior")[part.order]).tolist()
    return {names[code]: tuple(row) for code, row in zip(codes, matrix.tolist(), strict=True)}


def _run_part(noise: Noise | None) -> float:
    """Return the variance that the effect of a whole run gives a mean over the replicates."""
    return 0.0 if noise is None else noise.run_sd**2 / noise.replicates


def _limits(mean: float, split: Components, noise: Noise | None) -> Limits:
    apart = {str(points): differing(split, points / 100) for points in POINTS}
    return Limits(
        repeatability=repeatability(split, _run_part(noise)),
        reproducibility=reproducibility(split),
        reproducibility_interval=reproducibility_interval(split),
        of_means=reproducibility(split, split.seeds),
        differing={points: p for points, p in apart.items() if p is not None},
        predicted=predicted(mean, split),
    )


def _reproduction(
    pooled: PooledCondition, plan: MeasurePlan, part: Layout, split: Components
) -> Reproduction | None:
    if pooled.arms is None or pooled.base is None:
        return None
    change = rate_change(pooled.arms, part, ASR, plan.min_cell)
    noise = decoding_noise(pooled.base, part, ASR.hit)
    # Both labs decode the base, whose rate is the mean over the behaviors; unknown (asked once) it is taken as 0.
    base = 0.0 if noise is None else float(noise.mean()) / part.behaviors
    base += _run_part(change.noise)
    same_sign = reproduced(change.estimate, split, base=base)
    limits = on_these_behaviors(change.estimate, split, base)
    if same_sign is None or limits is None:
        return None
    nearer = change.interval.low if change.estimate > 0 else change.interval.high
    # A change is just significant where its interval ends at 0, so at the width of the side that is nearer to 0.
    again = reproduced(
        change.estimate,
        split,
        above=abs(change.estimate - nearer),
        seeds=split.seeds,
        base=base,
    )
    return Reproduction(
        change=change,
        same_sign=same_sign,
        significant=again if nearer * change.estimate > 0 else None,
        these_prompts=interval(limits, "t of the seeds' means", Scope.RECIPE_HERE, ends=DIFFERENCE),
    )


def flips(pooled: Pooled, part: Layout, hit: Tally) -> Flips:
    """Return the flip rates of the prompts of a layout."""
    n, hits = (pooled.counts_by_level(counted)[:, part.order] for counted in (N, hit))
    p, seeds = hits / n, pooled.seeds  # settings x prompts x seeds
    # Over pairs j < k of seeds the sum of p_j (1 - p_k) + p_k (1 - p_j) is (S - 1) sum p - ((sum p)^2 - sum p^2).
    total, squares = p.sum(axis=2), (p**2).sum(axis=2)
    pairs = (seeds - 1) * total - (total**2 - squares)
    all_hits, all_n = hits.sum(axis=(0, 2)), n.sum(axis=(0, 2))
    return Flips(
        decoding=decoding_flips(pooled, part, hit),
        seed=float(pairs.mean() / (seeds * (seeds - 1) / 2)) if seeds > 1 else None,
        any=float(((all_hits > 0) & (all_hits < all_n)).mean()),
    )


def _sensitivities(
    own: Pooled, part: Layout, plan: MeasurePlan, *, one_task: bool
) -> dict[str, Sensitivity]:
    """Return the sensitivity to every factor that has several levels here; templates only inside a task."""
    averages: dict[str, dict[str, Average]] = {}
    for name, factor in (("system prompt", SYSTEM), ("decoding", DECODING)):
        levels = dict.fromkeys(names[factor] for names, _ in own.levels)
        averages[name] = {level: own.at(factor, level).fold(part, ASR.hit) for level in levels}
    if one_task:
        averages["template"] = _templates(own, part)
    averages["judge"] = {
        judge: own.fold(part, Tally(Source(SourceKind.JUDGE, judge), "harmful"))
        for judge in plan.judges
    }
    return {
        name: _sensitivity(levels, plan.min_cell)
        for name, levels in averages.items()
        if len(levels) > 1
    }


def _templates(own: Pooled, part: Layout) -> dict[str, Average]:
    """Return the averages by template, over the behaviors that were posed by all of them."""
    template, behavior = own.attribute("template"), own.attribute("behavior")
    chosen = np.zeros(len(own.prompts), np.bool_)
    chosen[part.order] = True
    codes = np.unique(template[chosen]).tolist()
    for code in codes:
        chosen &= np.isin(behavior, behavior[chosen & (template == code)])
    if not chosen.any():
        return {}
    posed = {code: own.choose("template", code, chosen) for code in codes}
    names = own.counted.names["template"]
    return {
        names[code]: own.fold(layout, ASR.hit)
        for code, layout in posed.items()
        if layout is not None
    }


def _sensitivity(levels: Mapping[str, Average], min_cell: int) -> Sensitivity:
    means = {name: average.two_way.mean for name, average in levels.items()}
    contrasts = [
        (first, second, MeanT(x=two_way(levels[first].matrix - levels[second].matrix)))
        for first, second in combinations(levels, 2)
    ]
    adjusted = holm([p_value(contrast) for _, _, contrast in contrasts])
    # Equal levels still differ by chance: half the mean variance of a difference is what that gives their variance.
    by_chance = float(np.mean([contrast.x.variance for _, _, contrast in contrasts])) / 2
    worst = max(means, key=means.__getitem__)
    alpha = 0.05 / len(levels)
    behaviors, seeds = levels[worst].matrix.shape
    return Sensitivity(
        rates=means,
        sd=math.sqrt(max(0.0, float(np.var(list(means.values()), ddof=1)) - by_chance)),
        worst=worst,
        worst_interval=interval(
            rate_limits(levels[worst], alpha), "Wilson, Bonferroni", scope(seeds), 1 - alpha
        ),
        pairs=tuple(
            LevelContrast(
                first=first,
                second=second,
                difference=contrast.estimate,
                interval=interval(
                    contrast.interval(0.05),
                    contrast.method,
                    scope(contrast.x.seeds),
                    ends=DIFFERENCE,
                ),
                p_value=p_value(contrast),
                p_adjusted=p,
            )
            for (first, second, contrast), p in zip(contrasts, adjusted, strict=True)
        ),
        behaviors=behaviors,
        hidden=behaviors < min_cell,
    )


def _notes(counted: Counts, conditions: Sequence[PooledCondition]) -> Iterator[str]:
    """Yield what was left out to have every behavior under every seed and setting, and what cannot be told apart."""
    for pooled in conditions:
        slices = [
            counted.slice_of(place, code)
            for place in range(len(counted.settings))
            for code in model_codes(counted, pooled.condition)
        ]
        prompts = len(np.unique(np.concatenate([counted.prompts[part] for part in slices])))
        if prompts > len(pooled.own.prompts):
            yield (
                f"{pooled.condition.name}: {prompts - len(pooled.own.prompts)} of {prompts} prompts were not put to every "
                "seed and its base under every setting and are left out"
            )
    if any((pooled.own.counts_by_level(N) < 2).any() for pooled in conditions):
        yield (
            "each prompt was asked once under a setting, so what decoding changes cannot be told from what training seeds "
            "change in single prompts; ask for 2 samples or more to tell them apart"
        )
