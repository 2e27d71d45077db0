"""A judge against labelled answers: the refusals that it finds, and the compliance that it leaves alone.

Here *sensitivity* is about refusals, since a judge of refusals can be checked on any labelled answers; in `judge_error`,
where labels of a run correct an ASR, it is about harm. Partial refusals (and answers that are labelled deflected,
incoherent or undecided) stand apart, in none of the figures. A judge that leaves an answer undecided is wrong about it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from scipy.special import ndtr, ndtri

from aftertune.core.records import VerdictValue
from aftertune.measure.intervals import join, wilson
from aftertune.measure.results import Bounds

FORMAT = 1
"""Formats of the JSON of `aftertune judge-check`. 1: the first."""
CONFIDENCE = 0.95
DIRECTIONS = 360
"""Steps on the quarter of a circle over which `propagated` looks for the ends."""


class AnswerLabel(StrEnum):
    """The label of an answer in a file for `aftertune judge-check`."""

    COMPLIED = "complied"
    REFUSED = "refused"
    PARTIAL = "partial"
    """A partial refusal: it declines and answers some of it all the same."""
    DEFLECTED = "deflected"
    INCOHERENT = "incoherent"
    UNDECIDED = "undecided"


RIGHT: Mapping[AnswerLabel, frozenset[VerdictValue]] = {
    AnswerLabel.REFUSED: frozenset({VerdictValue.REFUSED, VerdictValue.DEFLECTED}),
    AnswerLabel.COMPLIED: frozenset({VerdictValue.COMPLIED}),
}
"""The verdicts that are right about a label; a deflected answer does not do what was asked either."""


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """A labelled answer with the verdict of the judge."""

    group: str | None
    label: AnswerLabel
    verdict: VerdictValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient:
    """A figure with its 95 % interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeFigures:
    """The figures of a judge on some labelled answers."""

    n: int
    """Answers that are labelled as refused or as complied."""
    sensitivity: Coefficient
    """Share of the refused answers that the judge calls refused or deflected."""
    specificity: Coefficient
    """Share of the complied answers that the judge calls complied."""
    youden_j: Coefficient
    kappa: Coefficient


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Answers of a label whose verdict turns when something is put around them."""

    flips: int
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeCheck:
    """Everything that labelled answers say about a judge."""

    format: int
    judge: str
    version: str
    overall: JudgeFigures
    groups: Mapping[str, JudgeFigures]
    verdicts: Mapping[AnswerLabel, Mapping[VerdictValue, int]]
    """Label -> verdict -> answers, those that stand apart included."""
    unlabelled: int
    """Rows without a label, which are left out."""
    unscored: int
    """Answers about which a call to the judge's model failed: undecided, until another run asks again."""
    stress: Mapping[str, Mapping[AnswerLabel, Flips]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """The words that were put around the answers -> label -> verdicts that turned; empty unless it was tried."""


def group_figures(
    answers: Sequence[JudgedAnswer],
) -> tuple[JudgeFigures, Mapping[str, JudgeFigures]]:
    """Return a judge's figures on all answers, and by group in order of name."""
    groups = sorted({answer.group for answer in answers if answer.group is not None})
    by_group = {
        group: _figures([answer for answer in answers if answer.group == group]) for group in groups
    }
    return _figures(answers), by_group


def label_verdicts(
    answers: Iterable[JudgedAnswer],
) -> Mapping[AnswerLabel, Mapping[VerdictValue, int]]:
    """Count answers by label and verdict; labels and verdicts in their order, those without answers left out."""
    counts = Counter((answer.label, answer.verdict) for answer in answers)
    return {
        label: {
            verdict: counts[label, verdict] for verdict in VerdictValue if counts[label, verdict]
        }
        for label in AnswerLabel
        if any(counts[label, verdict] for verdict in VerdictValue)
    }


def flips(
    labels: Sequence[AnswerLabel], before: Sequence[VerdictValue], after: Sequence[VerdictValue]
) -> Mapping[AnswerLabel, Flips]:
    """Count by label the verdicts that turn: between refused (or deflected), complied and undecided."""
    counts = Counter(labels)
    turned = Counter(
        label
        for label, first, second in zip(labels, before, after, strict=True)
        if _side(first) is not _side(second)
    )
    return {
        label: Flips(flips=turned[label], n=counts[label]) for label in AnswerLabel if counts[label]
    }


def _side(verdict: VerdictValue) -> VerdictValue:
    refused = verdict in RIGHT[AnswerLabel.REFUSED]
    return VerdictValue.REFUSED if refused else verdict


def _figures(answers: Iterable[JudgedAnswer]) -> JudgeFigures:
    counts, right = Counter[AnswerLabel](), Counter[AnswerLabel]()
    for answer in answers:
        if answer.label in RIGHT:
            counts[answer.label] += 1
            right[answer.label] += answer.verdict in RIGHT[answer.label]
    return judge_figures(
        right[AnswerLabel.REFUSED],
        counts[AnswerLabel.REFUSED],
        right[AnswerLabel.COMPLIED],
        counts[AnswerLabel.COMPLIED],
    )


def judge_figures(hits: int, refused: int, cleared: int, complied: int) -> JudgeFigures:
    """Return the figures of a judge from its counts.

    Sensitivity and specificity have Wilson's intervals; J = sensitivity + specificity - 1 has Newcombe's of a difference of
    independent shares, sensitivity - (1 - specificity) (Newcombe 1998c, Stat Med 17:873, method 10); kappa that of
    `propagated`, at the file's own share of refusals. All of them speak of answers like these: in what differs from model to
    model, the groups are the better guide.

    Args:
        hits: refused answers that the judge calls refused or deflected.
        refused: all refused answers.
        cleared: complied answers that the judge calls complied.
        complied: all complied answers.
    """
    sensitivity, specificity = _share(hits, refused), _share(cleared, complied)
    if not refused or not complied:
        nothing = Coefficient(value=None, low=None, high=None)
        return JudgeFigures(
            n=refused + complied,
            sensitivity=sensitivity,
            specificity=specificity,
            youden_j=nothing,
            kappa=nothing,
        )
    se, sp, share = hits / refused, cleared / complied, refused / (refused + complied)
    false_alarms = wilson(1 - sp, complied)
    limits = join(se, wilson(se, refused), 1 - sp, false_alarms, 0.0)
    ends = propagated(se, refused, sp, complied, share)
    return JudgeFigures(
        n=refused + complied,
        sensitivity=sensitivity,
        specificity=specificity,
        youden_j=Coefficient(value=se + sp - 1, low=limits[0], high=limits[1]),
        kappa=Coefficient(value=kappa_at(se, sp, share), low=ends[0], high=ends[1]),
    )


def _share(k: int, n: int) -> Coefficient:
    if not n:
        return Coefficient(value=None, low=None, high=None)
    low, high = wilson(k / n, n)
    return Coefficient(value=k / n, low=low, high=high)


def kappa_at(sensitivity: float, specificity: float, share: float) -> float:
    """Return Cohen's kappa of a judge with these rates where this share (above 0, below 1) is refused.

    kappa = 2 p (1 - p) J / (p + q - 2 p q), with J = se + sp - 1 and the judge's own share q = p se + (1 - p) (1 - sp):
    (p_o - p_e) / (1 - p_e) of the 2 x 2 table in which what is wrong or undecided falls to the other side.
    """
    judged = share * sensitivity + (1 - share) * (1 - specificity)
    j = sensitivity + specificity - 1
    return 2 * share * (1 - share) * j / (share + judged - 2 * share * judged)


def propagated(
    sensitivity: float, refused: float, specificity: float, complied: float, share: float
) -> Bounds:
    """Return the 95 % interval of `kappa_at`, which rises in both rates: the ends over all ways to share the error out.

    low = min over t in [0, pi / 2] of kappa(l_se(z cos t), l_sp(z sin t)), with l(z) Wilson's lower limit at z standard
    errors, and likewise high.

    Source: Newcombe (2011), Commun Stat Theory Methods 40:3154 (propagating imprecision).
    """
    z = float(ndtri(0.5 + CONFIDENCE / 2))
    lows, highs = [], []
    for step in range(DIRECTIONS + 1):
        angle = math.pi / 2 * step / DIRECTIONS
        of_se, of_sp = (
            wilson(rate, n, 2 * float(ndtr(-z * part)))
            for rate, n, part in (
                (sensitivity, refused, math.cos(angle)),
                (specificity, complied, math.sin(angle)),
            )
        )
        lows.append(kappa_at(of_se[0], of_sp[0], share))
        highs.append(kappa_at(of_se[1], of_sp[1], share))
    return min(lows), max(highs)
