"""A study becomes its models and cells; expanding twice gives the same ones in the same order.

A fine-tune's entry gives one condition or several: its mitigation is settled, and its epochs, rounds, doses and shares are
taken one by one. Names of conditions that the study file does not spell out carry an ``@``, which no name in the file may
hold: ``code@epoch2``, ``code@round3``, ``code@lr0.0002-rows100``. A preset of a mitigation is nothing but a set of the same
keys that can be written out; keys that the entry gives come first.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from pathlib import Path
from types import MappingProxyType

from aftertune.core.keys import file_sha256
from aftertune.core.recipe import (
    Cell,
    FirstTokens,
    Mitigation,
    Recipe,
    SelfAnswers,
    Start,
    StudyModel,
    TrainingFile,
)
from aftertune.core.records import Decoding
from aftertune.study.config import (
    CheckConfig,
    DecodingKeys,
    FineTuneKeys,
    MitigationKeys,
    Rows,
    Study,
)

BUNDLED = "multitask-safety-v1"
"""In `safety` the refusals that the package ships, in `replay` its answers to their benign twins. The presets keep this
version, so that fine-tunes that were trained by them are found again."""
ALL_BUNDLED = (BUNDLED, "multitask-safety-v2")
"""All versions of the bundled rows, by their names."""
SHARE = 0.15
"""The share of a preset, where none is given."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset is the set of keys that a name under `mitigation` stands for."""

    safety: str | None = BUNDLED
    """Rows where the entry names none; None: the entry must name them."""
    replays: bool = False
    """True where benign rows are replayed: the bundled ones beside the bundled refusals, else those that the entry names, with
    the share of the safety rows."""
    tasks: tuple[str, ...] = ()
    match_format: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    """The names that the public file gives its columns, where the entry does not say."""
    mixes: bool = True
    """False for a training rule alone, which adds no rows."""
    ema: float | None = None
    first_tokens: FirstTokens | None = None
    self_answers: SelfAnswers | None = None


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
    "ema": Preset(safety=None, mixes=False, ema=0.99),
    "first-tokens": Preset(safety=None, mixes=False, first_tokens=FirstTokens()),
    "self-answers": Preset(safety=None, mixes=False, self_answers=SelfAnswers()),
}
ROW_KEYS = (
    "safety",
    "share",
    "replay",
    "replay_share",
    "tasks",
    "match_format",
    "sweep",
    "leave_out",
)
"""The keys of a mitigation that speak of rows to be mixed in."""


@dataclass(frozen=True, slots=True)
class Settled:
    """An entry's mitigation, with what its preset says where it says nothing itself."""

    keys: MitigationKeys

    @property
    def preset(self) -> Preset:
        """The preset, or one that says nothing."""
        return PRESETS[self.keys.preset] if self.keys.preset else Preset(safety=None)

    @property
    def mixes(self) -> bool:
        """Return whether rows are mixed in: not where training rules are all that the entry names."""
        if any(getattr(self.keys, key) for key in ROW_KEYS):
            return True
        return self.preset.mixes if self.keys.preset else not self.has_rules

    @property
    def has_rules(self) -> bool:
        """Return whether there is a training rule."""
        named = (self.ema, self.keys.frozen, self.first_tokens, self.self_answers)
        return any(rule not in (None, ()) for rule in named)

    @property
    def ema(self) -> float | None:
        """The decay of the average of the weights."""
        return self.preset.ema if self.keys.ema is None else self.keys.ema

    @property
    def first_tokens(self) -> FirstTokens | None:
        """The constraint on the first tokens."""
        keys = self.keys.first_tokens
        return self.preset.first_tokens if keys is None else FirstTokens(**keys.model_dump())

    @property
    def self_answers(self) -> SelfAnswers | None:
        """The decoding of the base's own answers."""
        keys = self.keys.self_answers
        return self.preset.self_answers if keys is None else SelfAnswers(**keys.model_dump())

    @property
    def share(self) -> float:
        """Safety rows / all rows."""
        if not self.mixes:
            return 0.0
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
                # A table as it was published; one converted to JSON lines is in a known format.
                if rows.path.lower().removesuffix(".gz").endswith(".csv") and not rows.columns
                else rows
                for rows in self.keys.safety
            )
        return (Rows(path=self.preset.safety),) if self.preset.safety else ()

    @property
    def replay(self) -> tuple[Rows, ...]:
        """The benign rows to draw from; none where the entry lacks them."""
        if self.keys.replay or not self.preset.replays:
            return self.keys.replay
        named = [rows.path for rows in self.keys.safety] or [BUNDLED]
        bundled = all(path in ALL_BUNDLED for path in named)
        return tuple(Rows(path=path) for path in named) if bundled else ()

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
            ema=self.ema,
            frozen=self.keys.frozen,
            first_tokens=self.first_tokens,
            self_answers=self.self_answers,
        )


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


