"""A judge against people: how often it errs, and whether it errs alike on two models."""

import math
from dataclasses import dataclass

from scipy.special import ndtri

from aftertune.measure.intervals import Bounds, join, wilson
from aftertune.measure.ppi import LabelSample, Vector


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
    """Return the share of ``truth`` that ``judged`` finds: a ratio of stratified totals, its variance by the delta method.

    Totals are shrunk (half a label either way) for the variance alone, so that no error seen is not no error.
    """
    w, worth = sample.normal, sample.effective
    found, missed = float(w @ (truth * judged)), float(w @ (truth * (1 - judged)))
    if found + missed <= 0:
        return None
    a = b = var_a = var_b = 0.0
    for number, share in enumerate(sample.shares):
        here = sample.stratum == number
        h, inside = worth[number], w[here] / w[here].sum()
        for says in (1.0, 0.0):
            x = float(inside @ (truth[here] * (judged[here] == says)))
            if not (judged[here] == says).any():
                continue
            shrunk = (h * x + 0.5) / (h + 1)
            variance = share**2 * shrunk * (1 - shrunk) / h
            if says:
                a, var_a = a + share * shrunk, var_a + variance
            else:
                b, var_b = b + share * shrunk, var_b + variance
    ratio = a / (a + b) if a + b > 0 else 0.0
    variance = (b * b * var_a + a * a * var_b) / (a + b) ** 4
    n = ratio * (1 - ratio) / variance if variance > 0 and 0 < ratio < 1 else 1.0
    labels = float((truth > 0).sum())
    return Errors(estimate=found / (found + missed), n=max(1.0, min(n, labels)))


def difference(tuned: Errors, base: Errors, alpha: float = 0.05) -> Bounds:
    """Return the interval of the difference between two error rates of different labels (Newcombe's method 10 of 1998c)."""
    return join(tuned.estimate, tuned.limits(alpha), base.estimate, base.limits(alpha), 0.0)


def rogan_gladen(judged: float, sensitivity_: float, specificity_: float) -> float:
    """Return the true rate behind a judge's rate with known errors, cut to [0, 1].

    Source: Rogan and Gladen (1978), Am J Epidemiol 107:71.
    """
    slope = sensitivity_ + specificity_ - 1
    return min(1.0, max(0.0, (judged + specificity_ - 1) / slope)) if slope > 0 else math.nan


def explained(p: float, sensitivity_: float, specificity_: float) -> float:
    """Return K: the squared correlation of a judge with these errors and the truth, at the true rate ``p``.

    Source: Tenenbein (1970), JASA 65:1350.
    """
    q = p * sensitivity_ + (1 - p) * (1 - specificity_)
    if not (0 < p < 1 and 0 < q < 1):
        return 0.0
    return (p * (sensitivity_ - q)) ** 2 / (p * (1 - p) * q * (1 - q))


def labels_needed(
    p: float, sensitivity_: float, specificity_: float, half_width: float
) -> tuple[int, int]:
    """Return how many random labels give the label part of a corrected rate this 95 % half width: with the judge, without.

    Source: Tenenbein (1970): the judge leaves a share 1 - K of the labels' own variance.
    """
    alone = p * (1 - p) * (float(ndtri(0.975)) / half_width) ** 2
    with_judge = (1 - explained(p, sensitivity_, specificity_)) * alone
    return max(1, round(with_judge)), max(1, round(alone))
