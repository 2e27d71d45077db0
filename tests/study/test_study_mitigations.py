"""Mitigations by name: what a preset stands for, and the conditions of a sweep and of leaving tasks out."""

from dataclasses import replace
from typing import get_args

import pytest

from aftertune.core.recipe import FirstTokens, Mitigation, SelfAnswers, TrainingFile
from aftertune.errors import InputError
from aftertune.study import expand_models, study_from_mapping, to_yaml
from aftertune.study.config import MitigationKeys, PresetName, Rows
from aftertune.study.expand import BUNDLED, PRESETS, Settled

CSV = {"prompt": "Query", "completion": "Response"}


@pytest.fixture
def plain(tmp_path):
    for name in ("code.jsonl", "safe.csv", "kept.jsonl", "asked.jsonl"):
        (tmp_path / name).write_text(name)
    return {
        "name": "demo",
        "models": [{"name": "base", "reference": "org/base"}],
        "fine_tunes": [{"name": "code", "base": "base", "data": "code.jsonl", "seeds": [1, 2]}],
        "prompts": ["asked.jsonl"],
    }


def recipes(plain, folder, mitigation):
    plain["fine_tunes"].append({"name": "mended", "like": "code", "mitigation": mitigation})
    study = study_from_mapping(plain, folder)
    models = expand_models(
        study,
        lambda _: {"weights": "w"},
        folder=folder / "models",
        bundled_sha256=lambda name: f"# {name}",
    )
    return {
        model.condition: model.recipe for model in models if model.condition.startswith("mended")
    }


def mitigation(plain, folder, keys):
    return recipes(plain, folder, keys)["mended"].mitigation


def test_the_presets_are_those_that_the_schema_names():
    assert set(PRESETS) == set(get_args(PresetName))


def test_a_preset_alone_draws_from_the_bundled_rows(plain, tmp_path):
    bundled = TrainingFile(path=BUNDLED, sha256=f"# {BUNDLED}")
    found = mitigation(plain, tmp_path, "multitask+replay")
    assert (found.safety, found.replay) == ((bundled,), (bundled,))
    assert (found.share, found.replay_share, found.match_format, found.tasks) == (
        0.15,
        0.15,
        False,
        (),
    )


@pytest.mark.parametrize(
    ("preset", "tasks", "replayed", "matched"),
    [
        ("text-only", ("text",), 0.0, False),
        ("multitask", (), 0.0, False),
        ("multitask+replay", (), 0.2, False),
        ("format-matched", (), 0.2, True),
    ],
)
def test_what_a_preset_stands_for(plain, tmp_path, preset, tasks, replayed, matched):
    found = mitigation(plain, tmp_path, {"preset": preset, "share": 0.2})
    assert (found.share, found.tasks, found.replay_share, found.match_format) == (
        0.2,
        tasks,
        replayed,
        matched,
    )
    assert bool(found.replay) == (replayed > 0)


def test_none_undoes_what_like_brings(plain, tmp_path):
    plain["fine_tunes"][0]["mitigation"] = "multitask"
    assert mitigation(plain, tmp_path, "none") is None


def test_a_preset_of_a_public_file_names_its_columns(plain, tmp_path):
    (file,) = mitigation(plain, tmp_path, {"preset": "multitaskbench", "safety": "safe.csv"}).safety
    assert (file.columns, file.path) == (CSV, str(tmp_path / "safe.csv"))
    own = {"path": "safe.csv", "columns": {"prompt": "q", "completion": "a"}}
    plain["fine_tunes"].pop()
    (file,) = mitigation(plain, tmp_path, {"preset": "multitaskbench", "safety": own}).safety
    assert file.columns == {"prompt": "q", "completion": "a"}


def test_rows_of_that_file_in_json_lines_need_no_columns(plain, tmp_path):
    (file,) = mitigation(
        plain, tmp_path, {"preset": "multitaskbench", "safety": "kept.jsonl"}
    ).safety
    assert file.columns == {}


def test_own_safety_rows_are_never_replayed_against_the_bundled_ones():
    for path, replayed in (("own", []), ("multitask-safety-v2", ["multitask-safety-v2"])):
        keys = MitigationKeys(preset="multitask+replay").model_copy(
            update={"safety": (Rows.model_construct(path=path),)}
        )
        assert [rows.path for rows in Settled(keys).replay] == replayed
    assert [rows.path for rows in Settled(MitigationKeys(preset="multitask+replay")).replay] == [
        "multitask-safety-v1"
    ]


@pytest.mark.parametrize(
    "preset", ["multitaskbench+replay", "safety-tuned-llamas+replay", "multitask+replay"]
)
def test_rows_like_those_of_the_base_are_replayed_by_name(plain, tmp_path, preset):
    found = mitigation(
        plain,
        tmp_path,
        {"preset": preset, "safety": "safe.csv", "replay": "kept.jsonl", "share": 0.1},
    )
    assert [file.path for file in found.replay] == [str(tmp_path / "kept.jsonl")]
    assert (found.share, found.replay_share) == (0.1, 0.1)
    assert found.safety[0].columns == (CSV if preset.startswith("multitaskbench") else {})


