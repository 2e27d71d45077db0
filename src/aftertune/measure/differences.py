"""Two fine-tunes against each other on the same prompts, whose training seeds have nothing in common.

A mitigated fine-tune sees other rows in another order than the one without, so an equal seed number pairs nothing:
behaviors are paired, seeds are not.
"""

import math
from dataclasses import dataclass

from aftertune.measure.averaging import Average, Layout, fold
from aftertune.measure.capability import corpus_changes, scorers_of, with_both
from aftertune.measure.cells import N
from aftertune.measure.contrasts import Contrast, table_2x2
from aftertune.measure.crossed import Matrix, quantiles, two_way
from aftertune.measure.grids import Arms, breakdown
from aftertune.measure.intervals import Bounds, wilson
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.rates import Kind, adjust, change_of
from aftertune.measure.results import Breakdown, Change, Comparison

METHOD = "crossed t, seeds unshared"


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
    """Of each arm with several seeds what they vary beyond chance, with its degrees of freedom; empty where the arms'
    seeds are many or equal in number."""
    method: str = METHOD

    def interval(self, alpha: float) -> Bounds:
        """Return the two-sided 1 - ``alpha`` interval; no variance seen is not no variance (`contrasts.MeanT`).

        The degrees of freedom of the arm with more seeds shall not speak for that with few, so that never less is said than
        with each arm's own (Banerjee 1961, Sankhya A 23:411).
        """
        if self.variance > 0:
            z, t = quantiles(alpha, self.df)
            apart = sum(quantiles(alpha, df)[1] ** 2 * variance for variance, df in self.beyond)
            half = math.sqrt(max(t * t * self.variance, z * z * self.paired + apart))
        else:
            half = wilson(0.0, self.behaviors, alpha)[1]
        return self.estimate - half, self.estimate + half


def unshared(one: Average, other: Average) -> Unshared:
    """Return ``one`` minus ``other`` (n x S1 and n x S2), rows paired and columns not.

    With A the variance of an arm's seed means over its seeds, W that of the paired row means over n, and I an arm's
    interaction mean square over n S: V = max(A1 + A2 + max(0, W - I1 - I2), W), with Satterthwaite's degrees of freedom:
    the crossed variance of `crossed.two_way`, each arm with seeds of its own (Brennan 2001, Generalizability Theory).
    """
    arms = [two_way(each.matrix) for each in (one, other)]
    rows = one.matrix.mean(axis=1) - other.matrix.mean(axis=1)
    n, behaviors = len(rows), min(one.behaviors, other.behaviors)
    estimate = arms[0].mean - arms[1].mean
    if n == 1:
        return Unshared(estimate=estimate, variance=math.inf, df=1.0, behaviors=behaviors)
    paired = float(rows.var(ddof=1)) / n
    seeds = [_seed_variance(each.matrix) for each in (one, other)]
    inner = [arm.ms_interaction / (n * arm.seeds) for arm in arms]
    variance = max(sum(seeds) + max(0.0, paired - sum(inner)), paired)
    many = [arm.seeds for arm in arms if arm.seeds > 1]
    spread = paired**2 / (n - 1) + sum(
        (a * a + i * i / (n - 1)) / (arm.seeds - 1)
        for a, i, arm in zip(seeds, inner, arms, strict=True)
        if arm.seeds > 1
    )
    df = variance**2 / spread if spread > 0 else n - 1.0
    df = min(max(df, min(many, default=2) - 1.0), max(n - 1.0, 1.0))
    few = min(arm.seeds for arm in arms) < 3 and arms[0].seeds != arms[1].seeds
    beyond = (
        (max(0.0, a - i), arm.seeds - 1.0)
        for a, i, arm in zip(seeds, inner, arms, strict=True)
        if few and arm.seeds > 1
    )
    return Unshared(
        estimate=estimate,
        variance=variance if variance > 1e-20 else 0.0,
        df=df,
        behaviors=behaviors,
        paired=paired,
        beyond=tuple(beyond),
    )


def _seed_variance(matrix: Matrix) -> float:
    seeds = matrix.shape[1]
    return float(matrix.mean(axis=0).var(ddof=1)) / seeds if seeds > 1 else 0.0


def compare(arms: Arms, other: str, kinds: tuple[Kind, Kind], plan: MeasurePlan) -> Comparison:
    """Compare a fine-tune (``arms.tuned``) with another one (``arms.base``): both rates, and every task score.

    Args:
        arms: both, on the prompts that all of their models were asked.
        other: the name of the one that is subtracted.
        kinds: what counts as harmful, and what as over-refused.
        plan: what was declared.
    """
    harmful, refused = kinds
    return Comparison(
        other=other,
        asr=_rates(arms, harmful, plan, harmful=True),
        over_refusal=_rates(arms, refused, plan, harmful=False),
        capability={
            scorer: _scores(arms, scorer, plan) for scorer in scorers_of(arms.tuned.cells, plan)
        }
        | corpus_changes(arms, plan),
    )


def _rates(arms: Arms, what: Kind, plan: MeasurePlan, *, harmful: bool) -> Breakdown[Change]:
    def difference(part: Layout) -> Change:
        folded = (
            fold(part, arm.counts(what.hit), arm.counts(N)) for arm in (arms.tuned, arms.base)
        )
        return _told(_contrast(*folded), arms, part, plan)

    among = arms.tuned.intent(harmful=harmful)
    return adjust(breakdown(arms.tuned, among, difference, ("task", "set")), plan.families)


def _scores(arms: Arms, scorer: str, plan: MeasurePlan) -> Breakdown[Change]:
    total, count = (f"score:{scorer}", "sum"), (f"score:{scorer}", "n")

    def difference(part: Layout) -> Change:
        folded = (
            fold(part, arm.counts(total), arm.counts(count)) for arm in (arms.tuned, arms.base)
        )
        return _told(unshared(*folded), arms, part, plan)

    changes = breakdown(arms.tuned, with_both(arms, count), difference, ("task", "set"))
    return adjust(changes, plan.families)


def _contrast(one: Average, other: Average) -> Contrast:
    if one.single and other.single:
        return table_2x2(one.matrix, other.matrix)
    return unshared(one, other)


def _told(contrast: Contrast, arms: Arms, part: Layout, plan: MeasurePlan) -> Change:
    return change_of(
        contrast, min(arms.tuned.seeds, arms.base.seeds), part.behaviors, plan.min_cell
    )
