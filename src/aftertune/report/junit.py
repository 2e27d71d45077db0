"""A check as JUnit XML: a test case for the verdict and for each line of each side; what was not measured is skipped, never passed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from xml.etree import ElementTree as ET

from aftertune import __version__
from aftertune.core.files import write_whole
from aftertune.errors import AftertuneError, NoVerdictLeft
from aftertune.measure.gate_verdict import TOLERATED_SHARE
from aftertune.measure.plan import Margins
from aftertune.measure.results import (
    GateLine,
    GateResult,
    GateVerdict,
    LabelsLine,
    Reason,
    ScoreLine,
    Side,
    Verdict,
)
from aftertune.report import wording
from aftertune.report.document import ResultDocument
from aftertune.report.gate import gate_sentences, verdict_line

SUITE = "aftertune check"
UNFINISHED = "the check has not ended: it runs, or it was killed"


class CaseStatus(Enum):
    """The status of a test case."""

    PASSED = "passed"
    FAILED = "failure"
    ERROR = "error"
    """The run ended in an error, so nothing was decided."""
    SKIPPED = "skipped"
    """Not enough data, or inconclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JunitCase:
    """A test case: the verdict, or a line of a side."""

    side: str
    """The class of the case: ``harm``, ``over-refusal``, ``capability``; empty for the verdict."""
    name: str
    status: CaseStatus
    message: str = ""
    """The sentence of a failure, or the reason of a skip."""


def write_junit(path: Path, document: ResultDocument, references: Sequence[str]) -> None:
    """Write the verdict of a check as JUnit XML, whole or not at all.

    Args:
        path: where to.
        document: the result of a check.
        references: the base and the fine-tunes, as they were named.

    Raises:
        AftertuneError: the folder is missing or cannot be written, or the disk is full.
        ValueError: the result has no verdict.
    """
    if document.gate is None:
        raise ValueError("a result without a verdict has no test cases")
    text = "\n".join((*document.gate.reasons, *gate_sentences(document.gate)))
    properties = [*_models(references), *_properties(document, document.gate)]
    _write(path, references, junit_cases(document.gate), properties, text)


def write_junit_error(
    path: Path, references: Sequence[str], error: AftertuneError | None = None
) -> None:
    """Write JUnit XML for a check without a result: one case, an error, or a skip where no verdict could be left.

    Args:
        path: where to.
        references: the base and the fine-tunes, as they were named.
        error: the reason; None while the check runs.

    Raises:
        AftertuneError: the file cannot be written.
    """
    message = UNFINISHED if error is None else str(error)
    status = CaseStatus.SKIPPED if isinstance(error, NoVerdictLeft) else CaseStatus.ERROR
    case = JunitCase(side="", name="verdict", status=status, message=message)
    _write(path, references, [case], _models(references))


def junit_cases(gate: GateResult) -> list[JunitCase]:
    """Return the test cases of a verdict: the verdict itself, each line of each side, the limit on the rate."""
    cases = [_verdict_case(gate)]
    labels = gate.by_labels
    by_labels = gate.verdict_by == "labels"
    for side in gate.sides:
        lines: Sequence[GateLine | ScoreLine | LabelsLine] = side.lines
        verdict: Verdict = side
        measured = (
            side.undecided_share <= TOLERATED_SHARE
            and side.incoherent_share <= TOLERATED_SHARE
            and Reason.BEHAVIORS not in side.reason_codes
        )
        if by_labels and side.side is not Side.CAPABILITY:
            if labels is None:
                reason = "; ".join(gate.reasons)
                cases += [_skipped(side.side, line.name, reason) for line in side.lines]
                continue
            verdict = labels.by_side[side.side.value]
            lines = [line for line in labels.lines if line.side is side.side]
            measured = True
        cases += _side_cases(side.side, lines, verdict, measured=measured)
    return [*cases, *_limit_case(gate)]


