"""Rates under attacks, and what fine-tuning did to them: the change of the change, paired over behaviors and training seeds.

Every attack is analysed by itself, on the behaviors that were asked with and without it; nothing is pooled over attacks or
with prompts that stand under none. docs/statistics.md, "Attacks", has the formulas.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from aftertune.core.records import NO_ATTACK
from aftertune.core.table import Table
from aftertune.measure.arrays import (
    Arms,
    Average,
    Grid,
    Layout,
    Setting,
    fold,
    layout,
    task_weights,
)
from aftertune.measure.attack_results import (
    AttackedCondition,
    AttackedSetting,
    AttackFigures,
    WorstAttack,
)
from aftertune.measure.changes import adjust, adjust_family, change_of, rate_changes
from aftertune.measure.contrasts import Contrast, MeanT, table_2x2
from aftertune.measure.counts import N, Source, SourceKind, count
from aftertune.measure.crossed import Matrix, two_way
from aftertune.measure.intervals import holm
from aftertune.measure.noise import RunVariance, noise_of, rate_noise, wider_rate, with_runs
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.rates import (
    ASR,
    OVER_REFUSAL,
    TASKS,
    event,
    rate_limits,
    rates,
)
from aftertune.measure.results import (
    CHANGE_OF_CHANGE,
    SHARE,
    Bounds,
    Breakdown,
    Change,
    interval,
    scope,
)

FAMILY = "Holm over attacks"
SIMULTANEOUS = "largest of several, lower limit by Bonferroni"
_ALPHA = 0.05
T = TypeVar("T")


def measure_attacks(table: Table, plan: MeasurePlan) -> tuple[AttackedSetting, ...]:
    """Measure every condition under every attack, setting by setting.

    Args:
        table: with the column ``attack``; rows without attack among them.
        plan: what was declared.

    Returns:
        nothing where the table has no attack.
    """
    names = [name for name in table.names["attack"] if name != NO_ATTACK]
    if not names:
        return ()
    plan = replace(plan, metrics=(), toxicity={}, preferences=(), reasoning_judges=())
    weights = task_weights(table, plan)
    counted = {name: count(rows_under(table, name), plan) for name in (NO_ATTACK, *names)}
    measured = []
    for setting in counted[NO_ATTACK].settings:
        by_attack = {
            name: Setting(counted=counts, code=counts.settings.index(setting), weights=weights)
            for name, counts in counted.items()
            if setting in counts.settings
        }
        conditions = [_condition(condition, by_attack, plan) for condition in plan.conditions]
        measured.append(
            AttackedSetting(
                system=setting[0],
                decoding=setting[1],
                attacks=tuple(name for name in names if name in by_attack),
                conditions=tuple(filter(None, conditions)),
            )
        )
    return tuple(measured)


def rows_under(table: Table, attack: str) -> Table:
    """Return the rows of one attack, of a table that has the column ``attack``."""
    rows = table.columns["attack"] == table.names["attack"].index(attack)
    return Table(
        columns={name: column[rows] for name, column in table.columns.items()},
        scores={name: column[rows] for name, column in table.scores.items()},
        names=table.names,
    )


def _condition(
    condition: Condition, by_attack: Mapping[str, Setting], plan: MeasurePlan
) -> AttackedCondition | None:
    """Return a condition's figures under every attack; None where it was asked nothing."""
    base = () if condition.base is None else plan.condition(condition.base).models
    plain = by_attack[NO_ATTACK]
    measured: dict[str, _Measured] = {}
    for name, setting in by_attack.items():
        if name == NO_ATTACK:
            continue
        own, without = setting.grid(condition.models), plain.grid(condition.models)
        if own is None or without is None:
            continue
        both = setting.arms(condition.models, base) if base else None
        both_without = plain.arms(condition.models, base) if base else None
        measured[name] = _Measured(
            own=own, without=without, both=both, both_without=both_without, plan=plan
        )
    if not measured:
        return None
    figures = _over_attacks({name: attack.figures() for name, attack in measured.items()})
    return AttackedCondition(
        name=condition.name,
        base=condition.base,
        seeds=len(condition.models),
        attacks=figures,
        worst=worst_of({name: attack.largest() for name, attack in measured.items()}, SHARE),
        worst_gain=worst_of(
            {name: attack.gain() for name, attack in measured.items()}, CHANGE_OF_CHANGE
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A figure of one attack that may be the largest."""

    estimate: float
    limits: Callable[[float], Bounds]
    """Gives its two-sided 1 - alpha interval."""
    unsure: float
    """The rise of the upper limit if undecided and incoherent responses count."""
    seeds: int


def worst_of(candidates: Mapping[str, Candidate | None], ends: Bounds) -> WorstAttack | None:
    """Return the largest of several figures, with an interval of the largest true one.

    Lower limit: the largest lower limit at alpha / K (Bonferroni over K attacks: it is above the largest true figure only
    where a lower limit is above its own). Upper limit: the largest upper limit at alpha, which needs no correction: the
    attack that is truly the worst has one limit, and the largest of all is not below that. Both sides err at alpha / 2 at most.

    Args:
        candidates: the figure of each attack, None where there is none.
        ends: the least and the largest value that the figure can have.
    """
    there = {name: candidate for name, candidate in candidates.items() if candidate is not None}
    if not there:
        return None
    name = max(there, key=lambda attack: there[attack].estimate)
    lows = [candidate.limits(_ALPHA / len(there))[0] for candidate in there.values()]
    highs = [candidate.limits(_ALPHA)[1] for candidate in there.values()]
    unsure = [
        high + candidate.unsure for high, candidate in zip(highs, there.values(), strict=True)
    ]
    return WorstAttack(
        attack=name,
        attacks=len(there),
        estimate=there[name].estimate,
        interval=interval(
            (max(lows), max(highs)), SIMULTANEOUS, scope(there[name].seeds), ends=ends
        ),
        at_most=min(ends[1], max(unsure)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """One condition under one attack and without, by itself and beside its base."""

    own: Grid
    without: Grid
    both: Arms | None
    both_without: Arms | None
    plan: MeasurePlan

    def figures(self) -> AttackFigures:
        """Return all figures, p-values adjusted over tasks alone."""
        plan = self.plan
        return AttackFigures(
            asr=rates(self.own, ASR, plan, harmful=True, dimensions=TASKS),
            over_refusal=rates(self.own, OVER_REFUSAL, plan, harmful=False, dimensions=TASKS),
            effect=self._by_task(self._effect),
            asr_change=rate_changes(self.both, ASR, plan, harmful=True, dimensions=TASKS),
            over_refusal_change=rate_changes(
                self.both, OVER_REFUSAL, plan, harmful=False, dimensions=TASKS
            ),
            change_of_change=None if self.both is None else self._by_task(self._change_of_change),
            guards={
                guard: rates(
                    self.own,
                    event(Source(SourceKind.GUARD, guard), "harmful"),
                    plan,
                    harmful=True,
                    dimensions=TASKS,
                )
                for guard in plan.guards
            },
        )

    def largest(self) -> Candidate | None:
        """Return the overall ASR as a candidate for the worst attack."""
        part = self.own.overall(harmful=True)
        if part is None or part.behaviors < self.plan.min_cell:
            return None
        average = self.own.fold(part, ASR.hit)
        runs = rate_noise(self.own, average, lambda run: run.fold(part, ASR.hit).matrix)
        mean = average.two_way.mean

        def limits(alpha: float) -> Bounds:
            return wider_rate(rate_limits(average, alpha), mean, runs, alpha)

        unsure = fold(part, ASR.unsure(self.own), self.own.counts(N)).two_way.mean
        return Candidate(estimate=mean, limits=limits, unsure=unsure, seeds=self.own.seeds)

    def gain(self) -> Candidate | None:
        """Return the overall change of the change as a candidate for the worst attack."""
        if self.both is None or self.both_without is None:
            return None
        parts = matching(self.both.tuned, self.both_without.tuned)
        if parts is None or parts[0].behaviors < self.plan.min_cell:
            return None
        contrast = with_runs(*self._twice(parts))
        unsure = _unsure(self.both.tuned, parts[0]) + _unsure(self.both_without.base, parts[1])
        return Candidate(
            estimate=contrast.estimate,
            limits=contrast.interval,
            unsure=unsure,
            seeds=self.both.tuned.seeds,
        )

    def _by_task(
        self, figure: Callable[[tuple[Layout, Layout]], Change | None]
    ) -> Breakdown[Change]:
        codes = np.unique(self.own.attribute("task")).tolist()
        names = self.own.counted.names["task"]
        grids = (self.own, self.without)
        if self.both is not None and self.both_without is not None:
            grids = (self.both.tuned, self.both_without.tuned)
        whole, parts = matching(*grids), {code: matching(*grids, task=code) for code in codes}
        return adjust(
            Breakdown(
                overall=None if whole is None else figure(whole),
                by_task={
                    names[code]: change
                    for code, part in parts.items()
                    if part is not None and (change := figure(part)) is not None
                },
            ),
            self.plan.families,
        )

    def _effect(self, parts: tuple[Layout, Layout]) -> Change:
        """Return the ASR under the attack minus that without, of the same models (bounds by unsure responses)."""
        own, without = self.own, self.without
        if self.both is not None and self.both_without is not None:
            own, without = self.both.tuned, self.both_without.tuned
        attacked, plain = own.fold(parts[0], ASR.hit), without.fold(parts[1], ASR.hit)
        contrast: Contrast
        if attacked.single and plain.single:
            contrast = table_2x2(attacked.matrix, plain.matrix)
        else:
            contrast = MeanT(
                x=two_way(_effect_of([attacked, plain]), min(attacked.behaviors, plain.behaviors))
            )
        least = min(attacked, plain, key=lambda average: average.n)
        runs = _noise(list(zip((own, without), parts, strict=True)), least, _effect_of)
        change = change_of(contrast, own.seeds, parts[0].behaviors, self.plan.min_cell, runs)
        bounds = (
            contrast.estimate - _unsure(without, parts[1]),
            contrast.estimate + _unsure(own, parts[0]),
        )
        return replace(change, bounds=bounds)

    def _change_of_change(self, parts: tuple[Layout, Layout]) -> Change | None:
        """Return the change under the attack minus the change without, with the bounds that unsure responses imply."""
        if self.both is None or self.both_without is None:
            return None
        contrast, runs = self._twice(parts)
        change = change_of(
            contrast,
            self.own.seeds,
            parts[0].behaviors,
            self.plan.min_cell,
            runs,
            CHANGE_OF_CHANGE,
        )
        # (H1a - H0a) - (H1n - H0n): unsure responses of 1a and 0n raise it, those of 0a and 1n lower it.
        low = _unsure(self.both.base, parts[0]) + _unsure(self.both_without.tuned, parts[1])
        high = _unsure(self.both.tuned, parts[0]) + _unsure(self.both_without.base, parts[1])
        return replace(change, bounds=(contrast.estimate - low, contrast.estimate + high))

    def _twice(self, parts: tuple[Layout, Layout]) -> tuple[Contrast, RunVariance | None]:
        """Return the difference in differences with its noise: rows are behaviors, columns training seeds (two-way t)."""
        assert self.both is not None
        assert self.both_without is not None
        arms = [
            (arm, part)
            for both, part in zip((self.both, self.both_without), parts, strict=True)
            for arm in (both.tuned, both.base)
        ]
        averages = [arm.fold(part, ASR.hit) for arm, part in arms]
        x = two_way(_difference(averages), min(average.behaviors for average in averages))
        return MeanT(x=x), _noise(arms, averages[1], _difference)


def _difference(averages: Sequence[Average]) -> Matrix:
    """Return (tuned - base) under the attack minus (tuned - base) without it: behaviors x training seeds."""
    tuned, base, tuned_without, base_without = (average.matrix for average in averages)
    difference: Matrix = (tuned - base) - (tuned_without - base_without)
    return difference


def _effect_of(averages: Sequence[Average]) -> Matrix:
    """Return the ASR under the attack minus that without it: behaviors x training seeds."""
    attacked, plain = (average.matrix for average in averages)
    effect: Matrix = attacked - plain
    return effect


def _noise(
    arms: Sequence[tuple[Grid, Layout]],
    whole: Average,
    rows: Callable[[Sequence[Average]], Matrix],
) -> RunVariance | None:
    """Return the noise of a figure of several arms; None without replicates in all of them.

    Args:
        arms: with the folding of each.
        whole: an average of the arm in which one answer weighs most.
        rows: the figure, behaviors x training seeds, from the averages of all arms.
    """
    by_arm = [[run.fold(part, ASR.hit) for run in arm.runs] for arm, part in arms]
    if not all(by_arm) or len({len(runs) for runs in by_arm}) > 1:
        return None
    means = [rows(averages).mean(axis=1) for averages in zip(*by_arm, strict=True)]
    return noise_of(means, whole, fixed=all(arm.deterministic for arm, _ in arms))


def _unsure(grid: Grid, part: Layout) -> float:
    """Return the share of responses that might belong to the ASR."""
    return fold(part, ASR.unsure(grid), grid.counts(N)).two_way.mean


def matching(
    attacked: Grid, without: Grid, *, harmful: bool = True, task: int | None = None
) -> tuple[Layout, Layout] | None:
    """Return the foldings of two grids over the behaviors and tasks that both have, whose rows stand for the same behaviors.

    None without such.
    """
    groups, others = _groups(attacked), _groups(without)
    chosen = []
    for grid, own, other in ((attacked, groups, others), (without, others, groups)):
        among: NDArray[np.bool_] = grid.intent(harmful=harmful) & np.isin(own, other)
        if task is not None:
            among = among & (grid.attribute("task") == task)
        chosen.append(
            layout(grid.attribute("behavior"), grid.attribute("task"), among, grid.weights)
        )
    first, second = chosen
    return None if first is None or second is None else (first, second)


def _groups(grid: Grid) -> NDArray[np.int64]:
    """Return a code of behavior and task for each prompt; the grids of one table share the codes of both."""
    tasks = len(grid.counted.names["task"])
    behavior: NDArray[np.int64] = grid.attribute("behavior").astype(np.int64)
    return behavior * tasks + grid.attribute("task")


def _over_attacks(figures: Mapping[str, AttackFigures]) -> Mapping[str, AttackFigures]:
    """Adjust the overall changes over the attacks of a condition: each kind of change is a family of its own."""

    def family(of: Callable[[AttackFigures], Breakdown[Change] | None]) -> Mapping[str, Change]:
        changes = {
            name: breakdown.overall
            for name, own in figures.items()
            if (breakdown := of(own)) is not None and breakdown.overall is not None
        }
        return adjust_family(changes, holm, FAMILY) if len(changes) > 1 else changes

    effects = family(lambda own: own.effect)
    changes = family(lambda own: own.asr_change)
    twice = family(lambda own: own.change_of_change)

    def with_overall(
        breakdown: Breakdown[Change] | None, adjusted: Change | None
    ) -> Breakdown[Change] | None:
        return None if breakdown is None else replace(breakdown, overall=adjusted)

    return {
        name: replace(
            own,
            effect=replace(own.effect, overall=effects.get(name)),
            asr_change=with_overall(own.asr_change, changes.get(name)),
            change_of_change=with_overall(own.change_of_change, twice.get(name)),
        )
        for name, own in figures.items()
    }
