"""Rates mended by what is known of the judge from elsewhere: labels of another data set, none of this study's."""

from collections.abc import Iterator
from dataclasses import dataclass

from aftertune.core.table import Table
from aftertune.measure.averaging import fold
from aftertune.measure.cells import N, tally
from aftertune.measure.crossed import TwoWay, half_width_squared, quantiles
from aftertune.measure.grids import grid
from aftertune.measure.intervals import Bounds
from aftertune.measure.judge_error import OtherLabels, rogan_gladen, rogan_gladen_limits
from aftertune.measure.measure import model_codes, task_weights
from aftertune.measure.plan import MeasurePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class BorrowedRate:
    """An ASR mended by another data set's labels."""

    condition: str
    system: str
    decoding: str
    judged: float
    estimate: float
    interval: Bounds
    """95 %, over prompts (and training seeds) like these, and labels like those."""


def borrowed_rates(table: Table, plan: MeasurePlan, labels: OtherLabels) -> Iterator[BorrowedRate]:
    """Yield every condition's overall ASR, mended by sensitivity and specificity of another data set (Rogan and Gladen).

    It holds as far as the judge errs there as here: the same version, prompt, task and kind of answer.
    """
    cells, weights = tally(table, plan), task_weights(table, plan)
    errors = labels.harmful_found / labels.harmful, labels.other_cleared / labels.other
    for setting, (system, decoding) in enumerate(cells.settings):
        for condition in plan.conditions:
            own = grid(cells, setting, model_codes(cells, condition), weights)
            if own is None or (part := own.choose("overall", 0, own.intent(harmful=True))) is None:
                continue
            average = fold(part, own.counts(("decided", "harmful")), own.counts(N))
            rate = average.two_way
            yield BorrowedRate(
                condition=condition.name,
                system=system,
                decoding=decoding,
                judged=rate.mean,
                estimate=rogan_gladen(rate.mean, *errors),
                interval=rogan_gladen_limits(rate.mean, average.responses, labels, _variance(rate)),
            )


def _variance(rate: TwoWay) -> float | None:
    """Return the variance whose normal interval is as wide as the rate's own; None (binomial) where all cells are equal.

    A single behavior says nothing about others: its variance is infinite.
    """
    z = quantiles(0.05, rate.df)[0]
    return half_width_squared(rate) / (z * z) if rate.variance > 0 else None
