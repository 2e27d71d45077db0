"""A gate's verdict with what people's labels make of it: beside the judge's, or in its place where that was declared."""

from typing import Any

from aftertune.core.table import Table
from aftertune.measure.gate_labels import labels_verdict
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.results import GateVerdict
from aftertune.report.cells import Json

WORD = ("verdict", "exit_code", "reasons")
NO_LABELS: dict[str, Any] = {
    "verdict": GateVerdict.NOT_ENOUGH_DATA.value,
    "exit_code": GateVerdict.NOT_ENOUGH_DATA.exit_code,
    "reasons": [
        "the verdict is declared to be that of people's labels, and there are none yet; aftertune label export"
    ],
}


def gate_with_labels(gate: Json | None, table: Table, plan: MeasurePlan) -> dict[str, Any] | None:
    """Return a gate's result with the verdict by labels (``by_labels``), the judge's (``by_judge``) and the declared one.

    Labels give a verdict where all prompts were asked and the interval speaks of prompts like these; a gate that stops
    early, and one about these prompts alone, stays the judge's. Without labels it is returned as it was.

    Args:
        gate: ``GateResult.to_json()``, or what this function made of it before; None where no gate was asked for.
        table: the run's, with its labels.
        plan: whose word the verdict is: `MeasurePlan.verdict_by`.
    """
    if gate is None:
        return None
    judge = gate.get("by_judge") or {name: gate[name] for name in WORD}
    found = (
        labels_verdict(table, plan, gate["base"], gate["tuned"])
        if gate["rule"] == "fixed"
        else None
    )
    told = None if found is None else found.to_json()
    plain = {
        name: value
        for name, value in gate.items()
        if name not in {"by_judge", "by_labels", "verdict_by"}
    }
    if told is None and plan.verdict_by == "judge":
        return {**plain, **judge}
    deciding = judge if plan.verdict_by == "judge" else (told or NO_LABELS)
    beside = {"by_judge": judge, "by_labels": told, "verdict_by": plan.verdict_by}
    return {**plain, **{name: deciding[name] for name in WORD}, **beside}
