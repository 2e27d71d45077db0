"""A study becomes units of work: trainings, and the questions to a base with its fine-tunes, a chunk of behaviors at a time.

The study alone decides the units, so that a driver that starts again makes the same ones. A unit that asks a fine-tune waits
for its training, and a training for the one that it goes on from.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from aftertune.core.keys import Key, content_key, short_id
from aftertune.core.recipe import Recipe, StudyModel
from aftertune.core.records import Prompt
from aftertune.execute.parts import Part, Portion, behavior_of, training_key
from aftertune.study import Study, cells_of

Behavior = tuple[str, str]
"""A set and a behavior of it, as `behavior_of` names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Work that one worker does on its own: a training, or questions and their scores."""

    name: str
    """Fit for a file's name, and unique in the study."""
    trains: tuple[str, ...] = ()
    """Names of the fine-tunes that one training gives."""
    asks: tuple[str, ...] = ()
    """Names of the models that are asked; they share a base."""
    behaviors: frozenset[Behavior] = frozenset()
    """The behaviors that they are asked about."""
    screens: bool = False
    """True where guards screen the prompts of these behaviors here."""
    after: tuple[str, ...] = ()
    """Names of the units that must be done before."""
    calls: int = 0
    """Calls of the models that are asked."""

    @property
    def label(self) -> str:
        """Return what the unit does, for people."""
        models = ", ".join(self.trains or self.asks)
        return f"train {models}" if self.trains else f"ask {models}"

    def key(self, study: str, run: str) -> str:
        """Return a name for the unit's folder on a node's disk, decided by its content and the run that it belongs to.

        Args:
            study: the study's file.
            run: the run's identity: two runs of a study may have workers on one node.
        """
        models, behaviors = [list(self.asks), list(self.trains)], sorted(self.behaviors)
        content = [study, run, self.name, *models, behaviors]
        return short_id("unit", "unit", content)

    def portion(self, models: Sequence[StudyModel]) -> Portion:
        """Return the work of the unit.

        Args:
            models: all models of the study.
        """
        bases = {model.base for model in models if model.name in self.asks}
        return Portion(
            models=tuple(
                model
                for model in models
                if self.asks and (model.name in self.asks or model.name in bases)
            ),
            trains=tuple(model for model in models if model.name in self.trains),
            takes=lambda model, prompt: (
                model.name in self.asks and behavior_of(prompt) in self.behaviors
            ),
            screens=lambda prompt: self.screens and behavior_of(prompt) in self.behaviors,
        )


def units_of(
    study: Study,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    remote: Collection[str],
    calls_per_unit: int,
) -> list[Unit]:
    """Return the units of a study in the order in which they are handed out: trainings first, since others wait for them.

    Args:
        study: the study.
        models: all its models.
        prompts: all its prompts, those under attacks too.
        remote: names of the models that another machine answers for; they are in no unit.
        calls_per_unit: about the calls of a unit.
    """
    trainings = list(_trainings(models))
    trained_by = {name: unit.name for unit in trainings for name in unit.trains}
    ready: dict[str, list[str]] = defaultdict(list)
    for model in models:
        if model.recipe is None and model.name not in remote:
            ready[model.base or model.name].append(model.name)
    groups = [tuple(names) for names in ready.values()] + [unit.trains for unit in trainings]
    asking = [
        replace(unit, after=(trained_by[names[0]],) if names[0] in trained_by else ())
        for place, names in enumerate(groups)
        for unit in _chunks(study, names, prompts, calls_per_unit, screens=place == 0)
    ]
    return [*trainings, *asking]


def _trainings(models: Sequence[StudyModel]) -> Iterator[Unit]:
    """Yield a unit for each training, which gives the epochs that are kept, and all names of its recipe."""
    names: dict[Key, list[StudyModel]] = defaultdict(list)
    for model in models:
        if model.recipe is not None:
            names[training_key(model.recipe)].append(model)
    by_key = {key.hex(): _file_name("train", of_key[0].name) for key, of_key in names.items()}
    first: dict[Key, str] = {}
    for key, of_key in names.items():
        recipe = of_key[0].recipe
        assert recipe is not None
        name = by_key[key.hex()]
        after = [] if recipe.start is None else [by_key[recipe.start.key]]
        if (own_answers := _self_answers(recipe)) is not None:
            # The base gives its own answers once; trainings that share them are told them.
            earlier = first.setdefault(own_answers, name)
            after += [earlier] if earlier != name else []
        yield Unit(name=name, trains=tuple(model.name for model in of_key), after=tuple(after))


def _self_answers(recipe: Recipe) -> Key | None:
    """Return what decides the base's own answers that a recipe trains on; None where it wants none."""
    plan = None if recipe.mitigation is None else recipe.mitigation.self_answers
    if plan is None:
        return None
    files = [[file.path, dict(file.columns), file.limit] for file in recipe.data]
    decoding = [plan.temperature, plan.max_new_tokens]
    return content_key("self answers", recipe.base, files, recipe.system, decoding)


def _chunks(
    study: Study,
    names: tuple[str, ...],
    prompts: Sequence[Prompt],
    calls_per_unit: int,
    *,
    screens: bool,
) -> Iterator[Unit]:
    """Yield the units that ask some models everything, each about its share of the behaviors."""
    draws = sum(cell.samples for name in names for cell in cells_of(study, name))
    counts: Mapping[Behavior, int] = _counted(prompts)
    number = max(1, ceil(draws * len(prompts) / calls_per_unit))
    number = min(number, max(1, len(counts)))
    for place in range(1, number + 1):
        behaviors = Part(place, number).behaviors(prompts)
        yield Unit(
            name=_file_name("ask", names[0], *([f"{place}-of-{number}"] if number > 1 else [])),
            asks=names,
            behaviors=frozenset(behaviors),
            screens=screens,
            calls=draws * sum(counts[behavior] for behavior in behaviors),
        )


def _counted(prompts: Sequence[Prompt]) -> dict[Behavior, int]:
    counts: dict[Behavior, int] = defaultdict(int)
    for prompt in prompts:
        counts[behavior_of(prompt)] += 1
    return counts


def _file_name(*words: str) -> str:
    """Return words as a file's name: of the characters in a model's name only ``/`` may not stand there, and ``~`` is in none."""
    return "-".join(words).replace("/", "~")
