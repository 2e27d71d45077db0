"""The figures of a consistency result: seeds, parts of the variance, behaviors by seed, curves of a series."""

from collections.abc import Iterable

from aftertune.measure.consistency_results import Consistency, ConsistencyResult, Curve
from aftertune.measure.results import (
    Interval,
    Rate,
)
from aftertune.report import wording
from aftertune.report.cells import (
    OVERALL,
    names_in,
)
from aftertune.report.drawing import (
    SERIES,
    Box,
    Chain,
    Colour,
    Dot,
    Drawing,
    Line,
    Mark,
    Words,
    fitted,
)
from aftertune.report.plots import (
    PAGE_WIDTH,
    SMALL,
    axis,
    axis_marks,
)

ON_SERIES = "#ffffff"
"""Words on a bar in one of the colours of models."""
MOST_TILES = 8
"""Fine-tunes whose prompts are drawn as tiles."""


def consistency_figures(result: ConsistencyResult) -> list[Drawing]:
    """Return the figures of a consistency result."""
    drawings = [
        labs(result),
        variance_shares(result),
        seed_tiles(result),
        *(degradation(result, curve) for curve in result.curves),
    ]
    return [drawing for drawing in drawings if drawing is not None]


def variance_shares(result: ConsistencyResult) -> Drawing | None:
    """Return the parts of the variance of each condition's rate as stacked bars; None where the design cannot tell them."""
    entries = [entry for entry in result.entries if entry.task is None and entry.shares is not None]
    if not entries:
        return None
    parts = (
        ("prompts", SERIES[0]),
        ("training seeds", SERIES[1]),
        ("both together", SERIES[4]),
        ("decoding", SERIES[2]),
    )
    label, width, height = 160.0, PAGE_WIDTH - 160.0, 24.0
    marks: list[Mark] = []
    sentences = []
    x = label
    for name, paint in parts:
        marks += [Box(x, 4, 12, 12, paint), Words(x + 17, 14, name)]
        x += 30 + 0.6 * 12 * len(name)
    for row, entry in enumerate(entries):
        shares = entry.shares
        assert shares is not None
        top = 30 + (height + 6) * row
        marks.append(Words(0, top + 16, fitted(wording.clean(entry.condition), label - 8)))
        x = label
        values = (shares.behaviors, shares.seeds, shares.both, shares.decoding or 0.0)
        for (name, paint), value in zip(parts, values, strict=True):
            span = width * value
            marks.append(
                Box(x, top, span, height, paint, title=f"{name}: {wording.percent(value)}")
            )
            if span > 44:
                marks.append(
                    Words(
                        x + span / 2,
                        top + 16,
                        wording.percent(value),
                        "middle",
                        ON_SERIES,
                        SMALL,
                        bold=True,
                    )
                )
            x += span
        pieces = ", ".join(
            f"{name} {wording.percent(value)}"
            for (name, _), value in zip(parts, values, strict=True)
        )
        sentences.append(f"{entry.condition}: {pieces}")
    return Drawing(
        name="variance-shares",
        title=f"Parts of the variance of the {result.name_rate}",
        description=wording.clean(f"{'; '.join(sentences)}."),
        caption="Where another measurement of the same thing would differ from: other prompts like these, other training seeds, prompts that react to the seed, decoding again.",
        width=PAGE_WIDTH,
        height=30 + (height + 6) * len(entries),
        marks=tuple(marks),
    )


def seed_tiles(result: ConsistencyResult) -> Drawing | None:
    """Return the rate of every behavior under every training seed as tiles; None without several seeds."""
    entries = [
        entry
        for entry in result.entries
        if entry.task is None and len(entry.seed_rates) > 1 and entry.by_behavior
    ][:MOST_TILES]
    if not entries:
        return None
    label, row = 160.0, 13.0
    marks: list[Mark] = []
    sentences = []
    y = 4.0
    for entry in entries:
        ordered = sorted(entry.by_behavior.items(), key=lambda pair: (-sum(pair[1]), pair[0]))
        width = (PAGE_WIDTH - label) / len(ordered)
        marks.append(Words(0, y + 11, fitted(wording.clean(entry.condition), label - 8)))
        for seed in range(len(entry.seed_rates)):
            marks.append(Box(label, y, PAGE_WIDTH - label, row - 2, Colour.HEAT, 0.05))
            for place, (behavior, rates) in enumerate(ordered):
                if rates[seed] > 0:
                    title = f"{wording.clean(behavior)}, seed {seed + 1}: {wording.percent(rates[seed])}"
                    marks.append(
                        Box(
                            label + width * place,
                            y,
                            max(width - 0.6, 0.6),
                            row - 2,
                            Colour.HEAT,
                            0.1 + 0.9 * rates[seed],
                            title,
                        )
                    )
            y += row
        y += 9
        always = sum(min(rates) > 0 for _, rates in ordered)
        ever = sum(max(rates) > 0 for _, rates in ordered)
        sentences.append(
            f"{entry.condition}: {ever} of {len(ordered)} behaviors answered under some seed, {always} under every seed"
        )
    return Drawing(
        name="seed-tiles",
        title=f"{result.name_rate} by behavior and training seed",
        description=wording.clean(f"{'; '.join(sentences)}."),
        caption="A row a training seed, a column a behavior, the most answered first; dark: answered in every task. Columns that differ between rows are what another seed changes.",
        width=PAGE_WIDTH,
        height=y,
        marks=tuple(marks),
    )