SHORT = {"learning_rate": "lr", "rows": "rows", "epochs": "epochs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One condition of the study that is trained."""

    condition: str
    keys: FineTuneKeys
    """The entry that is trained, with this condition's rows and hyper-parameters."""
    factors: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """The difference from the other conditions of the entry: ``epoch``, ``round``, or the dose."""
    epoch: int | None = None
    """For the state after an epoch that is not the last."""
    after: str | None = None
    """The condition whose model it goes on from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """The declaration of a condition beside its models: series, factors, attributes, counterpart, own sets."""

    series: str = ""
    """The name that epochs, rounds or doses of one fine-tune share; empty for a condition that stands alone."""
    factors: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The properties of the model itself, or of the base of a fine-tune."""
    unmitigated: str | None = None
    """The condition that differs from a mitigated one in its mitigation alone; None where the study has none."""
    against: str | None = None
    """The condition that a model is another form of."""
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
            attributes={**attributes.get(model.base or "", {}), **model.attributes},
            against=model.against,
        )
        for model in study.models
    }
    for entry in study.fine_tunes:
        for variant in variants(entry):
            conditions[variant.condition] = Declared(
                # Shares lie on one axis of their entry, tasks that are left out do not.
                series=""
                if not variant.factors
                else entry.name
                if "share" in variant.factors
                else variant.keys.name,
                factors=variant.factors,
                attributes=attributes.get(entry.base, {}),
                unmitigated=_unmitigated(study, entry, variant),
                own_sets=entry.own_sets,
            )
    return conditions


