"""kill -9 at the worst moments, then the same command again: the tensors are those of a run that nobody killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import make_recipe, make_rows, tensors_sha256

from aftertune.core.files import draft_of
from aftertune.models.open import Engines
from aftertune.train.stage import stop_after_step
from aftertune.train.train import TrainingStopped, fine_tune, newest_checkpoint

SCRIPT = Path(__file__).parents[1] / "support" / "tiny_runs.py"
MOMENTS = {
    "before any checkpoint": "step@3",
    "between two checkpoints": "step@16",
    "while the first checkpoint is written": "optimizer.pt@1",
    "while a later checkpoint is written": "optimizer.pt@3",
}


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], check=False, capture_output=True
    )


@pytest.fixture(scope="module")
def unkilled(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unkilled")
    with Engines(threads=1, device="cpu") as engines:
        return {
            method: tensors_sha256(
                fine_tune(
                    make_recipe(base, method=method), make_rows(), folder / method, engines=engines
                )
            )
            for method in ("full", "lora")
        }


@pytest.mark.parametrize(
    ("method", "moment"),
    [
        ("full", "while a later checkpoint is written"),
        pytest.param("full", "before any checkpoint", marks=pytest.mark.slow),
        pytest.param("full", "between two checkpoints", marks=pytest.mark.slow),
        pytest.param("full", "while the first checkpoint is written", marks=pytest.mark.slow),
        pytest.param("lora", "between two checkpoints", marks=pytest.mark.slow),
        pytest.param("lora", "while a later checkpoint is written", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_ends_with_the_same_tensors(base, tmp_path, unkilled, method, moment):
    out = tmp_path / "out"
    killed = run(base, out, method, MOMENTS[moment])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()
    steps = []
    with Engines(threads=1, device="cpu") as engines:
        fine_tune(
            make_recipe(base, method=method),
            make_rows(),
            out,
            engines=engines,
            progress=lambda done, _: steps.append(done),
        )
    assert tensors_sha256(out) == unkilled[method]
    assert not out.with_name("out.partial").exists()
    resumed_at = {"step@3": 0, "step@16": 12, "optimizer.pt@1": 0, "optimizer.pt@3": 12}
    assert steps[0] == resumed_at[MOMENTS[moment]]


def test_only_complete_checkpoints_of_the_same_recipe_are_kept(tmp_path):
    folder = tmp_path / "out.partial"
    assert newest_checkpoint(folder, "key") is None
    for step in (6, 12, 100):
        (folder / f"checkpoint-{step}").mkdir()
    (folder / "checkpoint-6" / "complete").touch()
    (folder / "checkpoint-12" / "complete").touch()
    assert newest_checkpoint(folder, "key") == folder / "checkpoint-12"
    assert not (folder / "checkpoint-100").exists()
    assert newest_checkpoint(folder, "another key") is None
    assert not (folder / "checkpoint-12").exists()


def test_a_training_that_is_stopped_keeps_the_step_and_ends_with_the_same_tensors(
    base, tmp_path, unkilled
):
    out, notes = tmp_path / "out", []
    handler = signal.getsignal(signal.SIGINT)

    def press(step, _):
        if step == 9:
            signal.raise_signal(signal.SIGINT)
        return stopping.is_set()

    with Engines(threads=1, device="cpu") as engines:
        with (
            pytest.raises(TrainingStopped, match="step 9 of 24") as stop,
            stop_after_step(notes.append) as stopping,
        ):
            fine_tune(make_recipe(base), make_rows(), out, engines=engines, progress=press)
        assert (stop.value.exit_code, len(notes)) == (5, 1)
        assert (draft_of(out) / "checkpoint-9" / "complete").exists()
        steps = []
        fine_tune(
            make_recipe(base),
            make_rows(),
            out,
            engines=engines,
            progress=lambda step, _: steps.append(step),
        )
    assert steps[0] == 9
    assert tensors_sha256(out) == unkilled["full"]
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("presses", [1, 2, 3])
def test_ctrl_c_outside_of_a_step_and_a_second_one_stop_at_once(presses):
    """The first behind the last step comes at the end of the block; the second one comes where it is pressed."""
    heeded = []

    def pressed():
        with stop_after_step(heeded.append):
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)
                heeded.append("went on")

    with pytest.raises(KeyboardInterrupt):
        pressed()
    assert heeded[1:] == ["went on"]
