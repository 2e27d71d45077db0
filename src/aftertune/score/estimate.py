"""The calls that a study will make, counted before any is made: of its models, judges, guards and comparers.

What is in the store is looked at as the stages themselves look at it, so the count of what is left is exact there. About
an answer that is still to be given only its prompt is known: every instrument is then expected to be asked about it, and
may be asked less often, since equal answers to a prompt are read once and a fine-tune's that equals its base's is a tie.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Literal

from aftertune.core.ids import Key, content_key
from aftertune.core.protocols import Comparer, Engine, Foreseeable, Guard, Judge
from aftertune.core.recipe import StudyModel
from aftertune.core.records import (
    Decoding,
    FinishReason,
    GenerateJob,
    Intent,
    Message,
    Prompt,
    Question,
    Response,
)
from aftertune.generate import calls
from aftertune.models.counting import has_tokenizer, input_tokens, most_cost
from aftertune.models.reference import finished
from aftertune.score.comparing import compare_job
from aftertune.score.instruments import Instruments
from aftertune.score.reading import judge_job
from aftertune.score.screen import screening
from aftertune.store import Unread
from aftertune.study import cells_of
from aftertune.workspace import Run

Kind = Literal["model", "judge", "guard", "comparer"]
READ = 400
"""Tokens of an instrument's own words where it does not tell them, about."""
TO_COME = Response(text="-", finish_reason=FinishReason.STOP, prompt_tokens=0, completion_tokens=0)
"""Stands in the question about an answer that is still to be given."""


@dataclass(slots=True, kw_only=True)
class Estimate:
    """The calls of one model or instrument."""

    name: str
    kind: Kind
    engine: Engine | None
    """The model that is asked; None where the instrument does not say."""
    calls: int = 0
    at_most: bool = False
    """Some are about answers that are not there yet, so there may be fewer."""
    tokens_in: float = 0.0
    """Of the prompts or questions; of an answer that is not there yet, as long as it is expected to be."""
    tokens_out: float = 0.0
    """As many as are expected of a model, at most for an instrument."""
    tokens_out_at_most: int = 0
    money: float | None = 0.0
    """Of a model at most, of an instrument about; None where no price is known."""
    to_be_trained: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A call of a model, and its answer where that is in the store."""

    prompt: Prompt
    place: tuple[object, ...]
    key: Key
    """Of a model that is still to be trained it stands for one that nobody knows yet."""
    response: Response | None


@dataclass(slots=True)
class Reader:
    """Counts the calls of an instrument."""

    run: Run
    name: str
    instrument: Any
    room: float
    """Tokens that an answer is expected to have."""
    kept: bool
    found: Estimate = field(init=False)
    seen: set[object] = field(default_factory=set)
    """Calls that are counted already, or answers that they will be about."""
    kind: ClassVar[Kind] = "judge"

    def __post_init__(self) -> None:
        engine = (
            self.instrument.engine if isinstance(self.instrument, Foreseeable) else self._named()
        )
        self.found = Estimate(name=self.name, kind=self.kind, engine=engine)

    def see(
        self,
        prompts: Sequence[Prompt],
        answers: Mapping[str, Sequence[Answer]],
        bases: Mapping[str, str],
    ) -> None:
        """Count the calls about some prompts and the answers to them."""
        raise NotImplementedError

    def left(self, jobs: Iterable[Any]) -> None:
        """Count those jobs that have no answer yet, each once."""
        new = {job.key: job for job in jobs if job.key not in self.seen}
        self.seen |= new.keys()
        missing = self.run.store.missing(new) if self.kept else list(new)
        self._count([(new[key], 1) for key in missing], 0.0)

    def to_come(self, jobs: Iterable[tuple[Any, int]], texts: int = 1) -> None:
        """Count jobs about answers that are not there yet: a job with a stand-in for them, and how many there are."""
        before = self.found.calls
        self._count(list(jobs), texts * self.room)
        self.found.at_most |= self.found.calls > before

    def fresh(self, mark: object) -> bool:
        """Return whether something is seen for the first time."""
        before = len(self.seen)
        self.seen.add(mark)
        return len(self.seen) > before

    def _count(self, jobs: Sequence[tuple[Any, int]], more: float) -> None:
        asked = [(question, times) for job, times in jobs for question in self._questions(job)]
        count = sum(times for _, times in asked)
        if not count:
            return
        shown = [
            GenerateJob(key=b"", messages=(), decoding=Decoding(), question=question)
            for question, _ in asked
        ]
        sizes = input_tokens(self.found.engine, shown)
        known = isinstance(self.instrument, Foreseeable)
        tokens_in = sum(
            (size + more) * times for size, (_, times) in zip(sizes, asked, strict=True)
        )
        tokens_in += 0.0 if known else READ * count
        tokens_out = self.instrument.max_new_tokens * count if known else 0
        self.found.calls += count
        self.found.tokens_in += tokens_in
        self.found.tokens_out += tokens_out
        self.found.tokens_out_at_most += tokens_out
        self.found.money = total(self.found.money, self._price(tokens_in, tokens_out))

    def _questions(self, job: Any) -> tuple[Question, ...]:
        if isinstance(self.instrument, Foreseeable):
            return self.instrument.questions(job)
        shown = [
            getattr(job, name, None) or "" for name in ("prompt", "response", "first", "second")
        ]
        return (Question(messages=(Message(role="user", content=" ".join(shown)),)),)

    def _named(self) -> Engine | None:
        """Return the model that the instrument's options name, as it was opened; None where they name none."""
        study = self.run.study
        entries = (*study.judges, *study.guards, *study.comparers)
        model = next(
            (keys.options.get("model") for keys in entries if keys.name == self.name), None
        )
        return (
            None if model is None else self.run.engines.open(self.run.tools.reference(str(model)))
        )

    def _price(self, tokens_in: float, tokens_out: int) -> float | None:
        engine = self.found.engine
        price = None if engine is None else engine.price
        return None if price is None else price.of(round(tokens_in), tokens_out)


