"""The measure stage: what was declared becomes a plan, and the store's table becomes numbers."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from aftertune.core.recipe import StudyModel
from aftertune.measure.plan import Condition, Match, MeasurePlan, RateName
from aftertune.store import decoding_name, decoding_setting
from aftertune.store.calls import unreadable
from aftertune.study import Declared, Study, declared, decodings

NOTHING_SAID = Declared()


def measure_plan(study: Study, models: Sequence[StudyModel], name_rate: RateName) -> MeasurePlan:
    """Return the declaration of a study's measurement."""
    keys = study.measurement
    return MeasurePlan(
        conditions=conditions(models, declared(study)),
        judges=tuple(judge.name for judge in study.judges),
        panel=keys.panel,
        guards=tuple(guard.name for guard in study.guards),
        scorers=tuple(scorer.name for scorer in study.scorers),
        comparers=tuple(comparer.name for comparer in study.comparers),
        match=None
        if keys.match is None
        else Match(scorer=keys.match.scorer, target=keys.match.target, set=keys.match.set),
        margin=keys.margin,
        task_margin=keys.task_margin,
        alpha=keys.alpha,
        task_weights=keys.task_weights,
        max_asr=keys.max_asr,
        families=keys.families,
        min_cell=keys.min_cell,
        verdict_by=keys.verdict_by,
        name_rate=name_rate,
        decoding_settings={
            decoding_name(one): decoding_setting(one) for one in decodings(study.decoding)
        },
    )


def conditions(
    models: Sequence[StudyModel], said: Mapping[str, Declared] = MappingProxyType({})
) -> tuple[Condition, ...]:
    """Group the models into conditions, in their order: a base, or a fine-tune with all its training seeds.

    Args:
        models: the models of a study.
        said: what the study says of its conditions.
    """
    of_model = {model.name: model.condition for model in models}
    grouped: dict[str, list[StudyModel]] = {}
    for model in models:
        grouped.setdefault(model.condition, []).append(model)
    return tuple(
        Condition(
            name=name,
            models=tuple(model.name for model in members),
            base=of_model[members[0].base] if members[0].base is not None else None,
            training_seeds=_seeds(members),
            series=said.get(name, NOTHING_SAID).series,
            factors=said.get(name, NOTHING_SAID).factors,
            attributes=said.get(name, NOTHING_SAID).attributes,
            unmitigated=said.get(name, NOTHING_SAID).unmitigated,
            own_sets=said.get(name, NOTHING_SAID).own_sets,
        )
        for name, members in grouped.items()
    )


def _seeds(members: Sequence[StudyModel]) -> tuple[int, ...]:
    seeds = tuple(model.training_seed for model in members if model.training_seed is not None)
    return seeds if len(seeds) == len(members) else ()


def study_model(record: Mapping[str, Any]) -> StudyModel:
    """Return a model of a finished run from its record in the store.

    Raises:
        StoreError: the record is not what this version writes.
    """
    names = ("name", "condition", "reference", "base", "training_seed")
    try:
        return StudyModel(**{name: record[name] for name in names})
    except (KeyError, TypeError) as error:
        raise unreadable("model", error) from error
