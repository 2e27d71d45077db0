"""Rates corrected by labels: prediction-powered inference with the variance over behaviors and training seeds.

The judge gives a verdict on everything, annotators label a sample. The judged rate moves with new prompts and new seeds,
and the sample shows how far the judge is off; both enter the interval. Labels are drawn by strata (the judges' own
verdicts, so that rare verdicts are labelled often enough); one stratum is a simple random sample.

In the equations y is the truth of a labelled response, f the judge's verdict, W_s the share of stratum s in the figure,
and h_s its effective number of labels.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aftertune.measure.crossed import Matrix, TwoWay, half_width_squared, quantiles
from aftertune.measure.intervals import wilson
from aftertune.measure.results import Bounds

PPI = "PPI++ with the crossed variance"
LEAST_SLOPE = 0.3
"""The least slope of judge on truth by which a judged rate's variation is scaled up."""
Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSample:
    """Labelled responses of one figure, by stratum."""

    truth: Vector
    """1 harmful, 0 not, between where annotators differ."""
    judged: Vector
    """The judge's verdict on each: 1 or 0."""
    stratum: NDArray[np.int64]
    """0 .. strata - 1 of each."""
    weight: Vector
    """The weight of each inside its stratum: share of the figure / probability of being drawn. Any scale."""
    shares: Vector
    """The share of each stratum in the figure; they sum to 1, and every stratum has a label."""

    @property
    def normal(self) -> Vector:
        """The weights, scaled so that those of a stratum sum to its share."""
        sums = np.bincount(self.stratum, self.weight, minlength=len(self.shares))
        return self.weight * (self.shares / sums)[self.stratum]

    @property
    def effective(self) -> Vector:
        """h_s = (sum w)^2 / sum w^2: the number of equally weighted labels that each stratum is worth.

        Source: Kish (1965), Survey Sampling, 11.7.
        """
        sums = np.bincount(self.stratum, self.weight, minlength=len(self.shares))
        squares = np.bincount(self.stratum, self.weight**2, minlength=len(self.shares))
        return sums**2 / squares


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """The correction of a judged rate by a sample of labels, with the variance of the labels alone."""

    estimate: float
    """The corrected rate; outside [0, 1] it is cut only when it is printed."""
    power: float
    """lambda, the weight of the judge's verdicts in the estimate."""
    slope: float
    """J, the slope of the judge's verdicts on the truth, between `LEAST_SLOPE` and 1."""
    weak: bool
    """The slope is under `LEAST_SLOPE`, so that judged rates do not show how the truth varies."""
    variance: float
    """The variance of the label part of the estimate."""
    df: float
    """The degrees of freedom of the label part."""


def correct(sample: LabelSample, judged_rate: float) -> Correction:
    """Correct a judged rate by labels.

    Source: Angelopoulos, Duchi and Zrnic (2023), PPI++, arXiv 2311.01453; stratified as in Cochran, Sampling Techniques
    (1977), 5.3. With strata made of the judge's verdicts it is double sampling (Tenenbein, 1970, JASA 65:1350).

    Args:
        sample: the labels.
        judged_rate: the judge's rate over everything.
    """
    w, y, f, h = sample.normal, sample.truth, sample.judged, float(sample.effective.sum())
    unbiased = h / (h - 1) if h > 1 else 1.0
    mean_y, mean_f = float(w @ y), float(w @ f)
    covariance = float(w @ ((y - mean_y) * (f - mean_f))) * unbiased
    var_y, var_f = (float(w @ (x - mean) ** 2) * unbiased for x, mean in ((y, mean_y), (f, mean_f)))
    # lambda = cov(y, f) / var(f), cut to [0, 1]: the power tuning of PPI++ with all responses judged.
    power = min(1.0, max(0.0, covariance / var_f)) if var_f > 1e-12 else 0.0
    # J = (cov(y, f) + 1/h) / (var(y) + 1/h): least squares of f on y with one label's worth of prior weight on J = 1.
    slope = (covariance + 1 / h) / (var_y + 1 / h)
    variance, df = label_variance(sample, y - power * f)
    return Correction(
        # theta = lambda mean(f over everything) + sum_s W_s mean_s(y - lambda f)
        estimate=power * judged_rate + float(w @ (y - power * f)),
        power=power,
        slope=min(1.0, max(LEAST_SLOPE, slope)),
        weak=slope < LEAST_SLOPE,
        variance=variance,
        df=df,
    )


