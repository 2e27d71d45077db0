"""The planner's statistics: power and the smallest detectable change, before anything is asked.

The variance of a paired change over n behaviors and S training seeds is ``V = P/n + T/S + I/(nS)``: behaviors, training
seeds, and both together with decoding (the two-way random-effects layout; Brennan 2001, Generalizability Theory). They come from
a pilot, or from stated assumptions. Power is that of the two-way t test; the change of a rate is tested by MOVER, whose power
is close to it where rates are not near 0 or 1.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import chdtri, expit, ndtr, roots_hermitenorm

from aftertune.core.table import Table
from aftertune.measure.arrays import Setting, model_codes, task_weights
from aftertune.measure.counts import count
from aftertune.measure.crossed import Matrix, TwoWay, half_width_squared, two_way, variance_and_df
from aftertune.measure.intervals import bisect
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.rates import ASR


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Variances of the paired change of one behavior, as shares squared."""

    behaviors: float
    """P: between behaviors; decoding of the base included."""
    seeds: float
    """T: between training seeds."""
    both: float
    """I: behavior x seed, and decoding of the fine-tune."""

    def variance(self, n: int, seeds: int) -> float:
        """Return V, the variance of the mean change over ``n`` behaviors and ``seeds`` training seeds."""
        return self.behaviors / n + (self.seeds + self.both / n) / seeds

    def half_widths(self, n: int, seeds: int, alpha: float) -> Matrix:
        """Return half widths that the interval of a design may have, all of them equally likely.

        The mean squares of behaviors and of seeds are chi-squared about their expectations, and the half widths stand at
        the middles of equal slices of them: with few seeds the spread is wide, so that no single half width would do. The
        mean square of both together has so many degrees of freedom that it stands at its expectation.
        """
        # E[MSI] = I, E[MSP] = I + S P, E[MSS] = I + n T
        msi = self.both if seeds > 1 else 0.0
        msp = (self.both + seeds * self.behaviors) * _slices(n - 1, 100 if seeds == 1 else 8)
        mss = (self.both + n * self.seeds) * _slices(seeds - 1, 100) if seeds > 1 else np.zeros(1)
        return np.array(
            [[_half_width(p, s, msi, n, seeds, alpha) for p in msp.tolist()] for s in mss.tolist()]
        ).ravel()


def _slices(df: int, count: int) -> Matrix:
    """Return a chi-squared variable over its degrees of freedom, at the middles of ``count`` equally likely slices."""
    tails = (np.arange(count) + 0.5) / count
    return chdtri(df, tails) / df


def _half_width(msp: float, mss: float, msi: float, n: int, seeds: int, alpha: float) -> float:
    variance, df = variance_and_df(msp, mss, msi, n, seeds)
    mean = TwoWay(
        mean=0.0, variance=variance, df=df, rows=n, seeds=seeds, behaviors=n,
        ms_behaviors=msp, ms_seeds=mss, ms_interaction=msi,
    )  # fmt: skip
    return math.sqrt(half_width_squared(mean, alpha))


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """Rates and spreads that are assumed where there is no pilot."""

    base_rate: float = 0.10
    rise: float = 0.10
    """The change of the ASR that the design shall detect, as a share."""
    seed_sd: float = 0.04
    """Standard deviation of the ASR between training seeds, as a share."""
    sd_behaviors: float = 2.0
    """Standard deviation of behaviors, on the logit scale."""
    sd_both: float = 0.7
    """Standard deviation of what a seed changes in single behaviors, on the logit scale."""
    correlation: float = 0.7
    """Between a behavior's effect before and after fine-tuning."""
    shared: float = 0.5
    """Share of a behavior's effect that its tasks have in common."""


_DRAWS, _COLUMNS = 4000, 8


def assumed_spread(
    x: Assumptions, tasks: int = 1, samples: int = 1, base_samples: int = 1
) -> Spread:
    """Return the variances that follow from assumptions, by a seeded simulation of 4,000 behaviors.

    ``logit p = mu + behavior + behavior x task + N(0, sd_both)``, with mu such that the mean of p is the assumed rate.

    Args:
        x: what is assumed.
        tasks: tasks that each behavior is posed in; they are averaged first.
        samples: responses of the fine-tune per behavior, task and training seed.
        base_samples: of the base per behavior and task.
    """
    rng = np.random.default_rng(0)
    before = location(x.base_rate, math.hypot(x.sd_behaviors, x.sd_both))
    after = location(x.base_rate + x.rise, math.hypot(x.sd_behaviors, x.sd_both))
    of_task = 1.0 if tasks == 1 else x.shared
    effects = [
        x.sd_behaviors
        * (
            math.sqrt(of_task) * rng.normal(size=(_DRAWS, 1))
            + math.sqrt(1 - of_task) * rng.normal(size=(_DRAWS, tasks))
        )
        for _ in range(2)
    ]
    base_effect = x.correlation * effects[0] + math.sqrt(1 - x.correlation**2) * effects[1]
    base = expit(before + base_effect + x.sd_both * rng.normal(size=(_DRAWS, tasks)))
    was = (rng.binomial(base_samples, base) / base_samples).mean(axis=1)
    tuned = expit(
        after + effects[0][..., None] + x.sd_both * rng.normal(size=(_DRAWS, tasks, _COLUMNS))
    )
    now = (rng.binomial(samples, tuned) / samples).mean(axis=1)
    return replace(pilot_spread(now - was[:, None]), seeds=float(x.seed_sd) ** 2)


