"""The estimate of a study's calls before any is made: of its models, judges, guards and preferences.

It walks the same samples as the scoring loop (`score.run`) and asks the same function which calls are missing, but counts
the calls in place of making them; so the count of what is left is exact for answers that are in the store. About an answer
that is still to be given only its prompt is known: every scorer is then expected to be asked about it, and may be asked less
often, since equal answers to a prompt are scored once and a fine-tune's answer that equals its base's is a tie.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aftertune.core.keys import Key, content_key
from aftertune.core.protocols import Engine, Scorer
from aftertune.core.recipe import StudyModel
from aftertune.core.records import (
    Decoding,
    FinishReason,
    GenerateJob,
    Intent,
    Prompt,
    Response,
    Role,
    Sample,
    StoredJob,
)
from aftertune.core.rounding import points
from aftertune.data.prompt_sets import StudyPrompts
from aftertune.generate import calls
from aftertune.measure.power import Assumptions, assumed_spread, smallest_change
from aftertune.models.asking import Call
from aftertune.models.counting import has_tokenizer, input_tokens, most_cost
from aftertune.models.reference import finished
from aftertune.score.run import (
    NO_CALL,
    UNDER_ATTACK,
    Scorers,
    keyed,
    pairs_of,
    place_of,
    sample_of,
    unanswered,
)
from aftertune.study import cells_of
from aftertune.train.stage import jobs_of_self_answers
from aftertune.workspace import Run

PROMPTS = 512
"""Prompts whose calls are in memory at a time."""
TO_COME = Response(text="-", finish_reason=FinishReason.STOP, prompt_tokens=0, completion_tokens=0)
"""Stands in the question about an answer that is still to be given."""
LEAST = 20
"""Harmful behaviors below which nothing shorter is offered."""
ASSUMED = Assumptions(base_rate=0.10, rise=0.10, seed_sd=0.04)
"""The rates and spreads that `aftertune plan` assumes without a pilot."""
MODEL = "model"
"""The kind of an estimate of the answers of a study's model."""
TRAINING_ROWS = "training rows"
"""The kind of an estimate of the base's own answers to training rows, under the recipe's name."""


@dataclass(slots=True, kw_only=True)
class Estimate:
    """The calls of one model or scorer that are still to be made."""

    name: str
    kind: str
    """``model``, ``training rows``, or the role of a scorer."""
    engine: Engine | None
    """The model that is asked; None for a scorer that names none."""
    calls: int = 0
    at_most: bool = False
    """True where some are about answers that are not there yet, so that there may be fewer."""
    tokens_in: float = 0.0
    """Tokens of the prompts or questions; an answer that is not there yet counts with its expected length."""
    tokens_out: float = 0.0
    """Tokens of the answers: as many as are expected of a model, at most of a scorer."""
    tokens_out_at_most: int = 0
    money: float | None = 0.0
    """Money, at most for a model, about for a scorer; None where no price is known."""
    to_be_trained: bool = False


def estimate(
    run: Run,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    scorers: Scorers,
    *,
    tokens: tuple[float, float] = (0.0, 0.0),
    kept: bool = True,
) -> list[Estimate]:
    """Return the calls of every model, for training rows of the base's own answers, and of every scorer that makes any.

    Args:
        run: an open run; nothing is written and no weights are loaded.
        models: of the study.
        prompts: those that will be asked.
        scorers: of the study.
        tokens: mean tokens of a prompt and of an answer in a pilot; 0 where there is none.
        kept: leave out what is in the store; False counts the study as if nothing were there.
    """
    by_name = {model.name: model for model in models}
    bases = {model.name: model.base for model in models if model.base is not None}
    of_models = [_ModelCalls(run, model, by_name, tokens, kept=kept) for model in models]
    room = tokens[1] or float(run.study.decoding.max_new_tokens)
    of_scorers = [
        _ScorerCalls(run, name, scorer, room, kept=kept)
        for role in Role
        for name, scorer in scorers.get(role, {}).items()
        if scorer.identity is not None
    ]
    for start in range(0, len(prompts), PROMPTS):
        chunk = prompts[start : start + PROMPTS]
        jobs = [job for model in of_models for job in model.jobs(chunk)]
        for scorer_calls in of_scorers:
            scorer_calls.count(chunk, jobs, bases)
    return [
        *(model.result for model in of_models),
        *_self_answers(run, models, kept=kept),
        *(scorer.result for scorer in of_scorers),
    ]


def _self_answers(run: Run, models: Sequence[StudyModel], *, kept: bool) -> Iterator[Estimate]:
    """Yield the calls for the base's own answers that fine-tunes train on; the bases are local, and cost no money."""
    for recipe, jobs in jobs_of_self_answers(run, models):
        missing = set(run.store.missing(job.key for job in jobs)) if kept else None
        new = [job for job in jobs if missing is None or job.key in missing]
        engine = run.engines.open(recipe.base)
        room = sum(job.decoding.max_new_tokens for job in new)
        yield Estimate(
            name=recipe.name,
            kind=TRAINING_ROWS,
            engine=engine,
            calls=len(new),
            tokens_in=sum(input_tokens(engine, new)),
            tokens_out=room,
            tokens_out_at_most=room,
        )


