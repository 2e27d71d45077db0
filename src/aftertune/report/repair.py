"""A repair in print: the verdict first, selection and proof side by side, every strength; and the card of the mended model."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from aftertune.measure.repair import (
    KEPT,
    Candidate,
    Changes,
    Compared,
    Figures,
    Repaired,
    RepairResult,
)
from aftertune.measure.results import Change, GateSide, GateVerdict, Rate, Score, Side
from aftertune.report import wording
from aftertune.report.cells import Cell, Sheet, Tone

ABSENT = Cell(("-",), "faint")


def repair_line(result: RepairResult) -> str:
    """Return ``PASS: tuned repaired by scaling at 0.6``, the first line that anyone reads."""
    if result.verdict is None:
        return f"{result.method}: {len(result.repaired[0].selection.candidates)} strengths, none chosen (--strength sweep)"
    chosen = [model for model in result.repaired if model.selection.chosen is not None]
    if len(chosen) < len(result.repaired):
        return f"{result.verdict.value}: no repair by {result.method}"
    strengths = ", ".join(f"{model.selection.chosen:g}" for model in chosen)
    return f"{result.verdict.value}: repaired by {result.method} at {strengths}"


def reason_lines(result: RepairResult) -> list[str]:
    """Return why the verdict is what it is: of one proven model a line for each side of its check, else the reasons."""
    model = result.repaired[0]
    if len(result.repaired) > 1 and result.together is not None:
        return [_verdict_of(model) for model in result.repaired]
    if model.proof is None or not model.is_result:
        return list(result.reasons)
    lines = [_side_line(side) for side in model.proof.gate.sides]
    if result.metric is None and result.verdict is not GateVerdict.FAIL:
        # The first reason is then one that no side of the check has: the own task was not measured.
        lines += result.reasons[:1]
    return lines


def _verdict_of(model: Repaired) -> str:
    """Return the verdict of one of several models, with the sides that keep it from a PASS."""
    assert model.proof is not None
    gate = model.proof.gate
    sides = [side.side.value for side in gate.sides if side.verdict is not GateVerdict.PASS]
    return f"{wording.clean(model.name)}: {gate.verdict.value}{f' ({wording.listing(sides)})' if sides else ''}"


def _side_line(side: GateSide) -> str:
    """Return a side of a check in a line: its verdict, the overall change, its bound against the margin, the tasks in question."""
    own = side.side is Side.CAPABILITY
    if not side.lines:
        return f"{side.side.value}: {side.verdict.value}, {'; '.join(side.reasons)}"
    overall, *tasks = side.lines
    change = 0.0 if overall.change is None else overall.change.estimate
    margin = wording.points(overall.margin)[1:]
    if overall.fails:
        bound = f"at {'most' if own else 'least'} {wording.points(-overall.lower if own else overall.lower)}"
    else:
        bound = f"at worst {wording.points(-overall.upper if own else overall.upper, (-overall.margin if own else overall.margin,))}"
    against = "the fine-tune" if own else "the base"
    open_tasks = [line.task for line in tasks if line.task is not None and not line.passes]
    more = f"; not within its margin: {wording.listing(open_tasks)}" if open_tasks else ""
    name = "own task" if own else side.side.value
    return f"{name}: {side.verdict.value}, {wording.points(change)} points against {against}, {bound} (margin {margin}){more}"


def rule_line(result: RepairResult) -> str:
    """Return the declared rule in a sentence."""
    points = wording.points(result.margin)[1:]
    own = (
        f", which keep at least {wording.percent(KEPT)} of the gain in {wording.clean(result.metric)}"
        if result.metric
        else ""
    )
    return (
        f"Rule: the lowest {result.name_rate} among the strengths whose over-refusal is at most {points} points above the base's"
        f"{own}. Strength: {result.strength}."
    )


def repair_sheets(result: RepairResult) -> list[Sheet]:
    """Return the tables of a repair: of each model its proof, or all strengths where nothing was proven."""
    several = len(result.repaired) > 1
    if several and result.together is not None:
        return [_seeds_sheet(result, result.together)]
    return [
        _proof_sheet(result, model)
        if model.proof is not None
        else _sweep_sheet(result, model, several=several)
        for model in result.repaired
    ]


def _seeds_sheet(result: RepairResult, together: Compared) -> Sheet:
    """Return a row for each training seed, proven by itself, and one for all of them."""
    rows: list[tuple[Cell, ...]] = []
    for model in result.repaired:
        proof = model.proof
        assert proof is not None
        rows.append(_seed_row(wording.clean(model.name), proof))
    rows.append(_seed_row("all seeds", together))
    return Sheet(
        title=f"The proof, on {together.repaired.asr.behaviors} other behaviors",
        headers=(
            "",
            f"{result.name_rate}: fine-tune",
            "repaired",
            "vs base",
            "over-refusal",
            _metric(result),
        ),
        rows=tuple(rows),
        legend=(
            f"base: {_figure(together.base.asr).lines[0]}. vs base: points, 95 % intervals; all seeds: crossed with the behaviors.",
        ),
    )


def _seed_row(name: str, figures: Compared) -> tuple[Cell, ...]:
    return (
        Cell((name,)),
        _figure(figures.tuned.asr),
        _figure(figures.repaired.asr),
        _change(figures.against_base.asr),
        _figure(figures.repaired.over_refusal),
        _figure(figures.repaired.score),
    )


def _title(words: str, model: Repaired, *, several: bool) -> str:
    return f"{words}: {wording.clean(model.name)}" if several else words


def _sweep_sheet(result: RepairResult, model: Repaired, *, several: bool) -> Sheet:
    selection = model.selection
    rows: list[tuple[Cell, ...]] = []
    for name, figures in (("base", selection.base), ("fine-tune", selection.tuned)):
        rows.append((Cell((name,)), *_cells(figures), ABSENT, Cell(("control",), "faint")))
    chosen = None if result.only_sweep else selection.chosen
    rows.extend([_candidate_row(candidate, chosen) for candidate in selection.candidates])
    return Sheet(
        title=_title("The part for selection, every strength", model, several=several),
        headers=(
            "strength",
            result.name_rate,
            "over-refusal",
            _metric(result),
            "gain kept",
            "rule",
        ),
        rows=tuple(rows),
        legend=(),
    )


def _candidate_row(candidate: Candidate, chosen: float | None) -> tuple[Cell, ...]:
    word = candidate.misses[0].value if candidate.misses else "met"
    tone: Tone = "faint" if candidate.misses else "plain"
    if candidate.strength == chosen:
        word, tone = "chosen", "good"
    return (
        Cell((f"{candidate.strength:g}",)),
        *_cells(candidate.figures),
        ABSENT if candidate.kept is None else Cell((_share(candidate.kept),)),
        Cell((word,), tone),
    )


def _share(kept: float) -> str:
    """Return a kept share; one that is below 0 or above 1 stays what it is."""
    return f"{100 * kept:.0f} %"


def _metric(result: RepairResult) -> str:
    return "own task" if result.metric is None else wording.clean(result.metric)


def _cells(figures: Figures) -> tuple[Cell, Cell, Cell]:
    return _figure(figures.asr), _figure(figures.over_refusal), _figure(figures.score)


def _figure(figure: Rate | Score | None) -> Cell:
    return ABSENT if figure is None else Cell((wording.percent(figure.estimate),))


def _proof_sheet(result: RepairResult, model: Repaired) -> Sheet:
    proof = model.proof
    assert proof is not None
    rows: list[tuple[Cell, ...]] = [
        (Cell(("base",)), *_cells(proof.base)),
        (Cell(("fine-tune",)), *_cells(proof.tuned)),
        (Cell(("repaired",)), *_cells(proof.repaired)),
        (Cell(("by selection",)), *_cells(_chosen(model).figures)),
        (Cell(("vs fine-tune",)), *_changes(proof.against_tuned)),
        (Cell(("vs base",)), *_changes(proof.against_base)),
    ]
    behaviors = proof.repaired.asr.behaviors
    return Sheet(
        title=f"The proof, on {behaviors} other behaviors",
        headers=("", result.name_rate, "over-refusal", _metric(result)),
        rows=tuple(rows),
        legend=(_legend(model),),
    )


def _chosen(model: Repaired) -> Candidate:
    return next(
        candidate
        for candidate in model.selection.candidates
        if candidate.strength == model.selection.chosen
    )


def _legend(model: Repaired) -> str:
    """Say what the rows are, and how much of rise and gain the repair undoes and keeps."""
    proof = model.proof
    assert proof is not None
    parts = []
    if proof.undone is not None:
        parts.append(f"the rise is undone by {_share(proof.undone.estimate)}")
    if proof.kept is not None:
        parts.append(f"{_share(proof.kept)} of the own-task gain is kept")
    shares = f"; {', '.join(parts)}" if parts else ""
    return f"by selection: the repaired model on the behaviors that chose the strength. vs: points, 95 % intervals{shares}."


def _changes(changes: Changes) -> tuple[Cell, Cell, Cell]:
    return _change(changes.asr), _change(changes.over_refusal), _change(changes.score)


def _change(change: Change | None) -> Cell:
    if change is None:
        return ABSENT
    return Cell((f"{wording.points(change.estimate)} {wording.point_limits(change.interval)}",))


# The card


def repair_card(
    result: RepairResult, name: str, *, base: str, tuned: Sequence[str], command: str
) -> str:
    """Return the card of a mended model in the form of the Hugging Face hub: what it is, its proof, its verdict.

    Args:
        result: of the repair.
        name: the model's name in it.
        base: the base's reference.
        tuned: the fine-tunes' references.
        command: the command line that gives the same again.
    """
    model = next(model for model in result.repaired if model.name == name)
    proof = model.proof
    assert proof is not None
    front = {"tags": ["safety", "repaired", "aftertune"]}
    parts = [
        f"# {called(tuned)} repaired",
        (
            f"A fine-tune whose refusals were restored in its weights by {result.method} at strength {model.selection.chosen:g} "
            f"({result.strength}). Base: `{wording.clean(base)}`; fine-tune: {', '.join(f'`{wording.clean(reference)}`' for reference in tuned)}."
        ),
        f"**{proof.gate.verdict.value}**: {'; '.join(proof.gate.reasons)}",
        _table(_proof_sheet(result, model)),
        rule_line(result),
        "The strength was chosen on other behaviors than those of the proof.",
        f"Made by `{wording.clean(command)}`.",
    ]
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n" + "\n\n".join(parts) + "\n"


def called(references: Sequence[str]) -> str:
    """Return the last parts of the references as a title."""
    return wording.listing([wording.clean(Path(reference).name) for reference in references])


def _table(sheet: Sheet) -> str:
    rows = [list(sheet.headers), ["---"] * len(sheet.headers)]
    rows += [[" ".join(cell.lines) for cell in row] for row in sheet.rows]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", *sheet.legend])