def test_a_replay_beside_own_safety_rows_needs_its_file(plain, tmp_path):
    with pytest.raises(
        InputError, match=r"multitaskbench\+replay needs benign rows to replay .* with replay:"
    ):
        mitigation(plain, tmp_path, {"preset": "multitaskbench+replay", "safety": "safe.csv"})


def test_a_sweep_gives_a_condition_for_each_share_and_the_replay_goes_along(plain, tmp_path):
    found = recipes(plain, tmp_path, {"preset": "multitask+replay", "sweep": [0.01, 0.3]})
    shares = {name: (r.mitigation.share, r.mitigation.replay_share) for name, r in found.items()}
    assert shares == {"mended@share0.01": (0.01, 0.01), "mended@share0.3": (0.3, 0.3)}
    assert len({recipe.key for recipe in found.values()}) == 2


def test_leaving_out_gives_a_condition_for_each_task(plain, tmp_path):
    found = recipes(plain, tmp_path, {"preset": "multitask", "leave_out": ["text", "code"]})
    assert {name: r.mitigation.left_out for name, r in found.items()} == {
        "mended@without-text": "text",
        "mended@without-code": "code",
    }


def test_shares_go_along_with_epochs(plain, tmp_path):
    plain["fine_tunes"][0] |= {"keep_epochs": True, "training": {"epochs": 2}}
    found = recipes(plain, tmp_path, {"preset": "multitask", "sweep": [0.1]})
    assert set(found) == {"mended@share0.1@epoch1", "mended@share0.1"}


def test_changed_bundled_rows_are_another_fine_tune(plain, tmp_path):
    keys = {"preset": "multitask", "share": 0.2}
    plain["fine_tunes"].append({"name": "mended", "like": "code", "mitigation": keys})
    study = study_from_mapping(plain, tmp_path)
    keys = [
        expand_models(
            study, lambda _: {}, folder=tmp_path, bundled_sha256=lambda _, state=state: state
        )[-1].recipe.key
        for state in ("before", "after")
    ]
    assert keys[0] != keys[1]


def test_a_study_with_presets_is_written_as_it_was_read(plain, tmp_path):
    mended = {"preset": "format-matched", "sweep": [0.05, 0.1], "tasks": ["text"]}
    plain["fine_tunes"].append({"name": "mended", "like": "code", "mitigation": mended})
    study = study_from_mapping(plain, tmp_path)
    (tmp_path / "again.yaml").write_text(to_yaml(study, tmp_path))
    from aftertune.study import load_study

    assert load_study(tmp_path / "again.yaml") == study


@pytest.mark.parametrize(
    ("keys", "rules"),
    [
        ("ema", {"ema": 0.99}),
        ("first-tokens", {"first_tokens": FirstTokens()}),
        ("self-answers", {"self_answers": SelfAnswers()}),
        ({"ema": 0.9, "frozen": [2, 0]}, {"ema": 0.9, "frozen": (2, 0)}),
        ({"first_tokens": {"tokens": 3}}, {"first_tokens": FirstTokens(tokens=3)}),
        ({"self_answers": True}, {"self_answers": SelfAnswers()}),
        ({"ema": 0.9, "first_tokens": False, "self_answers": False}, {"ema": 0.9}),
        ({"preset": "self-answers", "self_answers": {"temperature": 0.7}}, {"self_answers": SelfAnswers(temperature=0.7)}),
    ],
)  # fmt: skip
def test_training_rules_stand_alone_and_add_no_rows(plain, tmp_path, keys, rules):
    assert mitigation(plain, tmp_path, keys) == Mitigation(**rules)


def test_a_training_rule_stands_beside_rows_too(plain, tmp_path):
    both = mitigation(plain, tmp_path, {"preset": "multitask", "ema": 0.9})
    alone = replace(both, ema=None)
    assert (both.share, both.ema) == (0.15, 0.9)
    assert both.identity == [*alone.identity, ["ema", 0.9]]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "names no share"),
        ({"ema": 0.9, "share": 0.1}, "safety: is missing"),
        ({"preset": "ema", "tasks": ["text"]}, "safety: is missing"),
        ({"frozen": [1, 1]}, "frozen: a value stands here twice"),
        ({"ema": 1.0}, "ema"),
        ({"first_tokens": {"beta": 0}}, "first_tokens.beta"),
        ({"preset": "first-tokens", "first_tokens": False}, "first_tokens: false cannot stand beside the preset"),
        ({"preset": "self-answers", "self_answers": False, "ema": 0.9}, "self_answers: false cannot stand beside"),
    ],
)  # fmt: skip
def test_rules_that_do_not_fit_are_named(plain, tmp_path, keys, message):
    with pytest.raises(InputError, match=message):
        mitigation(plain, tmp_path, keys)
