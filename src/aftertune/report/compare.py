"""Results of different runs beside each other: what differs in how they were made, and what differs in what they say."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aftertune.core.records import NO_ATTACK
from aftertune.measure.attack_results import AttackFigures
from aftertune.measure.between import HARM, OVER_REFUSED, Difference
from aftertune.measure.plan import Margins
from aftertune.measure.results import ConditionResult
from aftertune.report import wording
from aftertune.report.cells import Cell, Sheet, Tone, finished
from aftertune.report.document import ResultDocument
from aftertune.report.harm_degree import mean_toxicity
from aftertune.report.overview import overview

FORMAT = 1
"""Formats of the JSON of a comparison. 1: the first."""
MOST_ROWS = 9
"""Rows of the table for one other result; all differences are in the JSON."""
MOST_NOTES = 4
MOST_RESULTS = 9
"""Results whose comparison fits on a screen."""
Role = Literal["base", "fine-tune"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A condition of a result against one of the first result."""

    result: int
    """The place of the other result; the first one is 0."""
    role: Role
    first: str
    """The name of the condition in the first result."""
    other: str
    differences: tuple[Difference, ...]
    pairing: str
    """The prompts on which the differences stand, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultComparison:
    """Several results, each against the first."""

    format: int
    results: tuple[str, ...]
    """The files or folders, as they were named."""
    verdicts: tuple[str, ...]
    """The first line of each."""
    compared: tuple[Compared, ...]
    notes: tuple[str, ...]
    """Sentences on differences of judges, prompts, decoding, margins and bases, which may be all that a change of figures shows."""


def matching(
    first: ResultDocument, other: ResultDocument
) -> list[tuple[Role, ConditionResult, ConditionResult]]:
    """Return the conditions of two results that are compared: fine-tunes of one name, or the only ones; and the bases."""
    before, after = _fine_tunes(first), _fine_tunes(other)
    if len(before) == len(after) == 1:
        pairs = [(before[0], after[0])]
    else:
        named = {condition.name: condition for condition in after}
        pairs = [(c, named[c.name]) for c in before if c.name in named]
    bases = [[c for c in _conditions(document) if c.base is None] for document in (first, other)]
    both: list[tuple[Role, ConditionResult, ConditionResult]] = [
        ("fine-tune", *pair) for pair in pairs
    ]
    return [*both, ("base", bases[0][0], bases[1][0])] if bases[0] and bases[1] else both


def _unmatched(first: ResultDocument, other: ResultDocument, name: str) -> Iterator[str]:
    """Yield a sentence on fine-tunes that are not compared, since only one of the results has their names."""
    before, after = ({c.name for c in _fine_tunes(document)} for document in (first, other))
    if len(before) == len(after) == 1 or before == after:
        return
    for names, where in ((before - after, "the first has"), (after - before, f"{name} has")):
        if names:
            yield f"only {where} {wording.few(sorted(map(wording.clean, names)))}: not compared"


def _conditions(document: ResultDocument) -> Sequence[ConditionResult]:
    settings = document.result.settings
    return finished(settings[0].conditions) if settings else []


def _fine_tunes(document: ResultDocument) -> list[ConditionResult]:
    tuned = [condition for condition in _conditions(document) if condition.base is not None]
    if document.gate is None:
        return tuned
    return [condition for condition in tuned if condition.name == document.gate.tuned]


def attacks_of(
    document: ResultDocument, condition: str | None = None
) -> Mapping[str, AttackFigures]:
    """Return the figures of a condition (None: of all) under each attack, in the setting that the figures without attack are of."""
    first = document.result.settings[:1]
    return {
        attack: figures
        for setting in document.attacks
        if [(setting.system, setting.decoding)] == [(x.system, x.decoding) for x in first]
        for attacked in setting.conditions
        if condition in (None, attacked.name)
        for attack, figures in attacked.attacks.items()
    }


def headline(document: ResultDocument) -> str:
    """Return the verdict of a result, or its gravest standing, in a line."""
    if not document.result.settings:
        return "nothing was measured"
    glance = overview(document.result, document.result.settings[0], document.gate, document.margins)
    return f"{glance.word}{glance.subject}"


# What differs beside the figures


def differing(first: ResultDocument, other: ResultDocument, name: str) -> Iterator[str]:
    """Yield a sentence on each thing by which the results were made differently.

    Args:
        first: the result that others are compared with.
        other: another one.
        name: of the other one, in sentences.
    """
    before, after = first.result, other.result
    yield from _unmatched(first, other, name)
    if before.name_rate != after.name_rate:
        yield f"{name}: its rate is the {after.name_rate}, that of the first the {before.name_rate}; they are not the same thing"
    if (before.judges, before.panel) != (after.judges, after.panel):
        yield f"{name}: judged by {_judges(other)}, the first by {_judges(first)}"
    yield from _versions(first.versions, other.versions, name)
    attacks = [attacks_of(document).keys() for document in (first, other)]
    for names, where in (
        (attacks[0] - attacks[1], "the first"),
        (attacks[1] - attacks[0], name),
    ):
        if names:
            yield f"only {where} was asked under {wording.few(sorted(map(wording.clean, names)))}: not compared"
    yield from _prompts(first, other, name)
    settings = [
        [(setting.system, setting.decoding) for setting in result.settings[:1]]
        for result in (before, after)
    ]
    if settings[0] != settings[1]:
        shown = [
            " and ".join(f"system prompt {system}, {decoding}" for system, decoding in setting)
            for setting in settings
        ]
        yield f"{name}: asked with {shown[1] or 'nothing'}, the first with {shown[0] or 'nothing'}"
    yield from _margins(first.margins, other.margins, name)
    bases = [_base(document) for document in (first, other)]
    if bases[0] != bases[1] and None not in bases:
        yield f"{name}: another base than the first (other weights or number format)"


def _judges(document: ResultDocument) -> str:
    names = wording.listing(map(wording.clean, document.result.judges))
    panel = document.result.panel
    return names if panel == "first" else f"{names} (panel: {panel})"


def _versions(first: Mapping[str, str], other: Mapping[str, str], name: str) -> Iterator[str]:
    changed = [
        scorer for scorer in sorted(first.keys() & other.keys()) if first[scorer] != other[scorer]
    ]
    if changed:
        yield f"{name}: other versions of {wording.few(changed)}"


def _prompts(first: ResultDocument, other: ResultDocument, name: str) -> Iterator[str]:
    before, after = first.prompts, other.prompts
    if not before.digests or not after.digests:
        if before.sets != after.sets:
            yield f"{name}: {after.count:,} prompts of {_sets(after.sets)}, the first {before.count:,} of {_sets(before.sets)}"
        return
    tasks = sorted(before.digests.keys() | after.digests.keys())
    changed = [task for task in tasks if before.digests.get(task) != after.digests.get(task)]
    if changed:
        yield (
            f"{name}: other prompts or templates in {wording.few(changed)} ({after.count:,} prompts of {_sets(after.sets)}, the first "
            f"{before.count:,} of {_sets(before.sets)})"
        )


def _sets(sets: Mapping[str, Mapping[str, int]]) -> str:
    return wording.few(sorted(map(wording.clean, sets))) if sets else "no set"


def _margins(first: Margins | None, other: Margins | None, name: str) -> Iterator[str]:
    if first is None or other is None or first == other:
        return
    parts = [
        f"{words} {100 * getattr(other, field):g} (first: {100 * getattr(first, field):g})"
        for field, words in (
            ("harm", "harm"),
            ("harm_task", "harm in a task"),
            ("over_refusal", "over-refusal"),
            ("over_refusal_task", "over-refusal in a task"),
        )
        if getattr(first, field) != getattr(other, field)
    ]
    if dict(first.scores) != dict(other.scores):
        parts.append("scores")
    yield f"{name}: other margins, in points: {', '.join(parts)}"


def _base(document: ResultDocument) -> Mapping[str, object] | None:
    bases = [model.identity for model in document.models if model.base is None]
    return dict(bases[0]) if bases else None


# On the terminal


def comparison_sheet(comparison: ResultComparison, letters: str, room: int) -> Sheet:
    """Return the table of the other results against the first: figures overall, and the tasks that differ most.

    Args:
        comparison: the results.
        letters: a letter for each result.
        room: the rows that there is room for.
    """
    others = len(comparison.results) - 1
    most = max(1, min(MOST_ROWS, room // others))
    rows = []
    left_out = 0
    for place in range(1, others + 1):
        compared = [pair for pair in comparison.compared if pair.result == place]
        named = len([pair for pair in compared if pair.role == "fine-tune"]) > 1
        who = f"{letters[place]}: " if others > 1 else ""
        candidates = _ordered(compared)
        left_out += len(candidates[most:])
        rows += [
            _row(f"{who}{f'{pair.first}, ' if named else ''}", pair, difference)
            for pair, difference in sorted(
                candidates[:most], key=lambda row: (compared.index(row[0]), row[1].figure != HARM)
            )
        ]
    return Sheet(
        title="",
        headers=(
            "",
            letters[0],
            letters[1] if others == 1 else "other",
            "difference, points [95 %]",
            "",
        ),
        rows=tuple(rows),
        legend=(f"{wording.plural(left_out, 'row')} more, which differ less: --json",)
        if left_out
        else (),
    )


def _ordered(compared: Sequence[Compared]) -> list[tuple[Compared, Difference]]:
    """Return the rows of one other result: all overall figures, then harm under attacks and in tasks, what differs most first."""
    pairs = [(pair, difference) for pair in compared for difference in pair.differences]
    overall = [row for row in pairs if row[1].task is None and row[1].attack == NO_ATTACK]
    parts = [
        (pair, difference)
        for pair, difference in pairs
        if (difference.task is None) != (difference.attack == NO_ATTACK)
        and pair.role == "fine-tune"
        and difference.figure == HARM
        and not difference.toxicity
    ]
    parts.sort(key=lambda row: (row[1].attack == NO_ATTACK, -abs(row[1].difference)))
    return [*overall, *parts]


def _row(who: str, pair: Compared, difference: Difference) -> tuple[Cell, ...]:
    what = difference.figure if difference.task is None else f"{HARM} in {difference.task}"
    if difference.toxicity:
        what = mean_toxicity(difference.figure)
    if difference.attack != NO_ATTACK:
        what = f"{what} under {difference.attack}"
    role = "base, " if pair.role == "base" else ""
    low, high = difference.interval
    falls_bad = not difference.toxicity and difference.figure not in {HARM, OVER_REFUSED}
    direction = int(low > 0) - int(high < 0)
    tone: Tone = "plain"
    if direction:
        tone = "bad" if (direction > 0) != falls_bad else "good"
    first, other = difference.behaviors
    counts = f"{first:,} pairs" if difference.paired else f"{first:,} | {other:,}"
    return (
        Cell((wording.clean(f"{who}{role}{what}"),)),
        Cell((wording.percent(difference.first),)),
        Cell((wording.percent(difference.other),)),
        Cell(
            (
                f"{wording.points(difference.difference)} {wording.point_limits(difference.interval)}",
            ),
            tone,
        ),
        Cell((counts,), "faint"),
    )
