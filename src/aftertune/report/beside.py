"""Corrected figures beside raw ones: below the judge's rate in the same cell, and a line where labels are too few."""

from collections.abc import Iterable

from aftertune.measure.results import Missing
from aftertune.report import wording
from aftertune.report.cells import Cell, Json

LEAST = 50
"""Labels of a figure below which nothing is corrected."""


def labels_of(condition: Json) -> Json | None:
    """Return what people say about a condition; None without labels (or in a result from before there were any)."""
    found: Json | None = condition.get("labels")
    return found


def corrected_figure(
    condition: Json,
    figure: str,
    dimension: str | None = None,
    name: str = "",
    *,
    guard: str | None = None,
) -> Json | None:
    """Return a corrected figure; None without labels of it.

    Args:
        condition: whose.
        figure: ``asr``, ``asr_change``, ``over_refusal``, ``over_refusal_change``; behind a guard ``asr_difference``, ``bypass`` and ``bypass_change`` too.
        dimension: ``by_task``, ``by_set``, ``by_harm_basis``, ``by_hazard``; None for the overall figure.
        name: of the task, set, harm basis or hazard.
        guard: behind which; None for none.
    """
    labels = labels_of(condition)
    if labels and guard is not None:
        labels = (labels.get("guards") or {}).get(guard)
    return _part(labels and labels.get(figure), dimension, name)


def corrected_judge(condition: Json, judge: str) -> Json | None:
    """Return the corrected rate from one judge by itself; None without labels."""
    labels = labels_of(condition)
    return _part(labels and (labels.get("judge_rates") or {}).get(judge), None, "")


def _part(breakdown: Json | None, dimension: str | None, name: str) -> Json | None:
    found: Json | None = breakdown and (
        breakdown["overall"] if dimension is None else (breakdown.get(dimension) or {}).get(name)
    )
    return found or None


def uncorrected_text(why: Json) -> str:
    """Return the reason for which a figure is not corrected, with the arm that lacks labels."""
    arm, text = why.get("arm"), str(why["text"])
    return text if arm is None else f"{arm}: {text}"


def beside(cell: Cell, found: Json | None, *, said: bool = False) -> Cell:
    """Return a cell of a raw rate or change with the corrected figure below it.

    Where the labels are too few the cell stays as it is, and `correction_legend` says why once.

    Args:
        cell: the raw figure's.
        found: the corrected figure.
        said: with "not corrected" in such a cell too.
    """
    if not found or cell.lines[0] in {"", "too few", "not measured"}:
        return cell
    if found["uncorrected"]:
        return Cell((*cell.lines, "not corrected"), cell.tone) if said else cell
    if "p_value" in found:
        lines = (
            f"corrected {wording.points(found['estimate'])}",
            wording.point_limits(found["interval"], (0.0,)),
        )
    else:
        lines = f"corrected {wording.percent(found['estimate'])}", wording.limits(found["interval"])
    return Cell((*cell.lines, *lines), cell.tone)


def correction_legend(found: Iterable[Json | None]) -> tuple[str, ...]:
    """Say what corrected figures of a table are, and where they are missing; nothing without labels."""
    told = [figure["uncorrected"] for figure in found if figure]
    if not told:
        return ()
    few = [why["missing"] == Missing.LABELS.value for why in told if why]
    if len(few) < len(told):
        others = (
            f"; {'the' if all(few) else 'some'} others have too few labels ({LEAST} are needed)"
            if any(few)
            else ""
        )
        lines = [f"corrected: by people's labels{others}."]
    elif all(few):
        lines = [f"No figure here has the {LEAST} labels of people that a correction takes."]
    else:
        lines = ["Nothing here is corrected by people's labels."]
    reasons = dict.fromkeys(
        why["text"] for why in told if why and why["missing"] != Missing.LABELS.value
    )
    return (*lines, *(f"Not corrected: {why}." for why in reasons))
