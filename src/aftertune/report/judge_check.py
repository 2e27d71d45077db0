"""Tables of a judge's check against labelled answers, a line a group, and its sentences."""

from collections.abc import Iterable, Iterator
from os.path import commonprefix

from aftertune.core.records import VerdictValue
from aftertune.measure.judge_check import (
    RIGHT,
    AnswerLabel,
    Coefficient,
    Flips,
    JudgeCheck,
)
from aftertune.report import wording
from aftertune.report.cells import OVERALL, Cell, Sheet

LONGEST_NAME = 32
"""Characters of a group's name that stand beside its rates at 80 columns."""
NOT_DEFINED = Cell(("-",), "faint")


def judge_check_sheets(check: JudgeCheck) -> list[Sheet]:
    """Return the tables of a check: rates and agreement by group, labels by verdict, and the stress table if it was tried."""
    rows = [
        (OVERALL, check.overall),
        *zip(_short(check.groups), check.groups.values(), strict=True),
    ]
    rates = Sheet(
        title=f"Judge {wording.clean(check.judge)}: refusals found, compliance left alone",
        headers=("", "n", "sensitivity %", "specificity %"),
        rows=tuple(
            (
                Cell((name,)),
                Cell((f"{figures.n:,}",)),
                _share(figures.sensitivity),
                _share(figures.specificity),
            )
            for name, figures in rows
        ),
        legend=tuple(_apart(check)),
    )
    agreement = Sheet(
        title="Agreement with the labels",
        headers=("", "Youden's J", "kappa"),
        rows=tuple(
            (Cell((name,)), _coefficient(figures.youden_j), _coefficient(figures.kappa))
            for name, figures in rows
        ),
        legend=(
            (
                "J: sensitivity + specificity - 1; in brackets 95 % intervals over answers like these (Wilson; J: Newcombe; kappa: "
                "Newcombe's propagation). How it errs on another model the groups tell better."
            ),
        ),
    )
    sheets = [rates, agreement, _verdicts_sheet(check)]
    return [*sheets, _stress_sheet(check)] if check.stress else sheets


def _short(groups: Iterable[str]) -> list[str]:
    """Return the names of groups for a screen: long ones without the beginning that all of them share."""
    names = [wording.clean(name) for name in groups]
    if max(map(len, names), default=0) <= LONGEST_NAME:
        return names
    start = commonprefix(names)  # noqa: RUF071  # characters of names, no paths
    return [f"…{name.removeprefix(start)}" if start else name for name in names]


def _share(share: Coefficient) -> Cell:
    if share.value is None or share.low is None or share.high is None:
        return NOT_DEFINED
    value, low, high = (
        wording.percent(number, unit="") for number in (share.value, share.low, share.high)
    )
    return Cell((f"{value} [{low}, {high}]",))


def _coefficient(figure: Coefficient) -> Cell:
    if figure.value is None or figure.low is None or figure.high is None:
        return NOT_DEFINED
    value, low, high = map(_signed_score, (figure.value, figure.low, figure.high))
    return Cell((f"{value} [{low}, {high}]",))


def _signed_score(value: float) -> str:
    return wording.score(value) if value >= 0 else f"-{wording.score(-value)}"


def _apart(check: JudgeCheck) -> Iterator[str]:
    """Say what stands apart, what the judge left undecided, and what could not be asked."""
    apart = {
        label: sum(counts.values())
        for label, counts in check.verdicts.items()
        if label not in RIGHT
    }
    if apart:
        counts = wording.listing(f"{count:,} {label}" for label, count in apart.items())
        yield f"In none of the figures: {counts}."
    undecided = sum(check.verdicts.get(label, {}).get(VerdictValue.UNDECIDED, 0) for label in RIGHT)
    if undecided:
        words = "answer that the judge left undecided counts as an error"
        several = "answers that the judge left undecided count as errors"
        yield f"{undecided:,} {words if undecided == 1 else several}."
    if check.unlabelled:
        yield f"{wording.plural(check.unlabelled, 'row')} without a label left out."
    if check.unscored:
        yield (
            f"{wording.plural(check.unscored, 'answer')} could not be judged, since calls failed; run the same command again to "
            "ask again."
        )


def _verdicts_sheet(check: JudgeCheck) -> Sheet:
    verdicts = [
        verdict
        for verdict in VerdictValue
        if any(verdict in counts for counts in check.verdicts.values())
    ]
    return Sheet(
        title="Verdicts by label",
        headers=("label", "n", *verdicts),
        rows=tuple(
            (
                Cell((label.value,)),
                Cell((f"{sum(counts.values()):,}",)),
                *(Cell((f"{counts.get(verdict, 0):,}",)) for verdict in verdicts),
            )
            for label, counts in check.verdicts.items()
        ),
    )


def _stress_sheet(check: JudgeCheck) -> Sheet:
    labels = [label for label in AnswerLabel if label in check.verdicts]
    return Sheet(
        title="Verdicts that turn when something is put around the same answer",
        headers=("", *(f"of {sum(check.verdicts[label].values()):,} {label}" for label in labels)),
        rows=tuple(
            (Cell((name,)), *(_flipped(by_label.get(label)) for label in labels))
            for name, by_label in check.stress.items()
        ),
        legend=("By label; between refused (or deflected), complied and undecided.",),
    )


def _flipped(flips: Flips | None) -> Cell:
    if flips is None or not flips.n:
        return NOT_DEFINED
    return Cell((f"{wording.percent(flips.flips / flips.n)} ({flips.flips:,})",))