def label_variance(sample: LabelSample, rest: Vector) -> tuple[float, float]:
    """Return the variance of the weighted mean of ``rest`` over new labels, and Satterthwaite's degrees of freedom.

    V = sum_s W_s^2 max(var_s(rest), q_s (1 - q_s)) / h_s with q_s = 1 / (h_s + 2): no error in the sample is not no error
    (the rule of succession). Stratified variance: Cochran (1977), Sampling Techniques, 5.3; df: 5.4.
    """
    worth, strata = sample.effective, len(sample.shares)
    sums = np.bincount(sample.stratum, sample.weight, minlength=strata)
    means = np.bincount(sample.stratum, sample.weight * rest, minlength=strata) / sums
    residuals = (rest - means[sample.stratum]) ** 2
    squares = np.bincount(sample.stratum, sample.weight * residuals, minlength=strata) / sums
    # A stratum with a single label has no variance of its own; the least one, q (1 - q), stands in.
    unbiased = squares * worth / np.maximum(worth - 1, 1e-9) * (worth > 1)
    q = 1 / (worth + 2)
    parts = sample.shares**2 * np.maximum(unbiased, q * (1 - q)) / worth
    total = float(parts.sum())
    spread = float((parts**2 / np.maximum(worth - 1, 1)).sum())
    return total, total**2 / spread if spread > 0 else max(len(rest) - 1.0, 1.0)


def corrected_limits(
    correction: Correction,
    population: TwoWay,
    sizes: tuple[float, float],
    alpha: float = 0.05,
    judged: Bounds | None = None,
) -> Bounds:
    """Return Wilson's interval of a corrected rate on its effective n; no side is longer than MOVER's.

    Wilson's effective n takes the spread of the judged rate for that of the corrected rate. Where most responses that the
    judge calls harmful are not, that leaves an effective n of a few, and limits far too wide. Simulated: docs/statistics.md.

    Args:
        correction: `correct`'s.
        population: the judged rate over everything, with its variance over prompts and seeds.
        sizes: labels and responses of the figure; where all or none are harmful, the labels alone count, and no more of
            them than there are behaviors.
        alpha: two-sided.
        judged: the limits of the judged rate at that level; None where it is no rate (a ratio): Wilson's alone.
    """
    share = min(1.0, max(0.0, correction.estimate))
    z, t = quantiles(alpha, correction.df)
    labels, responses = sizes
    if not 0 < share < 1:
        return wilson(share, max(1.0, min(labels, population.behaviors) * (z / t) ** 2), alpha)
    # half width^2 = half width of the judged rate^2 / J^2 + t^2 V(labels), each part with the quantile of its own degrees of
    # freedom (Banerjee 1960, Sankhya 22:357).
    moves, own = half_width_squared(population, alpha), t * t * correction.variance
    # n = p (1 - p) z^2 / half width^2: Wilson's interval on the size whose normal interval is as wide.
    size = share * (1 - share) * z * z / (moves / correction.slope**2 + own)
    low, high = wilson(share, max(1.0, min(size, responses)), alpha)
    if judged is None:
        return low, high
    # MOVER of two independent parts (Zou and Donner 2008, Stat Med 27:1693): the distances of the limits are
    # sqrt(((rate - limit) / J)^2 + t^2 V(labels)), the judged rate's own, scaled by 1 / J, and the labels' part.
    lower, upper = (
        math.hypot((limit - population.mean) / correction.slope, t * math.sqrt(correction.variance))
        for limit in judged
    )
    return max(low, share - lower), min(high, share + upper)


def corrected_difference(
    corrections: tuple[Correction, Correction], population: TwoWay, alpha: float
) -> Bounds:
    """Return the t interval of a corrected change.

    Args:
        corrections: of the fine-tune and of its base, from labels drawn apart.
        population: of the judged difference with each arm scaled up by its judge's slope (`scaled_difference`). Where
            all cells are equal, Wilson's upper limit for none of n: no variance in the sample is not no variance.
        alpha: two-sided.
    """
    tuned, base = corrections
    labels = sum(quantiles(alpha, arm.df)[1] ** 2 * arm.variance for arm in corrections)
    if population.variance > 0:
        moves = half_width_squared(population, alpha)
    else:
        moves = wilson(0.0, population.behaviors, alpha)[1] ** 2
    # half^2 = half(population)^2 + t_1^2 V_1(labels) + t_0^2 V_0(labels), the three independent.
    half = math.sqrt(moves + labels)
    change = tuned.estimate - base.estimate
    return max(-1.0, change - half), min(1.0, change + half)


def scaled_difference(tuned: Matrix, base: Matrix, slopes: tuple[float, float]) -> Matrix:
    """Return the judged difference (behaviors x seeds) with each arm scaled up by its judge's slope: f_1 / J_1 - f_0 / J_0.

    A judge whose verdicts follow a share J of every real difference understates how the truth moves between prompts and
    seeds.
    """
    return tuned / slopes[0] - base / slopes[1]
