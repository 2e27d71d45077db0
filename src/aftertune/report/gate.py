"""The gate's result in words: the verdict, its scope, and one row for the overall figure and each task."""

from collections.abc import Iterator, Sequence

from aftertune.measure.results import (
    ErrorDifference,
    GateLine,
    GateResult,
    GateSide,
    GateVerdict,
    LabelsLine,
    Rate,
    Score,
    ScoreLine,
    Side,
    Verdict,
)
from aftertune.report import wording
from aftertune.report.cells import Cell, Sheet, Tone, labels_few, too_few

VERDICT_TONES: dict[GateVerdict, Tone] = {GateVerdict.PASS: "good", GateVerdict.FAIL: "bad"}


def verdict_subject(gate: GateResult) -> str:
    """Return what stands behind the verdict: ``, harm: code against base``; "non-refusal" where only refusals are judged."""
    kind = "" if gate.name_rate == "ASR" else " (non-refusal)"
    failed = [side.side.value for side in gate.sides if side.verdict is GateVerdict.FAIL]
    if failed and gate.verdict is GateVerdict.FAIL and gate.verdict_by == "judge":
        kind = f", {' and '.join(failed)}{kind}"
    by = " (by annotators' labels)" if gate.verdict_by == "labels" else ""
    return f"{kind}{by}: {wording.clean(gate.tuned)} against {wording.clean(gate.base)}"


def verdict_line(gate: GateResult) -> str:
    """Return ``FAIL, harm: code against base``, the first line that anyone reads."""
    return f"{gate.verdict.value}{verdict_subject(gate)}"


def gate_sentences(gate: GateResult) -> list[str]:
    """Return what stands under the table: the other verdict, scope, unclear pairs, the highest tolerated rate, notes."""
    sentences = [*labels_sentences(gate), *_scope_and_limits(gate), *gate.notes]
    return [wording.clean(sentence) for sentence in sentences]


def labels_sentences(gate: GateResult) -> Iterator[str]:
    """Say the verdict that does not decide, the judge's or the labels', and what the change owes to the judge."""
    if gate.verdict_by == "labels" and gate.by_judge is not None:
        yield f"By the judge it would be {_verdict_and_reasons(gate.by_judge)}."
    elif gate.by_labels is not None:
        yield f"By annotators' labels it would be {_verdict_and_reasons(gate.by_labels)}."
    if gate.by_labels is not None and gate.by_labels.against_base is not None:
        yield judge_errors(gate.by_labels.against_base, "the two models")


def _verdict_and_reasons(verdict: Verdict) -> str:
    return f"{verdict.verdict.value}: {'; '.join(verdict.reasons)}"


def judge_errors(against: ErrorDifference, models: str) -> str:
    """Say what the judge's errors did to a change: its own part is a fact only where its interval excludes 0."""
    interval = against.bias_interval
    bias = (
        f"{wording.points(against.bias)} points {wording.point_limits(interval)} of the raw change"
    )
    if interval.low > 0 or interval.high < 0:
        return f"The judge errs differently on {models}: {bias} are its own; read the corrected change."
    if against.differs:
        return f"The judge errs differently on {models}: {bias} may be its own; read the corrected change."
    return f"No difference of the judge's errors on {models} was shown; {bias} may be its own."


def verdict_scope(gate: GateResult) -> str:
    """Say which models and prompts the verdict is about."""
    measured_on = (
        f", measured on {wording.plural(gate.seeds, 'training seed')}"
        if gate.scope.of_recipe
        else ""
    )
    return f"The verdict is about {gate.scope.value.replace(', ', ' and ')}{measured_on}."


def _scope_and_limits(gate: GateResult) -> Iterator[str]:
    yield verdict_scope(gate)
    for side in gate.sides:
        if side.undecided_share or side.incoherent_share:
            missing = "no score" if side.side is Side.CAPABILITY else "an undecided answer"
            yield (
                f"{side.side.value}: {wording.percent(side.undecided_share)} of the pairs have {missing}, "
                f"{wording.percent(side.incoherent_share)} are incoherent in both models."
            )
    if gate.max_asr is not None:
        low, high = wording.percent(gate.asr_lower), wording.percent(gate.asr_upper)
        yield (
            f"Highest tolerated {gate.name_rate}: {wording.percent(gate.max_asr)}; the tuned model's lies between {low} and "
            f"{high} (one-sided bounds, the upper one at its worst)."
        )


def gate_sheets(gate: GateResult) -> list[Sheet]:
    """Return a table for each side: one row for the overall figure and one per task."""
    return [_side_sheet(gate, side, side.lines) for side in gate.sides if side.lines]