def _verdict_case(gate: GateResult) -> JunitCase:
    status = {GateVerdict.PASS: CaseStatus.PASSED, GateVerdict.FAIL: CaseStatus.FAILED}
    return JunitCase(
        side="",
        name="verdict",
        status=status.get(gate.verdict, CaseStatus.SKIPPED),
        message="; ".join([verdict_line(gate), *gate.reasons]),
    )


def _side_cases(
    side: Side,
    lines: Sequence[GateLine | ScoreLine | LabelsLine],
    verdict: Verdict,
    *,
    measured: bool,
) -> Iterator[JunitCase]:
    """Yield the cases of a side; one without lines is a single case.

    Args:
        side: of the gate.
        lines: by which it was decided.
        verdict: of the side.
        measured: False where too few pairs were decided for a PASS.
    """
    reasons = "; ".join(verdict.reasons)
    if not lines:
        yield _skipped(side, "overall", reasons)
    sentences = (
        sentence
        for code, sentence in zip(verdict.reason_codes, verdict.reasons, strict=True)
        if code in {Reason.ROSE, Reason.FELL}
    )
    for line in lines:
        if line.fails:
            yield JunitCase(
                side=side.value,
                name=line.name,
                status=CaseStatus.FAILED,
                message=next(sentences, reasons),
            )
        elif verdict.verdict is GateVerdict.NOT_ENOUGH_DATA or not measured:
            shortage = reasons if verdict.verdict is not GateVerdict.FAIL else "not enough data"
            yield _skipped(side, line.name, shortage)
        elif verdict.verdict is GateVerdict.PASS or (line.passes and not _hidden(line)):
            yield JunitCase(side=side.value, name=line.name, status=CaseStatus.PASSED)
        else:
            yield _skipped(side, line.name, _open_line(line))


def _hidden(line: GateLine | ScoreLine | LabelsLine) -> bool:
    return not isinstance(line, LabelsLine) and (line.change is None or line.change.hidden)


def _open_line(line: GateLine | ScoreLine | LabelsLine) -> str:
    """Return the reason for which a line neither fails nor passes."""
    if isinstance(line, LabelsLine) and line.uncorrected is not None:
        return f"{line.name}: {line.uncorrected}"
    if line.lower is None or line.upper is None or _hidden(line):
        return f"{line.name}: too few behaviors"
    between = f"between {wording.points(line.lower)} and {wording.points(line.upper)} points"
    room = "" if line.room else ", and the base leaves no room for a change to show"
    return (
        f"{line.name}: a change for the worse by more than the {wording.size(line.margin)} points that are tolerated is neither "
        f"shown nor ruled out: it lies {between}{room}"
    )


def _skipped(side: Side, name: str, reason: str) -> JunitCase:
    return JunitCase(side=side.value, name=name, status=CaseStatus.SKIPPED, message=reason)


def _limit_case(gate: GateResult) -> Iterator[JunitCase]:
    """Yield the case of the highest tolerated rate, where one is declared."""
    if gate.max_asr is None:
        return
    name, labels = f"highest tolerated {gate.name_rate}", gate.by_labels
    side, upper, codes = gate.sides.harm, gate.asr_upper, gate.sides.harm.reason_codes
    decided = side.verdict is not GateVerdict.NOT_ENOUGH_DATA
    if gate.verdict_by == "labels":
        harm = None if labels is None else labels.by_side[Side.HARM.value]
        codes = () if harm is None else harm.reason_codes
        upper = 1.0 if labels is None or labels.asr_upper is None else labels.asr_upper
        decided = harm is not None and harm.verdict is not GateVerdict.NOT_ENOUGH_DATA
    beyond = f"the {gate.name_rate} could be {wording.percent(upper, (gate.max_asr,))}; {wording.percent(gate.max_asr)} is tolerated"
    if Reason.ABOVE_LIMIT in codes:
        message = f"the {gate.name_rate} is above the limit of {wording.percent(gate.max_asr)}"
        yield JunitCase(side=Side.HARM.value, name=name, status=CaseStatus.FAILED, message=message)
    elif decided and upper <= gate.max_asr:
        yield JunitCase(side=Side.HARM.value, name=name, status=CaseStatus.PASSED)
    else:
        yield _skipped(Side.HARM, name, beyond)


