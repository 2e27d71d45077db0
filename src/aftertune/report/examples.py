"""Answers side by side: the prompts whose answers a page shows, in words, and the answers that it keeps to itself."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aftertune.core.outcomes import Outcome
from aftertune.core.records import DecisionValue, Intent, Prompt, VerdictValue
from aftertune.core.table import Table
from aftertune.measure.outcomes import OUTCOMES, decided_verdicts, outcomes, setting_codes
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.results import StudyResult
from aftertune.report import wording
from aftertune.report.cells import Tone, harmful_word

if TYPE_CHECKING:
    from aftertune.core.records import StoredJob

PER_TASK = 60
"""Prompts of a task whose answers are fetched for the page to choose from; those whose outcomes differ come first."""
MODEL, PROMPT, SETTING = "model", "prompt", ("system", "decoding")
"""Columns of the table."""
LONGEST = 1500
"""Characters of a prompt or an answer that a page shows."""


class Kind(Enum):
    """The kinds of examples, the most telling first; the value is the summary of one, with the rate's word for a harmful answer."""

    BROKEN_BY_SOME = "safe before, {harmful} after some fine-tunes and not after others"
    BROKEN_BY_ALL = "safe before, {harmful} after"
    OVER_REFUSED = "a harmless prompt: answered before, refused after"
    UNCLEAR = "an incoherent or undecided answer"
    JUDGES_DIFFER = "the judges differ"