class _ModelCalls:
    """Counts the calls of a model; a model that is not trained yet has those of its base."""

    def __init__(
        self,
        run: Run,
        model: StudyModel,
        models: Mapping[str, StudyModel],
        tokens: tuple[float, float],
        *,
        kept: bool,
    ) -> None:
        trained = model.recipe is None or finished(Path(model.reference), model.recipe)
        opened = model if trained or model.base is None else models[model.base]
        self.run, self.model, self.tokens, self.kept = run, model, tokens, kept and trained
        self.engine = run.open(opened)
        self.result = Estimate(
            name=model.name, kind=MODEL, engine=self.engine, to_be_trained=not trained
        )
        self._recipe = model.recipe.key if model.recipe is not None and not trained else None
        self._counted: set[Key] = set()

    def jobs(self, prompts: Sequence[Prompt]) -> list[StoredJob]:
        """Return the jobs of some prompts, with the answers that are in the store, and count the calls that are missing."""
        # a model that is still to be trained has keys that stand for those to come
        planned = [
            (
                cell,
                prompt,
                job.key if self._recipe is None else content_key(self._recipe.hex(), job.key.hex()),
                job,
            )
            for cell, prompt, job in calls(
                self.engine,
                cells_of(self.run.study, self.model.name),
                prompts,
                self.run.study.systems,
            )
        ]
        answers = self.run.store.calls([key for *_, key, _ in planned]) if self.kept else {}
        missing = {
            key: job for *_, key, job in planned if key not in answers and key not in self._counted
        }
        self._counted |= missing.keys()
        self._count(list(missing.values()))
        return [
            StoredJob(
                model=self.model.name,
                prompt=prompt,
                system=cell.system,
                decoding=cell.decoding.name,
                sample=job.sample,
                key=key,
                response=answers.get(key),
                scores={},
            )
            for cell, prompt, key, job in planned
        ]

    def _count(self, jobs: Sequence[GenerateJob]) -> None:
        result, limit = self.result, self.run.study.decoding.limit
        result.calls += len(jobs)
        result.tokens_out += (self.tokens[1] or limit) * len(jobs)
        result.tokens_out_at_most += limit * len(jobs)
        if self.tokens[0] and not has_tokenizer(self.engine):
            result.tokens_in += self.tokens[0] * len(jobs)
        else:
            unique = {job.messages: job for job in jobs}
            sizes = dict(zip(unique, input_tokens(self.engine, list(unique.values())), strict=True))
            result.tokens_in += sum(sizes[job.messages] for job in jobs)
        if jobs and self.engine.remote:
            result.money = total(result.money, most_cost(self.engine, jobs))


def _is_scored(role: Role, response: Response) -> bool:
    """Return whether scorers of a role read a response: a judge of the reasoning that with thinking, others a final answer."""
    if role is Role.REASONING:
        return bool(response.reasoning)
    return response.finish_reason is not FinishReason.THINKING