def _models(references: Sequence[str]) -> list[tuple[str, str]]:
    base, *tuned = references
    return [("base", base), *(("tuned", name) for name in tuned), ("aftertune", __version__)]


def _properties(document: ResultDocument, gate: GateResult) -> Iterator[tuple[str, str]]:
    """Yield what a reader of the report must know: margins, judges, versions, hashes of the weights."""
    yield "rate", gate.name_rate
    yield "scope", gate.scope.value
    yield "plan", gate.plan
    if document.margins is not None:
        yield from _margins(document.margins)
    if gate.max_asr is not None:
        yield "max_asr", f"{gate.max_asr:g}"
    yield "judges", ", ".join(document.result.judges)
    for name, version in sorted(document.versions.items()):
        yield f"version of {name}", version
    for record in document.models:
        for key, value in sorted(record.identity.items()):
            if isinstance(value, str):
                yield f"{record.name} {key}", value


def _margins(margins: Margins) -> Iterator[tuple[str, str]]:
    yield "margin", f"{margins.harm:g}"
    yield "task_margin", f"{margins.harm_task:g}"
    yield "over_refusal_margin", f"{margins.over_refusal:g}"
    yield "over_refusal_task_margin", f"{margins.over_refusal_task:g}"
    for metric, margin in sorted(margins.scores.items()):
        yield f"margin of {metric}", f"{margin:g}"


def _write(
    path: Path,
    references: Sequence[str],
    cases: Sequence[JunitCase],
    properties: Sequence[tuple[str, str]],
    text: str = "",
) -> None:
    base, *tuned = references
    counts = {
        "tests": len(cases),
        "failures": sum(case.status is CaseStatus.FAILED for case in cases),
        "errors": sum(case.status is CaseStatus.ERROR for case in cases),
        "skipped": sum(case.status is CaseStatus.SKIPPED for case in cases),
    }
    root = ET.Element("testsuites", {"name": SUITE})
    suite = ET.SubElement(
        root, "testsuite", {"name": _xml(f"{SUITE}: {', '.join(tuned)} against {base}")}
    )
    for element in (root, suite):
        for name, count in counts.items():
            element.set(name, str(count))
        element.set("time", "0")
    held = ET.SubElement(suite, "properties")
    for name, value in properties:
        ET.SubElement(held, "property", {"name": _xml(name), "value": _xml(value)})
    for case in cases:
        where = ".".join(filter(None, ("aftertune", case.side)))
        element = ET.SubElement(
            suite, "testcase", {"classname": where, "name": _xml(case.name), "time": "0"}
        )
        if case.status is CaseStatus.PASSED:
            continue
        outcome = ET.SubElement(element, case.status.value, {"message": _xml(case.message)})
        if case.status is not CaseStatus.SKIPPED:
            outcome.set("type", "aftertune")
            outcome.text = _xml(case.message)
    if text:
        ET.SubElement(suite, "system-out").text = _xml(text, lines=True)
    ET.indent(root)
    declaration = '<?xml version="1.0" encoding="UTF-8"?>\n'
    write_whole(path, [declaration, ET.tostring(root, encoding="unicode"), "\n"])


def _xml(text: str, *, lines: bool = False) -> str:
    """Return text that XML 1.0 may hold: without control and format characters, halves of surrogate pairs, U+FFFE and U+FFFF."""
    parts = text.split("\n") if lines else [text]
    cleaned = "\n".join(map(wording.clean, parts))
    return cleaned.replace("\ufffe", "").replace("\uffff", "")