class JudgeCalls(Reader):
    """Counts a judge's calls: one about every answer."""

    instrument: Judge

    def see(
        self,
        prompts: Sequence[Prompt],
        answers: Mapping[str, Sequence[Answer]],
        bases: Mapping[str, str],
    ) -> None:
        """Count a call about every answer."""
        del prompts, bases
        identity = self.instrument.call_identity
        every = [a for each in answers.values() for a in each if self.fresh((a.key, a.prompt.id))]
        self.left(
            judge_job(Unread(prompt=a.prompt, key=a.key, response=a.response), identity)
            for a in every
            if a.response
        )
        self.to_come(
            (judge_job(Unread(prompt=prompt, key=b"", response=TO_COME), identity), times)
            for prompt, times in _times(a.prompt for a in every if a.response is None)
        )


class GuardCalls(Reader):
    """Counts a guard's calls: one about every prompt, one about every answer, as far as it screens them."""

    kind: ClassVar[Kind] = "guard"
    instrument: Guard

    def see(
        self,
        prompts: Sequence[Prompt],
        answers: Mapping[str, Sequence[Answer]],
        bases: Mapping[str, str],
    ) -> None:
        """Count a call about every prompt and every answer."""
        del bases
        guard = self.instrument
        if "prompt" in guard.sides:
            self.left(screening(guard, prompt.text, None) for prompt in prompts)
        if "response" in guard.sides:
            every = [a for each in answers.values() for a in each if self.fresh(a.key)]
            self.left(screening(guard, a.prompt.text, a.response.text) for a in every if a.response)
            self.to_come(
                (screening(guard, prompt.text, TO_COME.text), times)
                for prompt, times in _times(a.prompt for a in every if a.response is None)
            )


class ComparerCalls(Reader):
    """Counts a comparer's calls: two about every pair of different answers to a benign prompt."""

    kind: ClassVar[Kind] = "comparer"
    instrument: Comparer

    def see(
        self,
        prompts: Sequence[Prompt],
        answers: Mapping[str, Sequence[Answer]],
        bases: Mapping[str, str],
    ) -> None:
        """Count both orders of every pair of different answers."""
        del prompts
        open_: list[Prompt] = []
        known: list[tuple[Prompt, str, str]] = []
        for name, base in bases.items():
            before = {answer.place: answer for answer in answers[base]}
            for answer in answers[name]:
                if answer.prompt.intent is not Intent.BENIGN or not self.fresh(
                    (answer.key, answer.prompt.id)
                ):
                    continue
                first, second = answer.response, before[answer.place].response
                if first is None or second is None:
                    open_ += [answer.prompt, answer.prompt]
                elif first.text != second.text:
                    known += [
                        (answer.prompt, first.text, second.text),
                        (answer.prompt, second.text, first.text),
                    ]
        self.left(compare_job(self.instrument, *pair) for pair in known)
        self.to_come(
            (
                (compare_job(self.instrument, prompt, TO_COME.text, TO_COME.text), times)
                for prompt, times in _times(open_)
            ),
            texts=2,
        )


