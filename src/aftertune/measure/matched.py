"""Fine-tunes compared at equal capability: each at the first epoch that reaches a stated task score.

A mitigation that slows learning looks safe at any fixed epoch. So the epoch is chosen by the task score alone, its
target is declared before the run, and safety is compared only there. A fine-tune that never reaches the target is
compared with nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aftertune.measure.differences import Comparison
from aftertune.measure.plan import Condition, Match, MeasurePlan
from aftertune.measure.quantities import Breakdown, Jsonable, Score

EPOCH = "epoch"
Scores = Mapping[str, Mapping[str, Breakdown[Score]]]
"""Condition -> scorer -> its scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached(Jsonable):
    """A fine-tune at its first epoch that reaches the target."""

    fine_tune: str
    """The condition of its last epoch."""
    condition: str | None
    """The chosen epoch's; None where none reaches the target."""
    epoch: float | None
    epochs: int
    """How many were looked at."""
    score: float | None
    """At the chosen epoch; otherwise the best of all. None where none was scored."""
    against: Comparison | None
    """The difference from the fine-tune without mitigation, each at its own epoch; None without such, or unless both
    reach the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched(Jsonable):
    """The comparison at equal capability."""

    scorer: str
    target: float
    set: str | None
    reached: tuple[Reached, ...]


def matched(
    plan: MeasurePlan, match: Match, scores: Scores, compare: Callable[[str, str], Comparison | None]
) -> Matched:
    """Choose each fine-tune's epoch and compare those with and without mitigation.

    Args:
        plan: what was declared.
        match: the target.
        scores: of the conditions that were measured.
        compare: gives one condition against another (their names); None where they share no prompts.
    """
    chosen = {name: _first(epochs, match, scores) for name, epochs in _fine_tunes(plan, scores).items()}
    reached = []
    for name, (condition, best, epochs) in chosen.items():
        other = plan.condition(name).unmitigated
        beside = chosen[other][0] if other in chosen else None
        against = None if condition is None or beside is None else compare(condition.name, beside.name)
        reached.append(
            Reached(
                fine_tune=name,
                condition=None if condition is None else condition.name,
                epoch=None if condition is None else condition.factors.get(EPOCH),
                epochs=epochs,
                score=best,
                against=against,
            )
        )
    return Matched(scorer=match.scorer, target=match.target, set=match.set, reached=tuple(reached))


def _fine_tunes(plan: MeasurePlan, scores: Scores) -> dict[str, list[Condition]]:
    """Group the epochs of each fine-tune, in their order, under the name of the last one."""
    grouped: dict[tuple[object, ...], list[Condition]] = {}
    for condition in plan.conditions:
        if condition.base is None or condition.name not in scores:
            continue
        rest = tuple((name, value) for name, value in condition.factors.items() if name != EPOCH)
        alone = condition.series if EPOCH in condition.factors else condition.name
        grouped.setdefault((alone, rest), []).append(condition)
    ordered = (sorted(members, key=_epoch) for members in grouped.values())
    return {members[-1].name: members for members in ordered}


def _epoch(condition: Condition) -> float:
    return condition.factors.get(EPOCH, 0.0)


def _first(epochs: Sequence[Condition], match: Match, scores: Scores) -> tuple[Condition | None, float | None, int]:
    """Return the first epoch that reaches the target with its score; None and the best score if none does."""
    known = [(epoch, value) for epoch in epochs if (value := _score(scores[epoch.name], match)) is not None]
    for epoch, value in known:
        if value >= match.target:
            return epoch, value, len(epochs)
    return None, max((value for _, value in known), default=None), len(epochs)


def _score(scores: Mapping[str, Breakdown[Score]], match: Match) -> float | None:
    found = scores.get(match.scorer)
    if found is None:
        return None
    score = found.overall if match.set is None else found.by_set.get(match.set)
    return None if score is None or score.hidden else score.estimate
