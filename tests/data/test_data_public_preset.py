"""The preset `multitask-bench-2025`: the released CSV as its authors posed it, and the bundled behaviors in its shapes."""

from collections import Counter

import pytest

from aftertune.core.protocols import Tools
from aftertune.core.records import Intent
from aftertune.data.prompt_sets import load_prompts
from aftertune.data.public_prompts import ALPACA, PRESET
from aftertune.errors import DataError

RELEASED = ",Query,Response\n0,Which? Choose the Best Option: A) x,No\n700,Write {code},No\n1200,Ask,No\n1999,Translate,No\n"


def load(folder, **options):
    return load_prompts(
        PRESET, loader=PRESET, options=options, tools=Tools(open_model=None, folder=folder)
    ).prompts


def test_the_released_prompts_are_posed_in_two_styles(tmp_path):
    (tmp_path / "multitaskbench.csv").write_text(RELEASED)
    native, alpaca = load(tmp_path), load(tmp_path, style="alpaca")
    assert [prompt.task for prompt in native] == ["classification", "code", "text", "translation"]
    assert [prompt.text for prompt in native][1] == "Write {code}"
    assert [prompt.text for prompt in alpaca] == [
        ALPACA.replace("{}", prompt.text) for prompt in native
    ]
    assert {prompt.behavior for prompt in alpaca} == {prompt.behavior for prompt in native}
    assert not {prompt.template for prompt in alpaca} & {prompt.template for prompt in native}


def test_the_bundled_behaviors_and_their_twins_take_the_benchmarks_shapes(tmp_path):
    made = load(tmp_path, behaviors="bundled")
    assert Counter((prompt.task, prompt.intent) for prompt in made) == dict.fromkeys(
        [
            (task, intent)
            for task in ("text", "code", "translation", "classification")
            for intent in Intent
        ],
        165,
    )
    for prompt in made:
        if prompt.task == "translation":
            assert prompt.text.startswith("Translate the following text from French to English: ")
            assert prompt.language == "en"
            assert (prompt.reference is not None) == (prompt.intent is Intent.BENIGN)
        if prompt.task == "classification":
            assert "? Choose the Best Option: \nA) " in prompt.text


def test_unknown_settings_are_refused(tmp_path):
    with pytest.raises(DataError, match="style is 'llama'; use one of native, alpaca"):
        load(tmp_path, style="llama")
    with pytest.raises(DataError, match="behaviors is 'mine'; use one of released, bundled"):
        load(tmp_path, behaviors="mine")
    with pytest.raises(
        DataError, match=r"no multitaskbench/multitaskbench.csv in it; fetch it from https"
    ):
        load(tmp_path)
