"""Fine-tunes of different runs against each other: paired on the prompts that both were asked, else two independent figures.

Paired, the responses of both runs become one table, in which prompts of the same behavior, template and text are one; the
outcome of each response is that of its own run's judge. Unpaired, the intervals of both figures are joined (MOVER, no
correlation): Zou and Donner (2008), Stat Med 27:1693.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from aftertune.core.records import NO_ATTACK
from aftertune.core.table import NONE, Table
from aftertune.measure.arrays import Setting, task_weights
from aftertune.measure.attack_results import AttackFigures
from aftertune.measure.capability import capability_of
from aftertune.measure.comparisons import compare, compare_toxicity
from aftertune.measure.counts import count
from aftertune.measure.intervals import join
from aftertune.measure.outcomes import decided_verdicts, setting_codes
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.rates import ASR, OVER_REFUSAL, rates
from aftertune.measure.results import (
    Bounds,
    Breakdown,
    Change,
    ConditionResult,
    Estimate,
    Rate,
    Score,
    Side,
)
from aftertune.measure.toxicity import toxicities

JUDGE = "decided"
"""The judge of a joint table: whoever decided in each run."""
CATEGORIES = ("behavior", "pair", "template", "task", "set", "hazard", "harm_basis")
"""Columns of a prompt whose codes are names; both runs' become those of the joint table."""
NUMBERS = ("intent", "sample", "finish", "prompt_tokens", "completion_tokens", "coherent")
"""Columns whose codes mean the same in every table."""
FIRST, OTHER = "first", "other"
HARM, OVER_REFUSED = Side.HARM.value, Side.OVER_REFUSAL.value
Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """The responses of one condition in a run."""

    table: Table
    plan: MeasurePlan
    models: tuple[str, ...]
    """The models of the condition, one a training seed."""
    prompts: Mapping[str, Hashable]
    """The id of each prompt -> what makes it the same prompt in another run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A figure of two conditions and its difference, the first one subtracted; shares, or mean scores in [0, 1]."""

    figure: str
    """``harm``, ``over-refusal``, or the name of a score or a toxicity."""
    toxicity: bool = False
    """True for a mean toxicity over all responses, by the classifier that ``figure`` names: no verdict hangs on it."""
    attack: str = NO_ATTACK
    """The attack around all prompts of the figure."""
    task: str | None
    """None for an overall figure."""
    first: float
    other: float
    difference: float
    interval: Bounds
    """Level 0.95."""
    paired: bool
    """True where both answered the same prompts; both figures are then over these."""
    behaviors: tuple[int, int]
    """The number of behaviors of either; of a paired one, those that both answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The prompts of two arms."""

    common: int
    """Prompts that both were asked."""
    first: int
    other: int
    behaviors: int
    """Behaviors of the common prompts."""


def pairing(first: Arm, other: Arm) -> Pairing:
    """Count the prompts that two arms share."""
    before, after = _asked(first), _asked(other)
    common = before.keys() & after.keys()
    return Pairing(
        common=len(common),
        first=len(before),
        other=len(after),
        behaviors=len({before[key] for key in common}),
    )


def same_weights(first: MeasurePlan, other: MeasurePlan) -> bool:
    """Return whether two plans declare the same shares of the tasks in overall figures."""
    return _shares(first) == _shares(other)


def _shares(plan: MeasurePlan) -> Mapping[str, float]:
    """Return the declared weight of each task over the largest one; empty where all weigh the same."""
    weights = plan.task_weights or {}
    if len(set(weights.values())) < 2:
        return {}
    return {task: weight / max(weights.values()) for task, weight in weights.items()}


def _asked(arm: Arm) -> dict[Hashable, str]:
    """Return the prompts of an arm with their behaviors."""
    rows = _rows(arm)
    names, behaviors = arm.table.names["prompt"], arm.table.names["behavior"]
    pairs = np.unique(
        np.stack([arm.table.columns["prompt"][rows], arm.table.columns["behavior"][rows]], axis=1),
        axis=0,
    )
    return {arm.prompts[names[prompt]]: behaviors[behavior] for prompt, behavior in pairs.tolist()}


