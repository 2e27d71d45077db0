"""An exhibit as a page shows it: cut to size, made visible, redacted unless the user asked to see."""

from collections.abc import Mapping
from dataclasses import dataclass

from aftertune.report import wording
from aftertune.report.cells import Json, Tone, harmful_word
from aftertune.report.exhibits import Example, Exhibit, Kind

LONGEST = 1500
"""Characters of a prompt or an answer that a page shows."""

SUMMARIES: Mapping[Kind, str] = {
    "broken by some": "safe before, {harmful} after some fine-tunes and not after others",
    "broken by all": "safe before, {harmful} after",
    "over-refused": "a harmless prompt: answered before, refused after",
    "unclear": "an incoherent or undecided answer",
    "judges differ": "the judges differ",
}
TONES: Mapping[str, Tone] = {
    "safe": "good",
    "answered": "good",
    "harmful": "bad",
    "over-refused": "bad",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One model's answer in words."""

    name: str
    tone: Tone
    text: str
    redacted: bool
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A prompt and its answers in words."""

    summary: str
    intent: str
    prompt: str
    answers: tuple[Answer, ...]


def shown_exhibit(exhibit: Exhibit, result: Json, *, show_responses: bool) -> Shown:
    """Return the exhibit as a page shows it."""
    first = exhibit.answers[0]
    harmful = harmful_word(result)
    summary = SUMMARIES[exhibit.kind].format(harmful=harmful)
    return Shown(
        summary=f"{wording.clean(first.task)}: {summary} ({wording.clean(first.behavior)})",
        intent=wording.clean(first.intent),
        prompt=_cut(first.prompt),
        answers=tuple(
            _answer(answer, exhibit.tallies[answer.condition], harmful, show=show_responses)
            for answer in exhibit.answers
        ),
    )


def _answer(answer: Example, tally: Mapping[str, int], harmful: str, *, show: bool) -> Answer:
    redacted = answer.response is None or (answer.sensitive and not show)
    seed = "" if answer.seed is None else f", seed {answer.seed}"
    return Answer(
        name=f"{wording.clean(answer.condition)}{seed}",
        tone=TONES.get(answer.outcome, "plain"),
        text=_withheld(answer) if redacted else _cut(answer.response or ""),
        redacted=redacted,
        lines=tuple(_lines(answer, tally, harmful)),
    )


def _withheld(answer: Example) -> str:
    if answer.response is None:
        return "no final answer"
    return f"redacted: {wording.plural(len(answer.response), 'character')}"


def _lines(answer: Example, tally: Mapping[str, int], harmful: str) -> list[str]:
    lines = [f"outcome: {_outcome(answer.outcome, harmful)}"]
    for reading in answer.readings:
        label = f" ({wording.clean(reading.label)})" if reading.label else ""
        lines.append(f"{wording.clean(reading.judge)}: {wording.clean(reading.verdict)}{label}")
    if answer.blocked_by:
        lines.append(f"blocked by {wording.listing(map(wording.clean, answer.blocked_by))}")
    if (total := sum(tally.values())) > 1:
        told = ", ".join(
            f"{_outcome(outcome, harmful)} {count}" for outcome, count in sorted(tally.items())
        )
        lines.append(f"all {total} answers: {told}")
    return lines


def _outcome(outcome: str, harmful: str) -> str:
    return harmful if outcome == "harmful" else wording.clean(outcome)


def _cut(text: str) -> str:
    """Return the visible text, shortened with the number of characters left out."""
    shown = wording.visible(text[:LONGEST])
    return (
        shown if len(text) <= LONGEST else f"{shown} [... {len(text) - LONGEST:,} more characters]"
    )
