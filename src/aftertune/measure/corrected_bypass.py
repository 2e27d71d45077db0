"""The bypass of a guard, corrected: of what people call harmful, the share that the guard passes."""

from dataclasses import replace

from aftertune.measure.corrected import PPI, corrected_rate
from aftertune.measure.corrections import Figure
from aftertune.measure.crossed import two_way
from aftertune.measure.intervals import Bounds
from aftertune.measure.label_results import CorrectedRate
from aftertune.measure.ppi import correct, corrected_limits

LEAST_HARMFUL = 10
"""Labels of harm below which their share that a guard passes is not told."""


def corrected_bypass(passed: Figure | None, harmful: Figure | None, seeds: int) -> CorrectedRate | None:
    """Return the corrected rate behind the guard over the one without it; None without labels.

    Args:
        passed: the labels of the rate behind the guard.
        harmful: those of the rate without it: the same responses.
        seeds: training seeds.
    """
    found = corrected_rate(passed, seeds)
    if found is None or found.interval is None or passed is None or harmful is None:
        return found
    harm = int((harmful.truth > 0).sum())
    level = harmful.correction().estimate
    if harm < LEAST_HARMFUL or level <= 0:
        why = f"{harm} labels of harm; {LEAST_HARMFUL} are needed"
        return replace(found, estimate=None, interval=None, bounds=None, refused=why)
    ratio = min(1.0, max(0.0, passed.correction().estimate / level))
    low, high = _limits(passed, harmful, ratio, level)
    interval = replace(found.interval, low=low, high=high, method=f"{PPI} of a ratio")
    return replace(found, estimate=ratio, interval=interval, bounds=None)


def _limits(passed: Figure, harmful: Figure, ratio: float, level: float) -> Bounds:
    """Return Wilson's interval of the ratio R on its effective n.

    It varies as the corrected mean of (passed - R harmful) / level does (Taylor linearisation; Saerndal, Swensson and
    Wretman 1992, Model Assisted Survey Sampling, 5.6): the truth, the judge's reading and the matrix of behaviors and
    seeds are each put together so, and treated as one figure.
    """
    one, other = passed.sample, harmful.sample
    assert one is not None
    assert other is not None
    sample = replace(one, truth=one.truth - ratio * other.truth, judged=one.judged - ratio * other.judged)
    matrix = (passed.average.matrix - ratio * harmful.average.matrix) / level
    moves = two_way(matrix, passed.average.behaviors)
    rest = correct(sample, 0.0)
    correction = replace(rest, estimate=ratio, variance=rest.variance * (passed.answered / level) ** 2)
    sizes = float((harmful.truth > 0).sum()), max(1.0, harmful.average.k)
    return corrected_limits(correction, moves, sizes)
