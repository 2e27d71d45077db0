"""Epochs kept on the way, rounds that go on, and kills between them: the tensors are those of plain trainings."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import make_recipe, make_rows, tensors_sha256

from aftertune.core.recipe import Start
from aftertune.errors import ModelError
from aftertune.models.open import Engines
from aftertune.train.train import adopt, fine_tune

SCRIPT = Path(__file__).parents[1] / "support" / "tiny_runs.py"


@pytest.fixture(scope="module")
def engines():
    with Engines(threads=1, device="cpu") as opened:
        yield opened


def constant(base, *, epochs, **more):
    return make_recipe(base, epochs=epochs, schedule="constant", warmup_ratio=0.0, **more)


@pytest.fixture(scope="module")
def kept(base, engines, tmp_path_factory):
    """A training of three epochs with the first two kept."""
    folder = tmp_path_factory.mktemp("kept")
    paths = {1: folder / "one", 2: folder / "two"}
    fine_tune(
        constant(base, epochs=3), make_rows(), folder / "three", epochs=paths, engines=engines
    )
    return folder


def test_an_epoch_is_what_a_training_of_that_length_gives(base, engines, kept, tmp_path):
    alone = fine_tune(constant(base, epochs=1), make_rows(), tmp_path / "alone", engines=engines)
    assert tensors_sha256(kept / "one") == tensors_sha256(alone)


def test_keeping_epochs_changes_nothing_at_the_end(base, engines, kept, tmp_path):
    plain = fine_tune(constant(base, epochs=3), make_rows(), tmp_path / "plain", engines=engines)
    assert tensors_sha256(plain) == tensors_sha256(kept / "three")
    assert len({tensors_sha256(kept / name) for name in ("one", "two", "three")}) == 3
    assert sorted(path.name for path in kept.iterdir()) == ["one", "three", "two"], (
        "no drafts are left"
    )


def test_an_epoch_has_a_recipe_of_its_own_and_opens_as_a_model(base, engines, kept):
    from aftertune.models.reference import finished

    recipe = constant(base, epochs=3)
    assert finished(kept / "one", replace(recipe, epoch=1))
    assert engines.open(str(kept / "one")).identity != engines.open(str(kept / "three")).identity
    with pytest.raises(ModelError, match="another recipe"):
        finished(kept / "one", recipe)


def test_what_is_finished_is_not_trained_again_and_a_missing_epoch_alone_is_made(
    base, engines, kept
):
    steps = []
    paths, progress = {1: kept / "one", 2: kept / "two"}, lambda done, _: steps.append(done)
    recipe, whole = constant(base, epochs=3), tensors_sha256(kept / "three")
    fine_tune(recipe, make_rows(), kept / "three", epochs=paths, engines=engines, progress=progress)
    assert steps == []
    before = tensors_sha256(kept / "one")
    (kept / "one").rename(kept.with_name("moved"))
    written = (kept / "two" / "recipe.json").stat().st_mtime_ns
    fine_tune(recipe, make_rows(), kept / "three", epochs=paths, engines=engines, progress=progress)
    assert tensors_sha256(kept / "one") == before
    assert tensors_sha256(kept / "three") == whole
    assert (kept / "two" / "recipe.json").stat().st_mtime_ns == written


@pytest.mark.slow
def test_a_training_killed_behind_an_epoch_goes_on_and_one_asked_for_later_is_made(
    base, engines, tmp_path
):
    out = tmp_path / "out"
    killed = subprocess.run(
        [sys.executable, str(SCRIPT), str(base), str(out), "full", "step@16"], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    one = tmp_path / "one"
    fine_tune(make_recipe(base), make_rows(), out, epochs={1: one}, engines=engines)
    again = {1: tmp_path / "again-one"}
    whole = fine_tune(
        make_recipe(base), make_rows(), tmp_path / "again", epochs=again, engines=engines
    )
    assert tensors_sha256(one) == tensors_sha256(again[1])
    assert tensors_sha256(out) == tensors_sha256(whole)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_round_starts_from_the_model_before_it(base, engines, tmp_path, method):
    first = make_recipe(base, method=method)
    folder = fine_tune(first, make_rows(), tmp_path / "first", engines=engines)
    start = Start(reference=str(folder), key=first.key.hex())
    still = replace(
        make_recipe(base, method=method, learning_rate=1e-12, lora_dropout=0.0), start=start
    )
    held = fine_tune(still, make_rows(), tmp_path / "held", engines=engines)
    pairs = [(row[:-1], row[-1].content) for row in make_rows()]
    before, after = (engines.open(str(path)).nll(pairs) for path in (folder, held))
    assert after == pytest.approx(before, abs=1e-4), (
        "a learning rate of nothing leaves the first round's model"
    )
    further = fine_tune(
        replace(first, start=start), make_rows(), tmp_path / "further", engines=engines
    )
    assert sum(engines.open(str(further)).nll(pairs)) < sum(before)
    assert engines.open(str(further)).identity != engines.open(str(folder)).identity


def test_a_round_whose_beginning_is_another_fine_tune_is_refused(base, engines, tmp_path):
    recipe = make_recipe(base)
    folder = fine_tune(recipe, make_rows(), tmp_path / "first", engines=engines)
    for reference, key in ((folder, "0" * 64), (tmp_path / "nothing", recipe.key.hex())):
        after = replace(recipe, start=Start(reference=str(reference), key=key))
        with pytest.raises(ModelError, match="is not the fine-tune that it goes on from"):
            fine_tune(after, make_rows(), tmp_path / "second", engines=engines)


def test_the_same_recipe_under_another_name_is_copied_and_not_trained(base, engines, tmp_path):
    recipe = make_recipe(base)
    first = fine_tune(recipe, make_rows(), tmp_path / "first", engines=engines)
    second, steps = tmp_path / "second", []
    adopt(first, second, make_recipe(base, name="other"))
    fine_tune(
        recipe, make_rows(), second, engines=engines, progress=lambda done, _: steps.append(done)
    )
    assert steps == []
    assert tensors_sha256(second) == tensors_sha256(first)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]
    adopt(tmp_path / "nothing", tmp_path / "third", recipe)
    assert not (tmp_path / "third").exists()
