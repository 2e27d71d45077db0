"""Checkpoints with a mutated file: opened, checked, asked and trained, they work or are one line."""

import shutil

import pytest
from tiny_models import answers, make_checkpoint, user
from tiny_runs import make_recipe, make_rows

from aftertune.core.records import Decoding
from aftertune.models.open import Engines
from aftertune.train.train import fine_tune
from fuzz import Mutator, ended

FILES = {
    "config.json": "json",
    "tokenizer_config.json": "json",
    "generation_config.json": "json",
    "tokenizer.json": "json",
    "chat_template.jinja": "text",
}
CASES, TRAINED = 40, 12
"""Cases of the suite, and how many of them go on to a training. 1,000 were run when the file was written."""


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("valid") / "base", repetition_penalty=1.1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def mutated(valid, folder, number):
    """Copy a checkpoint with one of its files changed; return the file's name."""
    shutil.copytree(valid, folder)
    name = list(FILES)[number % len(FILES)]
    path = folder / name
    path.write_bytes(Mutator(number).file(path.read_bytes(), FILES[name]))
    return name


def use(folder, out, *, train):
    with Engines(threads=1, device="cpu") as engines:
        engine = engines.open(str(folder))
        engine.check_ready()
        answers(engine, [user("bake", "a", "cake"), user("read")], Decoding(max_new_tokens=3))
        if train:
            recipe = make_recipe(folder, method="lora", epochs=1, max_length=32)
            fine_tune(recipe, make_rows(4), out, engines=engines)


@pytest.mark.parametrize("number", range(CASES))
def test_a_mutated_checkpoint_works_or_is_one_line(valid, tmp_path, number):
    name = mutated(valid, tmp_path / "model", number)
    train = number < TRAINED
    error = ended(
        lambda: use(tmp_path / "model", tmp_path / "out", train=train), f"{name} {number}"
    )
    if error is not None:
        assert len(str(error)) < 600
