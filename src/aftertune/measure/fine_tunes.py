"""The fine-tunes of one setting as a family: they share the base's noise, so their overall changes are adjusted together."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from aftertune.measure.multiplicity import holm
from aftertune.measure.rates import adjust_family
from aftertune.measure.results import Change, ConditionResult, CorrectedChange

HOW = "Holm over fine-tunes"


def adjust_over_fine_tunes(measured: Sequence[ConditionResult]) -> Iterator[ConditionResult]:
    """Adjust the overall change of the ASR over the fine-tunes of a setting, as judged and as corrected by labels."""
    judged = {result.name: change for result in measured if (change := _judged(result))}
    corrected = {result.name: found for result in measured if (found := _corrected(result))}
    if len(judged) > 1:
        judged, corrected = adjust_family(judged, holm, HOW), adjust_family(corrected, holm, HOW)
    for result in measured:
        yield _with(result, judged.get(result.name), corrected.get(result.name))


def _judged(result: ConditionResult) -> Change | None:
    return result.asr_change.overall if result.asr_change else None


def _corrected(result: ConditionResult) -> CorrectedChange | None:
    return result.labels.asr_change.overall if result.labels and result.labels.asr_change else None


def _with(
    result: ConditionResult, judged: Change | None, corrected: CorrectedChange | None
) -> ConditionResult:
    if judged and result.asr_change:
        result = replace(result, asr_change=replace(result.asr_change, overall=judged))
    if corrected and result.labels and result.labels.asr_change:
        changes = replace(result.labels.asr_change, overall=corrected)
        result = replace(result, labels=replace(result.labels, asr_change=changes))
    return result
