"""The calls that a study will make, counted before any is made: of its models, judges, guards and comparers.

What is in the store is looked at as the stages themselves look at it, so the count of what is left is exact there. About
an answer that is still to be given only its prompt is known: every instrument is then expected to be asked about it, and
may be asked less often, since equal answers to a prompt are read once and a fine-tune's that equals its base's is a tie.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from aftertune.core.ids import Key, content_key
from aftertune.core.recipe import StudyModel
from aftertune.core.records import GenerateJob, Prompt
from aftertune.models.bridge import InspectModel
from aftertune.models.counting import has_tokenizer, input_tokens
from aftertune.models.endpoint.model import EndpointModel
from aftertune.score.foreseeing_readers import (
    Answer,
    ComparerCalls,
    Foreseen,
    GuardCalls,
    JudgeCalls,
    Reader,
    total,
)
from aftertune.score.instruments import Instruments
from aftertune.stages.calls import calls
from aftertune.study import cells_of
from aftertune.train.record import finished
from aftertune.workspace import Run

PROMPTS = 512
"""Prompts whose calls are in memory at a time."""


def foresee(
    run: Run,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    instruments: Instruments,
    *,
    tokens: tuple[float, float] = (0.0, 0.0),
    kept: bool = True,
) -> list[Foreseen]:
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
        self.found = Foreseen(
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
        if jobs and isinstance(self.engine, EndpointModel | InspectModel):
            found.money = total(found.money, self.engine.most_cost(jobs))
