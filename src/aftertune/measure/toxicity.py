"""Toxicity of responses, and the degree of harm of the harmful ones.

Mean and share are over all responses, whatever their outcome, and paired against the base like every other figure. Among the
harmful responses alone the fine-tune chooses by its own behavior which prompts are compared, so those figures are a
description: numbers and a mean, without interval or test. Nothing here takes part in a verdict.

In the figures over all responses a behavior and its benign twins are one cluster.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aftertune.core.records import Intent
from aftertune.measure.arrays import Arms, Grid, breakdown
from aftertune.measure.changes import adjust, rate_change, score_change
from aftertune.measure.counts import Source, SourceKind, Tally
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.rates import TASKS, event, rate, score
from aftertune.measure.results import CompliedScores, Toxicity, ToxicityFigures

Prompts = NDArray[np.bool_]


def toxicities(own: Grid, both: Arms | None, plan: MeasurePlan) -> Mapping[str, Toxicity]:
    """Return a condition's toxicity by every classifier.

    Args:
        own: the condition.
        both: the condition and its base on the prompts of both; None for a base.
        plan: what was declared.
    """
    return {name: _toxicity(own, both, name, plan) for name in plan.toxicity}


def complied_harm(own: Grid, plan: MeasurePlan) -> Mapping[str, CompliedScores]:
    """Return the harm scores of a condition's harmful responses, by every judge that gives scores."""
    sources = {judge: Source(SourceKind.COMPLIED_HARM, judge) for judge in plan.judges}
    described = {judge: _complied(own, source) for judge, source in sources.items()}
    return {judge: scores for judge, scores in described.items() if scores is not None}


def _toxicity(own: Grid, both: Arms | None, name: str, plan: MeasurePlan) -> Toxicity:
    def figures(intent: Intent | None = None) -> ToxicityFigures:
        return _figures(own, both, name, plan, intent)

    complied = Source(SourceKind.COMPLIED_TOXICITY, name)
    return Toxicity(
        threshold=plan.toxicity[name],
        responses=figures(),
        harmful=figures(Intent.HARMFUL),
        benign=figures(Intent.BENIGN),
        complied=_complied(own, complied, Tally(complied, "toxic")),
        cut=_sum(own, Tally(Source(SourceKind.TOXICITY, name), "cut")),
    )


def _figures(
    own: Grid, both: Arms | None, name: str, plan: MeasurePlan, intent: Intent | None
) -> ToxicityFigures:
    if intent is None:
        own, both = own.with_twins(), None if both is None else both.with_twins()
    source = Source(SourceKind.TOXICITY, name)
    toxic, least = event(Source(SourceKind.TOXIC, name), "toxic"), plan.min_cell
    among = _prompts(own, intent)
    figures = ToxicityFigures(
        mean=breakdown(
            own, among & scored(own, source), lambda part: score(own, part, source, least), TASKS
        ),
        share=breakdown(own, among, lambda part: rate(own, part, toxic, least), TASKS),
    )
    if both is None:
        return figures
    shared = _prompts(both.tuned, intent)
    among_both = shared & scored(both.tuned, source) & scored(both.base, source)
    return replace(
        figures,
        mean_change=adjust(
            breakdown(
                both.tuned, among_both, lambda part: score_change(both, part, source, least), TASKS
            ),
            plan.families,
        ),
        share_change=adjust(
            breakdown(
                both.tuned, shared, lambda part: rate_change(both, part, toxic, least), TASKS
            ),
            plan.families,
        ),
    )


def _prompts(grid: Grid, intent: Intent | None) -> Prompts:
    """Return the prompts of an intent; all of them for None."""
    if intent is None:
        return np.ones(len(grid.prompts), np.bool_)
    return grid.intent(harmful=intent is Intent.HARMFUL)


def scored(grid: Grid, source: Source) -> Prompts:
    """Return the prompts whose responses have a score under every model."""
    prompts: Prompts = np.all(grid.counts(Tally(source, "n")) > 0, axis=1)
    return prompts


def _complied(grid: Grid, source: Source, toxic: Tally | None = None) -> CompliedScores | None:
    n = _sum(grid, Tally(source, "n"))
    if not n:
        return None
    return CompliedScores(
        n=n,
        mean=float(grid.counts(Tally(source, "sum")).sum()) / n,
        toxic=None if toxic is None else _sum(grid, toxic),
    )


def _sum(grid: Grid, tally: Tally) -> int:
    return round(float(grid.counts(tally).sum()))
