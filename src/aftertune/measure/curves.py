"""Rates along the epochs, rounds and doses of a fine-tune."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from aftertune.measure.consistency_results import Curve, Point
from aftertune.measure.grids import Arms, breakdown
from aftertune.measure.measure import ASR, OVER_REFUSAL
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.pooling import Pooled
from aftertune.measure.rates import Kind, rate, rate_change, score
from aftertune.measure.results import Rate


class Has(Protocol):
    """A condition with its cells (`consistency.Measured`)."""

    @property
    def condition(self) -> Condition:
        """What was declared."""
        ...

    @property
    def own(self) -> Pooled:
        """Its cells."""
        ...

    @property
    def arms(self) -> Arms | None:
        """Those of its base, too."""
        ...


def curves(measured: Sequence[Has], plan: MeasurePlan) -> Iterator[Curve]:
    """Yield a curve for every series, its points in the order of its factors, starting from the base."""
    by_series: dict[str, list[Has]] = {}
    for each in measured:
        if each.condition.series:
            by_series.setdefault(each.condition.series, []).append(each)
    by_name = {each.condition.name: each for each in measured}
    for series, members in by_series.items():
        ordered = sorted(members, key=lambda each: tuple(each.condition.factors.values()))
        base = by_name.get(ordered[0].condition.base or "")
        yield Curve(
            series=series,
            axes=tuple(ordered[0].condition.factors),
            start=None if base is None else _point(base, plan),
            points=tuple(_point(each, plan) for each in ordered),
        )


def _point(each: Has, plan: MeasurePlan) -> Point:
    own, harmful = each.own, each.own.intent(harmful=True)
    whole = own.choose("overall", 0, harmful)
    assert whole is not None, "a measured condition was asked harmful prompts"
    refused = own.choose("overall", 0, own.intent(harmful=False))
    return Point(
        condition=each.condition.name,
        factors=each.condition.factors,
        asr=rate(own, whole, ASR, plan.min_cell),
        asr_by_task=_by_task(own, ASR, plan),
        over_refusal=None if refused is None else rate(own, refused, OVER_REFUSAL, plan.min_cell),
        scores=dict(_scores(own, plan)),
        change=None if each.arms is None else rate_change(each.arms, whole, ASR, plan.min_cell),
    )


def _by_task(own: Pooled, what: Kind, plan: MeasurePlan) -> Mapping[str, Rate]:
    chosen = own.intent(harmful=True)
    return breakdown(
        own, chosen, lambda part: rate(own, part, what, plan.min_cell), ("task",)
    ).by_task


def _scores(own: Pooled, plan: MeasurePlan) -> Iterator[tuple[str, float]]:
    for scorer in plan.scorers:
        scored = own.intent(harmful=False) & (own.counts((f"score:{scorer}", "n")) > 0).all(axis=1)
        part = own.choose("overall", 0, scored)
        if part is not None:
            yield scorer, score(own, part, scorer, plan.min_cell).estimate
