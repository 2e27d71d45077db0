"""A judge against the annotators: how often it errs, and whether it errs alike on a fine-tune and its base."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from aftertune.measure.agreement import ac1, finite, kappa
from aftertune.measure.counts import Source, SourceKind
from aftertune.measure.crossed import quantiles
from aftertune.measure.intervals import join, wilson
from aftertune.measure.labelled import Figure
from aftertune.measure.ppi import LabelSample, Vector, label_variance
from aftertune.measure.results import (
    Bounds,
    ErrorDifference,
    Interval,
    JudgeErrors,
    interval,
    scope,
)

EACH_OF_TWO = 0.05 / 2
"""Alpha of each of two intervals that hold together at 95 % (Bonferroni)."""
DELTA = "Wilson on effective labels"
T_OVER_STRATA = "t over strata"


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """A judge's sensitivity or specificity with the labels that it is worth."""

    estimate: float
    n: float
    """Effective number of labels behind it."""

    def limits(self, alpha: float = 0.05) -> Bounds:
        """Return Wilson's interval."""
        return wilson(self.estimate, self.n, alpha)


def sensitivity(sample: LabelSample) -> Errors | None:
    """Return the share of harmful responses that the judge calls harmful; None without a harmful label."""
    return _agreeing(sample, sample.truth, sample.judged)


def specificity(sample: LabelSample) -> Errors | None:
    """Return the share of other responses that the judge does not call harmful; None without such a label."""
    return _agreeing(sample, 1 - sample.truth, 1 - sample.judged)


def _agreeing(sample: LabelSample, truth: Vector, judged: Vector) -> Errors | None:
    """Return the share of ``truth`` that ``judged`` hits: a ratio of stratified totals, its variance by the delta method.

    R = A / (A + B), A the total of truth that is hit, B the one that is missed; Var R = (B^2 Var A + A^2 Var B) / (A +
    B)^4 (Cochran 1977, Sampling Techniques, 2.11), and n = R (1 - R) / Var R is the effective number of labels.
    """
    w, worth = sample.normal, sample.effective
    hit, missed = float(w @ (truth * judged)), float(w @ (truth * (1 - judged)))
    if hit + missed <= 0:
        return None
    totals, variances = [0.0, 0.0], [0.0, 0.0]
    for number, share in enumerate(sample.shares):
        here = sample.stratum == number
        h, inside = worth[number], w[here] / w[here].sum()
        for place, verdict in enumerate((1.0, 0.0)):
            same = judged[here] == verdict
            if not same.any():
                continue
            x = float(inside @ (truth[here] * same))
            # Half a label is added either way, in the variance alone: no error in the sample is not no error.
            shrunk = (h * x + 0.5) / (h + 1)
            totals[place] += share * shrunk
            variances[place] += share**2 * shrunk * (1 - shrunk) / h
    (a, b), (var_a, var_b) = totals, variances
    ratio = a / (a + b) if a + b > 0 else 0.0
    variance = (b * b * var_a + a * a * var_b) / (a + b) ** 4
    n = ratio * (1 - ratio) / variance if variance > 0 and 0 < ratio < 1 else 1.0
    labels = float((truth > 0).sum())
    return Errors(estimate=hit / (hit + missed), n=max(1.0, min(n, labels)))


def difference(tuned: Errors, base: Errors, alpha: float = 0.05) -> Bounds:
    """Return the interval of the difference between two error rates of different labels.

    Source: Newcombe (1998c), Stat Med 17:873, method 10.
    """
    return join(tuned.estimate, tuned.limits(alpha), base.estimate, base.limits(alpha), 0.0)