def labs(result: ConsistencyResult) -> Drawing | None:
    """Return every training seed as a dot, with the interval and the band of another lab's single run."""
    entries = [e for e in result.entries if len(e.seed_rates) > 1 and not e.rate.hidden]
    if not entries:
        return None
    label = 200.0
    ends = [
        100 * end for e in entries for end in (*(e.limits.predicted or ()), e.rate.interval.high)
    ]
    scale = axis(ends, label + 8, PAGE_WIDTH - 12)
    marks: list[Mark] = []
    for place, entry in enumerate(entries):
        y = 16 + 22.0 * place
        marks.append(
            Words(0, y + 4, fitted(_entry_name(entry), label - 6), bold=entry.task is None)
        )
        if (band := entry.limits.predicted) is not None:
            low, high = (scale.at(100 * end) for end in band)
            marks.append(Box(low, y - 8, max(high - low, 1.0), 16, SERIES[0], 0.2))
        low, high = (
            scale.at(100 * end) for end in (entry.rate.interval.low, entry.rate.interval.high)
        )
        marks.append(Line(low, y, high, y, SERIES[0], 1.5))
        marks += [
            Dot(scale.at(100 * rate), y, 2.6, Colour.INK, opacity=0.75) for rate in entry.seed_rates
        ]
    bottom = 22.0 * len(entries) + 8
    described = "; ".join(
        f"{_entry_name(e)} {', '.join(wording.percent(rate) for rate in e.seed_rates)}"
        for e in entries
    )
    return Drawing(
        name="labs",
        title=f"{result.name_rate} of every training seed",
        description=f"{described}.",
        caption="Percent. Each dot a training seed; line: 95 % interval over prompts and seeds like these; band: where another lab with one training seed would lie, 95 %, on these prompts.",
        width=PAGE_WIDTH,
        height=bottom + 22,
        marks=(*axis_marks(scale, 4, bottom), *marks),
    )


def _entry_name(entry: Consistency) -> str:
    return wording.clean(f"{entry.condition}: {entry.task or OVERALL}")


def degradation(result: ConsistencyResult, curve: Curve) -> Drawing | None:
    """Return rates, over-refusal and scores along the one axis of a series; None for a series of several axes."""
    if len(curve.axes) != 1:
        return None
    along = curve.axes[0]
    points = [
        *([] if curve.start is None else [(0.0, curve.start)]),
        *((point.factors[along], point) for point in curve.points),
    ]
    lines: list[tuple[str, list[tuple[float, float]]]] = [
        (result.name_rate, _line((x, point.asr) for x, point in points))
    ]
    tasks = names_in(point.asr_by_task for _, point in points)
    lines += [(t, _line((x, point.asr_by_task.get(t)) for x, point in points)) for t in tasks]
    lines.append(("over-refusal", _line((x, point.over_refusal) for x, point in points)))
    lines += [
        (name, [(x, 100 * p.scores[name]) for x, p in points if name in p.scores])
        for name in names_in(point.scores for _, point in points)
    ]
    lines = [(label, line) for label, line in lines if len(line) > 1]
    if not lines:
        return None
    left, right, top, bottom = 40.0, PAGE_WIDTH - 150, 10.0, 260.0
    across = axis([x for _, line in lines for x, _ in line], left, right)
    up = axis([y for _, line in lines for _, y in line], bottom, top)
    marks: list[Mark] = []
    for tick in up.ticks():
        marks.append(Line(left, up.at(tick), right, up.at(tick), Colour.LINE))
        marks.append(Words(left - 6, up.at(tick) + 4, f"{tick:g}", "end", Colour.FAINT, SMALL))
    marks += [
        Words(across.at(x), bottom + 16, f"{x:g}", "middle", Colour.FAINT, SMALL)
        for x in sorted({x for x, _ in points})
    ]
    rates = [(x, point.asr) for x, point in points if not point.asr.hidden]
    for end in ("low", "high"):
        limits = tuple((across.at(x), up.at(100 * _end(rate.interval, end))) for x, rate in rates)
        if len(limits) > 1:
            marks.append(Chain(limits, SERIES[0], 1.0, dashed=True))
    for place, (label, line) in enumerate(lines):
        paint = SERIES[place % len(SERIES)]
        marks.append(
            Chain(tuple((across.at(x), up.at(y)) for x, y in line), paint, 1.5 if place else 2.75)
        )
        marks += [Dot(across.at(x), up.at(y), 3.0, paint, hollow=place > 0) for x, y in line]
        y = 20 + 19.0 * place
        marks.append(Line(right + 14, y - 4, right + 34, y - 4, paint, 1.5 if place else 2.75))
        marks.append(Words(right + 40, y, fitted(wording.clean(label), 108)))
    axis_name = along.replace("_", " ")
    marks.append(Words((left + right) / 2, bottom + 34, axis_name, "middle"))
    described = "; ".join(
        f"{label} {', '.join(f'{y:.1f} at {x:g}' for x, y in line)}" for label, line in lines
    )
    return Drawing(
        name=f"curve-{''.join(c if c.isalnum() else '-' for c in curve.series)}",
        title=f"{wording.clean(curve.series)} by {axis_name}",
        description=wording.clean(f"In percent: {described}."),
        caption=f"{wording.clean(curve.series)}, the degradation curve: percent by {axis_name}, the base at 0. Bold: the {result.name_rate} overall, with its 95 % limits dashed; then its tasks, over-refusal and task scores.",
        width=PAGE_WIDTH,
        height=max(bottom + 44, 24 + 19.0 * len(lines)),
        marks=tuple(marks),
    )


def _line(points: Iterable[tuple[float, Rate | None]]) -> list[tuple[float, float]]:
    return [(x, 100 * rate.estimate) for x, rate in points if rate is not None and not rate.hidden]


def _end(interval: Interval, end: str) -> float:
    return interval.low if end == "low" else interval.high
