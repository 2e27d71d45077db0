"""Task scores of a condition and their changes: means of scores, and corpus metrics from the counts of single responses.

Only benign prompts count; the harm scores of judges, of harmful prompts, are means as well. A corpus metric (corpus BLEU, macro-F1) is no mean of single scores, so its intervals are those
of the pigeonhole bootstrap over behaviors and training seeds. All counts of a figure are summed as they are: tasks have
no weights there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aftertune.core.table import BLEU, LABELS
from aftertune.measure.arrays import Arms, Grid, Layout, breakdown
from aftertune.measure.bootstrap import Bootstrapped, Totals, macro_f1, pigeonhole
from aftertune.measure.changes import adjust, score_change
from aftertune.measure.contrasts import Unshared, p_value
from aftertune.measure.counts import Counts, Source, SourceKind, Tally
from aftertune.measure.plan import MeasurePlan, macro_f1_name
from aftertune.measure.rates import TASKS, score
from aftertune.measure.results import (
    DIFFERENCE,
    SHARE,
    Bounds,
    Breakdown,
    Change,
    Interval,
    Score,
    interval,
    scope,
)

ORDER = 4
"""BLEU counts 1- to 4-grams."""
METHOD = "pigeonhole bootstrap"
BY = ("task", "set")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanScore:
    """A task score that is a mean: a scorer's, or the share of its invalid labels."""

    name: str
    """In results: ``exact``, ``labels invalid``."""
    source: Source

    def score(self, grid: Grid, part: Layout, min_cell: int) -> Score:
        """Return the mean score."""
        return score(grid, part, self.source, min_cell)

    def change(self, arms: Arms, part: Layout, min_cell: int) -> Change:
        """Return its paired change against the base."""
        return score_change(arms, part, self.source, min_cell)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A corpus metric of a scorer."""

    name: str
    """In results: ``bleu``, ``labels macro-F1``."""
    source: Source
    tallies: tuple[Tally, ...]
    figure: Callable[[Totals], Totals]
    """From draws x tallies to draws."""
    by_label: bool = False
    """The tallies are hits, false and missed of each label in turn."""

    def score(self, grid: Grid, part: Layout, min_cell: int) -> Score:
        """Return the metric with its percentile interval."""
        sums = self.occurring([self._sums(grid, part)])
        drawn = pigeonhole(sums, lambda totals: self.figure(totals[0]))
        return Score(
            estimate=drawn.estimate,
            n=grid.total(part, Tally(self.source, "n")),
            behaviors=part.behaviors,
            seeds=grid.seeds,
            interval=_percentiles(drawn, part.behaviors, 0.05, SHARE, grid.seeds),
            unequal=False,
            hidden=part.behaviors < min_cell,
        )

    def change(self, arms: Arms, part: Layout, min_cell: int) -> Change:
        """Return the change of the metric: behaviors are drawn together for both arms, seeds for each arm apart."""
        sums = self.occurring([self._sums(arm, part) for arm in (arms.tuned, arms.base)])
        drawn = pigeonhole(sums, lambda totals: self.figure(totals[0]) - self.figure(totals[1]))
        seeds = min(arms.tuned.seeds, arms.base.seeds) if arms.base.seeds > 1 else arms.tuned.seeds
        return Change(
            estimate=drawn.estimate,
            interval=_percentiles(drawn, part.behaviors, 0.05, DIFFERENCE, seeds),
            interval90=_percentiles(drawn, part.behaviors, 0.10, DIFFERENCE, seeds),
            p_value=p_value(_constant(drawn, part.behaviors)) if drawn.constant else drawn.p_value,
            method=f"inverted {METHOD}",
            behaviors=part.behaviors,
            seeds=seeds,
            pairs=None,
            bounds=None,
            hidden=part.behaviors < min_cell,
        )

    def _sums(self, grid: Grid, part: Layout) -> NDArray[np.float64]:
        """Return the sums of the tallies, behaviors x training seeds x tallies."""
        sums = np.stack([grid.counts(tally)[part.order] for tally in self.tallies], axis=2)
        grouped = np.add.reduceat(sums, part.starts, axis=0)
        by_behavior = np.zeros((part.behaviors, *grouped.shape[1:]))
        np.add.at(by_behavior, part.behavior, grouped)
        return by_behavior

    def occurring(self, arms: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        """Leave out labels that are nowhere the right one in what is measured: those of other prompt sets."""
        if not self.by_label:
            return list(arms)
        totals = np.sum([arm.sum(axis=(0, 1)) for arm in arms], axis=0).reshape(-1, 3)
        occurs = totals[:, [0, 2]].sum(axis=1) > 0  # hits and missed: the label was right
        return [arm[:, :, np.repeat(occurs, 3)] for arm in arms] if occurs.any() else list(arms)


Metric = MeanScore | Corpus


def capability(grid: Grid, plan: MeasurePlan) -> Mapping[str, Breakdown[Score]]:
    """Return every task score of a condition, overall, by task and by set."""
    return {metric.name: _scores(grid, metric, plan) for metric in metrics(grid.counted, plan)}


def seed_scores(grid: Grid, plan: MeasurePlan) -> Mapping[str, tuple[float, ...]]:
    """Return the overall mean of every score under every training seed; corpus metrics, which are no means, are left out."""
    means = [metric for metric in metrics(grid.counted, plan) if isinstance(metric, MeanScore)]
    scores = {}
    for metric in means:
        part = grid.choose("overall", 0, grid.scored(metric.source, harmful=False))
        if part is not None:
            average = grid.fold(part, Tally(metric.source, "sum"), Tally(metric.source, "n"))
            scores[metric.name] = tuple(average.matrix.mean(axis=0).tolist())
    return scores


def capability_of(grid: Grid, name: str, plan: MeasurePlan) -> Breakdown[Score] | None:
    """Return one task score; None where there is none of that name."""
    named = (metric for metric in metrics(grid.counted, plan) if metric.name == name)
    return next((_scores(grid, metric, plan) for metric in named), None)


def harm_scores(grid: Grid, plan: MeasurePlan) -> Mapping[str, Breakdown[Score]]:
    """Return the mean harm score of every judge that gives one, over responses to harmful prompts.

    Scores count as the judge gave them; a response without one (an undecided verdict) is left out, and so is a prompt
    that has none under some training seed.
    """
    return {
        metric.name: scores
        for metric in _harm_metrics(plan)
        if (scores := _scores(grid, metric, plan, TASKS, harmful=True)).overall is not None
    }


def _harm_metrics(plan: MeasurePlan) -> list[MeanScore]:
    return [
        MeanScore(name=judge, source=Source(SourceKind.HARM_SCORE, judge)) for judge in plan.judges
    ]


def _scores(
    grid: Grid,
    metric: Metric,
    plan: MeasurePlan,
    dimensions: Sequence[str] = BY,
    *,
    harmful: bool = False,
) -> Breakdown[Score]:
    among = grid.scored(metric.source, harmful=harmful)
    return breakdown(grid, among, lambda part: metric.score(grid, part, plan.min_cell), dimensions)


MeanChange = Callable[[MeanScore, Layout], Change]


def capability_changes(
    both: Arms, plan: MeasurePlan, mean_change: MeanChange | None = None
) -> Mapping[str, Breakdown[Change]]:
    """Return the paired change of every task score, p-values adjusted inside the declared families.

    Args:
        both: the arms.
        plan: what was declared.
        mean_change: computes the change of a mean score over a part; None for the change against a base.
    """
    return {
        metric.name: _changes(both, metric, plan, BY, mean_change)
        for metric in metrics(both.tuned.counted, plan)
    }


def harm_score_changes(both: Arms, plan: MeasurePlan) -> Mapping[str, Breakdown[Change]]:
    """Return the paired change of every judge's mean harm score against the base."""
    return {
        metric.name: changes
        for metric in _harm_metrics(plan)
        if (changes := _changes(both, metric, plan, TASKS, harmful=True)).overall is not None
    }


