"""All answers for the page: an index by which it filters, and packed blocks of texts that it opens when they are wanted.

Both are JSON, compressed (zlib) and written in base64, so nothing in an answer can end the element that holds it. Answers
that a shared page must not show are not in it.
"""

import json
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from aftertune.core.outcomes import Outcome
from aftertune.core.records import NO_ATTACK, DecisionValue, Intent, Prompt, Side, VerdictValue
from aftertune.core.table import Table
from aftertune.measure.outcomes import OUTCOMES, decided_verdicts, outcomes, setting_codes
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.results import StudyResult
from aftertune.report import wording
from aftertune.report.cells import harmful_word
from aftertune.report.tables import setting_title

if TYPE_CHECKING:
    from aftertune.core.records import StoredJob

MOST_ANSWERS = 100_000
"""Answers that a page lists; those to prompts whose outcomes differ most come first."""
MOST_INSIDE = 3_500_000
"""Characters of packed texts that a page holds itself; more lie in files beside it."""
BLOCK = 400_000
"""Characters of texts in a block, about."""
LONGEST = 6000
"""Characters of a prompt, an answer or a reasoning that a page shows."""
IN_INDEX = 240
"""Characters of a prompt in the index."""
PROMPT, SAMPLE = "prompt", "sample"
"""Columns of the table."""
LETTERS: Mapping[Outcome, str] = {
    Outcome.HARMFUL: "h",
    Outcome.SAFE: "s",
    Outcome.ANSWERED: "a",
    Outcome.OVER_REFUSED: "r",
    Outcome.INCOHERENT: "i",
    Outcome.UNDECIDED: "u",
}
"""The letters of outcomes in the index; page.js has the same."""


def is_sensitive(intent: Intent, outcome: Outcome, verdicts: Iterable[VerdictValue]) -> bool:
    """Return whether a shared file must not show an answer: to a harmful prompt, and not every judge says that it is safe."""
    if intent is not Intent.HARMFUL:
        return False
    return outcome is not Outcome.SAFE or VerdictValue.COMPLIED in verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeScore:
    """One judge's verdict on an answer."""

    judge: str
    verdict: VerdictValue
    label: str = ""
    """The rule that fired, the judge's own label, or why it is undecided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardDecision:
    """One guard's decision on a prompt or on an answer."""

    guard: str
    side: Side
    decision: DecisionValue
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of one model under one setting."""

    prompt: Prompt
    condition: str
    model: str
    seed: int | None
    """The training seed; None for a base or a foreign checkpoint."""
    response: str | None
    """None where there is no final answer."""
    outcome: Outcome
    """Without a guard."""
    setting: int = 0
    """The place of its setting among those of the result."""
    reasoning: str = ""
    """The thinking that stood before it."""
    scores: tuple[JudgeScore, ...] = ()
    thinking: tuple[JudgeScore, ...] = ()
    """The verdicts of judges of the reasoning."""
    guards: tuple[GuardDecision, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def sensitive(self) -> bool:
        """True where a shared page must not show the answer: a harmful prompt, and not every judge says that it is safe."""
        verdicts = (score.verdict for score in self.scores)
        return is_sensitive(self.prompt.intent, self.outcome, verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcripts:
    """The packed answers of a page."""

    index: str
    blocks: tuple[str, ...]
    answers: int
    left_out: int
    """Answers of the run that the page does not list."""

    @property
    def inside(self) -> bool:
        """True where the page holds the texts itself."""
        return sum(map(len, self.blocks)) <= MOST_INSIDE


@dataclass(frozen=True, slots=True)
class Listed:
    """The prompts of a run that its page lists, and the answers of all others, counted."""

    prompts: tuple[str, ...]
    left_out: int


def listed_prompts(table: Table, plan: MeasurePlan) -> Listed:
    """Return the ids of the prompts that a page has room for, those first whose answers came to different outcomes."""
    codes = outcomes(table, decided_verdicts(table, plan))
    ids, prompt = table.names[PROMPT], table.columns[PROMPT]
    pairs = np.unique(np.stack([prompt, codes], axis=1), axis=0)
    kinds = np.bincount(pairs[:, 0], minlength=len(ids))
    answers = np.bincount(prompt, minlength=len(ids))
    order = np.lexsort((np.arange(len(ids)), -kinds))
    room = np.cumsum(answers[order]) <= MOST_ANSWERS
    kept = order[room]
    return Listed(tuple(ids[code] for code in kept.tolist()), int(answers[order[~room]].sum()))


def answers_of(
    table: Table, plan: MeasurePlan, responses: "Iterable[StoredJob]"
) -> Iterator[Answer]:
    """Yield the answers of jobs with their outcomes, in the order of the jobs.

    Args:
        table: the study's.
        plan: its declaration.
        responses: jobs of the store.
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
    names = ("model", "prompt", "system", "decoding")
    columns = [[table.names[name][code] for code in table.columns[name].tolist()] for name in names]
    settings, _ = setting_codes(table, plan)
    codes = outcomes(table, decided_verdicts(table, plan))
    rows = zip(*columns, table.columns[SAMPLE].tolist(), strict=True)
    facts = dict(zip(rows, zip(codes.tolist(), settings.tolist(), strict=True), strict=True))
    for job in responses:
        code, setting = facts[job.model, job.prompt.id, job.system, job.decoding, job.sample]
        condition, seed = conditions[job.model]
        final = job.response or job.unfinished
        yield Answer(
            prompt=job.prompt,
            condition=condition,
            model=job.model,
            seed=seed,
            response=None if job.response is None else job.response.text,
            outcome=OUTCOMES[code],
            setting=setting,
            reasoning="" if final is None else final.reasoning,
            **_scores(job),
        )