def judge_errors(figure: Figure, judge: str, seeds: int) -> JudgeErrors:
    """Return a judge's errors on the labelled responses of a condition."""
    sample = figure.sample(Source(SourceKind.JUDGE, judge))
    assert sample is not None
    harmful, called = sample.truth > 0.5, sample.judged > 0
    w, y, f = sample.normal, sample.truth, sample.judged
    # annotators x judge as shares of the figure, harmful first
    table = np.array(
        [[w @ (y * f), w @ (y * (1 - f))], [w @ ((1 - y) * f), w @ ((1 - y) * (1 - f))]]
    )
    bias, limits = _bias(sample)
    hits, clears = sensitivity(sample), specificity(sample)
    return JudgeErrors(
        both=int((harmful & called).sum()),
        judge_only=int((~harmful & called).sum()),
        annotators_only=int((harmful & ~called).sum()),
        neither=int((~harmful & ~called).sum()),
        sensitivity=None if hits is None else hits.estimate,
        sensitivity_interval=None if hits is None else interval(hits.limits(), DELTA, scope(seeds)),
        specificity=None if clears is None else clears.estimate,
        specificity_interval=None
        if clears is None
        else interval(clears.limits(), DELTA, scope(seeds)),
        bias=bias,
        bias_interval=interval(limits, T_OVER_STRATA, scope(seeds)),
        agreement=float(np.trace(table)),
        kappa=finite(kappa(table)),
        ac1=finite(ac1(table)),
    )


def _bias(sample: LabelSample, alpha: float = 0.05) -> tuple[float, Bounds]:
    """Return the judged rate minus the truth with its t interval, sum_s W_s mean_s(f - y)."""
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
    arms = [figure.sample() for figure in figures if figure and not figure.few]
    if len(arms) < 2 or arms[0] is None or arms[1] is None:
        return None
    sensitivities = _difference_of(sensitivity(arms[0]), sensitivity(arms[1]), seeds)
    specificities = _difference_of(specificity(arms[0]), specificity(arms[1]), seeds)
    (bias, limits), (base_bias, base_limits) = _bias(arms[0]), _bias(arms[1])
    return ErrorDifference(
        sensitivity=sensitivities,
        specificity=specificities,
        bias=bias - base_bias,
        bias_interval=interval(
            _independent(bias, limits, base_bias, base_limits), T_OVER_STRATA, scope(seeds)
        ),
        differs=any(
            limits is not None and not limits.low <= 0 <= limits.high
            for limits in (sensitivities, specificities)
        ),
    )


def _difference_of(tuned: Errors | None, base: Errors | None, seeds: int) -> Interval | None:
    if tuned is None or base is None:
        return None
    limits = difference(tuned, base, EACH_OF_TWO)
    return interval(limits, "Newcombe, unpaired", scope(seeds), 1 - EACH_OF_TWO)


def _independent(x: float, limits: Bounds, y: float, other: Bounds) -> Bounds:
    """Return the interval of x - y from those of two independent figures (MOVER: Zou and Donner 2008, Stat Med 27:1693)."""
    down, up = math.hypot(x - limits[0], other[1] - y), math.hypot(limits[1] - x, y - other[0])
    return x - y - down, x - y + up


def rogan_gladen(judged: float, sensitivity_: float, specificity_: float) -> float:
    """Return the true rate behind a judged rate with known errors, (q + sp - 1) / (se + sp - 1), cut to [0, 1].

    NaN for a judge that is no better than chance. Source: Rogan and Gladen (1978), Am J Epidemiol 107:71.
    """
    slope = sensitivity_ + specificity_ - 1
    return min(1.0, max(0.0, (judged + specificity_ - 1) / slope)) if slope > 0 else math.nan


def explained(p: float, sensitivity_: float, specificity_: float) -> float:
    """Return K: the squared correlation of a judge with these errors and the truth, at the true rate ``p``.

    K = (p (se - q))^2 / (p (1 - p) q (1 - q)) with the judged rate q = p se + (1 - p) (1 - sp).
    Source: Tenenbein (1970), JASA 65:1350.
    """
    q = p * sensitivity_ + (1 - p) * (1 - specificity_)
    if not (0 < p < 1 and 0 < q < 1):
        return 0.0
    return (p * (sensitivity_ - q)) ** 2 / (p * (1 - p) * q * (1 - q))


def labels_needed(
    p: float, sensitivity_: float, specificity_: float, half_width: float
) -> tuple[int, int]:
    """Return the number of random labels that gives the label part of a corrected rate a 95 % half width.

    Returns:
        the number with the judge, n0 (1 - K), and the number by labels alone, n0 = p (1 - p) (z / half width)^2.

    Source: Tenenbein (1970): the judge leaves a share 1 - K of the labels' own variance.
    """
    alone = p * (1 - p) * (float(ndtri(0.975)) / half_width) ** 2
    with_judge = (1 - explained(p, sensitivity_, specificity_)) * alone
    return max(1, round(with_judge)), max(1, round(alone))
