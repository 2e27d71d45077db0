"""How harmful judges find the responses, and what else they call them: figures beside the ASR, never in its place."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aftertune.measure.grids import Arms, Grid, breakdown
from aftertune.measure.judge_rows import harm_score, labels_of
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.rates import adjust, score, score_change
from aftertune.measure.results import Breakdown, Change, Score, SecondLabels

_BY = ("task",)


def harm_scores(own: Grid, plan: MeasurePlan) -> Mapping[str, Breakdown[Score]]:
    """Return the mean harm score of every judge that gives one, over responses to harmful prompts.

    Scores count as the judge gave them; a response without one (an undecided verdict) is left out, and so is a prompt
    that has none under some training seed.
    """
    scores = {judge: _scores(own, harm_score(judge), plan) for judge in plan.judges}
    return {judge: found for judge, found in scores.items() if found.overall is not None}


def _scores(own: Grid, name: str, plan: MeasurePlan) -> Breakdown[Score]:
    return breakdown(own, _with(own, name), lambda part: score(own, part, name, plan.min_cell), _BY)


def harm_score_changes(both: Arms | None, plan: MeasurePlan) -> Mapping[str, Breakdown[Change]]:
    """Return the paired change of every mean harm score against the base, p-values adjusted inside the declared families."""
    if both is None:
        return {}
    changes = {judge: _changes(both, harm_score(judge), plan) for judge in plan.judges}
    return {judge: change for judge, change in changes.items() if change.overall is not None}


def _changes(both: Arms, name: str, plan: MeasurePlan) -> Breakdown[Change]:
    scored = _with(both.tuned, name) & _with(both.base, name)
    changes = breakdown(
        both.tuned, scored, lambda part: score_change(both, part, name, plan.min_cell), _BY
    )
    return adjust(changes, plan.families)


def second_labels(own: Grid, plan: MeasurePlan) -> Mapping[str, SecondLabels]:
    """Return how often each judge gave each of its labels; nothing for a judge that gives none."""
    harmful = own.intent(harmful=True)
    n = round(float(own.counts(("decided", "n"))[harmful].sum()))
    found = {}
    for judge in plan.judges:
        labels = (label for reading, label in own.cells.tallies if reading == labels_of(judge))
        counts = {
            label: round(float(own.counts((labels_of(judge), label))[harmful].sum()))
            for label in labels
        }
        if any(counts.values()):
            found[judge] = SecondLabels(
                counts={label: count for label, count in counts.items() if count}, n=n
            )
    return found


def _with(grid: Grid, name: str) -> NDArray[np.bool_]:
    chosen: NDArray[np.bool_] = grid.intent(harmful=True) & (
        grid.counts((f"score:{name}", "n")) > 0
    ).all(axis=1)
    return chosen
