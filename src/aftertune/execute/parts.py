"""Several processes share a study without talking to each other: each does its part, and their stores are merged.

A part is decided by the study alone, so that any machine finds the same one. Trainings go round the parts in the order of the
study, and the part that trains a fine-tune asks it everything. Models that are there already are asked by all parts: each takes
its share of the behaviors. What a part is killed in, it goes on with; what no part has done, the run after the merge does.

`do_portion` is the work itself, whoever decided what belongs to it: a part, or a driver that hands out units to a cluster.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from aftertune.core.keys import Key, content_key
from aftertune.core.recipe import Recipe, StudyModel
from aftertune.core.records import Prompt, Role
from aftertune.core.table import NONE
from aftertune.data.prompt_sets import load_sets, without_overlap
from aftertune.data.recipe_rows import with_recipe_rows
from aftertune.errors import OptionError
from aftertune.generate import Share, generate
from aftertune.report.progress import Progress
from aftertune.score.run import Scorers, build_scorers, score_responses
from aftertune.study import Study
from aftertune.study.foreign import foreign_code_notes
from aftertune.train.stage import expand_study, study_rows, tune_models
from aftertune.workspace import MODELS, STORE, Run, open_run, spending_notes

PARTS = "parts"
"""The folder of a run that holds the stores of its parts."""
MOST_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a study's work."""

    number: int
    """From 1."""
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the part that ``3/8`` names.

        Raises:
            OptionError: the text is no such fraction, or there is no such part.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip(), re.ASCII)
        part = cls(*map(int, match.groups())) if match else cls(0, 0)
        if not 1 <= part.number <= part.of <= MOST_PARTS:
            raise OptionError(
                f"--part {text!r}: write the part and how many there are, as in --part 3/8 (at most {MOST_PARTS:,})"
            )
        return part

    @property
    def folder(self) -> str:
        """The name of the folder of the part's store."""
        return f"{self.number}-of-{self.of}"

    def trains(self, models: Sequence[StudyModel]) -> set[str]:
        """Return the names of the fine-tunes that the part trains, and asks everything.

        Args:
            models: all models of the study, in its order.
        """
        roots = training_roots(models)
        places = {root: place for place, root in enumerate(dict.fromkeys(roots.values()))}
        return {name for name, root in roots.items() if places[root] % self.of == self.number - 1}

    def behaviors(self, prompts: Iterable[Prompt]) -> set[tuple[str, str]]:
        """Return the behaviors, as `behavior_of` names them, about which the part asks the models that are there.

        The parts take turns in the order of hashes, so that their shares differ by one behavior at most.
        """
        hashed = {content_key("part", *name): name for name in set(map(behavior_of, prompts))}
        return {hashed[key] for key in sorted(hashed)[self.number - 1 :: self.of]}


def behavior_of(prompt: Prompt) -> tuple[str, str]:
    """Return the set and the behavior of a prompt; a twin comes with its harmful behavior."""
    return prompt.set, prompt.pair or prompt.behavior


def training_key(recipe: Recipe) -> Key:
    """Return the key of the training that a recipe's weights come from; its epochs share one."""
    return replace(recipe, epoch=None).key


def training_roots(models: Sequence[StudyModel]) -> dict[str, Key]:
    """Return by fine-tune the key of the training at the beginning of its own: rounds go on from each other.

    Args:
        models: all models of the study, in its order: a round stands behind the one that it goes on from.
    """
    roots: dict[str, Key] = {}
    by_key: dict[str, Key] = {}
    for model in models:
        if model.recipe is not None:
            key, start = training_key(model.recipe), model.recipe.start
            roots[model.name] = key if start is None else by_key.get(start.key, key)
            by_key.setdefault(key.hex(), roots[model.name])
    return roots


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """The work on a study that one process does."""

    models: tuple[StudyModel, ...]
    """The models that are asked, and their bases."""
    trains: tuple[StudyModel, ...]
    """The fine-tunes that are trained, unless they are there."""
    takes: Callable[[StudyModel, Prompt], bool]
    """Says whether a model is asked a prompt here."""
    screens: Callable[[Prompt], bool]
    """Says whether guards screen a prompt here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDone:
    """The work that a part has done, in this process and before."""

    store: Path
    answers: int
    """Calls of the part with an answer."""
    calls: int
    """All calls of the part."""
    notes: tuple[str, ...]


def run_part(study: Study, folder: Path, part: Part, progress: Progress, source: Path) -> PartDone:
    """Train, ask and score a part of a study; what was done before is not done again.

    Args:
        study: the whole study.
        folder: the run's; fine-tunes go into its folder of models, and the part's store into a folder of its own.
        part: the part.
        progress: where the work is shown.
        source: what relative paths in the options of judges, guards and loaders are relative to.

    Raises:
        AftertuneError: what is wrong, in one line; everything done so far is kept and not done again.
    """
    for note in foreign_code_notes(study):
        progress.note(f"note: {note}")
    place = folder / PARTS / part.folder
    with open_run(shared(study), place, progress, source, models=folder / MODELS) as run:
        scorers, sets = build_scorers(run), load_sets(run)
        study_models = expand_study(run)
        names = part.trains(study_models)
        run.engines.check_ready()
        _, trained = study_rows(run, study_models)
        fresh = without_overlap(sets, with_recipe_rows(run, trained).rows)
        prompts = (*fresh.prompts, *fresh.attacked(fresh.prompts))
        behaviors = part.behaviors(prompts)
        models = tuple(
            model for model in study_models if model.recipe is None or model.name in names
        )
        portion = Portion(
            models=models,
            trains=models,
            takes=lambda model, prompt: (
                model.name in names or (model.recipe is None and behavior_of(prompt) in behaviors)
            ),
            screens=lambda prompt: behavior_of(prompt) in behaviors,
        )
        notes = do_portion(run, portion, study_models, prompts, scorers)
        finish = run.store.table(study.name, attacks=True).columns["finish"]
        return PartDone(
            store=place / STORE,
            answers=int((finish != NONE).sum()),
            calls=len(finish),
            notes=(*notes, *spending_notes(run.engines)),
        )


def shared(study: Study) -> Study:
    """Return a study as the processes that share it see it: without the bound on unlikely text, which hangs on all answers."""
    return study.model_copy(update={"coherence": study.coherence.model_copy(update={"nll": False})})


def do_portion(
    run: Run,
    portion: Portion,
    study_models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    scorers: Scorers,
) -> list[str]:
    """Train, ask and score what belongs to a portion, and return notes on its models and scorers.

    Preferences, and the bound on unlikely text, hang on answers of several portions: the run over all of them adds these.

    Args:
        run: of a `shared` study, with a store of its own.
        portion: the work.
        study_models: all models of the study.
        prompts: all prompts of the study.
        scorers: those that score here.

    Raises:
        AftertuneError: what is wrong, in one line; everything done so far is kept and not done again.
    """
    if portion.trains:
        tune_models(run, portion.trains)
    if not portion.models:
        return []
    share = Share(study_models=study_models, takes=portion.takes)
    notes = generate(run, portion.models, prompts, share=share)
    scored = score_responses(run, alone(scorers), portion.models, prompts, screens=portion.screens)
    return [*notes, *scored.notes]


def alone(scorers: Scorers) -> Scorers:
    """Return the scorers that need no other answer than the one that they score."""
    return {role: of_role for role, of_role in scorers.items() if role is not Role.PREFERENCE}
