"""What one condition of a fine-tune is measured at: its epochs, its rounds of training, or the doses of a grid.

Names carry an ``@``, which no name in a study file may hold: ``code@epoch2``, ``code@round3``, ``code@lr0.0002-rows100``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from types import MappingProxyType

from aftertune.study.config import FineTuneKeys, Study
from aftertune.study.mitigations import one_by_one

NOTHING: Mapping[str, float] = MappingProxyType({})
SHORT = {"learning_rate": "lr", "rows": "rows", "epochs": "epochs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One condition of the study that is trained."""

    condition: str
    keys: FineTuneKeys
    """What is trained: the entry, with this condition's rows and hyper-parameters."""
    factors: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    """What it differs in from the other conditions of the entry: ``epoch``, ``round``, or the dose."""
    epoch: int | None = None
    """For the state after an epoch that is not the last."""
    after: str | None = None
    """The condition whose model it goes on from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a study says of a condition, beside its models."""

    series: str = ""
    """What epochs, rounds or doses of one fine-tune share; empty for a condition that stands alone."""
    factors: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Of the model itself, or of the base of a fine-tune."""
    unmitigated: str | None = None
    """The condition that differs from a mitigated one in its mitigation alone; None where the study has none."""
    own_sets: tuple[str, ...] = ()


def variants(entry: FineTuneKeys) -> tuple[Variant, ...]:
    """Return the conditions of an entry, in the order in which they are trained."""
    return tuple(variant for part in _mitigated(entry) for variant in _along(part))


def _along(part: Variant) -> Iterator[Variant]:
    """Yield the epochs, rounds or doses of a condition, or the condition itself."""
    keys = part.keys
    if keys.keep_epochs:
        found = _epochs(keys)
    elif keys.rounds:
        found = _rounds(keys)
    elif keys.doses is not None:
        found = _doses(keys)
    else:
        found = iter((Variant(condition=keys.name, keys=keys),))
    return (replace(variant, factors={**part.factors, **variant.factors}) for variant in found)


def _mitigated(entry: FineTuneKeys) -> Iterator[Variant]:
    """Yield the entry, or one for each share of its mitigation's sweep and each task that it leaves out."""
    mitigation = entry.mitigation
    if mitigation is None or not (mitigation.sweep or mitigation.leave_out):
        yield Variant(condition=entry.name, keys=entry)
        return
    for behind, factors, each in one_by_one(mitigation):
        name = f"{entry.name}@{behind}"
        yield Variant(
            condition=name,
            keys=entry.model_copy(update={"name": name, "mitigation": each}),
            factors=factors,
        )


def declared(study: Study) -> dict[str, Declared]:
    """Return what the study says of each of its conditions."""
    attributes = {model.name: model.attributes for model in study.models}
    found = {
        model.condition or model.name.partition("/")[0]: Declared(
            attributes={**attributes.get(model.base or "", {}), **model.attributes}
        )
        for model in study.models
    }
    for entry in study.fine_tunes:
        for variant in variants(entry):
            found[variant.condition] = Declared(
                series=_series(entry, variant),
                factors=variant.factors,
                attributes=attributes.get(entry.base, {}),
                unmitigated=_unmitigated(study, entry, variant),
                own_sets=entry.own_sets,
            )
    return found


def _series(entry: FineTuneKeys, variant: Variant) -> str:
    """Return what a condition's points share: shares lie on one axis of their entry, tasks that are left out do not."""
    if not variant.factors:
        return ""
    return entry.name if "share" in variant.factors else variant.keys.name


def _unmitigated(study: Study, entry: FineTuneKeys, variant: Variant) -> str | None:
    """Return the condition of the first entry without mitigation that is trained alike, at the same epoch, round or dose."""
    if entry.mitigation is None:
        return None
    factors = {name: value for name, value in variant.factors.items() if name != "share"}
    alike = [
        other
        for other in study.fine_tunes
        if other.mitigation is None and _recipe(other) == _recipe(entry)
    ]
    found = (
        each.condition for other in alike for each in variants(other) if each.factors == factors
    )
    return next(found, None)


def _recipe(entry: FineTuneKeys) -> FineTuneKeys:
    """Return what is left of an entry without its name, seeds and mitigation."""
    return entry.model_copy(update={"name": "", "seeds": (), "mitigation": None, "own_sets": ()})


def _epochs(keys: FineTuneKeys) -> Iterator[Variant]:
    last = int(keys.training.epochs)
    for epoch in range(1, last):
        yield Variant(
            condition=f"{keys.name}@epoch{epoch}", keys=keys, factors={"epoch": epoch}, epoch=epoch
        )
    yield Variant(condition=keys.name, keys=keys, factors={"epoch": last})


def _rounds(keys: FineTuneKeys) -> Iterator[Variant]:
    yield Variant(condition=f"{keys.name}@round1", keys=keys, factors={"round": 1})
    for number, data in enumerate(keys.rounds, start=2):
        yield Variant(
            condition=f"{keys.name}@round{number}",
            keys=keys.model_copy(update={"data": data}),
            factors={"round": number},
            after=f"{keys.name}@round{number - 1}",
        )


def _doses(keys: FineTuneKeys) -> Iterator[Variant]:
    assert keys.doses is not None
    levels = {name: values for name in SHORT if (values := getattr(keys.doses, name))}
    for dose in product(*levels.values()):
        factors = dict(zip(levels, dose, strict=True))
        yield Variant(
            condition=f"{keys.name}@{'-'.join(f'{SHORT[name]}{value:g}' for name, value in factors.items())}",
            keys=_dosed(keys, factors),
            factors=factors,
        )


def _dosed(keys: FineTuneKeys, factors: Mapping[str, float]) -> FineTuneKeys:
    training, rows = keys.training, factors.get("rows")
    training = replace(
        training,
        learning_rate=factors.get("learning_rate", training.learning_rate),
        epochs=factors.get("epochs", training.epochs),
    )
    data = (
        keys.data
        if rows is None
        else tuple(file.model_copy(update={"limit": int(rows)}) for file in keys.data)
    )
    return keys.model_copy(update={"training": training, "data": data})
