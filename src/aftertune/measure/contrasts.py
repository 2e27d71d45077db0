"""Changes and other differences, paired over behaviors: their intervals, and the tests that invert them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from aftertune.measure.arrays import Average
from aftertune.measure.crossed import (
    Matrix,
    TwoWay,
    cautious_wilson,
    crossed_wilson,
    half_width_squared,
    quantiles,
    shared_part,
    two_way,
)
from aftertune.measure.intervals import bisect, join, newcombe, tango, wilson
from aftertune.measure.results import Bounds

LEAST_P = 1e-15
"""The smallest p-value that is given."""


class Contrast(Protocol):
    """A difference with intervals of any level; its test inverts them, so the two never disagree (but for the 2 x 2 table, whose printed p-value is McNemar's)."""

    @property
    def method(self) -> str:
        """The name of its intervals."""

    @property
    def estimate(self) -> float:
        """The difference."""

    def interval(self, alpha: float) -> Bounds:
        """Return the two-sided 1 - ``alpha`` interval."""


@runtime_checkable
class HasCeiling(Protocol):
    """A contrast with an upper end of its own for limits that a model has to keep."""

    def ceiling(self, alpha: float) -> float:
        """Return the upper end of the two-sided 1 - ``alpha`` interval that never falls as the figure rises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """The paired change of a rate: two Wilson intervals on effective n, joined with their correlation."""

    tuned: TwoWay
    base: TwoWay
    r: float
    tuned_responses: float
    base_responses: float
    difference: TwoWay
    """The paired differences of the rows."""
    moves: Bounds
    """The mean rise of the cells that rose, over all cells, and the mean fall of those that fell."""
    method: str = "MOVER-Wilson on effective n"

    @property
    def estimate(self) -> float:
        """The change."""
        return self.tuned.mean - self.base.mean

    def interval(self, alpha: float) -> Bounds:
        """Return the two-sided 1 - ``alpha`` interval."""
        return self._joined(crossed_wilson, alpha, alpha)

    def ceiling(self, alpha: float) -> float:
        """Return the upper end with limits that rise with the hits (`cautious_wilson`), but no lower than the score interval's.

        Where both arms are nearly parallel, MOVER believes their correlation and is too short for changes in one direction.
        Tango's interval looks at the changes alone. It stands on the number of pairs whose mean change would vary as much, as
        in `crossed.effective_n`: n_eff = (rise + fall - change^2) z^2 / half width^2.
        """
        joined = self._joined(cautious_wilson, alpha, alpha / 2)[1]
        x, (rise, fall) = self.difference, self.moves
        responses = min(self.tuned_responses, self.base_responses)
        # No lower than without any change, as in `cautious_wilson`: what never moved does not show how moves cluster.
        z, t = quantiles(alpha, max(x.rows - 1.0, 1.0))
        still = max(1.0, min(x.behaviors, responses) * (z / t) ** 2)
        highest = max(joined, tango(0.0, 0.0, still, alpha)[1])
        if not 0 < x.variance < math.inf:
            return highest
        z, t = quantiles(alpha, x.df)
        size = (rise + fall - x.mean**2) * z * z / half_width_squared(x, alpha)
        size = max(1.0, min(size, responses * (z / t) ** 2))
        return max(highest, tango(size * rise, size * fall, size, alpha)[1])

    def _joined(
        self, limits: Callable[[TwoWay, float, float], Bounds], alpha: float, seed_alpha: float
    ) -> Bounds:
        # r holds for the shared parts of both half widths alone, so it is scaled by them.
        tuned = limits(self.tuned, self.tuned_responses, alpha)
        base = limits(self.base, self.base_responses, alpha)
        r = (
            self.r
            * shared_part(self.tuned, alpha, seed_alpha)
            * shared_part(self.base, alpha, seed_alpha)
        )
        return join(self.tuned.mean, tuned, self.base.mean, base, r)


def mover(tuned: Average, base: Average) -> Mover:
    """Return the change from ``base`` (n x 1) to ``tuned`` (n x S), rows paired.

    r = (cov_i(r_i, b_i) / n) / sqrt(V_1 V_0), cut to [-1, 1]: the correlation of both means over the behaviors.
    Source: Zou and Donner (2008), Stat Med 27:1693 on the intervals of `crossed_wilson`.
    """
    x, y = tuned.two_way, base.two_way
    r = 0.0
    if 0 < x.variance < math.inf and 0 < y.variance < math.inf:
        rows, was = tuned.matrix.mean(axis=1), base.matrix[:, 0]
        covariance = float(((rows - rows.mean()) * (was - was.mean())).sum()) / (len(rows) - 1)
        r = min(1.0, max(-1.0, covariance / len(rows) / math.sqrt(x.variance * y.variance)))
    changes = tuned.matrix - base.matrix
    return Mover(
        tuned=x,
        base=y,
        r=r,
        tuned_responses=tuned.responses,
        base_responses=base.responses,
        difference=two_way(changes, tuned.behaviors),
        moves=(float(np.maximum(changes, 0).mean()), float(np.maximum(-changes, 0).mean())),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Table2x2:
    """The paired change of a rate with one response per behavior and arm: Newcombe's method 10."""

    a: int
    b: int
    c: int
    e: int
    method: str = "Newcombe 10"

    @property
    def estimate(self) -> float:
        """The change."""
        return (self.b - self.c) / (self.a + self.b + self.c + self.e)

    def interval(self, alpha: float) -> Bounds:
        """Return the two-sided 1 - ``alpha`` interval."""
        return newcombe(self.a, self.b, self.c, self.e, alpha)

    def ceiling(self, alpha: float) -> float:
        """Return the upper end of Newcombe's interval or of Tango's, whichever is higher.

        Newcombe's believes the arms' correlation, and is too short where answers change in one direction only.
        """
        n = self.a + self.b + self.c + self.e
        return max(self.interval(alpha)[1], tango(self.b, self.c, n, alpha)[1])


def table_2x2(tuned: Matrix, base: Matrix) -> Table2x2:
    """Return the 2 x 2 table of two n x 1 matrices of zeros and ones."""
    yes, was = tuned[:, 0] > 0.5, base[:, 0] > 0.5
    both, only = int((yes & was).sum()), int((yes & ~was).sum())
    lost = int((~yes & was).sum())
    return Table2x2(a=both, b=only, c=lost, e=len(yes) - both - only - lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanT:
    """The mean of any per-cell contrast (score, change of a score, difference in differences): two-way t."""

    x: TwoWay
    method: str = "two-way t"

    @property
    def estimate(self) -> float:
        """The mean."""
        return self.x.mean

    def interval(self, alpha: float) -> Bounds:
        """Return the two-sided 1 - ``alpha`` interval.

        Where all cells are equal the half width is Wilson's upper limit for none of n: no variance in the sample is not
        no variance.
        """
        if self.x.variance > 0:
            half = math.sqrt(half_width_squared(self.x, alpha))
        else:
            half = wilson(0.0, self.x.behaviors, alpha)[1]
        return self.x.mean - half, self.x.mean + half


_ROUNDING = 1e-12
"""Means of the same hits may differ by so much; Student's quantile is 0 at the alpha that such a difference would have."""


def p_value(contrast: Contrast, null: float = 0.0) -> float:
    """Return the largest alpha whose 1 - alpha interval still holds ``null`` (two-sided; `LEAST_P` at least).

    The search starts from above: with few seeds a very small alpha leaves an effective n of 1, and with paired arms the
    interval then narrows again, so that far below the p-value another alpha may exclude ``null``.
    """
    if math.isclose(contrast.estimate, null, rel_tol=0, abs_tol=_ROUNDING):
        return 1.0
    side, sign = (0, 1.0) if contrast.estimate > null else (1, -1.0)

    def excluded(log_alpha: float) -> bool:
        return sign * (contrast.interval(math.exp(log_alpha))[side] - null) > 0

    high, low = math.log(1 - 1e-12), -math.log(2)
    while excluded(low):
        high, low = low, low - math.log(2)
        if low < math.log(LEAST_P):
            return LEAST_P
    return math.exp(bisect(excluded, low, high))


def ceiling(contrast: Contrast, alpha: float) -> float:
    """Return the upper bound with error ``alpha`` for a PASS: it never falls as harm rises."""
    if isinstance(contrast, HasCeiling):
        return contrast.ceiling(2 * alpha)
    return contrast.interval(2 * alpha)[1]


def p_above(contrast: Contrast, delta: float) -> float:
    """Return the one-sided p-value against "the difference is at most ``delta``"; inverts the 1 - 2 alpha interval."""
    two_sided = p_value(contrast, delta)
    return two_sided / 2 if contrast.estimate > delta else 1 - two_sided / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Unshared:
    """The difference of two means over the same behaviors and different training seeds."""

    estimate: float
    variance: float
    df: float
    behaviors: float
    paired: float = 0.0
    """W, the variance of the paired row means over n."""
    beyond: tuple[tuple[float, float], ...] = ()
    """For each arm with several seeds the variance of its seeds beyond chance, with its degrees of freedom; empty where
    both arms have three seeds or more, or equally many."""
    method: str = "crossed t, seeds unshared"

    def interval(self, alpha: float) -> Bounds:
        """Return the two-sided 1 - ``alpha`` interval.

        half^2 = t_df^2 V, but never less than z^2 W + sum_k t_{S_k - 1}^2 max(0, A_k - I_k): the degrees of freedom of the
        arm with more seeds must not stand in for those of the arm with few (Banerjee 1960, Sankhya 22:357). No variance
        in the sample is not no variance: `MeanT`.
        """
        if self.variance > 0:
            z, t = quantiles(alpha, self.df)
            apart = sum(quantiles(alpha, df)[1] ** 2 * variance for variance, df in self.beyond)
            half = math.sqrt(max(t * t * self.variance, z * z * self.paired + apart))
        else:
            half = wilson(0.0, self.behaviors, alpha)[1]
        return self.estimate - half, self.estimate + half


def unshared(tuned: Average, other: Average) -> Unshared:
    """Return ``tuned`` minus ``other`` (n x S_1 and n x S_2), rows paired and columns not.

    It is the crossed variance of `crossed.two_way`, each arm with seeds of its own (Brennan 2001, Generalizability Theory),
    with Satterthwaite's degrees of freedom. Simulated: tests/measure/test_measure_coverage.py.
    """
    arms = two_way(tuned.matrix), two_way(other.matrix)
    rows = tuned.matrix.mean(axis=1) - other.matrix.mean(axis=1)
    n, behaviors = len(rows), min(tuned.behaviors, other.behaviors)
    estimate = arms[0].mean - arms[1].mean
    if n == 1:
        return Unshared(estimate=estimate, variance=math.inf, df=1.0, behaviors=behaviors)
    # A_k: variance of arm k's seed means over S_k. I_k = MSI_k / (n S_k). W: variance of the paired row means over n.
    a = [_seed_variance(tuned.matrix), _seed_variance(other.matrix)]
    i = [arm.ms_interaction / (n * arm.seeds) for arm in arms]
    w = float(rows.var(ddof=1)) / n
    # V = max(A_1 + A_2 + max(0, W - I_1 - I_2), W): W holds each arm's interaction, which A_k holds, too.
    variance = max(sum(a) + max(0.0, w - sum(i)), w)
    # df = V^2 / (W^2 / (n - 1) + sum_k (A_k^2 + I_k^2 / (n - 1)) / (S_k - 1)), between min S_k - 1 and n - 1
    spread = w**2 / (n - 1) + sum(
        (a_k * a_k + i_k * i_k / (n - 1)) / (arm.seeds - 1)
        for a_k, i_k, arm in zip(a, i, arms, strict=True)
        if arm.seeds > 1
    )
    df = variance**2 / spread if spread > 0 else n - 1.0
    fewest = min((arm.seeds for arm in arms if arm.seeds > 1), default=2)
    df = min(max(df, fewest - 1.0), max(n - 1.0, 1.0))
    few = min(arm.seeds for arm in arms) < 3 and arms[0].seeds != arms[1].seeds
    beyond = (
        (max(0.0, a_k - i_k), arm.seeds - 1.0)
        for a_k, i_k, arm in zip(a, i, arms, strict=True)
        if few and arm.seeds > 1
    )
    return Unshared(
        estimate=estimate,
        variance=variance if variance > 1e-20 else 0.0,
        df=df,
        behaviors=behaviors,
        paired=w,
        beyond=tuple(beyond),
    )


def _seed_variance(matrix: Matrix) -> float:
    seeds = matrix.shape[1]
    return float(matrix.mean(axis=0).var(ddof=1)) / seeds if seeds > 1 else 0.0
