"""Changes of a condition's figures against its base, paired over behaviors, with p-values adjusted inside their families."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TypeVar

from aftertune.measure.arrays import Arms, Average, Grid, Layout, breakdown, fold
from aftertune.measure.contrasts import Contrast, MeanT, Table2x2, mover, p_value, table_2x2
from aftertune.measure.counts import N, Source, SourceKind, Tally, pair_name
from aftertune.measure.crossed import Matrix, two_way
from aftertune.measure.intervals import benjamini_hochberg, holm, mcnemar
from aftertune.measure.noise import Rows, RunVariance, change_noise, with_runs
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.rates import SETS, TASKS, Event, bypass, differ
from aftertune.measure.results import (
    DIFFERENCE,
    Bounds,
    Breakdown,
    Change,
    ConditionResult,
    CorrectedChange,
    Pairs,
    interval,
    scope,
)

Tested = TypeVar("Tested", Change, CorrectedChange)
Name = TypeVar("Name", bound=Hashable)


def paired(
    tuned: Average, base: Average, otherwise: Callable[[Average, Average], Contrast] = mover
) -> Contrast:
    """Return the change between arms: Newcombe's where every row is one response in both of them, otherwise MOVER.

    Args:
        tuned: the fine-tune.
        base: what it is compared with.
        otherwise: the contrast of arms with several responses a row, if it is not MOVER.
    """
    if tuned.single and base.single:
        return table_2x2(tuned.matrix, base.matrix)
    return otherwise(tuned, base)


def change_of(
    contrast: Contrast,
    seeds: int,
    behaviors: int,
    min_cell: int,
    runs: RunVariance | None = None,
    ends: Bounds = DIFFERENCE,
) -> Change:
    """Return a contrast as a result, with the test that its intervals imply.

    Args:
        contrast: the change.
        seeds: training seeds.
        behaviors: that it is over.
        min_cell: behaviors below which it is hidden.
        runs: its noise between replicates; an effect of the run is added to its variance.
        ends: the least and the largest value that the figure can have.
    """
    pairs, contrast = None, with_runs(contrast, runs)
    if isinstance(contrast, Table2x2):
        test, p = "McNemar mid-p", mcnemar(contrast.b, contrast.c)
        pairs = Pairs(
            both=contrast.a, tuned_only=contrast.b, base_only=contrast.c, neither=contrast.e
        )
    else:
        test, p = f"inverted {contrast.method}", p_value(contrast)
    about = scope(seeds)
    return Change(
        estimate=contrast.estimate,
        interval=interval(contrast.interval(0.05), contrast.method, about, ends=ends),
        interval90=interval(contrast.interval(0.10), contrast.method, about, 0.90, ends),
        p_value=p,
        method=test,
        behaviors=behaviors,
        seeds=seeds,
        pairs=pairs,
        bounds=None,
        hidden=behaviors < min_cell,
        noise=None if runs is None else runs.noise,
    )


def rows_of(part: Layout, hits: Tally, n: Tally = N) -> Rows:
    """Return the rows of the change of a mean: the fine-tune's, averaged over its seeds, less the base's."""

    def rows(arms: Arms) -> Matrix:
        tuned, base = (arm.fold(part, hits, n).matrix for arm in (arms.tuned, arms.base))
        difference: Matrix = tuned.mean(axis=1, keepdims=True) - base.mean(axis=1, keepdims=True)
        return difference

    return rows


def rate_change(arms: Arms, part: Layout, of: Event, min_cell: int) -> Change:
    """Return the paired change of a rate, with the bounds that undecided and incoherent responses imply."""
    tuned, base = arms.tuned.fold(part, of.hit), arms.base.fold(part, of.hit)
    contrast = paired(tuned, base)
    unsure_tuned, unsure_base = (
        fold(part, of.unsure(arm), arm.counts(N)).two_way.mean for arm in (arms.tuned, arms.base)
    )
    runs = change_noise(arms, base, rows_of(part, of.hit))
    change = change_of(contrast, arms.tuned.seeds, part.independent, min_cell, runs)
    # [H1 - (H0 + I0), (H1 + I1) - H0]: H harmful, I undecided or incoherent, 1 the fine-tune, 0 its base.
    bounds = contrast.estimate - unsure_base, contrast.estimate + unsure_tuned
    return replace(change, bounds=bounds)


def rate_changes(
    both: Arms | None,
    of: Event,
    plan: MeasurePlan,
    *,
    harmful: bool,
    dimensions: Sequence[str] = SETS,
) -> Breakdown[Change] | None:
    """Return the changes of a rate against the base, p-values adjusted inside the declared families; None for a base."""
    if both is None:
        return None
    among = both.tuned.intent(harmful=harmful)
    return adjust(
        breakdown(
            both.tuned, among, lambda part: rate_change(both, part, of, plan.min_cell), dimensions
        ),
        plan.families,
    )


def score_change(arms: Arms, part: Layout, source: Source, min_cell: int) -> Change:
    """Return the paired change of a mean score."""
    tuned, base = (
        arm.fold(part, Tally(source, "sum"), Tally(source, "n")) for arm in (arms.tuned, arms.base)
    )
    contrast: Contrast
    if source in arms.tuned.counted.binary:
        contrast = paired(tuned, base)
    else:
        contrast = MeanT(x=two_way(tuned.matrix - base.matrix, tuned.behaviors))
    rows = rows_of(part, Tally(source, "sum"), Tally(source, "n"))
    runs = change_noise(arms, base, rows)
    return change_of(contrast, arms.tuned.seeds, part.independent, min_cell, runs)


def guard_effects(
    both: Arms | None, without: Event, behind: Event, plan: MeasurePlan
) -> Breakdown[Change] | None:
    """Return the change behind a guard minus the change without it, matched on the same responses (two-way t)."""
    if both is None:
        return None

    def screened(part: Layout, arm: Grid) -> Average:
        return fold(part, arm.counts(behind.hit) - arm.counts(without.hit), arm.counts(N))

    def effect(part: Layout) -> Change:
        tuned, base = (screened(part, arm) for arm in (both.tuned, both.base))
        contrast = MeanT(x=two_way(tuned.matrix - base.matrix, tuned.behaviors))
        runs = change_noise(
            both,
            base,
            lambda arms: screened(part, arms.tuned).matrix - screened(part, arms.base).matrix,
        )
        return change_of(contrast, both.tuned.seeds, part.behaviors, plan.min_cell, runs)

    among = both.tuned.intent(harmful=True)
    return adjust(breakdown(both.tuned, among, effect, TASKS), plan.families)


def bypass_changes(both: Arms | None, guard: str, plan: MeasurePlan) -> Breakdown[Change] | None:
    """Return the change of the bypass against the base, overall and by task; absent where an arm has no harmful response.

    Both bypasses are linearised on the same behaviors, so that the pairing counts (MOVER on the intervals of both).
    """
    if both is None:
        return None
    arms, passed = (both.tuned, both.base), Tally(Source(SourceKind.GUARD, guard), "harmful")

    def change(part: Layout) -> Change | None:
        tuned, base = (bypass(arm, part, arm.counts(passed)) for arm in arms)
        if tuned is None or base is None:
            return None
        behaviors = round(min(tuned.behaviors, base.behaviors))
        return change_of(mover(tuned, base), arms[0].seeds, behaviors, plan.min_cell)

    among = both.tuned.intent(harmful=True)
    return adjust(breakdown(both.tuned, among, change, TASKS), plan.families)


def disagreement_changes(both: Arms | None, plan: MeasurePlan) -> Mapping[str, Change]:
    """Return for two judges each how much oftener they differ on the fine-tune than on its base; empty for a base."""
    whole = None if both is None else both.tuned.overall(harmful=True)
    if both is None or whole is None:
        return {}
    return {
        pair_name(*pair): rate_change(both, whole, differ(*pair), plan.min_cell)
        for pair in combinations(plan.judges, 2)
    }


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
    changes: Mapping[Name, Tested],
    method: Callable[[Sequence[float]], list[float]],
    adjustment: str,
) -> dict[Name, Tested]:
    """Adjust the p-values of one family; a change that labels do not correct has none and takes no part."""
    tested = {
        name: change.p_value for name, change in changes.items() if change.p_value is not None
    }
    adjusted = dict(zip(tested, method(list(tested.values())), strict=True))
    return {
        name: replace(change, p_adjusted=adjusted[name], adjustment=adjustment)
        if name in adjusted
        else change
        for name, change in changes.items()
    }


def adjust_over_fine_tunes(measured: Sequence[ConditionResult]) -> Iterator[ConditionResult]:
    """Adjust the overall changes of the ASR over the fine-tunes of a setting, as judged and as corrected by labels.

    The fine-tunes are a family, because they share the base's noise.
    """
    judged = {
        result.name: result.asr_change.overall
        for result in measured
        if result.asr_change and result.asr_change.overall
    }
    corrected = {
        result.name: result.labels.asr_change.overall
        for result in measured
        if result.labels and result.labels.asr_change and result.labels.asr_change.overall
    }
    if len(judged) > 1:
        judged = adjust_family(judged, holm, "Holm over fine-tunes")
        corrected = adjust_family(corrected, holm, "Holm over fine-tunes")
    for result in measured:
        changes, labels = result.asr_change, result.labels
        if changes and result.name in judged:
            changes = replace(changes, overall=judged[result.name])
        if labels and labels.asr_change and result.name in corrected:
            by_labels = replace(labels.asr_change, overall=corrected[result.name])
            labels = replace(labels, asr_change=by_labels)
        yield replace(result, asr_change=changes, labels=labels)
