"""Corpus metrics from the counts of single responses: corpus BLEU, macro-F1, the share of invalid labels.

A corpus metric is no mean of cells, so its intervals are those of the pigeonhole bootstrap over behaviors and training
seeds. All counts of a figure are summed as they are: tasks have no weights here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from aftertune.core.counts import BLEU, LABELS
from aftertune.measure.averaging import Layout
from aftertune.measure.bootstrap import Bootstrapped, Totals, macro_f1, pigeonhole
from aftertune.measure.contrasts import p_value
from aftertune.measure.counted import Quantity
from aftertune.measure.grids import Arms, Grid
from aftertune.measure.intervals import Bounds, wilson
from aftertune.measure.results import Change, Interval, Score, scope

ORDER = 4
"""BLEU counts 1- to 4-grams."""
METHOD = "pigeonhole bootstrap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A corpus metric of a scorer."""

    name: str
    """What it is called in results: ``bleu``, ``labels macro-F1``."""
    scorer: str
    quantities: tuple[Quantity, ...]
    figure: Callable[[Totals], Totals]
    """From draws x quantities to draws."""

    def cells(self, grid: Grid, part: Layout) -> NDArray[np.float64]:
        """Return what the quantities sum to, behaviors x training seeds x quantities."""
        sums = np.stack([grid.counts(quantity)[part.order] for quantity in self.quantities], axis=2)
        grouped = np.add.reduceat(sums, part.starts, axis=0)
        found = np.zeros((part.behaviors, *grouped.shape[1:]))
        np.add.at(found, part.behavior, grouped)
        return found


def corpora(tallies: Mapping[Quantity, object], metrics: Mapping[str, str]) -> tuple[Corpus, ...]:
    """Return the corpus metrics of scorers (scorer -> metric of its counts) whose counts were tallied."""
    found = []
    for scorer, metric in metrics.items():
        group = f"said:{scorer}"
        if metric == BLEU:
            places = tuple((group, str(place)) for place in range(2 * ORDER + 2))
            found.append(Corpus(name=scorer, scorer=scorer, quantities=places, figure=corpus_bleu))
        if metric == LABELS:
            labels = [
                name.partition(" ")[2]
                for kind, name in tallies
                if kind == group and name.startswith("hit ")
            ]
            counts = tuple(
                (group, f"{kind} {label}")
                for label in labels
                for kind in ("hit", "false", "missed")
            )
            found.append(
                Corpus(
                    name=f"{scorer} macro-F1", scorer=scorer, quantities=counts, figure=_macro_f1
                )
            )
    return tuple(found)


def _macro_f1(totals: Totals) -> Totals:
    """Average F1 over the labels that are right somewhere in what is measured; one that a draw misses counts as 0 there."""
    return macro_f1([totals])


def corpus_bleu(totals: Totals) -> Totals:
    """Return BLEU / 100 of D sums of matches and n-grams (orders 1 to 4) and both lengths.

    Papineni et al. (2002) with sacrebleu's default smoothing ``exp`` (an order without a match counts as 1/2, 1/4, ...
    matches), so that it equals `sacrebleu.corpus_bleu`.
    """
    matches, all_, lengths = totals[:, :ORDER], totals[:, ORDER : 2 * ORDER], totals[:, 2 * ORDER :]
    none = (matches == 0) & (all_ > 0)
    smoothed = np.where(none, 0.5 ** np.cumsum(none, axis=1), matches)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(smoothed / all_).mean(axis=1)
        brevity = np.minimum(0.0, 1 - lengths[:, 1] / lengths[:, 0])
        score = np.exp(logs + brevity)
    empty = (matches.sum(axis=1) == 0) | (all_ == 0).any(axis=1)
    found: Totals = np.where(empty, 0.0, score)
    return found


def corpus_score(grid: Grid, part: Layout, corpus: Corpus, min_cell: int) -> Score:
    """Return a corpus metric with its percentile interval."""
    found = pigeonhole(_occurring(corpus, [corpus.cells(grid, part)]), partial(_one, corpus.figure))
    n = grid.counts((f"said:{corpus.scorer}", "n"))[part.order]
    still = _Still(estimate=found.estimate, behaviors=part.behaviors)
    return Score(
        estimate=found.estimate,
        n=round(float(n.sum())),
        behaviors=part.behaviors,
        seeds=grid.seeds,
        interval=_interval(found, still, 0.95, (0.0, 1.0), grid.seeds),
        unequal=False,
        hidden=part.behaviors < min_cell,
    )


def corpus_change(arms: Arms, part: Layout, corpus: Corpus, min_cell: int) -> Change:
    """Return the change of a corpus metric: behaviors are drawn together for both arms, seeds for each apart."""
    both = _occurring(corpus, [corpus.cells(arm, part) for arm in (arms.tuned, arms.base)])
    figure = partial(_difference, corpus.figure)
    wide, narrow = (pigeonhole(both, figure, alpha=alpha) for alpha in (0.05, 0.10))
    seeds = min(arms.tuned.seeds, arms.base.seeds) if arms.base.seeds > 1 else arms.tuned.seeds
    still = _Still(estimate=wide.estimate, behaviors=part.behaviors)
    return Change(
        estimate=wide.estimate,
        interval=_interval(wide, still, 0.95, (-1.0, 1.0), seeds),
        interval90=_interval(narrow, still, 0.90, (-1.0, 1.0), seeds),
        p_value=p_value(still) if wide.low == wide.high else wide.p_value,
        method=f"inverted {METHOD}",
        behaviors=part.behaviors,
        seeds=seeds,
        pairs=None,
        bounds=None,
        hidden=part.behaviors < min_cell,
    )


def _occurring(corpus: Corpus, arms: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Leave out labels that are nowhere the right one in what is measured: those of other prompt sets."""
    if corpus.figure is not _macro_f1:
        return list(arms)
    seen = (
        np.sum([arm.sum(axis=(0, 1)) for arm in arms], axis=0).reshape(-1, 3)[:, [0, 2]].sum(axis=1)
        > 0
    )
    return [arm[:, :, np.repeat(seen, 3)] for arm in arms] if seen.any() else list(arms)


def _one(figure: Callable[[Totals], Totals], totals: Sequence[Totals]) -> Totals:
    return figure(totals[0])


def _difference(figure: Callable[[Totals], Totals], totals: Sequence[Totals]) -> Totals:
    difference: Totals = figure(totals[0]) - figure(totals[1])
    return difference


@dataclass(frozen=True, slots=True, kw_only=True)
class _Still:
    """A figure that came out the same in every draw: no variance seen is not no variance (`contrasts.MeanT`)."""

    estimate: float
    behaviors: int
    method: str = METHOD

    def interval(self, alpha: float) -> Bounds:
        half = wilson(0.0, self.behaviors, alpha)[1]
        return self.estimate - half, self.estimate + half


def _interval(
    found: Bootstrapped, still: _Still, level: float, ends: Bounds, seeds: int
) -> Interval:
    low, high = still.interval(1 - level) if found.low == found.high else found.interval
    return Interval(
        low=max(low, ends[0]),
        high=min(high, ends[1]),
        level=level,
        method=METHOD,
        scope=scope(seeds),
    )