def _changes(
    both: Arms,
    metric: Metric,
    plan: MeasurePlan,
    dimensions: Sequence[str],
    mean_change: MeanChange | None = None,
    *,
    harmful: bool = False,
) -> Breakdown[Change]:
    """Return the changes of a score over the prompts that have one under every model of both arms."""

    def change(part: Layout) -> Change:
        if mean_change is not None and isinstance(metric, MeanScore):
            return mean_change(metric, part)
        return metric.change(both, part, plan.min_cell)

    tuned, base = (arm.scored(metric.source, harmful=harmful) for arm in (both.tuned, both.base))
    return adjust(breakdown(both.tuned, tuned & base, change, dimensions), plan.families)


def metrics(counted: Counts, plan: MeasurePlan) -> list[Metric]:
    """Return the task scores of a study: means of the scorers, shares of invalid labels, corpus metrics."""
    kinds = counted.metrics
    return [
        *(
            MeanScore(name=scorer, source=Source(SourceKind.SCORE, scorer))
            for scorer in plan.metrics
            if kinds.get(scorer) != BLEU
        ),
        *(
            MeanScore(name=f"{scorer} invalid", source=Source(SourceKind.INVALID, scorer))
            for scorer in plan.metrics
            if kinds.get(scorer) == LABELS
        ),
        *_corpora(counted),
    ]


def _corpora(counted: Counts) -> Iterator[Corpus]:
    for scorer, kind in counted.metrics.items():
        source = Source(SourceKind.CORPUS, scorer)
        if kind == BLEU:
            yield Corpus(
                name=scorer,
                source=source,
                tallies=tuple(Tally(source, str(place)) for place in range(2 * ORDER + 2)),
                figure=corpus_bleu,
            )
        if kind == LABELS:
            yield Corpus(
                name=macro_f1_name(scorer),
                source=source,
                tallies=tuple(
                    tally for tally in counted.tallies if tally.source == source and tally.label
                ),
                # A label that a draw misses counts as F1 0 there.
                figure=lambda totals: macro_f1([totals]),
                by_label=True,
            )


def corpus_bleu(totals: Totals) -> Totals:
    """Return BLEU / 100 of each of D rows: matches and n-grams (orders 1 to 4), and the lengths of responses and references.

    Source: Papineni et al. (2002) with sacrebleu's default smoothing.
    """
    from sacrebleu.metrics import bleu as sacrebleu  # loads slowly

    scores = [
        sacrebleu.BLEU.compute_bleu(
            row[:ORDER], row[ORDER : 2 * ORDER], row[-2], row[-1], smooth_method="exp"
        ).score
        for row in np.rint(totals).astype(int).tolist()
    ]
    return np.array(scores) / 100


def _constant(drawn: Bootstrapped, behaviors: int) -> Unshared:
    """Return what stands in for a figure that came out the same in every draw: no variance is not known to be none."""
    return Unshared(estimate=drawn.estimate, variance=0.0, df=1.0, behaviors=behaviors)


def _percentiles(
    drawn: Bootstrapped, behaviors: int, alpha: float, ends: Bounds, seeds: int
) -> Interval:
    limits = drawn.interval(alpha)
    if limits[0] == limits[1]:
        limits = _constant(drawn, behaviors).interval(alpha)
    return interval(limits, METHOD, scope(seeds), 1 - alpha, ends)
