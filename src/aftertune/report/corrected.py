"""Tables of what annotators' labels say: rates corrected by them, and how judges err against annotators."""

from collections.abc import Iterator

from aftertune.measure.results import (
    Breakdown,
    ConditionLabels,
    ConditionResult,
    CorrectedChange,
    CorrectedRate,
    GuardLabels,
    Interval,
    SettingResult,
    StudyResult,
)
from aftertune.report import wording
from aftertune.report.cells import Cell, Sheet, adjusted, name_cell, part

NONE = Cell(("-",), "faint")
NOT_CORRECTED = Cell(("not corrected",), "faint")
NO_LABELS = ConditionLabels(
    labels=0, asr=Breakdown(overall=None), asr_change=None, judges={}, against_base=None
)
NO_GUARD_LABELS = GuardLabels(
    asr=Breakdown(overall=None),
    asr_change=None,
    asr_difference=None,
    over_refusal=Breakdown(overall=None),
    bypass=Breakdown(overall=None),
)


def labels_of(condition: ConditionResult) -> ConditionLabels:
    """Return the corrected figures of a condition; empty without labels."""
    return condition.labels or NO_LABELS


def guard_labels(condition: ConditionResult, guard: str) -> GuardLabels:
    """Return the corrected figures behind a guard; empty without labels."""
    return labels_of(condition).guards.get(guard, NO_GUARD_LABELS)


def has_labels(setting: SettingResult) -> bool:
    """Return whether anything of a setting has a label."""
    return any(condition.labels is not None for condition in setting.conditions)


def labels_sheet(result: StudyResult, setting: SettingResult) -> Sheet:
    """Return the judge's rate, the corrected one, the labels by themselves, and why a correction is missing."""
    rows, legend = [], list[str]()
    for condition in setting.conditions:
        raw, corrected = condition.asr.overall, labels_of(condition).asr.overall
        if raw is None or corrected is None:
            continue
        rows.append(
            (
                name_cell(condition),
                Cell((wording.percent(raw.estimate), wording.limits(raw.interval))),
                _share(corrected.estimate, corrected.interval, missing=NOT_CORRECTED),
                NONE
                if corrected.uncorrected is None
                else _share(corrected.labels_only, corrected.labels_only_interval),
                Cell(
                    (
                        f"{corrected.labels:,}",
                        f"{corrected.judged_harmful:,} harmful",
                        "to the judge",
                    )
                ),
                _change(part(labels_of(condition).asr_change)),
            )
        )
        legend += _reservations(condition, corrected)
    families = adjusted(part(labels_of(c).asr_change) for c in setting.conditions)
    return Sheet(
        title="ASR corrected by labels",
        headers=(
            "condition",
            "by the judge",
            "corrected",
            "labels alone",
            "labels",
            "change corrected",
        ),
        rows=tuple(rows),
        legend=(
            f"Labels are blind, of responses drawn at random in strata; in brackets 95 % intervals{families and f'; {families}'}.",
            *legend,
            *_annotators(result),
        ),
    )


def _share(share: float | None, interval: Interval | None, missing: Cell = NONE) -> Cell:
    if share is None or interval is None:
        return missing
    return Cell((wording.percent(share), wording.limits(interval)))


def _change(change: CorrectedChange | None) -> Cell:
    if change is None:
        return NONE
    if change.estimate is None or change.interval is None or change.p_value is None:
        return NOT_CORRECTED
    p = change.p_value if change.p_adjusted is None else change.p_adjusted
    limits = wording.point_limits(change.interval)
    return Cell((wording.points(change.estimate), limits, wording.p_value(p)))


def _reservations(condition: ConditionResult, rate: CorrectedRate) -> Iterator[str]:
    """Say why a rate is not corrected, and what undecided labels could make of one."""
    name = wording.clean(condition.name)
    if rate.uncorrected is not None:
        yield f"{name} is not corrected: {wording.clean(str(rate.uncorrected))}. Its labels alone speak of these responses only."
    if rate.undecided:
        limit = f" (up to {wording.percent(rate.bounds.high)} if harmful)" if rate.bounds else ""
        yield f"{name}: {rate.undecided:,} of {rate.labels:,} labels are undecided and count as not harmful{limit}."


def _annotators(result: StudyResult) -> Iterator[str]:
    """Say how far annotators agree; nothing where no response was labelled twice."""
    for pair, agreement in (result.annotators.pairs if result.annotators else {}).items():
        n = agreement.both + agreement.first_only + agreement.second_only + agreement.neither
        if n:
            yield (
                f"{wording.clean(pair)} agree on {agreement.both + agreement.neither:,} of {n:,} responses that both labelled "
                f"(kappa {two_decimals(agreement.kappa)}, AC1 {two_decimals(agreement.ac1)})."
            )


def errors_sheet(setting: SettingResult) -> Sheet:
    """Return how each judge errs against the annotators, condition by condition."""
    rows = tuple(
        (
            Cell((wording.clean(condition.name), wording.clean(judge))),
            _share(errors.sensitivity, errors.sensitivity_interval),
            _share(errors.specificity, errors.specificity_interval),
            Cell((wording.points(errors.bias), wording.point_limits(errors.bias_interval))),
            Cell((two_decimals(errors.kappa), f"AC1 {two_decimals(errors.ac1)}")),
            Cell(
                (
                    f"{errors.both} / {errors.judge_only}",
                    f"{errors.annotators_only} / {errors.neither}",
                )
            ),
        )
        for condition in setting.conditions
        for judge, errors in labels_of(condition).judges.items()
    )
    return Sheet(
        title="Judges against annotators",
        headers=("condition", "sensitivity", "specificity", "bias", "kappa", "counts"),
        rows=rows,
        legend=(
            (
                "bias: points of the rate that the judge adds; counts: harmful to both / to the judge alone, to the annotators "
                "alone / to neither."
            ),
        ),
    )


def two_decimals(value: float | None) -> str:
    """Return a coefficient with two decimals, or a dash where it is not defined."""
    return "-" if value is None else f"{value:.2f}"
