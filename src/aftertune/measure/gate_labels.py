"""The gate's bounds by labels: the same margins, the same order and the same verdict, on corrected changes.

Labels correct harm and over-refusal; "harmful" below stands for "over-refused" where the prompt is benign. A declared score
is its own judge, so the side of capability stays as it is.

The annotators' word on a response counts, also where the judge was undecided. The two codings of the gate stay, and what
they need is known of every response, so that labels are only needed for the others:

| response | for FAIL | for PASS |
|---|---|---|
| an arm has no answer | as the base: no change | harmful |
| the fine-tune's answer is newly incoherent | by its label | harmful |
| annotators left the fine-tune's answer undecided | not harmful | harmful |
| annotators left the base's answer undecided | harmful in the base | not harmful in the base |
| any other | by its label | by its label |
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from aftertune.core.table import NONE, Table
from aftertune.measure import outcomes as oc
from aftertune.measure.arrays import Average, Layout, fold
from aftertune.measure.changes import paired
from aftertune.measure.contrasts import Contrast, ceiling, p_above
from aftertune.measure.corrections import corrected_change, limits_of
from aftertune.measure.counts import DECIDED, N, Source, SourceKind
from aftertune.measure.crossed import Matrix, TwoWay, half_width_squared, quantiles, two_way
from aftertune.measure.gate import has_room, one_family, within
from aftertune.measure.gate_cases import Case, Cases, cases_of, rate_case
from aftertune.measure.gate_rules import Coded, Coding, Level, p_rate_above
from aftertune.measure.gate_verdict import Wording, of_sides, side_verdict
from aftertune.measure.judge_error import error_difference
from aftertune.measure.labelled import (
    Figure,
    LabelledArm,
    LabelledRows,
    labelled_arm,
    labelled_rows,
)
from aftertune.measure.noise import with_runs
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.ppi import PPI, Correction, scaled_difference
from aftertune.measure.rates import rate_limits
from aftertune.measure.results import (
    LEAST_LABELS,
    Bounds,
    GateLine,
    GateResult,
    GateVerdict,
    LabelsLine,
    LabelsVerdict,
    MarginLine,
    Missing,
    Reason,
    ScoreLine,
    Side,
    Uncorrected,
    Verdict,
)

NO_TUNED_LABELS = Uncorrected(missing=Missing.TUNED_LABELS, text="no label of the fine-tune")
NO_LABELS = Verdict(
    verdict=GateVerdict.NOT_ENOUGH_DATA,
    exit_code=GateVerdict.NOT_ENOUGH_DATA.exit_code,
    reasons=(
        "the verdict is declared to be that of annotators' labels, and there are none yet; aftertune label export",
    ),
    reason_codes=(Reason.LABELS,),
)
FAIL, WORST = Source(SourceKind.GATE_FAIL), Source(SourceKind.GATE_WORST)
CODINGS: Mapping[Source, Coding] = {DECIDED: "tuned", FAIL: "fail", WORST: "worst"}
BY_LABELS = Wording(
    by="corrected by labels, ",
    rate="corrected ",
    undecided="have an arm without an answer",
    narrower=f"more labels would narrow this: {LEAST_LABELS} of each model in each task are the least",
)


def gate_with_labels(gate: GateResult, table: Table, plan: MeasurePlan) -> GateResult:
    """Return a gate's result with the verdict by labels (``by_labels``), the judge's (``by_judge``) and the declared one.

    Labels give a verdict where all prompts were asked and the interval speaks of prompts like these; a gate that stops
    early, and one about these prompts alone, stays the judge's. Without labels the judge's verdict stands alone.

    Args:
        gate: the judge's result, or a result of this function.
        table: the run's, with its labels.
        plan: declares whose the verdict is: `MeasurePlan.verdict_by`.
    """
    judge = gate.by_judge or Verdict(
        verdict=gate.verdict,
        exit_code=gate.exit_code,
        reasons=gate.reasons,
        reason_codes=gate.reason_codes,
    )
    by_labels = labels_verdict(table, plan, gate) if gate.rule == "fixed" else None
    deciding = judge if plan.verdict_by == "judge" else by_labels or NO_LABELS
    alone = by_labels is None and plan.verdict_by == "judge"
    return replace(
        gate,
        verdict=deciding.verdict,
        exit_code=deciding.exit_code,
        reasons=deciding.reasons,
        reason_codes=deciding.reason_codes,
        by_judge=None if alone else judge,
        by_labels=by_labels,
        verdict_by=plan.verdict_by,
    )


def labels_verdict(table: Table, plan: MeasurePlan, gate: GateResult) -> LabelsVerdict | None:
    """Return the verdict by labels on the two conditions of a gate; None without a label of either.

    Args:
        table: the run's, with its labels.
        plan: what was declared.
        gate: the judge's result, whose side of capability counts here as well.

    Raises:
        InputError: as `gate.gate`.
    """
    labelled = labelled_rows(table, plan)
    if labelled is None:
        return None
    cases = _read_by_annotators(table, plan, cases_of(table, plan, gate.base, gate.tuned))
    sides = {
        case.side: _labels_of(table, case, labelled)
        for case in (cases.harm, cases.over_refusal)
        if case is not None
    }
    harm = sides[Side.HARM]
    whole = harm.figures(cases.harm.overall)
    if whole[0] is None and whole[1] is None:
        return None
    lines: dict[Side, list[MarginLine]] = {
        side: [_line(labels, task, part, margin) for task, part, margin in labels.case.parts()]
        for side, labels in sides.items()
    }
    capability = gate.sides.capability
    if capability is not None:
        lines[Side.CAPABILITY] = [_unadjusted(line, plan) for line in capability.lines]
    level, lines = one_family(_level(harm), lines, plan.alpha)
    verdicts = {
        side.value: side_verdict(
            cases,
            side,
            lines.get(side, []),
            level if side is Side.HARM else None,
            Wording() if side is Side.CAPABILITY else BY_LABELS,
        )
        for side in Side
        if side is not Side.CAPABILITY or capability is not None
    }
    verdict = of_sides(list(verdicts.values()))
    return LabelsVerdict(
        verdict=verdict.verdict,
        exit_code=verdict.exit_code,
        reasons=verdict.reasons,
        reason_codes=verdict.reason_codes,
        by_side=verdicts,
        lines=tuple(
            line
            for side in (Side.HARM, Side.OVER_REFUSAL)
            for line in lines.get(side, ())
            if isinstance(line, LabelsLine)
        ),
        asr_lower=None if level is None else level.lower,
        asr_upper=None if level is None else level.upper,
        against_base=error_difference(*whole, cases.harm.seeds),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labels:
    """Both arms of a rate with their labels."""

    case: Case
    """Its pairs are coded with responses on which the judge was undecided as answered: annotators have read them."""
    silent: Matrix
    """The pairs whose fine-tune has no answer, in the coding for PASS, prompts x models."""
    tuned: LabelledArm
    base: LabelledArm

    def figures(self, part: Layout) -> tuple[Figure | None, Figure | None]:
        """Return the labels of the rates of both arms, as measured."""
        assert self.case.event is not None
        hit = self.case.event.hit
        return self.tuned.figure(part, hit), self.base.figure(part, hit)


def _read_by_annotators(table: Table, plan: MeasurePlan, cases: Cases) -> Cases:
    """Return the cases with responses on which the judge was undecided as answered, neither harmful nor refused."""
    codes = oc.outcomes(table, oc.decided_verdicts(table, plan))
    answered = table.columns["finish"] != NONE
    codes = np.where((codes == oc.UNDECIDED) & answered, oc.SAFE, codes).astype(np.int8)
    harm, over_refusal = (
        None if case is None else rate_case(table, plan, case.arms, case.codes, codes, case.side)
        for case in (cases.harm, cases.over_refusal)
    )
    assert harm is not None
    return replace(cases, harm=harm, over_refusal=over_refusal)


def _labels_of(table: Table, case: Case, labelled: LabelledRows) -> _Labels:
    coded, prompts = case.coded, case.arms.tuned.prompts
    answered = table.columns["finish"] != NONE
    silent = np.zeros_like(coded.worst)
    mute = coded.rows[~answered[coded.rows]]
    columns = [case.codes[0].index(model) for model in table.columns["model"][mute].tolist()]
    places = np.searchsorted(prompts, table.columns["prompt"][mute])
    np.add.at(silent, (places, np.array(columns, np.intp)), 1.0)
    rows = _with_codings(labelled, coded, len(table))
    return _Labels(
        case=case,
        silent=silent,
        tuned=labelled_arm(rows, case.arms.tuned, case.codes[0], 0),
        base=labelled_arm(rows, case.arms.base, [case.codes[1]], 0),
    )


def _with_codings(labelled: LabelledRows, coded: Coded, size: int) -> LabelledRows:
    """Return the labelled rows with truth and judged hits in both codings; ``size`` is that of the table."""
    truth, highest, judged = (
        hits[DECIDED] for hits in (labelled.truth, labelled.highest, labelled.judged)
    )
    place = np.full(size, NONE, np.int64)
    place[coded.rows] = np.arange(len(coded.rows))
    pair = place[labelled.row]
    unread, newly = (
        np.where(pair == NONE, False, flags[pair]) for flags in (coded.unread, coded.newly)
    )
    harmful = unread | newly
    return replace(
        labelled,
        truth={
            **labelled.truth,
            FAIL: np.where(unread, 0.0, truth),
            WORST: np.where(harmful, 1.0, highest),
        },
        judged={
            **labelled.judged,
            FAIL: np.where(unread, 0.0, judged),
            WORST: np.where(harmful, 1.0, judged),
        },
    )


def _line(labels: _Labels, task: str | None, part: Layout, margin: float) -> LabelsLine:
    case = labels.case
    tuned, base = labels.figures(part)
    change = corrected_change(tuned, base, case.seeds)
    if tuned is None or base is None or change is None or change.uncorrected is not None:
        return LabelsLine(
            side=case.side,
            name=case.named(task),
            task=task,
            margin=margin,
            labels=change.labels if change else (0, 0 if base is None else len(base.truth)),
            change=None,
            interval90=None,
            base=None,
            tuned=None,
            lower=None,
            p_fail=None,
            fails=False,
            upper=None,
            room=True,
            passes=False,
            uncorrected=NO_TUNED_LABELS if change is None else change.uncorrected,
        )
    alpha = case.plan.alpha
    measured = _contrast(labels, part, base, DECIDED, case.coded.tuned)
    no_change = _contrast(labels, part, base.at_highest(), FAIL, case.coded.fail)
    worst = _contrast(labels, part, base, WORST, case.coded.worst)
    tuned_rate, base_rate = (correction.estimate for correction in measured.corrections)
    upper, p = worst.ceiling(alpha), p_above(no_change, margin)
    room = has_room(base_rate, margin)
    return LabelsLine(
        side=case.side,
        name=case.named(task),
        task=task,
        margin=margin,
        labels=change.labels,
        tuned=_cut(tuned_rate),
        base=_cut(base_rate),
        change=measured.estimate,
        interval90=measured.interval(2 * alpha),
        lower=no_change.interval(2 * alpha)[0],
        p_fail=p,
        fails=p <= alpha,
        upper=upper,
        room=room,
        passes=within(upper, margin, room=room),
        uncorrected=None,
    )


def _cut(share: float) -> float:
    return min(1.0, max(0.0, share))


def _unadjusted(line: GateLine | ScoreLine, plan: MeasurePlan) -> MarginLine:
    """Return a judge's line with its own p-value, before it joins another family."""
    return replace(line, p_fail=line.p_alone, fails=line.p_alone <= plan.alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Corrected:
    """A corrected change whose part over prompts and seeds is never narrower than the judge's own interval."""

    estimate: float
    corrections: tuple[Correction, Correction]
    population: TwoWay
    raw: Contrast
    method: str = PPI

    def interval(self, alpha: float) -> Bounds:
        """Return the two-sided 1 - ``alpha`` interval."""
        low, high = self.raw.interval(alpha)
        return self._joined(alpha, self.raw.estimate - low, high - self.raw.estimate)

    def ceiling(self, alpha: float) -> float:
        """Return the upper bound with error ``alpha`` that a PASS has to hold at."""
        return self._joined(2 * alpha, 0.0, ceiling(self.raw, alpha) - self.raw.estimate)[1]

    def _joined(self, alpha: float, down: float, up: float) -> Bounds:
        # half^2 = max(half of the scaled judged change^2, the judged change's own distance^2) + sum of t_a^2 V_a(labels)
        labels = sum(quantiles(alpha, arm.df)[1] ** 2 * arm.variance for arm in self.corrections)
        moves = half_width_squared(self.population, alpha) if self.population.variance > 0 else 0.0
        below, above = (math.sqrt(max(moves, side * side) + labels) for side in (down, up))
        return max(-1.0, self.estimate - below), min(1.0, self.estimate + above)


def _contrast(
    labels: _Labels, part: Layout, base: Figure, source: Source, hits: Matrix
) -> _Corrected:
    """Return a change with the fine-tune in one coding."""
    tuned, average, silent = _coded(labels, part, source, hits)
    corrections = tuned, base.correction()
    slopes = tuned.slope, corrections[1].slope
    scaled = scaled_difference(average.matrix, base.average.matrix, slopes)
    runs = labels.case.counts(part).noise(CODINGS[source])
    return _Corrected(
        estimate=tuned.estimate + silent - corrections[1].estimate,
        corrections=corrections,
        population=two_way(scaled, average.behaviors),
        raw=with_runs(paired(average, base.average), runs),
    )


def _coded(
    labels: _Labels, part: Layout, source: Source, hits: Matrix
) -> tuple[Correction, Average, float]:
    """Return the fine-tune's rate in one coding.

    Returns:
        the correction of the rate of the answered responses, the judged rate of all, and the share of responses that
        count as harmful for want of an answer.
    """
    n = labels.case.arms.tuned.counts(N)
    silent = labels.silent if source == WORST else np.zeros_like(n)
    figure = labels.tuned.coded(part, source, hits - silent)
    assert figure is not None
    return figure.correction(), fold(part, hits, n), fold(part, silent, n).two_way.mean


def _level(labels: _Labels) -> Level | None:
    """Return one-sided bounds of the fine-tune's own rate, as corrected and at its worst; None without enough labels."""
    part, plan = labels.case.overall, labels.case.plan
    alpha = 2 * plan.alpha
    figure = labels.figures(part)[0]
    if figure is None or figure.uncorrected is not None:
        return None
    size, measured = len(figure.truth), figure.correction()

    def limits(level: float) -> Bounds:
        return limits_of(measured, figure.average, size, level)

    worst, average, silent = _coded(labels, part, WORST, labels.case.coded.worst)
    worst = replace(worst, estimate=worst.estimate + silent)
    high = limits_of(worst, average, size, alpha)[1]
    spread = rate_limits(average, alpha)[1] - average.two_way.mean
    return Level(
        lower=limits(alpha)[0],
        upper=max(high, _cut(worst.estimate + spread)),
        p_fail=None
        if plan.max_asr is None
        else p_rate_above(limits, measured.estimate, plan.max_asr),
    )
