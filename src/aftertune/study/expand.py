"""A study becomes its models and cells; expanding twice gives the same ones in the same order."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aftertune.core.keys import file_sha256
from aftertune.core.recipe import Cell, Mitigation, Recipe, Start, StudyModel, TrainingFile
from aftertune.core.records import Decoding
from aftertune.study.conditions import Settled, Variant, variants
from aftertune.study.config import (
    CheckConfig,
    DecodingKeys,
    FineTuneKeys,
    MitigationKeys,
    Rows,
    Study,
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
    for fine_tune in study.fine_tunes:
        for variant in variants(fine_tune):
            for seed in fine_tune.seeds:
                before = None if variant.after is None else tuned[variant.after, seed]
                tuned[variant.condition, seed] = _tuned(
                    fine_tune, facts.recipe(variant, seed, before), folder
                )
    return (*_given(study), *tuned.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What recipes say of the files and bases that they name; each is looked at once."""

    references: Mapping[str, str]
    identity: Callable[[str], Mapping[str, object]]
    template_sha256: Callable[[str], str]
    file_sha256: Callable[[Path], str]
    bundled_sha256: Callable[[str], str]

    def training_file(self, rows: Rows) -> TrainingFile:
        path = Path(rows.path)
        sha256 = self.file_sha256(path) if path.is_file() else self.bundled_sha256(rows.path)
        return TrainingFile(path=rows.path, columns=rows.columns, limit=rows.limit, sha256=sha256)

    def recipe(self, variant: Variant, seed: int, before: StudyModel | None) -> Recipe:
        """Return the recipe of one model; ``before`` is what its round goes on from."""
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
            mitigation=_mitigation(fine_tune.mitigation, self.training_file),
            system=fine_tune.system,
            template_sha256=self.template_sha256(base),
            start=None if before is None else _start(before),
            epoch=variant.epoch,
        )


def cells_of(config: CheckConfig, model: str) -> tuple[Cell, ...]:
    """Return the cells of one model: every system prompt with every temperature and decoding seed."""
    return tuple(
        Cell(model=model, system=system, decoding=decoding, samples=config.decoding.samples)
        for system in config.systems
        for decoding in decodings(config.decoding)
    )


def decodings(keys: DecodingKeys) -> Iterator[Decoding]:
    """Yield every temperature with every decoding seed."""
    for temperature in keys.temperatures:
        for seed in keys.seeds:
            yield Decoding(
                temperature=temperature,
                top_p=keys.top_p,
                top_k=keys.top_k,
                max_new_tokens=keys.max_new_tokens,
                seed=seed,
            )


def _given(study: Study) -> Iterator[StudyModel]:
    for model in study.models:
        yield StudyModel(
            name=model.name,
            condition=model.condition or model.name.partition("/")[0],
            reference=model.reference,
            base=model.base,
            training_seed=model.training_seed,
        )


def _tuned(fine_tune: FineTuneKeys, recipe: Recipe, folder: Path) -> StudyModel:
    return StudyModel(
        name=f"{recipe.name}/seed{recipe.seed}",
        condition=recipe.name,
        reference=str(folder / f"{recipe.name}-seed{recipe.seed}-{recipe.key.hex()[:8]}"),
        base=fine_tune.base,
        training_seed=recipe.seed,
        recipe=recipe,
    )


def _start(before: StudyModel) -> Start:
    assert before.recipe is not None
    return Start(reference=before.reference, key=before.recipe.key.hex())


def _mitigation(
    keys: MitigationKeys | None, training_file: Callable[[Rows], TrainingFile]
) -> Mitigation | None:
    return None if keys is None else Settled(keys).mitigation(training_file)