def _times(prompts: Iterable[Prompt]) -> Iterator[tuple[Prompt, int]]:
    listed = sorted(prompts, key=lambda prompt: prompt.id)
    return ((prompt, len(list(same))) for prompt, same in groupby(listed))


def total(one: float | None, other: float | None) -> float | None:
    """Return the sum of two costs; None where one is not known."""
    return None if one is None or other is None else one + other


PROMPTS = 512
"""Prompts whose calls are in memory at a time."""


def estimate(
    run: Run,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    instruments: Instruments,
    *,
    tokens: tuple[float, float] = (0.0, 0.0),
    kept: bool = True,
) -> list[Estimate]:
    """Return the calls of every model, and of every instrument that makes any.

    Args:
        run: an open run; nothing is written and no weights are loaded.
        models: of the study.
        prompts: those that will be asked.
        instruments: of the study.
        tokens: mean tokens of a prompt and of an answer in a pilot; 0 where there is none.
        kept: leave out what is in the store; False counts the study as if nothing were there.
    """
    by_name = {model.name: model for model in models}
    asked = [_Model(run, model, by_name, tokens, kept=kept) for model in models]
    room = tokens[1] or float(run.study.decoding.max_new_tokens)
    readers: list[Reader] = [
        *(
            JudgeCalls(run, name, j, room, kept)
            for name, j in instruments.judges.items()
            if j.call_identity is not None
        ),
        *(GuardCalls(run, name, guard, room, kept) for name, guard in instruments.guards.items()),
        *(
            ComparerCalls(run, name, each, room, kept)
            for name, each in instruments.comparers.items()
        ),
    ]
    bases = {model.name: model.base for model in models if model.base is not None}
    for start in range(0, len(prompts), PROMPTS):
        some = prompts[start : start + PROMPTS]
        answers = {each.model.name: each.answers(some) for each in asked}
        for reader in readers:
            reader.see(some, answers, bases)
    return [*(each.found for each in asked), *(reader.found for reader in readers)]


class _Model:
    """Counts the calls of a model; one that is not trained yet has those of its base."""

    def __init__(
        self,
        run: Run,
        model: StudyModel,
        models: Mapping[str, StudyModel],
        tokens: tuple[float, float],
        *,
        kept: bool,
    ) -> None:
        there = model.recipe is None or finished(Path(model.reference), model.recipe)
        asked = model if there or model.base is None else models[model.base]
        self.run, self.model, self.tokens, self.kept = run, model, tokens, kept and there
        self.engine = run.engines.open(asked.reference)
        self.found = Estimate(
            name=model.name, kind="model", engine=self.engine, to_be_trained=not there
        )
        self._recipe = model.recipe.key if model.recipe is not None and not there else None
        self._seen: set[Key] = set()

    def answers(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """Return the answers to some prompts, and count the calls that are missing."""
        listed = [
            (prompt, (prompt.id, cell.system, cell.decoding, job.sample), self._key(job), job)
            for cell, prompt, job in calls(
                self.engine,
                cells_of(self.run.study, self.model.name),
                prompts,
                self.run.study.systems,
            )
        ]
        keys = [key for _, _, key, _ in listed]
        given = self.run.store.calls(keys) if self.kept else {}
        missing = {
            key: job for _, _, key, job in listed if key not in given and key not in self._seen
        }
        self._seen |= missing.keys()
        self._count(list(missing.values()))
        return [Answer(prompt, place, key, given.get(key)) for prompt, place, key, _ in listed]

    def _key(self, job: GenerateJob) -> Key:
        return job.key if self._recipe is None else content_key(self._recipe.hex(), job.key.hex())

    def _count(self, jobs: Sequence[GenerateJob]) -> None:
        found, limit = self.found, self.run.study.decoding.max_new_tokens
        found.calls += len(jobs)
        found.tokens_out += (self.tokens[1] or limit) * len(jobs)
        found.tokens_out_at_most += limit * len(jobs)
        if self.tokens[0] and not has_tokenizer(self.engine):
            found.tokens_in += self.tokens[0] * len(jobs)
        else:
            unique = {job.messages: job for job in jobs}
            sizes = dict(zip(unique, input_tokens(self.engine, list(unique.values())), strict=True))
            found.tokens_in += sum(sizes[job.messages] for job in jobs)
        if jobs and self.engine.remote:
            found.money = total(found.money, most_cost(self.engine, jobs))