def paired_differences(first: Arm, other: Arm) -> list[Difference]:
    """Return the differences of two conditions, overall and by task, on the prompts that both answered; none without such.

    Tasks have the weights of the plans where both declare the same, and else weigh equally.
    """
    metrics = tuple(name for name in first.plan.metrics if name in other.plan.metrics)
    toxicity = {name: x for name, x in first.plan.toxicity.items() if name in other.plan.toxicity}
    table = _joint(first, other, (*metrics, *toxicity))
    plan = MeasurePlan(
        conditions=(),
        judges=(JUDGE,),
        metrics=metrics,
        toxicity=toxicity,
        min_cell=first.plan.min_cell,
    )
    weighted = _shares(first.plan) and same_weights(first.plan, other.plan)
    weights = task_weights(table, first.plan) if weighted else {}
    setting = Setting(counted=count(table, plan), code=0, weights=weights)
    before, after = (
        [f"{name} {model}" for model in arm.models] for name, arm in _named(first, other)
    )
    compared, arms = (
        compare(setting, plan, after, before, FIRST),
        setting.arms(after, before),
    )
    if compared is None or arms is None:
        return []
    levels: dict[str, Breakdown[Rate] | Breakdown[Score] | None] = {
        HARM: rates(arms.base, ASR, plan, harmful=True),
        OVER_REFUSED: rates(arms.base, OVER_REFUSAL, plan, harmful=False),
        **{metric: capability_of(arms.base, metric, plan) for metric in metrics},
    }
    changes = {HARM: compared.asr, OVER_REFUSED: compared.over_refusal, **compared.capability}
    toxic = toxicities(arms.base, None, plan)
    return [
        *_changed(levels, changes),
        *(
            replace(difference, toxicity=True)
            for difference in _changed(
                {name: x.responses.mean for name, x in toxic.items()},
                compare_toxicity(arms, plan),
            )
        ),
    ]


def _changed(
    levels: Mapping[str, Breakdown[Rate] | Breakdown[Score] | None],
    changes: Mapping[str, Breakdown[Change] | None],
) -> Iterator[Difference]:
    """Yield the differences of figures that the first arm has and the other one changed, by the name of the figure."""
    for name, breakdown in changes.items():
        for task, change in _parts(breakdown):
            level = dict(_parts(levels.get(name))).get(task)
            if level is not None:
                yield Difference(
                    figure=name,
                    task=task,
                    first=level.estimate,
                    other=level.estimate + change.estimate,
                    difference=change.estimate,
                    interval=(change.interval.low, change.interval.high),
                    paired=True,
                    behaviors=(change.behaviors, change.behaviors),
                )


def unpaired_differences(first: ConditionResult, other: ConditionResult) -> list[Difference]:
    """Return the differences of two conditions as independent figures, overall and in the tasks that both have."""
    pairs: dict[str, tuple[Breakdown[Rate] | Breakdown[Score], ...]] = {
        HARM: (first.asr, other.asr),
        OVER_REFUSED: (first.over_refusal, other.over_refusal),
        **{
            metric: (scores, other.capability[metric])
            for metric, scores in first.capability.items()
            if metric in other.capability
        },
    }
    toxic = {
        name: (toxicity.responses.mean, other.toxicity[name].responses.mean)
        for name, toxicity in first.toxicity.items()
        if name in other.toxicity
    }
    return [
        *_independent(pairs),
        *(replace(difference, toxicity=True) for difference in _independent(toxic)),
    ]


def unpaired_under_attack(first: AttackFigures, other: AttackFigures) -> list[Difference]:
    """Return the differences of two conditions under the same attack as independent figures."""
    return _independent(
        {HARM: (first.asr, other.asr), OVER_REFUSED: (first.over_refusal, other.over_refusal)}
    )


