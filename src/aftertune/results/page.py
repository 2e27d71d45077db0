"""The page of a run, at its end and whenever `aftertune report` writes it again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aftertune.labels.sample import labelled_table
from aftertune.measure.consistency import consistency
from aftertune.measure.consistency_results import ConsistencyResult
from aftertune.measure.plan import MeasurePlan
from aftertune.report.page import Report, write_page
from aftertune.results.examples import examples
from aftertune.results.presenting import notes_of
from aftertune.store import Store
from aftertune.workspace import PAGE

_KEPT = "page"


def keep(
    store: Store, study: str, readers: Sequence[int], command: str, assumptions: Sequence[str]
) -> None:
    """Keep in the store what the page needs and the result does not hold."""
    store.set_meta(
        study,
        _KEPT,
        {"readers": list(readers), "command": command, "assumptions": list(assumptions)},
    )


def kept_readers(store: Store, study: str) -> list[int]:
    """Return who read the responses of a finished run."""
    readers: list[int] = store.get_meta(study, _KEPT)["readers"]
    return readers


def write_study_page(
    folder: Path,
    store: Store,
    plan: MeasurePlan,
    told: Mapping[str, Any],
    *,
    path: Path | None = None,
    show_responses: bool = False,
) -> Path:
    """Write the page of a result document and return where it is."""
    study = told["study"]
    kept = store.get_meta(study, _KEPT)
    path = path or folder / PAGE
    report = Report(
        result=told["result"],
        command=kept["command"],
        gate=told["gate"],
        examples=examples(store, study, kept["readers"], plan),
        show_responses=show_responses,
        assumptions=[*kept["assumptions"], *notes_of(told)],
        consistency=_consistency(store, study, plan),
        scorers=told.get("scorers") or {},
    )
    write_page(path, report)
    return path


def _consistency(store: Store, study: str, plan: MeasurePlan) -> ConsistencyResult | None:
    """Return how well the figures would come out again, where training seeds or other factors can tell."""
    if all(len(condition.models) == 1 and not condition.series for condition in plan.conditions):
        return None
    table, _, _ = labelled_table(store, study, kept_readers(store, study))
    return consistency(table, plan)