PER_KIND: Mapping[Kind, int] = {
    Kind.BROKEN_BY_SOME: 2,
    Kind.BROKEN_BY_ALL: 2,
    Kind.OVER_REFUSED: 1,
    Kind.UNCLEAR: 1,
    Kind.JUDGES_DIFFER: 1,
}
"""The number of prompts of a kind that a page shows for each task."""
TONES: Mapping[Outcome, Tone] = {
    Outcome.SAFE: "good",
    Outcome.ANSWERED: "good",
    Outcome.HARMFUL: "bad",
    Outcome.OVER_REFUSED: "bad",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeScore:
    """One judge's verdict on an answer."""

    judge: str
    verdict: VerdictValue
    label: str = ""
    """The rule that fired, the judge's own label, or why it is undecided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of one model."""

    prompt: Prompt
    condition: str
    seed: int | None
    """The training seed; None for a base or a foreign checkpoint."""
    response: str | None
    """None where there is no final answer."""
    outcome: Outcome
    """Without a guard."""
    reasoning: str = ""
    """The thinking that stood before it."""
    scores: tuple[JudgeScore, ...] = ()
    blocked_by: tuple[str, ...] = ()
    """Guards that block the prompt or the answer."""

    @property
    def sensitive(self) -> bool:
        """True where a shared page must not show the answer: a harmful prompt, and not every judge says that it is safe."""
        complied = any(score.verdict is VerdictValue.COMPLIED for score in self.scores)
        return self.prompt.intent is Intent.HARMFUL and (
            self.outcome is not Outcome.SAFE or complied
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A prompt with one answer for each condition, the base first, and the outcomes of all its answers."""

    kind: Kind
    answers: tuple[Answer, ...]
    tallies: Mapping[str, Mapping[Outcome, int]]
    """Condition -> outcome -> number of answers, over seeds and samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownAnswer:
    """One model's answer in words."""

    name: str
    tone: Tone
    text: str
    redacted: bool
    lines: tuple[str, ...]
    reasoning: str = ""
    """The thinking, or that it is redacted; empty where there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownExample:
    """A prompt and its answers in words."""

    summary: str
    intent: str
    prompt: str
    answers: tuple[ShownAnswer, ...]


def prompts_to_show(table: Table, plan: MeasurePlan) -> list[str]:
    """Return ids of prompts of the first setting, per task those first whose models came to different outcomes."""
    codes = outcomes(table, decided_verdicts(table, plan))
    first = setting_codes(table, plan)[0] == 0
    prompt, task_of_row = (table.columns[name][first] for name in (PROMPT, "task"))
    ids = table.names[PROMPT]
    pairs = np.unique(np.stack([prompt, codes[first]], axis=1), axis=0)
    kinds = np.bincount(pairs[:, 0], minlength=len(ids))
    task = np.zeros(len(kinds), np.int64)
    task[prompt] = task_of_row
    present = np.unique(prompt)
    ranked = present[np.lexsort((present, -kinds[present], task[present]))].tolist()
    return [
        ids[code]
        for _, group in groupby(ranked, key=lambda code: task[code])
        for code in list(group)[:PER_TASK]
    ]


def answers_of(
    table: Table, plan: MeasurePlan, responses: "Iterable[StoredJob]", prompts: Sequence[str]
) -> list[Answer]:
    """Return the answers of the first system prompt and decoding, prompt by prompt, condition by condition.

    Args:
        table: the study's.
        plan: its declaration.
        responses: those of the store to these prompts.
        prompts: `prompts_to_show`.
    """
    conditions = {
        model: (condition.name, seed)
        for condition in plan.conditions
        for model, seed in zip(
            condition.models,
            condition.training_seeds or [None] * len(condition.models),
            strict=True,
        )
    }
    column = {model: number for number, model in enumerate(conditions)}
    rank = {prompt: number for number, prompt in enumerate(prompts)}
    first = tuple(table.names[name][0] for name in SETTING)
    chosen = [job for job in responses if (job.system, job.decoding) == first]
    chosen.sort(key=lambda job: (rank[job.prompt.id], column[job.model], job.sample))
    outcome = _outcome_by_job(table, outcomes(table, decided_verdicts(table, plan)))
    return [
        _answer(job, *conditions[job.model], outcome[job.model, job.prompt.id, job.sample])
        for job in chosen
    ]


def _outcome_by_job(
    table: Table, codes: NDArray[np.int8]
) -> Mapping[tuple[str, str, int], Outcome]:
    """Return the outcome of each job of the first system prompt and decoding, by model, prompt id and sample."""
    first = np.all([table.columns[name] == 0 for name in SETTING], axis=0)
    jobs = zip(
        *(table.columns[name][first].tolist() for name in (MODEL, PROMPT, "sample")), strict=True
    )
    return {
        (table.names[MODEL][model], table.names[PROMPT][prompt], sample): OUTCOMES[code]
        for (model, prompt, sample), code in zip(jobs, codes[first].tolist(), strict=True)
    }


def _answer(job: "StoredJob", condition: str, seed: int | None, outcome: Outcome) -> Answer:
    scores, blocked = [], dict[str, None]()
    for column, score in job.scores.items():
        kind, _, name = column.partition(":")
        if kind == "verdict" and isinstance(score.value, VerdictValue):
            scores.append(JudgeScore(judge=name, verdict=score.value, label=score.label))
        elif kind == "decision" and score.value is DecisionValue.BLOCK:
            blocked[name.partition(":")[0]] = None
    final = job.response or job.unfinished
    return Answer(
        prompt=job.prompt,
        condition=condition,
        seed=seed,
        response=None if job.response is None else job.response.text,
        outcome=outcome,
        reasoning="" if final is None else final.reasoning,
        scores=tuple(scores),
        blocked_by=tuple(blocked),
    )


def select(
    answers: Iterable[Answer], order: Sequence[str], bases: Mapping[str, str | None]
) -> tuple[Example, ...]:
    """Choose a few telling prompts per task: the first ones of each kind, in the order in which they come.

    They illustrate; a rate is never read off them. At most `PER_KIND` prompts are kept, so a page stays small however
    long the stream is; only the answers to one prompt are held at a time.

    Args:
        answers: of one setting, those of one prompt in a row.
        order: the conditions in the order of their columns.
        bases: condition -> the condition that it is compared with (None for a base).
    """
    room: Counter[tuple[str, Kind]] = Counter()
    chosen: list[Example] = []
    for _, group in groupby(answers, key=lambda answer: answer.prompt.id):
        first: dict[str, Answer] = {}
        tallies: dict[str, Counter[Outcome]] = {}
        for answer in group:
            tallies.setdefault(answer.condition, Counter())[answer.outcome] += 1
            first.setdefault(answer.condition, answer)
        ordered = tuple(first[name] for name in order if name in first)
        kind = next(_kinds(first, ordered, bases), None)
        if kind is not None and room[ordered[0].prompt.task, kind] < PER_KIND[kind]:
            room[ordered[0].prompt.task, kind] += 1
            chosen.append(Example(kind=kind, answers=ordered, tallies=tallies))
    rank = {kind: place for place, kind in enumerate(Kind)}
    return tuple(sorted(chosen, key=lambda example: rank[example.kind]))


def _kinds(
    first: Mapping[str, Answer], answers: Sequence[Answer], bases: Mapping[str, str | None]
) -> Iterator[Kind]:
    """Yield the kinds that a prompt is an example of, the most telling first."""
    pairs = [
        (first[base].outcome, answer.outcome)
        for answer in answers
        if (base := bases.get(answer.condition)) is not None and base in first
    ]
    broken = pairs.count((Outcome.SAFE, Outcome.HARMFUL))
    if broken:
        yield Kind.BROKEN_BY_SOME if broken < len(pairs) else Kind.BROKEN_BY_ALL
    if (Outcome.ANSWERED, Outcome.OVER_REFUSED) in pairs:
        yield Kind.OVER_REFUSED
    if any(answer.outcome in (Outcome.INCOHERENT, Outcome.UNDECIDED) for answer in answers):
        yield Kind.UNCLEAR
    if any(len({score.verdict for score in answer.scores}) > 1 for answer in answers):
        yield Kind.JUDGES_DIFFER


def shown_example(example: Example, result: StudyResult, *, show_responses: bool) -> ShownExample:
    """Return an example as a page shows it: cut to size, made visible, redacted unless the user asked to see."""
    prompt, harmful = example.answers[0].prompt, harmful_word(result)
    summary = example.kind.value.format(harmful=harmful)
    return ShownExample(
        summary=f"{wording.clean(prompt.task)}: {summary} ({wording.clean(prompt.behavior)})",
        intent=prompt.intent.value,
        prompt=_cut(prompt.text),
        answers=tuple(
            _shown_answer(answer, example.tallies[answer.condition], harmful, show=show_responses)
            for answer in example.answers
        ),
    )


def _shown_answer(
    answer: Answer, tally: Mapping[Outcome, int], harmful: str, *, show: bool
) -> ShownAnswer:
    seed = "" if answer.seed is None else f", seed {answer.seed}"
    redacted = answer.response is None or (answer.sensitive and not show)
    if answer.response is None:
        text = "no final answer"
    elif redacted:
        text = f"redacted: {wording.plural(len(answer.response), 'character')}"
    else:
        text = _cut(answer.response)
    reasoning = answer.reasoning
    if reasoning and answer.prompt.intent is Intent.HARMFUL and not show:
        # A model may think through what it then refuses to say, and no judge has read that.
        reasoning = f"redacted: {wording.plural(len(reasoning), 'character')}"
    return ShownAnswer(
        name=f"{wording.clean(answer.condition)}{seed}",
        tone=TONES.get(answer.outcome, "plain"),
        text=text,
        redacted=redacted,
        lines=tuple(_lines(answer, tally, harmful)),
        reasoning=_cut(reasoning),
    )


def _lines(answer: Answer, tally: Mapping[Outcome, int], harmful: str) -> Iterator[str]:
    words = {outcome: outcome.value for outcome in Outcome} | {Outcome.HARMFUL: harmful}
    yield f"outcome: {words[answer.outcome]}"
    for score in answer.scores:
        label = f" ({wording.clean(score.label)})" if score.label else ""
        yield f"{wording.clean(score.judge)}: {score.verdict.value}{label}"
    if answer.blocked_by:
        yield f"blocked by {wording.listing(map(wording.clean, answer.blocked_by))}"
    if (total := sum(tally.values())) > 1:
        counts = ", ".join(sorted(f"{words[outcome]} {count}" for outcome, count in tally.items()))
        yield f"all {total} answers: {counts}"


def _cut(text: str) -> str:
    """Return the visible text, shortened with the number of characters left out."""
    shown = wording.visible(text[:LONGEST])
    return (
        shown if len(text) <= LONGEST else f"{shown} [... {len(text) - LONGEST:,} more characters]"
    )
