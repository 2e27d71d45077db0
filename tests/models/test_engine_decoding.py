import json

import pytest

from aftertune.errors import ModelError
from aftertune.models.decoding import CheckpointDefaults
from aftertune.models.reference import vocabulary


def folder(tmp_path, own, **config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").write_text(json.dumps(own))
    return tmp_path


@pytest.mark.parametrize(
    "own",
    [
        {"repetition_penalty": -5},
        {"repetition_penalty": "high"},
        {"no_repeat_ngram_size": 1.5},
        {"bad_words_ids": [[]]},
        {"suppress_tokens": "all"},
        {"begin_suppress_tokens": [-1]},
    ],
)
def test_a_setting_that_cannot_be_obeyed_is_told_before_anything_is_asked(tmp_path, own):
    with pytest.raises(
        ModelError,
        match=rf"^model 'm': generation_config.json: {next(iter(own))} cannot be .*; mend it",
    ):
        CheckpointDefaults("m", folder(tmp_path, own), ())


@pytest.mark.parametrize("ends", ["x", [1, "x"], -1, True])
def test_an_end_token_is_a_number(tmp_path, ends):
    with pytest.raises(
        ModelError,
        match=r"^model 'm': eos_token_id is .*; it should be a token's number, or several$",
    ):
        CheckpointDefaults("m", folder(tmp_path, {"eos_token_id": ends}), (2,))


def test_sound_settings_are_taken(tmp_path):
    own = {
        "eos_token_id": [3, 1],
        "repetition_penalty": 1.1,
        "bad_words_ids": [[5]],
        "suppress_tokens": None,
    }
    defaults = CheckpointDefaults("m", folder(tmp_path, own, max_position_embeddings=64), (2,))
    assert defaults.end_tokens == [1, 2, 3]
    assert defaults.extra == {"repetition_penalty": 1.1, "bad_words_ids": [[5]]}
    assert defaults.context == 64


def test_the_vocabulary_is_the_language_models(tmp_path):
    assert vocabulary("m", folder(tmp_path, {}, text_config={"vocab_size": 7}, vocab_size=9)) == 7
    assert vocabulary("m", folder(tmp_path, {})) is None