def _scores(job: "StoredJob") -> dict[str, Any]:
    """Return the fields of an answer that scorers fill."""
    judges, thinking, guards, metrics = [], [], [], {}
    for column, score in job.scores.items():
        kind, _, name = column.partition(":")
        if kind == "verdict" and isinstance(score.value, VerdictValue):
            judges.append(JudgeScore(judge=name, verdict=score.value, label=score.label))
        elif kind == "reasoning" and isinstance(score.value, VerdictValue):
            thinking.append(JudgeScore(judge=name, verdict=score.value, label=score.label))
        elif kind == "decision" and isinstance(score.value, DecisionValue):
            guard, _, side = name.rpartition(":")
            decided: Side = "prompt" if side == "prompt" else "response"
            guards.append(
                GuardDecision(guard=guard, side=decided, decision=score.value, label=score.label)
            )
        elif kind == "score" and score.number is not None:
            metrics[name] = score.number
    scores = {"scores": tuple(judges), "thinking": tuple(thinking)}
    return {**scores, "guards": tuple(guards), "metrics": metrics}


@dataclass(slots=True)
class _Row:
    """A prompt under a setting with the answers of every model."""

    prompt: Prompt
    setting: int
    by_model: dict[str, list[Answer]] = field(default_factory=dict)

    def broken(self, bases: Mapping[str, str | None]) -> int:
        """Return the number of fine-tunes' answers that are worse than the base's first answer."""
        of_condition = {a[0].condition: a[0].outcome for a in self.by_model.values()}
        worse = {Outcome.SAFE: Outcome.HARMFUL, Outcome.ANSWERED: Outcome.OVER_REFUSED}
        return sum(
            answer.outcome
            is worse.get(of_condition.get(bases.get(answer.condition) or "", answer.outcome))
            for answers in self.by_model.values()
            for answer in answers
        )


def packed(
    answers: Iterable[Answer],
    result: StudyResult,
    *,
    show_responses: bool = False,
    left_out: int = 0,
) -> Transcripts:
    """Pack answers for the page: prompts first that fine-tunes answered and their bases refused.

    Args:
        answers: of any number of models and settings.
        result: the study's; its conditions give the order of models, its settings their titles.
        show_responses: with the answers that may be harmful; otherwise their length alone.
        left_out: answers of the run that are not among them.
    """
    rows: dict[tuple[str, int], _Row] = {}
    models: dict[str, tuple[str, int | None]] = {}
    count = 0
    for answer in answers:
        row = rows.setdefault(
            (answer.prompt.id, answer.setting), _Row(answer.prompt, answer.setting)
        )
        row.by_model.setdefault(answer.model, []).append(answer)
        models[answer.model] = (answer.condition, answer.seed)
        count += 1
    bases = {c.name: c.base for setting in result.settings[:1] for c in setting.conditions}
    rank = {name: place for place, name in enumerate(bases)}
    ordered = sorted(models, key=lambda model: rank.get(models[model][0], len(rank)))
    telling = sorted(rows.values(), key=lambda row: -row.broken(bases))
    blocks, places = _blocks(telling, ordered, show=show_responses)
    conditions = list(dict.fromkeys(models[model][0] for model in ordered))
    words = _Numbered(), _Numbered(), _Numbered(), _Numbered()
    words[3].number(NO_ATTACK)
    index = {
        "rate": result.name_rate,
        "harmful": harmful_word(result),
        "shown": show_responses,
        "conditions": [
            [
                wording.clean(name),
                conditions.index(base) if (base := bases.get(name)) in conditions else -1,
            ]
            for name in conditions
        ],
        "models": [[conditions.index(models[model][0]), models[model][1]] for model in ordered],
        "settings": [setting_title(setting) for setting in result.settings],
        "judges": len(result.judges),
        "rows": [
            _index_row(row, ordered, words, place)
            for row, place in zip(telling, places, strict=True)
        ],
        "tasks": words[0].names,
        "hazards": words[1].names,
        "sets": words[2].names,
        "attacks": words[3].names,
    }
    return Transcripts(
        index=_packed(index), blocks=tuple(map(_packed, blocks)), answers=count, left_out=left_out
    )


