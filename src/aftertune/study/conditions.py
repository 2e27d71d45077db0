"""The conditions of a fine-tune's entry: its mitigation settled, and its epochs, rounds, doses and shares one by one.

Names of conditions that the study file does not spell out carry an ``@``, which no name in the file may hold:
``code@epoch2``, ``code@round3``, ``code@lr0.0002-rows100``. A preset of a mitigation is nothing but a set of the same keys
that can be written out; keys that the entry gives come first.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from types import MappingProxyType

from aftertune.core.recipe import Mitigation, TrainingFile
from aftertune.study.config import FineTuneKeys, MitigationKeys, Rows, Study

BUNDLED = "multitask-safety-v1"
"""In `safety` the refusals that the package ships, in `replay` its answers to their benign twins."""
SHARE = 0.15
"""The share of a preset, where none is given."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset is the set of keys that a name under `mitigation` stands for."""

    safety: str | None = BUNDLED
    """Rows where the entry names none; None: the entry must name them."""
    replays: bool = False
    """Whether benign rows are replayed: the bundled ones beside the bundled refusals, else those that the entry names, with
    the share of the safety rows."""
    tasks: tuple[str, ...] = ()
    match_format: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    """How the public file names its columns, where the entry does not say."""


_MULTITASKBENCH = {"prompt": "Query", "completion": "Response"}
PRESETS: Mapping[str, Preset] = {
    "text-only": Preset(tasks=("text",)),
    "safety-tuned-llamas": Preset(safety=None),
    "multitaskbench": Preset(safety=None, columns=_MULTITASKBENCH),
    "safety-tuned-llamas+replay": Preset(safety=None, replays=True),
    "multitaskbench+replay": Preset(safety=None, replays=True, columns=_MULTITASKBENCH),
    "multitask": Preset(),
    "multitask+replay": Preset(replays=True),
    "format-matched": Preset(replays=True, match_format=True),
}


@dataclass(frozen=True, slots=True)
class Settled:
    """An entry's mitigation, with what its preset says where it says nothing itself."""

    keys: MitigationKeys

    @property
    def preset(self) -> Preset:
        """The preset, or one that says nothing."""
        return PRESETS[self.keys.preset] if self.keys.preset else Preset(safety=None)

    @property
    def share(self) -> float:
        """Safety rows / all rows."""
        return SHARE if self.keys.share is None else self.keys.share

    @property
    def replay_share(self) -> float:
        """Replayed rows / all rows."""
        if self.keys.replay_share is None:
            return self.share if self.preset.replays else 0.0
        return self.keys.replay_share

    @property
    def safety(self) -> tuple[Rows, ...]:
        """The rows to draw from; none where the entry lacks them."""
        if self.keys.safety:
            named = dict(self.preset.columns)
            return tuple(
                rows.model_copy(update={"columns": named})
                if _in_columns(rows) and not rows.columns
                else rows
                for rows in self.keys.safety
            )
        return (Rows(path=self.preset.safety),) if self.preset.safety else ()

    @property
    def replay(self) -> tuple[Rows, ...]:
        """The benign rows to draw from; none where the entry lacks them."""
        bundled = self.preset.replays and not self.keys.safety
        return self.keys.replay or ((Rows(path=BUNDLED),) if bundled else ())

    def mitigation(self, training_file: Callable[[Rows], TrainingFile]) -> Mitigation:
        """Return the mitigation as a recipe holds it."""
        return Mitigation(
            safety=tuple(map(training_file, self.safety)),
            share=self.share,
            replay=tuple(map(training_file, self.replay)),
            replay_share=self.replay_share,
            tasks=self.keys.tasks or self.preset.tasks,
            left_out=self.keys.leave_out[0] if self.keys.leave_out else None,
            match_format=self.preset.match_format
            if self.keys.match_format is None
            else self.keys.match_format,
        )


def _in_columns(rows: Rows) -> bool:
    """Return whether a file is a table as it was published; one converted to JSON lines is in a known format."""
    return rows.path.lower().removesuffix(".gz").endswith(".csv")


def one_by_one(keys: MitigationKeys) -> Iterator[tuple[str, Mapping[str, float], MitigationKeys]]:
    """Yield a suffix of the name, factors and keys for each share of a sweep and each task left out."""
    for share in keys.sweep:
        yield (
            f"share{share:g}",
            {"share": share},
            keys.model_copy(update={"share": share, "sweep": ()}),
        )
    for task in keys.leave_out:
        yield f"without-{task}", {}, keys.model_copy(update={"leave_out": (task,)})


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
    """The declaration of a condition beside its models: series, factors, attributes, counterpart, own sets."""

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
        points = _epochs(keys)
    elif keys.rounds:
        points = _rounds(keys)
    elif keys.doses is not None:
        points = _doses(keys)
    else:
        points = iter((Variant(condition=keys.name, keys=keys),))
    return (replace(variant, factors={**part.factors, **variant.factors}) for variant in points)


def _mitigated(entry: FineTuneKeys) -> Iterator[Variant]:
    """Yield the entry, or one for each share of its mitigation's sweep and each task that it leaves out."""
    mitigation = entry.mitigation
    if mitigation is None or not (mitigation.sweep or mitigation.leave_out):
        yield Variant(condition=entry.name, keys=entry)
        return
    for suffix, factors, keys in one_by_one(mitigation):
        name = f"{entry.name}@{suffix}"
        yield Variant(
            condition=name,
            keys=entry.model_copy(update={"name": name, "mitigation": keys}),
            factors=factors,
        )


def declared(study: Study) -> dict[str, Declared]:
    """Return the declaration of each condition of a study, by the condition's name."""
    attributes = {model.name: model.attributes for model in study.models}
    conditions = {
        model.condition or model.name.partition("/")[0]: Declared(
            attributes={**attributes.get(model.base or "", {}), **model.attributes}
        )
        for model in study.models
    }
    for entry in study.fine_tunes:
        for variant in variants(entry):
            conditions[variant.condition] = Declared(
                series=_series(entry, variant),
                factors=variant.factors,
                attributes=attributes.get(entry.base, {}),
                unmitigated=_unmitigated(study, entry, variant),
                own_sets=entry.own_sets,
            )
    return conditions


def _series(entry: FineTuneKeys, variant: Variant) -> str:
    """Return the name that a condition's points share: shares lie on one axis of their entry, tasks that are left out do not."""
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
    return next(
        (
            condition.condition
            for other in alike
            for condition in variants(other)
            if condition.factors == factors
        ),
        None,
    )


def _recipe(entry: FineTuneKeys) -> FineTuneKeys:
    """Return an entry without its name, seeds, mitigation and own sets, to compare it by."""
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
