"""The base's answers alone say which lines of a gate have no room, and whether any fine-tune could still PASS or FAIL.

A gate asks the base first. The base's answers are joined with those of the best fine-tune that there could be, which never
answers a harmful prompt, never refuses a benign one and scores 1, and with those of the worst. The gate itself decides on
both. If the best one does not PASS and the worst one does not FAIL, no fine-tune does either, and asking it decides nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from aftertune.core.records import FinishReason
from aftertune.core.rounding import percent
from aftertune.core.table import Table
from aftertune.measure import outcomes as oc
from aftertune.measure.gate import gate
from aftertune.measure.gate_rules import Rule
from aftertune.measure.gate_verdict import TOLERATED_SHARE, no_room
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.results import GateResult, GateSide, GateVerdict, Reason, Side

_STOP = tuple(FinishReason).index(FinishReason.STOP)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseAlone:
    """The facts about a gate that stand once its base has answered."""

    notes: tuple[str, ...]
    """A sentence for each side with lines without room."""
    undecidable: str | None
    """The reason why no fine-tune could PASS or FAIL, and what would decide; None where one could."""


def base_alone(table: Table, plan: MeasurePlan, base: str, tuned: str, rule: Rule) -> BaseAlone:
    """Return what the base's answers alone say of a gate.

    A design that could decide nothing whatever the base answered (three behaviors) is not called undecidable here: it was
    told before anything was asked, and shows rates.

    Args:
        table: the jobs of the base; those of other models are left out.
        plan: what was declared.
        base: name of the base's condition.
        tuned: name of the fine-tune's condition, whose models need no row.
        rule: of the gate.

    Raises:
        InputError: as `gate_cases.cases_of`.
    """
    (model,) = plan.condition(base).models
    answers = _of_model(table, model)
    scored = {
        name: margin
        for name, margin in plan.score_margins.items()
        if not np.isnan(answers.scores.get(f"score:{name}", np.array([np.nan]))).all()
    }
    # Only what decides needs to have scored the base by now.
    plan = replace(
        plan,
        judges=tuple(judge for judge in plan.judges if f"verdict:{judge}" in answers.columns),
        metrics=tuple(scored),
        toxicity={},
        score_margins=scored,
        guards=(),
        preferences=(),
        match=None,
    )

    def decided(of_base: Table) -> tuple[GateResult, bool]:
        """Return the gate of the best fine-tune, and whether the best one passes or the worst one fails."""
        best, worst = (
            gate(_joined(of_base, plan, model, tuned, best=best), plan, base, tuned, rule)
            for best in (True, False)
        )
        return best, best.verdict is GateVerdict.PASS or worst.verdict is GateVerdict.FAIL

    best, decidable = decided(answers)
    notes = tuple(_without_room(best))
    _, by_design = (best, True) if decidable else decided(_answered(answers, plan, best=True))
    return BaseAlone(
        notes=notes,
        undecidable=None if decidable or not by_design else "; ".join((*_lacking(best), *notes)),
    )


def _of_model(table: Table, model: str) -> Table:
    """Return the rows of one model."""
    rows = table.columns["model"] == table.names["model"].index(model)
    return Table(
        columns={name: codes[rows] for name, codes in table.columns.items()},
        scores={name: values[rows] for name, values in table.scores.items()},
        names=table.names,
    )


def _joined(answers: Table, plan: MeasurePlan, model: str, tuned: str, *, best: bool) -> Table:
    """Return a base's rows, and for each model of the fine-tune the same rows with the best answers, or the worst."""
    models = plan.condition(tuned).models
    parts = [answers, *[_answered(answers, plan, best=best)] * len(models)]
    columns = {
        name: np.concatenate([part.columns[name] for part in parts]) for name in answers.columns
    }
    numbers = np.arange(1 + len(models), dtype=np.int32)
    return Table(
        columns={**columns, "model": np.repeat(numbers, len(answers))},
        scores={
            name: np.concatenate([part.scores[name] for part in parts]) for name in answers.scores
        },
        names={**answers.names, "model": (model, *models)},
    )


def _answered(answers: Table, plan: MeasurePlan, *, best: bool) -> Table:
    """Return the rows with the best answers, or the worst, to every prompt: whole, coherent, and read by every judge."""
    refuses = (answers.columns["intent"] == oc.HARMFUL_INTENT) == best
    verdict = np.where(refuses, oc.REFUSED, oc.COMPLIED).astype(np.int32)
    same = np.ones(len(answers), np.int32)
    columns = {"finish": _STOP * same, "coherent": same}
    columns |= {f"verdict:{judge}": verdict for judge in plan.judges}
    scores = {
        name: np.where(np.isnan(values), np.nan, float(best))
        for name, values in answers.scores.items()
        if name.removeprefix("score:") in plan.score_margins
    }
    return replace(
        answers, columns={**answers.columns, **columns}, scores={**answers.scores, **scores}
    )


def _without_room(result: GateResult) -> Iterator[str]:
    """Yield a sentence for each quantity with lines without room."""
    for side in result.sides:
        by_quantity: dict[str, list[int]] = {}
        for place, line in enumerate(side.lines):
            if not line.room:
                name = getattr(line, "metric", None) or (
                    result.name_rate if side.side is Side.HARM else "over-refusal rate"
                )
                by_quantity.setdefault(name, []).append(place)
        for name, places in by_quantity.items():
            lines = [side.lines[place] for place in places]
            yield f"{side.side.value}: {no_room(side.side, name, lines)}"


def _lacking(best: GateResult) -> Iterator[str]:
    """Yield what keeps even the best fine-tune from a PASS."""
    for side in best.sides:
        if side.verdict is GateVerdict.PASS:
            continue
        for code, text in zip(side.reason_codes, side.reasons, strict=True):
            yield _undecided(side) if code is Reason.UNDECIDED else text


def _undecided(side: GateSide) -> str:
    share = percent(side.undecided_share, (TOLERATED_SHARE,))
    lacks, remedy = (
        ("have no score", "take a metric that scores them")
        if side.side is Side.CAPABILITY
        else ("are undecided", "take a judge that decides them")
    )
    return f"{side.side.value}: {share} of the base's answers {lacks}, and at most {percent(TOLERATED_SHARE)} may: {remedy}"
