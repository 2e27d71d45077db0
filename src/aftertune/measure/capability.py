"""Task scores of a condition and their changes: means of scores, and corpus metrics, under one roof.

Only benign prompts count: what a fine-tune can do is told by what it should do.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aftertune.core.counts import BLEU, LABELS
from aftertune.measure.cells import Cells
from aftertune.measure.corpus import Corpus, corpora, corpus_change, corpus_score
from aftertune.measure.grids import Arms, Grid, breakdown
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.rates import adjust, score, score_change
from aftertune.measure.results import Breakdown, Change, Score

_BY = ("task", "set")
Pair = tuple[str, str]


def capability(own: Grid, plan: MeasurePlan) -> Mapping[str, Breakdown[Score]]:
    """Return every task score: of each scorer, and what is put together from its counts (``labels macro-F1``)."""
    found = {scorer: _scores(own, scorer, plan) for scorer in scorers_of(own.cells, plan)}
    return found | {
        corpus.name: _corpus_scores(own, corpus, plan) for corpus in corpora_of(own.cells)
    }


def capability_of(own: Grid, name: str, plan: MeasurePlan) -> Breakdown[Score] | None:
    """Return one task score; None where there is none of that name."""
    corpus = next((corpus for corpus in corpora_of(own.cells) if corpus.name == name), None)
    if corpus is not None:
        return _corpus_scores(own, corpus, plan)
    return _scores(own, name, plan) if name in scorers_of(own.cells, plan) else None


def capability_changes(both: Arms, plan: MeasurePlan) -> Mapping[str, Breakdown[Change]]:
    """Return the paired change of every task score against the base, p-values adjusted inside the declared families."""
    found = {scorer: _changes(both, scorer, plan) for scorer in scorers_of(both.tuned.cells, plan)}
    return found | corpus_changes(both, plan)


def corpus_changes(both: Arms, plan: MeasurePlan) -> dict[str, Breakdown[Change]]:
    """Return the change of every corpus metric from ``both.base`` to ``both.tuned``, whatever their training seeds."""
    return {
        corpus.name: _corpus_changes(both, corpus, plan) for corpus in corpora_of(both.tuned.cells)
    }


def _scores(own: Grid, scorer: str, plan: MeasurePlan) -> Breakdown[Score]:
    scored = _with(own, (f"score:{scorer}", "n"))
    return breakdown(own, scored, lambda part: score(own, part, scorer, plan.min_cell), _BY)


def _corpus_scores(own: Grid, corpus: Corpus, plan: MeasurePlan) -> Breakdown[Score]:
    counted = _with(own, _tally(corpus))
    return breakdown(own, counted, lambda part: corpus_score(own, part, corpus, plan.min_cell), _BY)


def _changes(both: Arms, scorer: str, plan: MeasurePlan) -> Breakdown[Change]:
    scored = with_both(both, (f"score:{scorer}", "n"))
    changes = breakdown(
        both.tuned, scored, lambda part: score_change(both, part, scorer, plan.min_cell), _BY
    )
    return adjust(changes, plan.families)


def _corpus_changes(both: Arms, corpus: Corpus, plan: MeasurePlan) -> Breakdown[Change]:
    counted = with_both(both, _tally(corpus))
    changes = breakdown(
        both.tuned, counted, lambda part: corpus_change(both, part, corpus, plan.min_cell), _BY
    )
    return adjust(changes, plan.families)


def scorers_of(cells: Cells, plan: MeasurePlan) -> list[str]:
    """Return what has a mean score: the scorers, and the share of invalid labels where they count those."""
    invalid = (
        f"{scorer} invalid" for scorer in plan.scorers if cells.counted.get(scorer) == LABELS
    )
    return [*(scorer for scorer in plan.scorers if cells.counted.get(scorer) != BLEU), *invalid]


def corpora_of(cells: Cells) -> tuple[Corpus, ...]:
    """Return the corpus metrics that can be put together."""
    return corpora(cells.tallies, cells.counted)


def with_both(both: Arms, tally: Pair) -> NDArray[np.bool_]:
    """Return the benign prompts of which something was tallied under every model of both arms."""
    return _with(both.tuned, tally) & _with(both.base, tally)


def _with(grid: Grid, tally: Pair) -> NDArray[np.bool_]:
    chosen: NDArray[np.bool_] = grid.intent(harmful=False) & (grid.counts(tally) > 0).all(axis=1)
    return chosen


def _tally(corpus: Corpus) -> Pair:
    return f"said:{corpus.scorer}", "n"
