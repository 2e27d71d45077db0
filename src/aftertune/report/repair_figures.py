"""The figures of a repair: dose and response of its strengths on the part for selection, and the changes of its proof."""

from collections.abc import Iterator, Sequence

from aftertune.measure.repair import Changes, Compared, Figures, Repaired, RepairResult
from aftertune.measure.results import Rate, Score
from aftertune.report import wording
from aftertune.report.drawing import (
    SERIES,
    Chain,
    Colour,
    Dot,
    Drawing,
    Line,
    Mark,
    Paint,
    Words,
    fitted,
)
from aftertune.report.plots import PAGE_WIDTH, SMALL, Axis, Row, axis, change_paint, interval_plot

LEFT, RIGHT, TOP, BOTTOM = 40.0, PAGE_WIDTH - 190.0, 10.0, 270.0
UP = Axis(0.0, 100.0, BOTTOM, TOP)
"""Percent."""
SHIFT = 4.0
"""Pixels between the curves, so that intervals do not hide each other."""
COLOURS = (1, 0, 2)
"""Places in `SERIES`: rate, over-refusal and own task."""


def repair_figures(result: RepairResult) -> list[Drawing]:
    """Return the figures of a repair: a curve for each fine-tune that was swept, and the proof's changes."""
    curves = (sweep_curve(result, model) for model in result.repaired)
    return [drawing for drawing in (*curves, proof_forest(result)) if drawing is not None]


def sweep_curve(result: RepairResult, model: Repaired) -> Drawing | None:
    """Return rate, over-refusal and own-task score against the strength, on one axis; None for a single strength."""
    selection = model.selection
    candidates = sorted(selection.candidates, key=lambda candidate: candidate.strength)
    if len(candidates) == 1:
        return None
    strengths = [candidate.strength for candidate in candidates]
    across = axis(strengths, LEFT, RIGHT)
    marks: list[Mark] = [*_grid(strengths, across)]
    if selection.chosen is not None and not result.only_sweep:
        x = across.at(selection.chosen)
        marks.append(Line(x, TOP, x, BOTTOM, Colour.INK, 1.25, dashed=True))
        marks.append(Words(x + 5, TOP + 12, "chosen", size=SMALL))
    sentences = []
    base, tuned = _curves(result, selection.base), _curves(result, selection.tuned)
    swept = [_curves(result, candidate.figures) for candidate in candidates]
    for number, (name, before) in enumerate(base.items()):
        paint, y = SERIES[COLOURS[number]], TOP + 10 + 62.0 * number
        figures = [curves[name] for curves in swept]
        shift = SHIFT * (number - 1)
        marks += _curve([across.at(x) + shift for x in strengths], figures, paint)
        marks.append(Line(RIGHT + 14, y - 4, RIGHT + 34, y - 4, paint, 2.25))
        marks.append(Words(RIGHT + 40, y, fitted(name, 146), bold=True))
        for row, (level, figure) in enumerate((("fine-tune", tuned[name]), ("base", before)), 1):
            words = f"{level} {wording.percent(figure.estimate)}"
            marks.append(Words(RIGHT + 40, y + 16 * row, words, paint=Colour.FAINT))
            if number == 0:
                height = UP.at(100 * figure.estimate)
                marks.append(Line(LEFT, height, RIGHT, height, paint, 1.0, dashed=True))
        percents = (
            f"{wording.percent(figure.estimate)} at {x:g}"
            for x, figure in zip(strengths, figures, strict=True)
        )
        sentences.append(f"{name} {', '.join(percents)}")
    return Drawing(
        name=f"strengths-{''.join(c if c.isalnum() else '-' for c in model.name)}",
        title=f"{wording.clean(model.name)}, {result.method}: every strength",
        description=wording.clean(f"By strength: {'; '.join(sentences)}."),
        caption=(
            f"Percent by strength ({result.strength}), with 95 % intervals, on the {selection.tuned.asr.behaviors} behaviors that choose "
            f"the strength; dashed across: the {result.name_rate} of fine-tune and base."
        ),
        width=PAGE_WIDTH,
        height=BOTTOM + 44,
        marks=(*marks, Words((LEFT + RIGHT) / 2, BOTTOM + 34, "strength", "middle")),
    )


def _curves(result: RepairResult, figures: Figures) -> dict[str, Rate | Score]:
    """Return the figures that were measured, by the names of their curves."""
    named = {
        result.name_rate: figures.asr,
        "over-refusal": figures.over_refusal,
        _own(result): figures.score,
    }
    return {name: figure for name, figure in named.items() if figure is not None}


def _own(result: RepairResult) -> str:
    return "own task" if result.metric is None else f"own task ({wording.clean(result.metric)})"


def _grid(strengths: Sequence[float], across: Axis) -> Iterator[Mark]:
    for tick in (0, 25, 50, 75, 100):
        yield Line(LEFT, UP.at(tick), RIGHT, UP.at(tick), Colour.LINE)
        yield Words(LEFT - 6, UP.at(tick) + 4, f"{tick}", "end", Colour.FAINT, SMALL)
    for strength in strengths:
        x = across.at(strength)
        yield Words(x, BOTTOM + 16, f"{strength:g}", "middle", Colour.FAINT, SMALL)


def _curve(
    places: Sequence[float], figures: Sequence[Rate | Score], paint: Paint
) -> Iterator[Mark]:
    heights = [UP.at(100 * figure.estimate) for figure in figures]
    yield Chain(tuple(zip(places, heights, strict=True)), paint, 2.25)
    for x, y, figure in zip(places, heights, figures, strict=True):
        low, high = (UP.at(100 * end) for end in (figure.interval.low, figure.interval.high))
        yield Line(x, low, x, high, paint, 1.0)
        yield Dot(x, y, 3.5, paint)


def proof_forest(result: RepairResult) -> Drawing | None:
    """Return the changes of the proof against the fine-tune and against the base; None without a proof."""
    proven: list[tuple[str, Compared]] = [
        (wording.clean(model.name), model.proof)
        for model in result.repaired
        if model.proof is not None
    ]
    if result.together is not None:
        proven.append(("all seeds", result.together))
    several = len(proven) > 1
    groups = [
        (
            f"against the {other}",
            [
                row
                for name, compared in proven
                for row in _change_rows(
                    result,
                    compared.against_tuned if other == "fine-tune" else compared.against_base,
                    f"{name}: " if several else "",
                )
            ],
        )
        for other in ("fine-tune", "base")
    ]
    behaviors = proven[0][1].repaired.asr.behaviors if proven else 0
    return interval_plot(
        "proof",
        f"The repair by {result.method}, proven",
        f"Points with 95 % intervals, on {behaviors} behaviors that did not choose the strength; filled where the interval excludes 0.",
        groups,
        "points",
    )


def _change_rows(result: RepairResult, changes: Changes, before: str) -> Iterator[Row]:
    for name, change, rise_is_bad in (
        (result.name_rate, changes.asr, True),
        ("over-refusal", changes.over_refusal, True),
        (_own(result), changes.score, False),
    ):
        if change is None:
            continue
        yield Row(
            label=f"{before}{name}",
            value=100 * change.estimate,
            low=100 * change.interval.low,
            high=100 * change.interval.high,
            paint=change_paint(change, rise_is_bad=rise_is_bad),
            hollow=change.interval.low <= 0 <= change.interval.high,
            behind=wording.points(change.estimate),
        )
