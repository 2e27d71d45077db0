"""Fine-tunes against each other on the same prompts: mitigated against not, and all at equal capability.

A mitigated fine-tune sees other rows in another order than the one without, so an equal seed number pairs nothing:
behaviors are paired, seeds are not.

A mitigation that slows learning looks safe at any fixed epoch. So the epoch is chosen by the task score alone, its
target is declared before the run, and safety is compared only there. Each seed is stopped by its own score, as somebody
who trains one model stops it: the choice is then part of what a seed draws, and seeds stay independent draws of "train
until it is good enough", which the crossed interval knows how to treat. One epoch for all seeds, chosen by their mean,
would tie them to each other. A seed that never reaches the target is left out, and counted as such.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np

from aftertune.measure.arrays import Arms, Layout, Setting, breakdown
from aftertune.measure.bootstrap import pigeonhole, rise_undone
from aftertune.measure.capability import MeanScore, capability_changes, capability_of
from aftertune.measure.changes import adjust, change_of, paired, rows_of
from aftertune.measure.contrasts import Contrast, unshared
from aftertune.measure.counts import Source, SourceKind, Tally
from aftertune.measure.noise import RunVariance, change_noise
from aftertune.measure.plan import EPOCH, Condition, Match, MeasurePlan
from aftertune.measure.rates import ASR, OVER_REFUSAL, TASKS, Event, rate
from aftertune.measure.results import (
    Breakdown,
    Change,
    Comparison,
    Matched,
    Rate,
    Reached,
    Stopped,
    Undone,
)
from aftertune.measure.toxicity import scored


def compare(
    setting: Setting, plan: MeasurePlan, models: Sequence[str], others: Sequence[str], name: str
) -> Comparison | None:
    """Compare models with others, which are called ``name`` together: both rates, and every task score.

    None if they share no prompts.
    """
    both = setting.arms(models, others)
    if both is None:
        return None

    def mean_change(metric: MeanScore, part: Layout) -> Change:
        return _mean_difference(both, metric.source, part, plan)

    return Comparison(
        other=name,
        asr=_rate_differences(both, ASR, plan, harmful=True),
        over_refusal=_rate_differences(both, OVER_REFUSAL, plan, harmful=False),
        capability=capability_changes(both, plan, mean_change),
    )


def compare_toxicity(both: Arms, plan: MeasurePlan) -> Mapping[str, Breakdown[Change]]:
    """Return the differences of the mean toxicity over all responses, by each classifier that the plan declares."""
    both = both.with_twins()
    differences = {}
    for name in plan.toxicity:
        source = Source(SourceKind.TOXICITY, name)
        among = scored(both.tuned, source) & scored(both.base, source)
        differences[name] = adjust(
            breakdown(both.tuned, among, partial(_mean_difference, both, source, plan=plan), TASKS),
            plan.families,
        )
    return differences


def _mean_difference(both: Arms, source: Source, part: Layout, plan: MeasurePlan) -> Change:
    total, n = Tally(source, "sum"), Tally(source, "n")
    base = both.base.fold(part, total, n)
    contrast = unshared(both.tuned.fold(part, total, n), base)
    runs = change_noise(both, base, rows_of(part, total, n))
    return _change(contrast, both, part, plan, runs)


def _rate_differences(
    both: Arms, of: Event, plan: MeasurePlan, *, harmful: bool
) -> Breakdown[Change]:
    def difference(part: Layout) -> Change:
        base = both.base.fold(part, of.hit)
        contrast = paired(both.tuned.fold(part, of.hit), base, unshared)
        runs = change_noise(both, base, rows_of(part, of.hit))
        return _change(contrast, both, part, plan, runs)

    among = both.tuned.intent(harmful=harmful)
    return adjust(breakdown(both.tuned, among, difference, ("task", "set")), plan.families)


def _change(
    contrast: Contrast, both: Arms, part: Layout, plan: MeasurePlan, runs: RunVariance | None
) -> Change:
    seeds = min(both.tuned.seeds, both.base.seeds)
    return change_of(contrast, seeds, part.independent, plan.min_cell, runs)


def undone(
    setting: Setting, base: Sequence[str], tuned: Sequence[str], mitigated: Sequence[str]
) -> Undone | None:
    """Return the share of a fine-tune's overall rise that a mitigation undoes, with its bootstrap interval.

    It is a ratio of noisy numbers. None without a rise, or without harmful prompts that all models were asked.
    """
    joint = setting.grid([*base, *tuned, *mitigated])
    part = None if joint is None else joint.overall(harmful=True)
    if joint is None or part is None:
        return None
    ends = np.cumsum([0, len(base), len(tuned), len(mitigated)]).tolist()
    matrices = [
        replace(joint, rows=joint.rows[:, start:end]).fold(part, ASR.hit).matrix
        for start, end in pairwise(ends)
    ]
    if matrices[1].mean() <= matrices[0].mean():
        return None
    drawn = pigeonhole(
        [np.stack([matrix, np.ones(matrix.shape)], axis=2) for matrix in matrices], rise_undone
    )
    low, high = (end if math.isfinite(end) else None for end in drawn.interval())
    return Undone(estimate=drawn.estimate, low=low, high=high, behaviors=part.behaviors)


def matched(
    setting: Setting, plan: MeasurePlan, match: Match, measured: Collection[str]
) -> Matched:
    """Choose the epoch of each seed of each fine-tune, and compare those with and without mitigation.

    Args:
        setting: the models' counts.
        plan: what was declared.
        match: the target.
        measured: names of the conditions that were measured.
    """
    series = _epochs(plan, measured)
    stopped = {name: _stop_seeds(setting, plan, match, epochs) for name, epochs in series.items()}
    chosen = {
        name: [seed.model for seed in seeds if seed.model is not None]
        for name, seeds in stopped.items()
    }
    reached = []
    for name, seeds in stopped.items():
        models, other = chosen[name], plan.condition(name).unmitigated
        others = [] if other is None else chosen.get(other, [])
        asr, over_refusal = _rates(setting, plan, models)
        reached.append(
            Reached(
                fine_tune=name,
                epochs=len(series[name]),
                seeds=tuple(seeds),
                score=_mean_score(seeds),
                asr=asr,
                over_refusal=over_refusal,
                against=compare(setting, plan, models, others, other)
                if models and others and other
                else None,
            )
        )
    return Matched(scorer=match.scorer, target=match.target, set=match.set, reached=tuple(reached))


def _rates(
    setting: Setting, plan: MeasurePlan, models: Sequence[str]
) -> tuple[Rate | None, Rate | None]:
    """Return ASR and over-refusal of models; None where they were asked no such prompts."""
    grid = setting.grid(models) if models else None
    if grid is None:
        return None, None
    harmful, benign = grid.overall(harmful=True), grid.overall(harmful=False)
    return (
        None if harmful is None else rate(grid, harmful, ASR, plan.min_cell),
        None if benign is None else rate(grid, benign, OVER_REFUSAL, plan.min_cell),
    )


def _epochs(plan: MeasurePlan, measured: Collection[str]) -> dict[str, list[Condition]]:
    """Group the epochs of each fine-tune, in their order, under the name of the last one."""
    grouped: dict[tuple[object, ...], list[Condition]] = {}
    for condition in plan.conditions:
        if condition.base is None or condition.name not in measured:
            continue
        rest = tuple((name, value) for name, value in condition.factors.items() if name != EPOCH)
        alone = condition.series if EPOCH in condition.factors else condition.name
        grouped.setdefault((alone, rest), []).append(condition)
    ordered = (
        sorted(members, key=lambda condition: condition.factors.get(EPOCH, 0.0))
        for members in grouped.values()
    )
    return {members[-1].name: members for members in ordered}


def _stop_seeds(
    setting: Setting, plan: MeasurePlan, match: Match, epochs: Sequence[Condition]
) -> list[Stopped]:
    """Return each training seed at its first epoch that reaches the target."""
    by_seed: dict[int, list[tuple[float | None, str]]] = {}
    for condition in epochs:
        seeds = condition.training_seeds or range(len(condition.models))
        for seed, model in zip(seeds, condition.models, strict=True):
            by_seed.setdefault(seed, []).append((condition.factors.get(EPOCH), model))
    named = bool(epochs[-1].training_seeds)
    stopped = []
    for seed, checkpoints in by_seed.items():
        chosen, epoch, best = _first_reaching(setting, plan, match, checkpoints)
        stopped.append(
            Stopped(training_seed=seed if named else None, model=chosen, epoch=epoch, score=best)
        )
    return stopped


def _first_reaching(
    setting: Setting,
    plan: MeasurePlan,
    match: Match,
    checkpoints: Sequence[tuple[float | None, str]],
) -> tuple[str | None, float | None, float | None]:
    """Return the first checkpoint that reaches the target, its epoch and score; without such the best score of all."""
    best = None
    for epoch, model in checkpoints:
        grid = setting.grid([model])
        scores = None if grid is None else capability_of(grid, match.scorer, plan)
        figure = None
        if scores is not None:
            figure = scores.overall if match.set is None else scores.by_set.get(match.set)
        # a score that rests on too few behaviors is hidden, and chooses nothing
        score = None if figure is None or figure.hidden else figure.estimate
        if score is not None and score >= match.target:
            return model, epoch, score
        best = max((value for value in (best, score) if value is not None), default=None)
    return None, None, best


def _mean_score(seeds: Sequence[Stopped]) -> float | None:
    """Return the mean score of the seeds that reach the target; without such the best of all."""
    reached = [seed.score for seed in seeds if seed.model is not None and seed.score is not None]
    if reached:
        return sum(reached) / len(reached)
    return max((seed.score for seed in seeds if seed.score is not None), default=None)