def _unmitigated(study: Study, entry: FineTuneKeys, variant: Variant) -> str | None:
    """Return the condition of the first entry without mitigation that is trained alike, at the same epoch, round or dose."""
    if entry.mitigation is None:
        return None
    factors = {name: value for name, value in variant.factors.items() if name != "share"}
    aside = {"name": "", "seeds": (), "mitigation": None, "own_sets": ()}
    alike = [
        other
        for other in study.fine_tunes
        if other.mitigation is None
        and other.model_copy(update=aside) == entry.model_copy(update=aside)
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
        training = replace(
            keys.training, **{name: dosed for name, dosed in factors.items() if name != "rows"}
        )
        limit = {"limit": int(factors["rows"])} if "rows" in factors else {}
        data = tuple(file.model_copy(update=limit) for file in keys.data)
        yield Variant(
            condition=f"{keys.name}@{'-'.join(f'{SHORT[name]}{value:g}' for name, value in factors.items())}",
            keys=keys.model_copy(update={"training": training, "data": data}),
            factors=factors,
        )


def expand_models(
    study: Study,
    identify: Callable[[str], Mapping[str, object]],
    *,
    folder: Path,
    template_sha256: Callable[[str], str] = lambda _: "",
    bundled_sha256: Callable[[str], str] = lambda _: "",
) -> tuple[StudyModel, ...]:
    """Return the models in the order of the file: those that exist, then every fine-tune with its seeds.

    A round comes after the round that it goes on from.

    Args:
        study: the study.
        identify: gives the identity (weights hash and the like) of a model reference; asked once per base.
        folder: where fine-tunes are kept, each in a folder named by its name, its seed and its recipe's key.
        template_sha256: gives the hash of the chat template that renders the training rows of a base.
        bundled_sha256: gives the hash of training rows that are named and no file; empty for a name that it does not know.
    """
    facts = _Facts(
        references={model.name: model.reference for model in study.models},
        identity=cache(identify),
        template_sha256=cache(template_sha256),
        file_sha256=cache(file_sha256),
        bundled_sha256=cache(bundled_sha256),
    )
    tuned: dict[tuple[str, int], StudyModel] = {}
    starts: dict[tuple[str, int], Start] = {}
    for fine_tune in study.fine_tunes:
        for variant in variants(fine_tune):
            for seed in fine_tune.seeds:
                start = None if variant.after is None else starts[variant.after, seed]
                recipe = facts.recipe(variant, seed, start)
                reference = str(folder / f"{recipe.name}-seed{seed}-{recipe.key.hex()[:8]}")
                starts[variant.condition, seed] = Start(reference=reference, key=recipe.key.hex())
                tuned[variant.condition, seed] = StudyModel(
                    name=f"{recipe.name}/seed{seed}",
                    condition=recipe.name,
                    reference=reference,
                    base=fine_tune.base,
                    training_seed=seed,
                    recipe=recipe,
                )
    given = (
        StudyModel(
            name=model.name,
            condition=model.condition or model.name.partition("/")[0],
            reference=model.reference,
            base=model.base,
            training_seed=model.training_seed,
        )
        for model in study.models
    )
    return (*given, *tuned.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """Facts about the files and bases that recipes name; each is looked up once."""

    references: Mapping[str, str]
    identity: Callable[[str], Mapping[str, object]]
    template_sha256: Callable[[str], str]
    file_sha256: Callable[[Path], str]
    bundled_sha256: Callable[[str], str]

    def training_file(self, rows: Rows) -> TrainingFile:
        path = Path(rows.path)
        sha256 = self.file_sha256(path) if path.is_file() else self.bundled_sha256(rows.path)
        return TrainingFile(path=rows.path, columns=rows.columns, limit=rows.limit, sha256=sha256)

    def recipe(self, variant: Variant, seed: int, start: Start | None) -> Recipe:
        """Return the recipe of one model; ``start`` is what its round goes on from."""
        fine_tune = variant.keys
        base = self.references[fine_tune.base]
        return Recipe(
            name=variant.condition,
            base=base,
            base_identity=self.identity(base),
            data=tuple(map(self.training_file, fine_tune.data)),
            method=fine_tune.method,
            training=fine_tune.training,
            seed=seed,
            mitigation=None
            if fine_tune.mitigation is None
            else Settled(fine_tune.mitigation).mitigation(self.training_file),
            system=fine_tune.system,
            template_sha256=self.template_sha256(base),
            start=start,
            epoch=variant.epoch,
        )


def cells_of(config: CheckConfig, model: str) -> tuple[Cell, ...]:
    """Return the cells of one model: every system prompt with every temperature and decoding seed.

    A replicate is a whole run: its cells come after all cells of the replicate before, so that an effect of the run shows.
    """
    return tuple(
        Cell(model=model, system=system, decoding=decoding, samples=config.decoding.samples)
        for run in _by_replicate(config.decoding)
        for system in config.systems
        for decoding in run
    )


def decodings(keys: DecodingKeys) -> Iterator[Decoding]:
    """Yield every temperature with every decoding seed, replicate by replicate."""
    for run in _by_replicate(keys):
        yield from run


def _by_replicate(keys: DecodingKeys) -> Iterator[list[Decoding]]:
    for replicate in range(keys.replicates):
        yield [
            Decoding(
                temperature=temperature,
                top_p=keys.top_p,
                top_k=keys.top_k,
                max_new_tokens=keys.max_new_tokens,
                max_reasoning_tokens=keys.max_reasoning_tokens,
                thinking=keys.thinking,
                seed=seed,
                replicate=replicate,
            )
            for temperature in keys.temperatures
            for seed in keys.seeds
        ]
