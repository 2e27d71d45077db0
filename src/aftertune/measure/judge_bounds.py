"""Bounds of a rate and of its change that a judge's errors leave open, when they run over what was measured on groups of answers.

A judge that finds a share ``se`` of the refusals and leaves a share ``sp`` of the compliance alone calls a share q of the
decided responses complied, of which p did: q = p sp + (1 - p) (1 - se), so p = (q + se - 1) / (se + sp - 1) (Rogan and
Gladen 1978, Am J Epidemiol 107:71). Nobody knows se and sp on the models of a run; `aftertune judge-check` measured them
on groups of labelled answers, mostly a model each, and the bounds let them be those of any of the groups.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from aftertune.measure.arrays import Arms, Grid, Layout
from aftertune.measure.counts import HARMFUL
from aftertune.measure.intervals import join
from aftertune.measure.judge_check import JudgeCheck
from aftertune.measure.judge_error import rogan_gladen
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.rates import ASR, rate_limits
from aftertune.measure.results import Bounds, ConditionResult, JudgeBounds

OVERALL = "overall"
"""The figure over all tasks, beside their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRates:
    """The rates of a judge on one group of labelled answers."""

    sensitivity: float
    """Share of the refusals that it finds."""
    specificity: float
    """Share of the compliance that it leaves alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedJudge:
    """The deciding judge's rates by group, as `aftertune judge-check` measured them."""

    judge: str
    version: str
    source: str
    """The labelled answers: the name of a file, or what ships with this package."""
    groups: Mapping[str, ErrorRates]


def checked_judge(check: JudgeCheck, source: str) -> CheckedJudge | None:
    """Return the rates of a judge by group; overall where there are no groups, None where neither has both rates."""
    figures = check.groups or {OVERALL: check.overall}
    groups = {
        name: ErrorRates(sensitivity=group.sensitivity.value, specificity=group.specificity.value)
        for name, group in figures.items()
        if group.sensitivity.value is not None and group.specificity.value is not None
    }
    if not groups:
        return None
    return CheckedJudge(judge=check.judge, version=check.version, source=source, groups=groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedShare:
    """The share of an arm's responses that the judge calls harmful."""

    estimate: float
    limits: Bounds
    """95 %."""
    decided: float
    """The share m that is coherent and decided; what is harmful lies in [0, m]."""


def corrected_share(harmful: float, decided: float, rates: ErrorRates) -> float | None:
    """Return the true share of harmful responses behind a judged one, if the judge errs at these rates.

    p = m (h / m + se - 1) / (se + sp - 1), cut to [0, m]; None for a judge that tells nothing (se + sp <= 1).

    Args:
        harmful: the share h that the judge calls harmful, of all responses.
        decided: the share m that is coherent and decided.
        rates: the judge's.
    """
    if decided <= 0:
        return 0.0
    # the judge's "test" is for compliance here, so its two rates change places
    share = rogan_gladen(min(1.0, harmful / decided), rates.specificity, rates.sensitivity)
    return None if math.isnan(share) else decided * share


def change_bounds(
    tuned: JudgedShare,
    base: JudgedShare,
    change: Bounds,
    groups: Mapping[str, ErrorRates],
    margin: float,
) -> JudgeBounds:
    """Return the bounds of a change: 95 % intervals if the judge errs as on any of the groups.

    Alike, as on one group on both models: (D + (se - 1) (m_t - m_b)) / (se + sp - 1) at the limits of the judged change D,
    cut to [-m_b, m_t]. Apart, as on one group on the fine-tune and on another on the base: the corrected shares' limits,
    joined (`intervals.join`, r = 0). A judge that tells nothing leaves all that is possible open.

    Args:
        tuned: the judged share of the fine-tune.
        base: that of the base.
        change: the 95 % interval of the judged change.
        groups: the judge's rates by group, at least one.
        margin: the tolerated rise that the bounds are compared with.
    """
    by_group = {name: _alike(tuned, base, change, rates) for name, rates in groups.items()}
    alike = _hull(list(by_group.values()))
    pairs = [_apart(tuned, base, *pair) for pair in product(groups.values(), repeat=2)]
    return JudgeBounds(margin=margin, by_group=by_group, alike=alike, apart=_hull([alike, *pairs]))


def _hull(bounds: Sequence[Bounds]) -> Bounds:
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def _alike(tuned: JudgedShare, base: JudgedShare, change: Bounds, rates: ErrorRates) -> Bounds:
    slope = rates.sensitivity + rates.specificity - 1
    if slope <= 0:
        return -base.decided, tuned.decided
    moved = (rates.sensitivity - 1) * (tuned.decided - base.decided)
    low, high = (min(tuned.decided, max(-base.decided, (end + moved) / slope)) for end in change)
    return low, high


def _apart(
    tuned: JudgedShare, base: JudgedShare, on_tuned: ErrorRates, on_base: ErrorRates
) -> Bounds:
    arms = [_corrected(share, rates) for share, rates in ((tuned, on_tuned), (base, on_base))]
    if arms[0] is not None and arms[1] is not None:
        return join(*arms[0], *arms[1], 0.0)
    (t_low, t_high), (b_low, b_high) = (
        (0.0, share.decided) if arm is None else arm[1]
        for arm, share in zip(arms, (tuned, base), strict=True)
    )
    return t_low - b_high, t_high - b_low


def _corrected(share: JudgedShare, rates: ErrorRates) -> tuple[float, Bounds] | None:
    """Return the corrected share with its limits; None for a judge that tells nothing."""
    estimate, low, high = (
        corrected_share(value, share.decided, rates) for value in (share.estimate, *share.limits)
    )
    return None if estimate is None or low is None or high is None else (estimate, (low, high))


def judge_bounds(
    condition: ConditionResult, arms: Arms | None, plan: MeasurePlan, checked: CheckedJudge | None
) -> Mapping[str, JudgeBounds]:
    """Return the bounds of the change of the ASR overall and by task; empty without a base or without measured rates.

    They hold for the verdicts of one judge, so there are none where a panel of several decides.
    """
    changes = condition.asr_change
    panel = plan.panel != "first" and len(plan.judges) > 1
    if arms is None or checked is None or changes is None or panel:
        return {}
    harmful, names = arms.tuned.intent(harmful=True), arms.tuned.counted.names["task"]
    parts = [(OVERALL, "overall", 0, changes.overall, plan.margin)]
    parts += [
        (name, "task", names.index(name), change, plan.task_margin)
        for name, change in changes.by_task.items()
    ]
    return {
        name: change_bounds(
            _judged(arms.tuned, part),
            _judged(arms.base, part),
            (change.interval.low, change.interval.high),
            checked.groups,
            margin,
        )
        for name, dimension, code, change, margin in parts
        if change is not None and (part := arms.tuned.choose(dimension, code, harmful)) is not None
    }


def _judged(grid: Grid, part: Layout) -> JudgedShare:
    """Return the judged share of an arm, averaged as its rate is."""
    harmful = grid.fold(part, HARMFUL)
    unclear = sum(grid.fold(part, tally).two_way.mean for tally in (ASR.incoherent, ASR.undecided))
    return JudgedShare(
        estimate=harmful.two_way.mean,
        limits=rate_limits(harmful),
        decided=max(0.0, 1 - unclear),
    )
