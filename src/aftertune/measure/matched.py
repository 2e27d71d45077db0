"""Fine-tunes compared at equal capability: each training seed at the first epoch that reaches a stated task score.

A mitigation that slows learning looks safe at any fixed epoch. So the epoch is chosen by the task score alone, its
target is declared before the run, and safety is compared only there. Each seed is stopped by its own score, as somebody
who trains one model stops it: the choice is then part of what a seed draws, and seeds stay independent draws of "train
until it is good enough", which the crossed interval knows how to treat. One epoch for all seeds, chosen by their mean,
would tie them to each other. A seed that never reaches the target is left out, and said to be.
"""

from collections.abc import Collection, Sequence

from aftertune.measure.between import Between
from aftertune.measure.plan import Condition, Match, MeasurePlan
from aftertune.measure.results import Breakdown, Matched, Reached, Score, Stopped

EPOCH = "epoch"


def matched(between: Between, match: Match, measured: Collection[str]) -> Matched:
    """Choose the epoch of each seed of each fine-tune, and compare those with and without mitigation.

    Args:
        between: the models of the setting.
        match: the target.
        measured: the conditions that were measured.
    """
    plan = between.plan
    tunes = _fine_tunes(plan, measured)
    stopped = {name: tuple(_stop_each(epochs, match, between)) for name, epochs in tunes.items()}
    chosen = {
        name: [seed.model for seed in seeds if seed.model is not None]
        for name, seeds in stopped.items()
    }
    reached = []
    for name, seeds in stopped.items():
        models, other = chosen[name], plan.condition(name).unmitigated
        beside = chosen.get(other, []) if other is not None else []
        asr, over_refusal = between.rates(models) if models else (None, None)
        reached.append(
            Reached(
                fine_tune=name,
                epochs=len(tunes[name]),
                seeds=seeds,
                score=_told_score(seeds),
                asr=asr,
                over_refusal=over_refusal,
                against=between.compare(models, beside, other)
                if models and beside and other
                else None,
            )
        )
    return Matched(scorer=match.scorer, target=match.target, set=match.set, reached=tuple(reached))


def _fine_tunes(plan: MeasurePlan, measured: Collection[str]) -> dict[str, list[Condition]]:
    """Group the epochs of each fine-tune, in their order, under the name of the last one."""
    grouped: dict[tuple[object, ...], list[Condition]] = {}
    for condition in plan.conditions:
        if condition.base is None or condition.name not in measured:
            continue
        rest = tuple((name, value) for name, value in condition.factors.items() if name != EPOCH)
        alone = condition.series if EPOCH in condition.factors else condition.name
        grouped.setdefault((alone, rest), []).append(condition)
    ordered = (sorted(members, key=_epoch) for members in grouped.values())
    return {members[-1].name: members for members in ordered}


def _epoch(condition: Condition) -> float:
    return condition.factors.get(EPOCH, 0.0)


def _stop_each(epochs: Sequence[Condition], match: Match, between: Between) -> list[Stopped]:
    """Return each seed at its first epoch that reaches the target."""
    along: dict[int, list[tuple[float | None, str]]] = {}
    for epoch in epochs:
        names = epoch.training_seeds or range(len(epoch.models))
        for seed, model in zip(names, epoch.models, strict=True):
            along.setdefault(seed, []).append((epoch.factors.get(EPOCH), model))
    known = bool(epochs[-1].training_seeds)
    return [
        _stop(seed if known else None, checkpoints, match, between)
        for seed, checkpoints in along.items()
    ]


def _stop(
    seed: int | None,
    checkpoints: Sequence[tuple[float | None, str]],
    match: Match,
    between: Between,
) -> Stopped:
    best = None
    for epoch, model in checkpoints:
        score = _score(between.score(model, match.scorer), match)
        if score is not None and score >= match.target:
            return Stopped(training_seed=seed, model=model, epoch=epoch, score=score)
        best = max((value for value in (best, score) if value is not None), default=None)
    return Stopped(training_seed=seed, model=None, epoch=None, score=best)


def _told_score(seeds: Sequence[Stopped]) -> float | None:
    """Return the mean score of the seeds that reach the target; without such the best of all."""
    reached = [seed.score for seed in seeds if seed.model is not None and seed.score is not None]
    if reached:
        return sum(reached) / len(reached)
    return max((seed.score for seed in seeds if seed.score is not None), default=None)


def _score(found: Breakdown[Score] | None, match: Match) -> float | None:
    if found is None:
        return None
    score = found.overall if match.set is None else found.by_set.get(match.set)
    return None if score is None or score.hidden else score.estimate