def pilot_spread(changes: Matrix) -> Spread:
    """Return the variances of a pilot, each at least 0: P = (MSP - MSI) / S, T = (MSS - MSI) / n, I = MSI.

    Args:
        changes: behaviors x training seeds, tuned minus base. With one seed nothing is learnt about seeds (T = 0), and
            what they add to single behaviors stands in P.
    """
    n, s = changes.shape
    x = two_way(changes)
    if s == 1:
        return Spread(behaviors=x.ms_behaviors, seeds=0.0, both=0.0)
    return Spread(
        behaviors=max(0.0, (x.ms_behaviors - x.ms_interaction) / s),
        seeds=max(0.0, (x.ms_seeds - x.ms_interaction) / n),
        both=x.ms_interaction,
    )


def pilot_spreads(table: Table, plan: MeasurePlan) -> Iterator[tuple[str, int, Spread]]:
    """Yield for each fine-tune its name, its training seeds, and the variances of its overall change of the ASR.

    Raises:
        InputError: the plan names what is not in the table.
    """
    counted, weights = count(table, plan), task_weights(table, plan)
    setting = Setting(counted=counted, code=0, weights=weights)
    for condition in plan.conditions:
        model_codes(counted, condition)
        base = () if condition.base is None else plan.condition(condition.base).models
        both = setting.arms(condition.models, base) if base else None
        part = None if both is None else both.tuned.overall(harmful=True)
        if both is not None and part is not None and part.behaviors > 1:
            tuned, was = (arm.fold(part, ASR.hit).matrix for arm in (both.tuned, both.base))
            yield condition.name, len(condition.models), pilot_spread(tuned - was)


def power(x: Spread, rise: float, n: int, seeds: int, alpha: float = 0.05) -> float:
    """Return the probability that the two-sided test of level ``alpha`` (two-way t) detects a change of ``rise``.

    The noncentral t as a mixture: the estimate is normal about ``rise`` with variance V, and it is significant beyond a
    half width that varies by itself (`Spread.half_widths`).
    """
    return _power(x.half_widths(n, seeds, alpha), rise, x.variance(n, seeds))


def smallest_change(
    x: Spread, n: int, seeds: int, wanted: float = 0.8, alpha: float = 0.05
) -> float:
    """Return the smallest change that is detected with probability ``wanted``; more than 1 means none."""
    halves, variance = x.half_widths(n, seeds, alpha), x.variance(n, seeds)
    return bisect(lambda rise: _power(halves, rise, variance) >= wanted, 0.0, 4.0)


def _power(halves: Matrix, rise: float, variance: float) -> float:
    error = math.sqrt(max(variance, 1e-20))
    # mean over h of P(|Z sqrt(V) + rise| > h) = Phi((rise - h) / sqrt(V)) + Phi((-rise - h) / sqrt(V))
    return float((ndtr((abs(rise) - halves) / error) + ndtr((-abs(rise) - halves) / error)).mean())


ENDLESS = 1_000_000
"""Behaviors of a design in which only the training seeds are left."""


def plateau(x: Spread, rise: float, seeds: int, alpha: float = 0.05) -> float:
    """Return the power that no number of behaviors exceeds with ``seeds`` training seeds."""
    return power(x, rise, ENDLESS, seeds, alpha)


def location(mean: float, sd: float) -> float:
    """Return the mu with E[expit(mu + sd Z)] = mean, Z standard normal."""
    from scipy.optimize import brentq  # loads slowly

    nodes, weights = roots_hermitenorm(80)

    def excess(mu: float) -> float:
        return float((weights * expit(mu + sd * nodes)).sum() / weights.sum()) - mean

    return float(brentq(excess, -40, 40))


def slope(mean: float, sd: float) -> float:
    """Return by how much E[expit(mu + sd Z)] grows with mu where it is ``mean``."""
    nodes, weights = roots_hermitenorm(80)
    p = expit(location(mean, sd) + sd * nodes)
    return float((weights * p * (1 - p)).sum() / weights.sum())