def _side_sheet(gate: GateResult, side: GateSide, lines: Sequence[GateLine | ScoreLine]) -> Sheet:
    labelled = {
        line.name: line
        for line in (gate.by_labels.lines if gate.by_labels else ())
        if line.side is side.side
    }
    title = {
        Side.HARM: "ASR" if gate.name_rate == "ASR" else "Non-refusal rate",
        Side.OVER_REFUSAL: "Over-refusal",
        Side.CAPABILITY: "Scores",
    }[side.side]
    by_labels = "by labels: the corrected change, its bound at worst, the verdict."
    return Sheet(
        title=f"{title} before and after: {side.verdict.value}",
        headers=(
            "",
            "base",
            "tuned",
            "change",
            "at worst",
            "verdict",
            *(["by labels"] if labelled else []),
        ),
        rows=tuple(
            (
                *_row(line, exact=gate.rule == "exact"),
                *([_labels_cell(labelled.get(line.name))] if labelled else []),
            )
            for line in lines
        ),
        legend=(
            *([_legend(gate)] if side is gate.sides.harm else []),
            *([by_labels] if labelled else []),
        ),
    )


def _legend(gate: GateResult) -> str:
    """Say what the figures of a gate are, which depends on how it decides: intervals, bets, or the means themselves."""
    level = f"{100 * (1 - 2 * gate.alpha):.3g} %"
    against = "when incoherent and undecided answers count against the tuned model"
    if gate.rule == "exact":
        return (
            f"change: points over all of these prompts, exact and so without an interval; at worst: the change {against}. "
            "PASS needs every change at worst at or under its margin, on every side; FAIL one change above it."
        )
    holds = f"the {level} interval"
    if gate.rule == "sequential":
        holds = f"limits that hold with {level} whenever one stops (bets)"
    return (
        f"change: points, in brackets {holds}; at worst: its bound {against}. PASS needs every bound at worst within its "
        "margin, on every side; FAIL one bound beyond it (all lines of all sides: after Holm)."
    )


def _row(line: GateLine | ScoreLine, *, exact: bool) -> tuple[Cell, ...]:
    margin = f"margin {100 * line.margin:g}"
    name = Cell((wording.clean(line.name),))
    worse = isinstance(line, ScoreLine)
    near = (0.0, -line.margin if worse else line.margin)
    change = line.change
    if change is None or line.base is None or line.tuned is None:
        return (
            name,
            Cell(("-",)),
            Cell(("-",)),
            Cell(("no score",), "faint"),
            Cell(("", margin)),
            _verdict(line),
        )
    if change.hidden:
        shown, worst = too_few(change), Cell(("", margin))
    else:
        figures = [wording.points(change.estimate, near)]
        sign = -1.0 if worse else 1.0
        if not exact:
            figures.append(wording.point_limits(change.interval90, near))
            bound = "at most" if worse else "at least"
            figures += [f"{bound} {wording.points(sign * line.lower, near)}"] if line.fails else []
        shown, worst = (
            Cell(tuple(figures)),
            Cell((wording.points(sign * line.upper, near), margin)),
        )
    return name, _figure(line.base), _figure(line.tuned), shown, worst, _verdict(line)


def _figure(figure: Rate | Score) -> Cell:
    """Return a rate with its counts, or a score; the interval that decides is the change's."""
    if figure.hidden:
        return too_few(figure)
    counted = (wording.counts(figure),) if isinstance(figure, Rate) else ()
    return Cell((wording.percent(figure.estimate), *counted))


def _verdict(line: GateLine | ScoreLine) -> Cell:
    if line.change is not None and line.change.hidden:
        return Cell(("too few",), "faint")
    if line.fails:
        return Cell(("above",), "bad")
    if line.passes:
        return Cell(("within",), "good")
    return Cell(("unclear",) if line.room else ("unclear", "no room"), "faint")


def _labels_cell(line: LabelsLine | None) -> Cell:
    """Return the corrected change of a line with its verdict; what is missing stands among the reasons."""
    if line is None or line.change is None or line.interval90 is None or line.upper is None:
        few = line is None or labels_few(line)
        return Cell(("too few labels" if few else "not corrected",), "faint")
    near = (0.0, line.margin)
    word = "above" if line.fails else "within" if line.passes else "open"
    tone: Tone = "bad" if line.fails else "good" if line.passes else "plain"
    limits, worst = wording.point_limits(line.interval90, near), wording.points(line.upper, near)
    return Cell((wording.points(line.change, near), limits, f"at worst {worst}", word), tone)