class _Numbered:
    """Names with their numbers, in the order in which they come."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """Return the number of a name."""
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(wording.clean(name))
        return self._numbers[name]


def _index_row(
    row: _Row, models: Sequence[str], words: tuple[_Numbered, ...], place: tuple[int, int]
) -> list[object]:
    """Return the index's row of a prompt: what is filtered by, where its texts are, and a letter an answer."""
    prompt = row.prompt
    numbers = (
        numbered.number(name)
        for numbered, name in zip(words[:3], (prompt.task, prompt.hazard, prompt.set), strict=True)
    )
    letters = [
        "".join(LETTERS[answer.outcome] for answer in row.by_model.get(model, ()))
        for model in models
    ]
    differ = any(
        len({score.verdict for score in answer.scores} - {VerdictValue.UNDECIDED}) > 1
        for answers in row.by_model.values()
        for answer in answers
    )
    shown = wording.visible(_sent(prompt)[:IN_INDEX])
    return [
        prompt.id, wording.clean(prompt.behavior), *numbers, int(prompt.intent is Intent.HARMFUL),
        prompt.harm_basis, row.setting, *place, shown, letters, int(differ),
        words[3].number(prompt.attack),
    ]  # fmt: skip


def _blocks(
    rows: Sequence[_Row], models: Sequence[str], *, show: bool
) -> tuple[list[list[object]], list[tuple[int, int]]]:
    """Share the texts out over blocks; also return the block of each row, and its place there."""
    blocks: list[list[object]] = []
    places = []
    size = BLOCK
    for row in rows:
        sent = _sent(row.prompt)
        prompt = _cut(sent) if len(sent) > IN_INDEX else ""
        texts = [
            [_answer(answer, show=show) for answer in row.by_model.get(model, ())]
            for model in models
        ]
        if size >= BLOCK:
            blocks.append([])
            size = 0
        places.append((len(blocks) - 1, len(blocks[-1])))
        blocks[-1].append([prompt, texts])
        size += len(prompt) + sum(
            len(answer.response or "") + len(answer.reasoning) + 80
            for answers in row.by_model.values()
            for answer in answers
        )
    return blocks, places


def _sent(prompt: Prompt) -> str:
    """Return what the model was sent: the prompt, and the beginning of the answer where an attack gave one."""
    begun = f"\n[the answer begins: {prompt.prefill}]" if prompt.prefill else ""
    return f"{prompt.text}{begun}"


def _answer(answer: Answer, *, show: bool) -> list[object]:
    """Return an answer's text (its length where it is redacted, None where there is none), reasoning, and scores."""
    text: str | int | None = answer.response
    if answer.response is not None:
        hidden = answer.sensitive and not show
        text = len(answer.response) if hidden else _cut(answer.response)
    # A model may think through what it then refuses to say, and no judge has read that.
    hidden = answer.prompt.intent is Intent.HARMFUL and not show
    return [
        text,
        len(answer.reasoning) if hidden and answer.reasoning else _cut(answer.reasoning),
        int(answer.sensitive),
        [
            [f"{wording.clean(score.judge)}{of}", score.verdict.value, wording.clean(score.label)]
            for scores, of in ((answer.scores, ""), (answer.thinking, " on the reasoning"))
            for score in scores
        ],
        [
            [wording.clean(d.guard), d.side, d.decision.value, wording.clean(d.label)]
            for d in answer.guards
        ],
        # A task score counts on benign prompts alone.
        [
            [wording.clean(name), round(value, 4)]
            for name, value in answer.metrics.items()
            if answer.prompt.intent is Intent.BENIGN
        ],
    ]


def _cut(text: str) -> str:
    """Return the visible text, shortened with the number of characters left out."""
    shown = wording.visible(text[:LONGEST])
    return (
        shown if len(text) <= LONGEST else f"{shown} [... {len(text) - LONGEST:,} more characters]"
    )


def _packed(value: object) -> str:
    # Half a surrogate pair, which a hub's tokenizer can write, is spelled out by `visible`; names may hold one.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return b64encode(zlib.compress(text.encode(errors="replace"), 6)).decode("ascii")
