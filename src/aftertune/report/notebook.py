"""A result in a notebook: the verdict, its figures and the picture as HTML, and every number as a data frame."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from aftertune.errors import InputError
from aftertune.measure.results import (
    Breakdown,
    Change,
    ConditionResult,
    GateLine,
    GateResult,
    Rate,
    Score,
    ScoreLine,
    Side,
    StudyResult,
)
from aftertune.report.cells import OVERALL, Dimension, Sheet, part, scored_in
from aftertune.report.document import ResultDocument, notes_of
from aftertune.report.drawing import PALETTE, Colour
from aftertune.report.figures import change_picture
from aftertune.report.gate import verdict_scope
from aftertune.report.overview import glance_sheet, overview, picture_rows, worst_line
from aftertune.report.scorers import panel_words

if TYPE_CHECKING:
    import pandas as pd

FAINT = PALETTE[Colour.FAINT]
TONES = {
    "good": PALETTE[Colour.GOOD],
    "bad": PALETTE[Colour.BAD],
    "plain": PALETTE[Colour.INK],
    "faint": FAINT,
}
MOST_NOTES = 3
MOST_REASONS = 3
"""Notes, and reasons for a verdict, that a notebook shows; the page has all."""


# The picture of a result


def html_of(document: ResultDocument) -> str:
    """Return a result as an element of HTML that stands alone: no script, no class, no file; foreign texts are escaped."""
    result, gate = document.result, document.gate
    if not result.settings:
        return f"<p>{escape(document.study)}: nothing was measured</p>"
    setting = result.settings[0]
    glance = overview(result, setting, gate, document.margins)
    rows = picture_rows(glance, result, setting, gate, document.margins)
    picture = change_picture(glance, rows, result.name_rate)
    reasons = "".join(_line(reason) for reason in glance.reasons[:MOST_REASONS])
    named = len(glance.fine_tunes) > 1
    below = [
        *([worst_line(*glance.worst, named=named)] if glance.worst else []),
        *([verdict_scope(gate)] if gate else []),
        f"{panel_words(result)}. {result.answered:,} of {result.jobs:,} answered.",
        *(f"note: {note}" for note in notes_of(document, warnings_only=True)[:MOST_NOTES]),
    ]
    ink, paper = PALETTE[Colour.INK], PALETTE[Colour.PAPER]
    return (
        f'<div style="color:{ink};background:{paper};padding:12px 16px;max-width:820px;font-family:system-ui,sans-serif">'
        f'<p style="margin:0 0 6px;font-size:1.15em"><strong style="color:{TONES[glance.tone]}">{escape(glance.word)}</strong>'
        f"{escape(glance.subject)}</p>{reasons}"
        f"{_table(glance_sheet(glance, result, setting, gate))}"
        f"{picture.to_svg() if picture else ''}"
        f"{''.join(_line(sentence, faint=True) for sentence in below)}</div>"
    )


def _line(sentence: str, *, faint: bool = False) -> str:
    colour = f"color:{FAINT};" if faint else ""
    return f'<p style="{colour}margin:0 0 4px">{escape(sentence)}</p>'


def _table(sheet: Sheet) -> str:
    """Return a sheet as a table, colours and alignment in its cells."""
    cell = "padding:2px 12px 2px 0;border:0;background:none;text-align"
    heads = "".join(
        f'<th style="{cell}:{_side(column)};color:{FAINT};font-weight:400">{escape(header)}</th>'
        for column, header in enumerate(sheet.headers)
    )
    rows = "".join(
        f"<tr style='background:none'>{''.join(_cell(cell, column, entry.lines, TONES[entry.tone]) for column, entry in enumerate(row))}</tr>"
        for row in sheet.rows
    )
    return f'<table style="border-collapse:collapse;margin:6px 0;border:0"><tr style="background:none">{heads}</tr>{rows}</table>'


def _cell(style: str, column: int, lines: Sequence[str], colour: str) -> str:
    return (
        f'<td style="{style}:{_side(column)};color:{colour}">{"<br>".join(map(escape, lines))}</td>'
    )


def _side(column: int) -> str:
    return "left" if column == 0 else "right"


# The numbers of a result

PARTS: Mapping[Dimension, str] = {
    "overall": OVERALL,
    "by_task": "task",
    "by_set": "set",
    "by_harm_basis": "harm basis",
    "by_hazard": "hazard",
}
"""The dimensions along which prompts are divided, and their names in the frame."""


def data_frame(document: ResultDocument) -> "pd.DataFrame":
    """Return the figures of a result as a frame; its columns are those of `frame_rows`.

    Raises:
        InputError: pandas is not installed.
    """
    if find_spec("pandas") is None:
        raise InputError("to_pandas() needs pandas; pip install 'aftertune[notebook]'")
    import pandas as pd

    return pd.DataFrame(list(frame_rows(document)))


def frame_rows(document: ResultDocument) -> Iterator[dict[str, Any]]:
    """Yield a row for every setting, condition, quantity and part of the prompts; shares are not rounded.

    A row holds ``system``, ``decoding``, ``condition``, ``base``, ``seeds``; ``side`` and ``quantity``; ``part`` (``overall``,
    ``task``, ``set``, ``harm basis``, ``hazard``) and the ``name`` of the part; ``estimate`` with its 95 % interval ``low``,
    ``high``, ``k`` of ``n`` responses and ``behaviors``; the ``change`` against the base with ``change_low``, ``change_high``,
    ``p_value`` and ``p_adjusted``; and where a gate decides on it ``margin``, ``at_worst`` and ``line`` (``within``, ``above``,
    ``open``). ``hidden`` is True for figures over fewer behaviors than the declared least number.
    """
    result = document.result
    for setting in result.settings:
        for condition in setting.conditions:
            lines = _gate_lines(document.gate, condition)
            for side, quantity, level, change in _quantities(result, condition):
                for dimension, name, figure in _figures(level):
                    changed = part(change, dimension, name)
                    named = name or OVERALL
                    yield {
                        "system": setting.system,
                        "decoding": setting.decoding,
                        "condition": condition.name,
                        "base": condition.base,
                        "seeds": condition.seeds,
                        "side": side.value,
                        "quantity": quantity,
                        "part": PARTS[dimension],
                        "name": named,
                        **_level_values(figure),
                        **_change_values(changed),
                        **_gate_values(lines.get((side, quantity, dimension, name))),
                    }


def _quantities(
    result: StudyResult, condition: ConditionResult
) -> Iterator[tuple[Side, str, Breakdown[Any], Breakdown[Change] | None]]:
    """Yield side, name, level and change of the rate, of over-refusal and of every score."""
    yield Side.HARM, result.name_rate, condition.asr, condition.asr_change
    over_refusal = Side.OVER_REFUSAL
    yield over_refusal, over_refusal.value, condition.over_refusal, condition.over_refusal_change
    for name in scored_in([condition.capability]):
        level, change = condition.capability[name], condition.capability_change.get(name)
        yield Side.CAPABILITY, name, level, change


def _figures(level: Breakdown[Any]) -> Iterator[tuple[Dimension, str, Rate | Score]]:
    if level.overall is not None:
        yield "overall", "", level.overall
    for dimension in PARTS:
        if dimension != "overall":
            parts: Mapping[str, Rate | Score] = getattr(level, dimension)
            for name, figure in parts.items():
                yield dimension, name, figure


def _level_values(figure: Rate | Score) -> dict[str, Any]:
    rate = figure if isinstance(figure, Rate) else None
    return {
        "estimate": figure.estimate,
        "low": figure.interval.low,
        "high": figure.interval.high,
        "k": rate and rate.k,
        "n": figure.n,
        "behaviors": figure.behaviors,
        "undecided": rate and rate.undecided,
        "incoherent": rate and rate.incoherent,
        "hidden": figure.hidden,
    }


def _change_values(change: Change | None) -> dict[str, Any]:
    return {
        "change": change and change.estimate,
        "change_low": change and change.interval.low,
        "change_high": change and change.interval.high,
        "p_value": change and change.p_value,
        "p_adjusted": change and change.p_adjusted,
    }


GateKey = tuple[Side, str, Dimension, str]


def _gate_lines(
    gate: GateResult | None, condition: ConditionResult
) -> dict[GateKey, GateLine | ScoreLine]:
    """Return the lines of a gate on a condition by side, quantity and part."""
    if gate is None or condition.name != gate.tuned:
        return {}
    lines: dict[GateKey, GateLine | ScoreLine] = {}
    for side in gate.sides:
        for line in side.lines:
            quantity = (
                line.metric
                if isinstance(line, ScoreLine)
                else gate.name_rate
                if side.side is Side.HARM
                else side.side.value
            )
            dimension: Dimension = "overall" if line.task is None else "by_task"
            lines[side.side, quantity, dimension, line.task or ""] = line
    return lines


def _gate_values(line: GateLine | ScoreLine | None) -> dict[str, Any]:
    if line is None:
        return {"margin": None, "at_worst": None, "line": None}
    word = "above" if line.fails else "within" if line.passes else "open"
    return {"margin": line.margin, "at_worst": line.upper, "line": word}
