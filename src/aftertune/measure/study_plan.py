"""The plan of a study: its declaration of the measurement, and its models grouped into conditions."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from aftertune.core.recipe import StudyModel
from aftertune.measure.plan import Condition, Match, MeasurePlan, RateName
from aftertune.study import Declared, Study, declared, decodings

UNDECLARED = Declared()


def measure_plan(study: Study, models: Sequence[StudyModel], name_rate: RateName) -> MeasurePlan:
    """Return the declaration of a study's measurement, with its models grouped into conditions."""
    keys = study.measurement
    return MeasurePlan(
        conditions=conditions_of(models, declared(study)),
        judges=tuple(judge.name for judge in study.judges),
        panel=keys.panel,
        guards=tuple(guard.name for guard in study.guards),
        metrics=tuple(metric.name for metric in study.metrics),
        preferences=tuple(preference.name for preference in study.preferences),
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
            decoding.name: decoding.setting for decoding in decodings(study.decoding)
        },
    )


def conditions_of(
    models: Sequence[StudyModel], declarations: Mapping[str, Declared] = MappingProxyType({})
) -> tuple[Condition, ...]:
    """Group the models into conditions, in their order: a base, or a fine-tune with all its training seeds.

    Args:
        models: the models of a study.
        declarations: by name, what the study declares of its conditions.
    """
    of_model = {model.name: model.condition for model in models}
    grouped: dict[str, list[StudyModel]] = {}
    for model in models:
        grouped.setdefault(model.condition, []).append(model)
    conditions = []
    for name, members in grouped.items():
        declaration, base = declarations.get(name, UNDECLARED), members[0].base
        conditions.append(
            Condition(
                name=name,
                models=tuple(model.name for model in members),
                base=None if base is None else of_model[base],
                training_seeds=_seeds(members),
                series=declaration.series,
                factors=declaration.factors,
                attributes=declaration.attributes,
                unmitigated=declaration.unmitigated,
                own_sets=declaration.own_sets,
            )
        )
    return tuple(conditions)


def _seeds(members: Sequence[StudyModel]) -> tuple[int, ...]:
    """Return the training seeds of a condition's models; empty where one of them is not known."""
    seeds = tuple(model.training_seed for model in members if model.training_seed is not None)
    return seeds if len(seeds) == len(members) else ()
