from pathlib import Path

import pytest

from aftertune.core.recipe import Cell
from aftertune.core.records import Decoding
from aftertune.study import cells_of, expand_models, study_from_mapping


@pytest.fixture
def plain(tmp_path):
    for name in ("code.jsonl", "safe.jsonl", "asked.jsonl"):
        (tmp_path / name).write_text(name)
    return {
        "name": "demo",
        "models": [
            {"name": "base", "reference": "org/base"},
            {"name": "theirs/seed7", "reference": "org/theirs", "base": "base", "training_seed": 7},
        ],
        "fine_tunes": [
            {"name": "code", "base": "base", "data": "code.jsonl", "seeds": [2, 1]},
            {
                "name": "code+safe",
                "like": "code",
                "mitigation": {"safety": "safe.jsonl", "share": 0.2},
            },
        ],
        "prompts": ["asked.jsonl"],
        "systems": {"none": None, "kind": "Be kind."},
        "decoding": {"temperatures": [0, 0.7], "seeds": [0, 1], "samples": 3},
    }


def expanded(plain, folder, identity="w"):
    study = study_from_mapping(plain, folder)
    return expand_models(
        study,
        lambda reference: {"weights": identity, "of": reference},
        folder=Path("models"),
        template_sha256=lambda _: "t",
    )


def test_models_come_in_the_order_of_the_file_with_their_seeds(plain, tmp_path):
    models = expanded(plain, tmp_path)
    names = [
        "base",
        "theirs/seed7",
        "code/seed2",
        "code/seed1",
        "code+safe/seed2",
        "code+safe/seed1",
    ]
    assert [model.name for model in models] == names
    assert [model.condition for model in models] == [
        "base",
        "theirs",
        "code",
        "code",
        "code+safe",
        "code+safe",
    ]
    assert [model.base for model in models] == [None, *["base"] * 5]
    assert [model.training_seed for model in models] == [None, 7, 2, 1, 2, 1]
    tuned = models[2]
    assert tuned.reference == f"models/code-seed2-{tuned.recipe.key.hex()[:8]}"
    assert tuned.recipe.base == "org/base"
    assert tuned.recipe.base_identity == {"weights": "w", "of": "org/base"}
    assert tuned.recipe.template_sha256 == "t"
    assert models[4].recipe.mitigation.share == 0.2
    assert len({model.reference for model in models}) == 6


def test_expanding_twice_gives_the_same(plain, tmp_path):
    first, second = expanded(plain, tmp_path), expanded(plain, tmp_path)
    assert first == second


def test_a_changed_file_or_base_is_another_fine_tune_and_a_moved_one_is_not(plain, tmp_path):
    before = [model.reference for model in expanded(plain, tmp_path)]
    assert [model.reference for model in expanded(plain, tmp_path, "v")][2:] != before[2:]
    (tmp_path / "safe.jsonl").write_text("changed")
    after = [model.reference for model in expanded(plain, tmp_path)]
    assert after[:4] == before[:4]
    assert not set(after[4:]) & set(before[4:])
    (tmp_path / "sub").mkdir()
    (tmp_path / "code.jsonl").rename(tmp_path / "sub" / "moved.jsonl")
    plain["fine_tunes"][0]["data"] = "sub/moved.jsonl"
    assert [model.reference for model in expanded(plain, tmp_path)] == after


def test_cells_of_a_model_are_every_system_with_every_decoding(plain, tmp_path):
    study = study_from_mapping(plain, tmp_path)
    assert cells_of(study, "base") == tuple(
        Cell(
            model="base",
            system=system,
            decoding=Decoding(temperature=temperature, seed=seed),
            samples=3,
        )
        for system in ("none", "kind")
        for temperature in (0.0, 0.7)
        for seed in (0, 1)
    )