def _independent(
    pairs: Mapping[str, Sequence[Breakdown[Rate] | Breakdown[Score]]],
) -> list[Difference]:
    """Return the differences of pairs of figures, by the name of the figure."""
    differences = []
    for name, (before, after) in pairs.items():
        others = dict(_parts(after))
        for task, level in _parts(before):
            against = others.get(task)
            if against is None:
                continue
            limits = [(figure.interval.low, figure.interval.high) for figure in (level, against)]
            differences.append(
                Difference(
                    figure=name,
                    task=task,
                    first=level.estimate,
                    other=against.estimate,
                    difference=against.estimate - level.estimate,
                    interval=join(against.estimate, limits[1], level.estimate, limits[0], 0.0),
                    paired=False,
                    behaviors=(level.behaviors, against.behaviors),
                )
            )
    return differences


def _parts(
    breakdown: Breakdown[Rate] | Breakdown[Score] | Breakdown[Change] | None,
) -> Iterator[tuple[str | None, Estimate]]:
    """Yield the figures of a breakdown that are shown: overall (None), then by task."""
    if breakdown is None:
        return
    for task, figure in ((None, breakdown.overall), *breakdown.by_task.items()):
        if figure is not None and not figure.hidden:
            yield task, figure


def _named(first: Arm, other: Arm) -> tuple[tuple[str, Arm], tuple[str, Arm]]:
    return (FIRST, first), (OTHER, other)


@dataclass(slots=True)
class _Codes:
    """Names of the joint table with their codes, in the order in which they come."""

    codes: dict[Hashable, int] = field(default_factory=dict)

    def of(self, names: Sequence[Hashable], column: Ints) -> Ints:
        """Return a column with the joint codes of its names; NONE stays."""
        used = set(np.unique(column).tolist())
        recoded = [
            self.codes.setdefault(name, len(self.codes)) if code in used else NONE
            for code, name in enumerate(names)
        ]
        return np.append(np.array(recoded, np.int32), np.int32(NONE))[column]

    @property
    def names(self) -> tuple[str, ...]:
        """The names; those that are no text are numbered."""
        return tuple(
            name if isinstance(name, str) else str(code) for name, code in self.codes.items()
        )


def _joint(first: Arm, other: Arm, metrics: Sequence[str]) -> Table:
    """Return the table of both arms, with the scores of metrics that both have."""
    columns: dict[str, list[Ints]] = {}
    scores: dict[str, list[NDArray[np.float64]]] = {}
    codes = {name: _Codes() for name in (*CATEGORIES, "model", "prompt")}
    for name, arm in _named(first, other):
        rows, table = _rows(arm), arm.table
        names: dict[str, Sequence[Hashable]] = {key: table.names[key] for key in CATEGORIES}
        names["model"] = [f"{name} {model}" for model in table.names["model"]]
        names["prompt"] = [arm.prompts[prompt] for prompt in table.names["prompt"]]
        own = {key: codes[key].of(names[key], table.columns[key][rows]) for key in codes}
        own |= {key: table.columns[key][rows] for key in NUMBERS}
        own[f"verdict:{JUDGE}"] = decided_verdicts(table, arm.plan)[rows].astype(np.int32)
        own |= {key: np.zeros(len(rows), np.int32) for key in ("system", "decoding")}
        for key, column in own.items():
            columns.setdefault(key, []).append(column)
        for metric in metrics:
            scores.setdefault(f"score:{metric}", []).append(table.scores[f"score:{metric}"][rows])
    joint = {key: of.names for key, of in codes.items()}
    return Table(
        columns={key: np.concatenate(parts) for key, parts in columns.items()},
        scores={key: np.concatenate(parts) for key, parts in scores.items()},
        names=MappingProxyType(joint | {"system": ("",), "decoding": ("",)}),
    )


def _rows(arm: Arm) -> NDArray[np.intp]:
    """Return the rows of an arm under its run's first setting."""
    models = [arm.table.names["model"].index(model) for model in arm.models]
    setting, _ = setting_codes(arm.table, arm.plan)
    return np.flatnonzero(np.isin(arm.table.columns["model"], models) & (setting == 0))