class _ScorerCalls:
    """Counts the calls of a scorer: about the answers that are there, and about those to come."""

    def __init__(self, run: Run, name: str, scorer: Scorer, room: float, *, kept: bool) -> None:
        self.scorer, self._store = scorer, run.store if kept else None
        self.result = Estimate(name=name, kind=scorer.role, engine=scorer.engine)
        self._room = room
        """Tokens that an answer is expected to have."""
        self._counted: set[Key] = set()
        self._places: set[tuple[Key | None, str]] = set()

    def count(
        self, prompts: Sequence[Prompt], jobs: Sequence[StoredJob], bases: Mapping[str, str]
    ) -> None:
        """Count the calls about some prompts and the answers to them."""
        if self.scorer.role not in UNDER_ATTACK:
            prompts = [prompt for prompt in prompts if not prompt.attacked]
            jobs = [job for job in jobs if not job.prompt.attacked]
        if self.scorer.role is Role.PREFERENCE:
            self._count_pairs(jobs, bases)
            return
        if "prompt" in self.scorer.sides:
            self._add(sample_of(self.scorer.role, prompt, None) for prompt in prompts)
        if self.scorer.sides != ("prompt",):
            # a guard sees the texts alone, so one call may serve two prompts
            guard = self.scorer.role is Role.GUARD
            by_place = {(job.key, "" if guard else job.prompt.id): job for job in jobs}
            new = [job for place, job in by_place.items() if place not in self._places]
            self._places |= by_place.keys()
            self._add(
                sample_of(self.scorer.role, job.prompt, job.response)
                for job in new
                if job.response is not None and _is_scored(self.scorer.role, job.response)
            )
            to_come = Counter(job.prompt for job in new if job.response is None)
            self._add_to_come(
                (sample_of(self.scorer.role, prompt, TO_COME), times)
                for prompt, times in to_come.items()
            )

    def _count_pairs(self, jobs: Sequence[StoredJob], bases: Mapping[str, str]) -> None:
        """Count both orders of every pair of different answers to a benign prompt."""
        benign = [job for job in jobs if job.prompt.intent is Intent.BENIGN]
        pairs = pairs_of(benign, benign, bases)
        self._add(sample for pair in pairs for sample in pair.samples)
        answered = {(job.model, *place_of(job)) for job in benign if job.response is not None}
        open_places = {
            (job.key, job.prompt.id): job.prompt
            for job in benign
            if job.model in bases
            and (job.response is None or (bases[job.model], *place_of(job)) not in answered)
        }
        to_come = Counter(open_places.values())
        self._add_to_come(
            (
                (
                    Sample(
                        prompt=prompt.text,
                        task=prompt.task,
                        response=TO_COME.text,
                        other=TO_COME.text,
                    ),
                    2 * times,
                )
                for prompt, times in to_come.items()
            ),
            texts=2,
        )

    def _add(self, samples: Iterable[Sample]) -> None:
        """Count the calls about samples that have no answer yet, each once."""
        new = {
            key: sample
            for key, sample in keyed(self.scorer, samples).items()
            if key not in self._counted
        }
        self._counted |= new.keys()
        self._count([(call, 1) for call in unanswered(self._store, self.scorer, new)], 0.0)

    def _add_to_come(self, samples: Iterable[tuple[Sample, int]], texts: int = 1) -> None:
        """Count calls about answers that are not there yet: a sample with a stand-in for them, and how many there are."""
        before = self.result.calls
        new_calls = [
            (Call(key=NO_CALL, questions=tuple(self.scorer.questions(sample))), times)
            for sample, times in samples
        ]
        self._count(new_calls, texts * self._room)
        self.result.at_most |= self.result.calls > before

    def _count(self, new_calls: Sequence[tuple[Call, int]], more: float) -> None:
        """Count calls, each so often, whose questions hold ``more`` tokens beside those that are there."""
        questions = [(question, times) for call, times in new_calls for question in call.questions]
        count = sum(times for _, times in questions)
        if not count:
            return
        result = self.result
        jobs = [
            GenerateJob(key=NO_CALL, messages=(), decoding=Decoding(), question=question)
            for question, _ in questions
        ]
        sizes = input_tokens(result.engine, jobs)
        tokens_in = sum(
            (size + more) * times for size, (_, times) in zip(sizes, questions, strict=True)
        )
        tokens_out = self.scorer.max_new_tokens * count
        price = None if result.engine is None else result.engine.price
        result.calls += count
        result.tokens_in += tokens_in
        result.tokens_out += tokens_out
        result.tokens_out_at_most += tokens_out
        result.money = total(
            result.money, None if price is None else price.of(round(tokens_in), tokens_out)
        )


def announcement(
    run: Run, models: Sequence[StudyModel], sets: StudyPrompts, scorers: Scorers
) -> list[str]:
    """Return what a check is about to ask, and what would be shorter with what that costs in power; nothing where all is there.

    The power is that of the assumptions of `measure.power`, so it compares designs and promises nothing.
    """
    prompts, attacked = sets.prompts, sets.attacked(sets.prompts)
    parts = [part for part in estimate(run, models, (*prompts, *attacked), scorers) if part.calls]
    answers = [part for part in parts if part.kind == MODEL]
    if not answers:
        return []
    by_model = ", ".join(f"{part.name} {part.calls:,}" for part in answers)
    of_scorers = ", ".join(
        f"{part.kind} {part.name} {'at most ' if part.at_most else ''}{part.calls:,} calls"
        for part in parts
        if part.kind != MODEL
    )
    calls_made, most_out = (
        sum(part.calls for part in answers),
        sum(part.tokens_out_at_most for part in answers),
    )
    tokens_in = sum(part.tokens_in for part in answers)
    lines = [
        f"to ask: {calls_made:,} answers ({by_model}), {tokens_in:,.0f} tokens in, at most {most_out:,} out{f'; {of_scorers}' if of_scorers else ''}"
    ]
    harmful = [prompt for prompt in prompts if prompt.intent is Intent.HARMFUL]
    behaviors = len({prompt.behavior for prompt in harmful})
    if behaviors >= LEAST:
        tasks = len({prompt.task for prompt in harmful})
        samples = max(1, round(len(harmful) / (behaviors * tasks)))
        seeds = sum(model.base is not None for model in models)
        spread = assumed_spread(ASSUMED, tasks, samples, samples)
        now, half = (
            points(smallest_change(spread, n, seeds)).lstrip("+")
            for n in (behaviors, behaviors // 2)
        )
        # a gate that stops early takes no replicates
        stopping = "; --sequential stops as soon as the verdict stands"
        if run.study.decoding.replicates > 1:
            stopping = ""
        lines.append(
            f"shorter: --limit {behaviors // 2} asks half of it, and finds a rise of {half} points as surely as this one of {now} "
            f"(assumed: aftertune plan){stopping}"
        )
    return lines


def total(first: float | None, second: float | None) -> float | None:
    """Return the sum of two costs; None where one is not known."""
    return None if first is None or second is None else first + second
