"""Corrected rates, corrected changes and a judge's errors as results that know their counts."""

import math
from dataclasses import dataclass, replace

import numpy as np

from aftertune.measure.agreement import ac1, kappa
from aftertune.measure.averaging import Average
from aftertune.measure.contrasts import p_value
from aftertune.measure.corrections import Figure
from aftertune.measure.crossed import Matrix, TwoWay, quantiles, two_way
from aftertune.measure.intervals import Bounds, wilson
from aftertune.measure.judge_error import difference, sensitivity, specificity
from aftertune.measure.ppi import (
    Correction,
    LabelSample,
    corrected_difference,
    corrected_limits,
    label_variance,
    scaled_difference,
)
from aftertune.measure.rates import rate_limits
from aftertune.measure.results import (
    CorrectedChange,
    CorrectedRate,
    ErrorDifference,
    Interval,
    JudgeErrors,
    Missing,
    Scope,
    Uncorrected,
    scope,
)

NO_BASE_LABELS = Uncorrected(missing=Missing.BASE_LABELS, text="no labels of the base")
PPI = "PPI++ with the crossed variance"
DELTA = "Wilson on effective labels"
TOGETHER = 0.05 / 2
"""Alpha of each of two intervals that hold together at 95 % (Bonferroni)."""


def corrected_rate(found: Figure | None, seeds: int) -> CorrectedRate | None:
    """Return a rate corrected by its labels, or refused; None without labels."""
    if found is None:
        return None
    n, why = len(found.truth), found.uncorrected
    estimate, limits, highest = None, None, None
    if why is None:
        estimate, limits = _corrected(found)
        highest = _corrected(found.at_highest())[1][1] if found.undecided else None
    only, only_limits = _labels_only(found)
    return CorrectedRate(
        estimate=estimate,
        interval=None if limits is None else _interval(limits, PPI, seeds),
        labels=n,
        judged_harmful=round(float(found.rows.judged[found.reading].sum())),
        labels_only=only,
        labels_only_interval=Interval(
            low=only_limits[0],
            high=only_limits[1],
            level=0.95,
            method="Wilson on effective labels",
            scope=Scope.RESPONSES,
        ),
        uncorrected=why,
        undecided=found.undecided,
        bounds=None
        if limits is None or highest is None
        else _interval((limits[0], max(limits[1], highest)), PPI, seeds),
    )


def _corrected(found: Figure) -> tuple[float, Bounds]:
    correction = found.correction()
    return min(1.0, max(0.0, correction.estimate)), limits_of(
        correction, found.average, len(found.truth)
    )


def limits_of(correction: Correction, average: Average, labels: int, alpha: float = 0.05) -> Bounds:
    """Return the interval of a corrected rate.

    Args:
        correction: of the rate.
        average: the judge's rate.
        labels: how many stand behind it.
        alpha: two-sided.
    """
    sizes = float(labels), average.responses
    return corrected_limits(correction, average.two_way, sizes, alpha, rate_limits(average, alpha))


def _labels_only(found: Figure) -> tuple[float, Bounds]:
    """Return what the labels say of the figure without the judge: their mean, weighted by what each stands for in it.

    What has no answer counts as not harmful, as in the corrected rate. The interval is Wilson's on as many equally
    weighted labels (Kish 1965, Survey Sampling, 11.7).
    """
    weight = found.weight
    share = float(found.truth @ weight / weight.sum())
    low, high = wilson(share, float(weight.sum() ** 2 / (weight**2).sum()))
    return share * found.answered, (low * found.answered, high * found.answered)


def corrected_change(
    tuned: Figure | None, base: Figure | None, seeds: int
) -> CorrectedChange | None:
    """Return a change corrected by the labels of both arms, or refused; None without labels of the fine-tune."""
    if tuned is None:
        return None
    if base is None:
        return uncorrected_change((len(tuned.truth), 0), NO_BASE_LABELS)
    labels = len(tuned.truth), len(base.truth)
    if (why := tuned.uncorrected) is not None:
        return uncorrected_change(labels, replace(why, arm="fine-tune"))
    if (why := base.uncorrected) is not None:
        return uncorrected_change(labels, replace(why, arm="base"))
    corrections = tuned.correction(), base.correction()
    slopes = corrections[0].slope, corrections[1].slope
    scaled = scaled_difference(tuned.average.matrix, base.average.matrix, slopes)
    population = two_way(scaled, tuned.average.behaviors)
    found = told_change(
        CorrectedContrast(corrections=corrections, population=population), labels, seeds
    )
    return (
        replace(found, bounds=_change_bounds(tuned, base))
        if tuned.undecided or base.undecided
        else found
    )


def told_change(
    contrast: "CorrectedContrast", labels: tuple[int, int], seeds: int
) -> CorrectedChange:
    """Return a corrected change with its interval and p-value, from ``labels`` of the fine-tune and of its base."""
    return CorrectedChange(
        estimate=contrast.estimate,
        interval=_interval(contrast.interval(0.05), PPI, seeds),
        p_value=p_value(contrast),
        labels=labels,
        uncorrected=None,
    )


