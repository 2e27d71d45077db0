"""Answers side by side: which prompts a page shows, and which answers it keeps to itself."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

Kind = Literal["broken by some", "broken by all", "over-refused", "unclear", "judges differ"]
KINDS: tuple[Kind, ...] = (
    "broken by some",
    "broken by all",
    "over-refused",
    "unclear",
    "judges differ",
)
PER_KIND: Mapping[Kind, int] = {
    "broken by some": 2,
    "broken by all": 2,
    "over-refused": 1,
    "unclear": 1,
    "judges differ": 1,
}
"""How many prompts of a kind a page shows for each task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one judge read in an answer."""

    judge: str
    verdict: str
    """A value of `core.records.VerdictValue`."""
    label: str = ""
    """The rule that fired, the judge's own label, or why it is undecided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One answer of one model, as plain values."""

    prompt_id: str
    prompt: str
    task: str
    intent: str
    """``harmful`` or ``benign``."""
    behavior: str
    condition: str
    seed: int | None
    """The training seed; None for a base or a foreign checkpoint."""
    response: str | None
    """None where there is no final answer."""
    outcome: str
    """A value of `core.outcomes.Outcome`, without a guard."""
    readings: tuple[Reading, ...] = ()
    blocked_by: tuple[str, ...] = ()
    """Guards that block the prompt or the answer."""

    @property
    def sensitive(self) -> bool:
        """Whether a shared page must not show the answer: a harmful prompt, and not every reading says that it is safe."""
        complied = any(reading.verdict == "complied" for reading in self.readings)
        return self.intent == "harmful" and (self.outcome != "safe" or complied)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """A prompt with one answer for each condition, the base first, and the outcomes of all its answers."""

    kind: Kind
    answers: tuple[Example, ...]
    tallies: Mapping[str, Mapping[str, int]]
    """Condition -> outcome -> number of answers, over seeds and samples."""


def select(
    examples: Iterable[Example], order: Sequence[str], bases: Mapping[str, str | None]
) -> tuple[Exhibit, ...]:
    """Choose a few telling prompts per task: the first ones of each kind, in the order in which they come.

    They illustrate; a rate is never read off them. At most `PER_KIND` prompts are kept, so a page stays small however
    long the stream is; only the examples of one prompt are held at a time.

    Args:
        examples: answers of one setting, those of one prompt in a row.
        order: the conditions in the order of their columns.
        bases: condition -> the condition that it is compared with (None for a base).
    """
    room: Counter[tuple[str, Kind]] = Counter()
    chosen: list[Exhibit] = []
    for _, group in groupby(examples, key=lambda example: example.prompt_id):
        exhibit = _exhibit(list(group), order, bases)
        if exhibit is None:
            continue
        place = (exhibit.answers[0].task, exhibit.kind)
        if room[place] < PER_KIND[exhibit.kind]:
            room[place] += 1
            chosen.append(exhibit)
    return tuple(sorted(chosen, key=lambda exhibit: KINDS.index(exhibit.kind)))


def _exhibit(
    examples: list[Example], order: Sequence[str], bases: Mapping[str, str | None]
) -> Exhibit | None:
    first: dict[str, Example] = {}
    tallies: dict[str, Counter[str]] = {}
    for example in examples:
        tallies.setdefault(example.condition, Counter())[example.outcome] += 1
        first.setdefault(example.condition, example)
    answers = tuple(first[name] for name in order if name in first)
    kind = next(_kinds(first, answers, bases), None)
    return None if kind is None else Exhibit(kind=kind, answers=answers, tallies=tallies)


def _kinds(
    first: Mapping[str, Example], answers: Sequence[Example], bases: Mapping[str, str | None]
) -> Iterator[Kind]:
    """Yield what a prompt shows, the most telling first."""
    pairs = [
        (first[base], answer)
        for answer in answers
        if (base := bases.get(answer.condition)) is not None and base in first
    ]
    broken = [
        answer
        for before, answer in pairs
        if (before.outcome, answer.outcome) == ("safe", "harmful")
    ]
    if broken:
        yield "broken by some" if len(broken) < len(pairs) else "broken by all"
    if any(
        (before.outcome, answer.outcome) == ("answered", "over-refused") for before, answer in pairs
    ):
        yield "over-refused"
    if any(answer.outcome in {"incoherent", "undecided"} for answer in answers):
        yield "unclear"
    if any(len({reading.verdict for reading in answer.readings}) > 1 for answer in answers):
        yield "judges differ"
