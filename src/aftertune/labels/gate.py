"""A gate's verdict with the one that labels give: beside the judge's, or in its place where that was declared."""

from dataclasses import replace

from aftertune.core.table import Table
from aftertune.measure.gate_labels import labels_verdict
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.results import GateResult, GateVerdict, JudgeVerdict

NO_LABELS = JudgeVerdict(
    verdict=GateVerdict.NOT_ENOUGH_DATA,
    exit_code=GateVerdict.NOT_ENOUGH_DATA.exit_code,
    reasons=(
        "the verdict is declared to be that of people's labels, and there are none yet; aftertune label export",
    ),
)


def gate_with_labels(gate: GateResult, table: Table, plan: MeasurePlan) -> GateResult:
    """Return a gate's result with the verdict by labels (``by_labels``), the judge's (``by_judge``) and the declared one.

    Labels give a verdict where all prompts were asked and the interval speaks of prompts like these; a gate that stops
    early, and one about these prompts alone, stays the judge's. Without labels the judge's verdict stands alone.

    Args:
        gate: the judge's result, or what this function made of it before.
        table: the run's, with its labels.
        plan: declares whose the verdict is: `MeasurePlan.verdict_by`.
    """
    judge = gate.by_judge or JudgeVerdict(
        verdict=gate.verdict, exit_code=gate.exit_code, reasons=gate.reasons
    )
    by_labels = labels_verdict(table, plan, gate.base, gate.tuned) if gate.rule == "fixed" else None
    deciding = judge if plan.verdict_by == "judge" else by_labels or NO_LABELS
    alone = by_labels is None and plan.verdict_by == "judge"
    return replace(
        gate,
        verdict=deciding.verdict,
        exit_code=deciding.exit_code,
        reasons=deciding.reasons,
        by_judge=None if alone else judge,
        by_labels=by_labels,
        verdict_by=plan.verdict_by,
    )
