"""Epochs, rounds and doses: which conditions they are, what decides their recipes, and what is refused."""

from pathlib import Path

import pytest

from aftertune.errors import StudyError
from aftertune.study import declared, expand_models, study_from_mapping

CODE = {
    "name": "code",
    "base": "base",
    "data": "code.jsonl",
    "seeds": [1, 2],
    "training": {"epochs": 3},
}


def study(folder, *fine_tunes, **more):
    for name in ("code.jsonl", "text.jsonl", "asked.jsonl"):
        (folder / name).write_text(name)
    return study_from_mapping(
        {
            "name": "demo",
            "models": [
                {
                    "name": "base",
                    "reference": "org/base",
                    "attributes": {"family": "llama", "size": "8B"},
                }
            ],
            "fine_tunes": list(fine_tunes),
            "prompts": ["asked.jsonl"],
            **more,
        },
        folder,
    )


def recipes(folder, *fine_tunes):
    models = expand_models(
        study(folder, *fine_tunes), lambda _: {"weights": "w"}, folder=Path("models")
    )
    return {model.name: model.recipe for model in models if model.recipe is not None}


def test_epochs_are_states_of_one_training_and_the_last_one_has_the_plain_name(tmp_path):
    kept = recipes(tmp_path, CODE | {"keep_epochs": True})
    assert list(kept) == [
        f"{name}/seed{seed}" for name in ("code@epoch1", "code@epoch2", "code") for seed in (1, 2)
    ]
    plain = recipes(tmp_path, CODE)
    assert kept["code/seed1"].key == plain["code/seed1"].key, (
        "keeping epochs changes nothing about the end"
    )
    assert len({recipe.key for recipe in kept.values()}) == 6
    assert [recipe.epoch for recipe in kept.values()] == [1, 1, 2, 2, None, None]


def test_a_round_goes_on_from_the_round_before_with_the_same_seed(tmp_path):
    found = recipes(tmp_path, CODE | {"rounds": ["text.jsonl", ["code.jsonl", "text.jsonl"]]})
    assert list(found) == [
        f"code@round{number}/seed{seed}" for number in (1, 2, 3) for seed in (1, 2)
    ]
    first, second, third = (found[f"code@round{number}/seed2"] for number in (1, 2, 3))
    assert first.start is None
    assert second.start.key == first.key.hex()
    assert third.start.key == second.key.hex()
    assert [Path(file.path).name for file in third.data] == ["code.jsonl", "text.jsonl"]
    other = recipes(tmp_path, CODE | {"training": {"epochs": 2}, "rounds": ["text.jsonl"]})
    assert other["code@round2/seed2"].key != second.key, "what came before decides what comes after"


def test_doses_are_every_combination(tmp_path):
    doses = {"learning_rate": [1e-4, 1e-3], "rows": [10, 100]}
    found = recipes(tmp_path, CODE | {"seeds": [1], "doses": doses})
    assert list(found) == [
        f"code@lr{rate}-rows{rows}/seed1" for rate in ("0.0001", "0.001") for rows in (10, 100)
    ]
    assert found["code@lr0.001-rows10/seed1"].training.learning_rate == 1e-3
    assert found["code@lr0.001-rows10/seed1"].data[0].limit == 10
    assert found["code@lr0.001-rows10/seed1"].training.epochs == 3


def test_what_is_declared_of_a_condition(tmp_path):
    said = declared(study(tmp_path, CODE | {"keep_epochs": True}, CODE | {"name": "plain"}))
    assert said["base"].attributes == {"family": "llama", "size": "8B"}
    assert said["code@epoch1"].series == said["code"].series == "code"
    assert said["code"].factors == {"epoch": 3}
    assert said["plain"].series == ""
    assert said["plain"].attributes == said["base"].attributes


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"keep_epochs": True, "rounds": ["text.jsonl"]},
            "keep_epochs and rounds cannot stand in one fine-tune",
        ),
        (
            {"keep_epochs": True, "training": {"epochs": 1.5}},
            "needs a whole number of epochs from 2 up",
        ),
        ({"rounds": ["text.jsonl"], "method": "qlora"}, "use method lora or full"),
        ({"doses": {}}, "names no doses"),
        ({"doses": {"rows": [5, 5]}}, "a value stands here twice"),
        ({"doses": {"rows": [0]}}, "found 0"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, keys, message):
    with pytest.raises(StudyError, match=message) as refused:
        study(tmp_path, CODE | keys)
    assert "\n" not in str(refused.value)


def test_epochs_without_one_task_are_a_series_of_their_own(tmp_path):
    mitigation = {"preset": "multitask", "leave_out": ["text", "code"]}
    found = declared(study(tmp_path, CODE | {"keep_epochs": True, "mitigation": mitigation}))
    series = {found[name].series for name in ("code@without-text@epoch1", "code@without-text")}
    assert series == {"code@without-text"}
    assert found["code@without-code"].series == "code@without-code"


@pytest.mark.parametrize(
    ("measurement", "metrics", "message"),
    [
        ({"margins": {"exact": 0.1}}, [], "no metric is called 'exact'"),
        (
            {"margins": {"corpus": 0.1}},
            [{"name": "corpus", "use": "bleu"}],
            "scores a whole corpus",
        ),
        ({"over_refusal_sets": ["xstest"]}, [], "no prompts are called 'xstest'"),
    ],
)
def test_margins_that_nothing_goes_with_are_refused_with_the_study(
    tmp_path, measurement, metrics, message
):
    with pytest.raises(StudyError, match=message):
        study(tmp_path, CODE, measurement=measurement, metrics=metrics)
