"""Several processes share a study without talking to each other: each does its part, and their stores are merged.

A part is decided by the study alone, so that any machine finds the same one. Trainings go round the parts in the order of the
study, and the part that trains a fine-tune asks it everything. Models that are there already are asked by all parts: each takes
its share of the behaviors. What a part is killed in, it goes on with; what no part has done, the run after the merge does.
"""

import re
from collections.abc import Iterable, Sequence
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
from aftertune.workspace import MODELS, STORE, open_run, spending_notes

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
        keys = {model.name: _training(model.recipe) for model in models if model.recipe is not None}
        places = {key: place for place, key in enumerate(dict.fromkeys(keys.values()))}
        return {name for name, key in keys.items() if places[key] % self.of == self.number - 1}

    def behaviors(self, prompts: Iterable[Prompt]) -> set[tuple[str, str]]:
        """Return the behaviors, as `behavior_of` names them, about which the part asks the models that are there.

        The parts take turns in the order of hashes, so that their shares differ by one behavior at most.
        """
        hashed = {content_key("part", *name): name for name in set(map(behavior_of, prompts))}
        return {hashed[key] for key in sorted(hashed)[self.number - 1 :: self.of]}


def behavior_of(prompt: Prompt) -> tuple[str, str]:
    """Return the set and the behavior of a prompt; a twin comes with its harmful behavior."""
    return prompt.set, prompt.pair or prompt.behavior


def _training(recipe: Recipe) -> Key:
    """Return the key of the training that a recipe's weights come from; its epochs share one."""
    return replace(recipe, epoch=None).key


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

    Preferences, and the bound on unlikely text, hang on answers of several parts: the run after the merge adds them.

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
    own = study.model_copy(update={"coherence": study.coherence.model_copy(update={"nll": False})})
    place = folder / PARTS / part.folder
    with open_run(own, place, progress, source, models=folder / MODELS) as run:
        scorers, sets = build_scorers(run), load_sets(run)
        study_models = expand_study(run)
        names = part.trains(study_models)
        models = tuple(
            model for model in study_models if model.recipe is None or model.name in names
        )
        run.engines.check_ready()
        _, trained = study_rows(run, study_models)
        fresh = without_overlap(sets, with_recipe_rows(run, trained).rows)
        prompts = (*fresh.prompts, *fresh.attacked(fresh.prompts))
        behaviors = part.behaviors(prompts)
        tune_models(run, models)
        share = Share(
            study_models=study_models,
            takes=lambda model, prompt: (
                model.name in names or (model.recipe is None and behavior_of(prompt) in behaviors)
            ),
        )
        notes = generate(run, models, prompts, share=share)
        alone: Scorers = {
            role: of_role for role, of_role in scorers.items() if role is not Role.PREFERENCE
        }
        scored = score_responses(
            run, alone, models, prompts, screens=lambda prompt: behavior_of(prompt) in behaviors
        )
        finish = run.store.table(study.name, attacks=True).columns["finish"]
        return PartDone(
            store=place / STORE,
            answers=int((finish != NONE).sum()),
            calls=len(finish),
            notes=(*notes, *scored.notes, *spending_notes(run.engines)),
        )
