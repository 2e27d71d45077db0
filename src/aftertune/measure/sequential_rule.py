"""The gate's sequential rule: behaviors in an order drawn beforehand, and bets on what each of them adds."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from aftertune.core.ids import content_key
from aftertune.measure.crossed import Matrix
from aftertune.measure.intervals import Bounds
from aftertune.measure.results import Change, Scope, scope_of_checkpoints
from aftertune.measure.rules import Counted, Finding, interval_of
from aftertune.measure.sequential import (
    Vector,
    evidence_above,
    evidence_below,
    limits_now,
    lower_limit,
    upper_limit,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The behaviors of a sequential gate in the order drawn beforehand, with the tasks that each occurs in."""

    tasks: Mapping[str, frozenset[str]]
    """Behavior -> tasks, in order."""
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Of the tasks in the overall figure; one that is not named weighs 1."""

    @property
    def digest(self) -> str:
        """The hash of the order (32 hexadecimal digits)."""
        return content_key(
            "order", [[name, sorted(tasks)] for name, tasks in self.tasks.items()]
        ).hex()

    def shares(self, tasks: frozenset[str]) -> dict[str, dict[str, float]]:
        """Return behavior -> task -> what its mean there counts in a figure over ``tasks``; the mean over all is 1."""
        chosen = {name: there & tasks for name, there in self.tasks.items() if there & tasks}
        total = sum(self.weights.get(task, 1.0) for task in tasks)
        each = {
            task: self.weights.get(task, 1.0)
            / total
            * len(chosen)
            / sum(task in there for there in chosen.values())
            for task in tasks
        }
        return {name: {task: each[task] for task in there} for name, there in chosen.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequential:
    """Behaviors come in a declared order, and bets on them decide as soon as they can, whenever one looks."""

    alpha: float
    order: Order
    these_prompts: bool = False
    """The question is what all prompts of the order would say, so they are drawn without replacement."""
    name: str = "sequential"

    def scope(self, seeds: int) -> Scope:
        """Return the scope of these checkpoints: no bet on behaviors says anything about new training seeds."""
        return scope_of_checkpoints(seeds, these_prompts=self.these_prompts)

    def decide(self, counted: Counted, margin: float) -> Finding:
        """Return the limits of the change that hold whenever one stops."""
        base, reach, total = self._behaviors(counted, counted.base, counted.base_n)
        fail, worst = (
            self._behaviors(counted, sums, counted.n)[0] - base
            for sums in (counted.fail, counted.worst)
        )
        lower, p_fail = self._lower(fail, margin, reach, total)
        return Finding(
            lower=lower,
            p_fail=p_fail,
            worst=float(worst.mean()),
            upper=-self._lower(-worst, -margin, reach, total)[0],
        )

    def level(self, counted: Counted, worst: Matrix) -> Bounds:
        """Return the limits of the fine-tune's own rate that hold whenever one stops."""
        measured, reach, total = self._behaviors(counted, counted.tuned, counted.n)
        highest = self._behaviors(counted, worst, counted.n)[0]
        if len(measured) == total:
            return float(measured.mean()), float(highest.mean())
        low = lower_limit(measured, self.alpha, 0.0, reach, total)
        return low, min(1.0, upper_limit(highest, self.alpha, 0.0, reach, total))

    def shown(self, change: Change, counted: Counted) -> Change:
        """Return the change with intervals and a p-value that hold whenever one stops.

        The intervals are by the evidence as it stands, so the change lies in them; the bounds that decide (`decide`) rest on
        the strongest so far.
        """
        base, reach, total = self._behaviors(counted, counted.base, counted.base_n)
        x = self._behaviors(counted, counted.tuned, counted.n)[0] - base
        scope = self.scope(counted.n.shape[1])
        intervals = [
            interval_of(
                _both(x, change.estimate, (1 - level) / 2, reach, total),
                level,
                "betting confidence sequence",
                scope,
            )
            for level in (0.95, 0.90)
        ]
        strongest = max(evidence_above(x, 0.0, -reach, total), evidence_below(x, 0.0, reach, total))
        return replace(
            change,
            interval=intervals[0],
            interval90=intervals[1],
            p_value=min(1.0, 2 / strongest),
            method="betting e-process",
            pairs=None,
        )

    def _lower(
        self, x: Vector, margin: float, reach: float, total: int | None
    ) -> tuple[float, float]:
        if len(x) == total:
            return float(x.mean()), 0.0 if x.mean() > margin else 1.0
        evidence = evidence_above(x, margin, -reach, total)
        return lower_limit(x, self.alpha, -reach, reach, total), 1 / evidence

    def _behaviors(
        self, counted: Counted, sums: Matrix, n: Matrix
    ) -> tuple[Vector, float, int | None]:
        """Return what each behavior adds, in order; the most that one can add; and how many there are to draw from."""
        shares = self.order.shares(
            frozenset(counted.task) if len(set(counted.task)) == 1 else self._tasks()
        )
        total = np.add.reduceat(sums[counted.part.order], counted.part.starts, axis=0)
        size = np.add.reduceat(n[counted.part.order], counted.part.starts, axis=0)
        means = (total / size).mean(axis=1)
        place = {name: row for row, name in enumerate(shares)}
        rows = np.array([place[name] for name in counted.behavior])
        weight = np.array(
            [shares[name][task] for name, task in zip(counted.behavior, counted.task, strict=True)]
        )
        added = np.bincount(rows, weight * means, minlength=len(shares)).astype(np.float64)
        seen = np.zeros(len(shares), np.bool_)
        seen[rows] = True
        reach = max(sum(there.values()) for there in shares.values())
        return added[seen], reach, len(shares) if self.these_prompts else None

    def _tasks(self) -> frozenset[str]:
        return frozenset(task for there in self.order.tasks.values() for task in there)


def _both(x: Vector, estimate: float, alpha: float, reach: float, total: int | None) -> Bounds:
    """Return limits about the printed change, which is the mean of ``x`` but for behaviors that miss tasks."""
    if len(x) == total:
        return float(x.mean()), float(x.mean())
    low, high = limits_now(x, alpha, reach, total)
    return max(min(low, estimate), -1.0), min(max(high, estimate), 1.0)
