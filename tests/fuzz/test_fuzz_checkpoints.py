"""Checkpoints with a mutated file: opened, checked, asked and trained, they work or are one line."""

import shutil

import pytest
from fuzz_files import CHECKPOINT
from tiny_models import answers, make_checkpoint, user
from tiny_runs import make_recipe, make_rows

from aftertune.core.records import Decoding
from aftertune.models.open import Engines
from aftertune.train.train import fine_tune
from fuzz import Mutator, ended

FEW, MANY, TRAINED = 40, 1_000, 12
"""Cases of the suite, those of the slow test, and how many of the first go on to a training."""


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("valid") / "base", repetition_penalty=1.1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def mutated(valid, folder, number):
    """Copy a checkpoint with one of its files changed; return the file's name."""
    shutil.copytree(valid, folder)
    name = list(CHECKPOINT)[number % len(CHECKPOINT)]
    path = folder / name
    path.write_bytes(Mutator(number).file(path.read_bytes(), CHECKPOINT[name]))
    return name


def use(folder, out, *, train):
    with Engines(threads=1, device="cpu") as engines:
        engine = engines.open(str(folder))
        engine.check_ready()
        answers(engine, [user("bake", "a", "cake"), user("read")], Decoding(max_new_tokens=3))
        if train:
            recipe = make_recipe(folder, method="lora", epochs=1, max_length=32)
            fine_tune(recipe, make_rows(4), out, engines=engines)


def works_or_is_one_line(valid, tmp_path, number, *, train=False):
    name = mutated(valid, tmp_path / "model", number)
    error = ended(
        lambda: use(tmp_path / "model", tmp_path / "out", train=train), f"{name} {number}"
    )
    if error is not None:
        assert len(str(error)) < 600


@pytest.mark.parametrize("number", range(FEW))
def test_a_mutated_checkpoint_works_or_is_one_line(valid, tmp_path, number):
    works_or_is_one_line(valid, tmp_path, number, train=number < TRAINED)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_mutated_checkpoints_work_or_are_one_line(valid, tmp_path):
    for number in range(FEW, MANY):
        works_or_is_one_line(valid, tmp_path, number)
        shutil.rmtree(tmp_path / "model")
