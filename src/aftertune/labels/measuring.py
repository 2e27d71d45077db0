"""A finished run measured once more, with the labels that came since."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aftertune.core.plain import from_plain
from aftertune.labels.sample import LABELS, labelled_table
from aftertune.measure.gate_labels import gate_with_labels
from aftertune.measure.measure import measure
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.results import GateResult
from aftertune.measure.study_plan import measure_plan
from aftertune.report.cells import Json
from aftertune.report.files import write_json
from aftertune.report.finding import finding
from aftertune.results.page import kept_readers, write_study_page
from aftertune.store import Store
from aftertune.study import load_study
from aftertune.workspace import RESULT, STUDY


def finished_plan(folder: Path, store: Store, told: Json) -> MeasurePlan:
    """Return the declaration of a finished run."""
    study = load_study(folder / STUDY, finished=True)
    models = store.study_models(study.name)
    return measure_plan(study, models, told["result"]["name_rate"])


def measure_again(folder: Path, store: Store, told: Json) -> Mapping[str, Any]:
    """Measure a finished run with its labels; write result and page anew, and return the result document.

    A gate's verdict stays the judge's, with that of the labels beside it, unless the labels' was declared.
    """
    study = told["study"]
    plan = finished_plan(folder, store, told)
    table, labels, notes = labelled_table(store, study, kept_readers(store, study))
    result = measure(table, plan).to_json()
    written = told["gate"]
    gate = None if written is None else from_plain(GateResult, written, str(folder / RESULT))
    renewed: dict[str, Any] = {
        **told,
        "result": result,
        "gate": None if gate is None else gate_with_labels(gate, table, plan).to_json(),
        "finding": finding(result),
        "labels": labels,
        "notes": [*(note for note in told["notes"] if note not in notes), *notes],
    }
    write_study_page(folder, store, plan, renewed)
    write_json(folder / RESULT, renewed)
    return renewed


def with_labels(folder: Path, store: Store, told: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the result document; measured again if labels came in whose import was stopped before that."""
    note = store.get_meta(told["study"], LABELS)
    known = (told.get("labels") or {}).get("version")
    if (
        note is None
        or known == note["version"]
        or any("drawn from for labels" in line for line in told["notes"])
    ):
        return told
    return measure_again(folder, store, told)
