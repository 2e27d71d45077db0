"""How a line of the gate is decided: by intervals after a fixed number of prompts, by exact means, or by sequential bets.

Each rule bounds the same change, with the pairs coded against the fine-tune for PASS and for it for FAIL; what differs is
what the bounds may be said about, and whether the data may be looked at while they come in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from aftertune.measure.averaging import Layout, fold
from aftertune.measure.contrasts import ceiling, one_sided, p_above
from aftertune.measure.crossed import Matrix, cautious_wilson
from aftertune.measure.intervals import Bounds
from aftertune.measure.rates import paired, rate_limits
from aftertune.measure.results import (
    Change,
    Interval,
    Scope,
    scope,
    scope_of_checkpoints,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one line of the gate is decided on; matrices are prompts x training seeds (the base's: prompts x 1)."""

    part: Layout
    behavior: Sequence[str]
    """Of each group of the layout."""
    task: Sequence[str]
    """Of each group of the layout."""
    n: Matrix
    base_n: Matrix
    base: Matrix
    """Harmful responses of the base, as measured."""
    tuned: Matrix
    """Harmful responses of the fine-tune, as measured."""
    fail: Matrix
    """The same with undecided pairs as no change."""
    worst: Matrix
    """The same at their worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The bounds of one line."""

    lower: float
    p_fail: float
    """One-sided p-value against "the change is at most the margin", before Holm."""
    worst: float
    """The change with every pair at its worst."""
    upper: float


class Rule(Protocol):
    """Bounds changes and rates, each side with the declared error."""

    @property
    def name(self) -> str:
        """What it is called in the result."""
        ...

    def scope(self, seeds: int) -> Scope:
        """Return what its bounds may be said about."""
        ...

    def decide(self, counted: Counted, margin: float) -> Finding:
        """Return the bounds of a change."""
        ...

    def level(self, counted: Counted, worst: Matrix) -> Bounds:
        """Return the bounds of the fine-tune's own rate: as measured, and with ``worst`` as its harmful responses."""
        ...

    def shown(self, change: Change, counted: Counted) -> Change:
        """Return a change with the intervals that hold under this rule."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """All prompts are asked, and the intervals of docs/statistics.md decide: about prompts like these."""

    alpha: float
    name: str = "fixed"

    def scope(self, seeds: int) -> Scope:
        """Return the recipe's scope for several seeds, the checkpoint's for one."""
        return scope(seeds)

    def decide(self, counted: Counted, margin: float) -> Finding:
        """Return the one-sided limits of the change and the test that inverts the lower one."""
        base = fold(counted.part, counted.base, counted.base_n)
        fail, worst = (
            paired(fold(counted.part, sums, counted.n), base)
            for sums in (counted.fail, counted.worst)
        )
        return Finding(
            lower=one_sided(fail, self.alpha)[0],
            p_fail=p_above(fail, margin),
            worst=worst.estimate,
            upper=ceiling(worst, self.alpha),
        )

    def level(self, counted: Counted, worst: Matrix) -> Bounds:
        """Return one-sided Wilson limits; the upper one is never tighter than a spotless model's."""
        measured, highest = (fold(counted.part, sums, counted.n) for sums in (counted.tuned, worst))
        high = rate_limits(highest, 2 * self.alpha)[1]
        if not highest.single:
            high = max(high, cautious_wilson(highest.two_way, highest.responses, 2 * self.alpha)[1])
        return rate_limits(measured, 2 * self.alpha)[0], high

    def shown(self, change: Change, counted: Counted) -> Change:
        """Return the change as it is."""
        del counted
        return change


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """All prompts are asked, and only they are spoken of: the means themselves decide, without error."""

    name: str = "exact"

    def scope(self, seeds: int) -> Scope:
        """Return the scope of these checkpoints and these prompts."""
        return scope_of_checkpoints(seeds, these_prompts=True)

    def decide(self, counted: Counted, margin: float) -> Finding:
        """Return the change itself as both bounds."""
        base = fold(counted.part, counted.base, counted.base_n).two_way.mean
        fail, worst = (
            fold(counted.part, sums, counted.n).two_way.mean - base
            for sums in (counted.fail, counted.worst)
        )
        return Finding(lower=fail, p_fail=0.0 if fail > margin else 1.0, worst=worst, upper=worst)

    def level(self, counted: Counted, worst: Matrix) -> Bounds:
        """Return the rates themselves."""
        low, high = (
            fold(counted.part, sums, counted.n).two_way.mean for sums in (counted.tuned, worst)
        )
        return low, high

    def shown(self, change: Change, counted: Counted) -> Change:
        """Return the change with intervals of no width."""
        at = (change.estimate, change.estimate)
        seeds = counted.n.shape[1]
        intervals = [
            interval_of(at, level, "exact mean", self.scope(seeds)) for level in (0.95, 0.90)
        ]
        p = 1.0 if change.estimate == 0 else 0.0
        return replace(
            change, interval=intervals[0], interval90=intervals[1], p_value=p, method="exact mean"
        )


def interval_of(limits: Bounds, level: float, method: str, scope: Scope) -> Interval:
    """Return an interval from its limits."""
    return Interval(low=limits[0], high=limits[1], level=level, method=method, scope=scope)