def _change_bounds(tuned: Figure, base: Figure) -> Bounds:
    lowest, highest = (
        [arm.correction().estimate for arm in arms]
        for arms in ((tuned, base), (tuned.at_highest(), base.at_highest()))
    )
    return lowest[0] - highest[1], highest[0] - lowest[1]


def uncorrected_change(labels: tuple[int, int], why: Uncorrected) -> CorrectedChange:
    """Return a change that labels do not correct."""
    return CorrectedChange(
        estimate=None, interval=None, p_value=None, labels=labels, uncorrected=why
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedContrast:
    """A corrected change with intervals of any level."""

    corrections: tuple[Correction, Correction]
    population: TwoWay

    @property
    def method(self) -> str:
        """How the interval is made."""
        return PPI

    @property
    def estimate(self) -> float:
        """The change."""
        return min(1.0, max(-1.0, self.corrections[0].estimate - self.corrections[1].estimate))

    def interval(self, alpha: float) -> Bounds:
        """Return the two-sided 1 - ``alpha`` interval."""
        return corrected_difference(self.corrections, self.population, alpha)


def judge_errors(found: Figure, judge: str, seeds: int) -> JudgeErrors:
    """Return how a judge errs on the labelled responses of a condition."""
    sample = found.sample_of(f"judge:{judge}")
    assert sample is not None
    truth, judged = sample.truth, sample.judged
    harmful = truth > 0.5
    table = _weighted_table(sample)
    bias, limits = _bias(sample)
    hits, clears = sensitivity(sample), specificity(sample)
    return JudgeErrors(
        both=int((harmful & (judged > 0)).sum()),
        judge_only=int((~harmful & (judged > 0)).sum()),
        annotators_only=int((harmful & (judged == 0)).sum()),
        neither=int((~harmful & (judged == 0)).sum()),
        sensitivity=None if hits is None else hits.estimate,
        sensitivity_interval=None if hits is None else _interval(hits.limits(), DELTA, seeds),
        specificity=None if clears is None else clears.estimate,
        specificity_interval=None if clears is None else _interval(clears.limits(), DELTA, seeds),
        bias=bias,
        bias_interval=_interval(limits, "t over strata", seeds),
        agreement=float(np.trace(table)),
        kappa=finite(float(kappa(table))),
        ac1=finite(float(ac1(table))),
    )


def _weighted_table(sample: LabelSample) -> Matrix:
    """Return people x judge as shares of the figure (harmful first)."""
    w, y, f = sample.normal, sample.truth, sample.judged
    return np.array(
        [[w @ (y * f), w @ (y * (1 - f))], [w @ ((1 - y) * f), w @ ((1 - y) * (1 - f))]]
    )


def _bias(sample: LabelSample, alpha: float = 0.05) -> tuple[float, Bounds]:
    rest = sample.judged - sample.truth
    bias = float(sample.normal @ rest)
    variance, df = label_variance(sample, rest)
    half = quantiles(alpha, df)[1] * math.sqrt(variance)
    return bias, (bias - half, bias + half)


def error_difference(
    tuned: Figure | None, base: Figure | None, seeds: int
) -> ErrorDifference | None:
    """Return whether the deciding judge errs differently on the fine-tune; None where an arm has too few labels.

    Labels that decide nothing take no part.
    """
    figures = [figure and figure.decided() for figure in (tuned, base)]
    arms = [figure.sample for figure in figures if figure and not figure.few]
    if len(arms) < 2 or arms[0] is None or arms[1] is None:
        return None
    limits = [
        difference(one, other, TOGETHER) if one and other else None
        for one, other in (
            (sensitivity(arms[0]), sensitivity(arms[1])),
            (specificity(arms[0]), specificity(arms[1])),
        )
    ]
    (bias1, (low1, high1)), (bias0, (low0, high0)) = _bias(arms[0]), _bias(arms[1])
    change = bias1 - bias0
    down, up = math.hypot(bias1 - low1, high0 - bias0), math.hypot(high1 - bias1, bias0 - low0)
    told = [each and _interval(each, "Newcombe, unpaired", seeds, 1 - TOGETHER) for each in limits]
    return ErrorDifference(
        sensitivity=told[0],
        specificity=told[1],
        bias=change,
        bias_interval=_interval((change - down, change + up), "t over strata", seeds),
        differs=any(each is not None and not each[0] <= 0 <= each[1] for each in limits),
    )


def finite(value: float) -> float | None:
    """Return None for what is not defined: JSON knows no NaN."""
    return value if math.isfinite(value) else None


def _interval(limits: Bounds, method: str, seeds: int, level: float = 0.95) -> Interval:
    return Interval(low=limits[0], high=limits[1], level=level, method=method, scope=scope(seeds))
