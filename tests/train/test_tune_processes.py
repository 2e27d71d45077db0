"""Trainings that `accelerate launch` shares among processes: the weights of one process, written once, killed and resumed."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Commands
from tiny_models import llama, make_checkpoint
from tiny_runs import make_recipe, make_rows, tensors_sha256

from aftertune.core.files import claim, draft_of
from aftertune.core.recipe import Training
from aftertune.data.rows import write_rows
from aftertune.errors import InputError
from aftertune.models.open import Engines
from aftertune.models.size import LARGE_VOCABULARY
from aftertune.train.processes import ALONE, Processes, launched
from aftertune.train.tokens import rows_sha256
from aftertune.train.train import fine_tune

SCRIPT = Path(__file__).parents[1] / "support" / "tiny_runs.py"
TWO = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0"


@pytest.fixture
def command(monkeypatch, capfd):
    return Commands(monkeypatch, capfd)


def launch(*arguments):
    """Run a program as two processes on CPUs."""
    command = [sys.executable, "-m", "accelerate.commands.launch", *TWO.split()]
    return subprocess.run(
        [*command, *map(str, arguments)], check=False, capture_output=True, text=True
    )


def tensors(folder):
    from safetensors.torch import load_file

    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def furthest(first, second):
    """Return the largest difference between the tensors of two folders."""
    one, other = tensors(first), tensors(second)
    assert one.keys() == other.keys()
    return max((tensor - other[name]).abs().max().item() for name, tensor in one.items())


def test_two_processes_train_the_weights_of_one_and_tell_it_once(base, tmp_path, command):
    write_rows(make_rows(), tmp_path / "rows.jsonl")
    asked = ("tune", base, tmp_path / "rows.jsonl", "--method", "full", "--threads", 1)
    asked += ("--epochs", 2, "--batch-size", 4, "--learning-rate", 0.01, "--out")
    assert command(*asked, tmp_path / "one")[0] == 0
    two = launch("-m", "aftertune", *asked, tmp_path / "two")
    assert two.returncode == 0, two.stderr
    trained = furthest(tmp_path / "one", base)
    assert furthest(tmp_path / "one", tmp_path / "two") < 1e-3 * trained
    assert (two.stderr + two.stdout).count("full fine-tune of") == 1
    assert (two.stderr + two.stdout).count("next: ") == 1
    one, record = (
        json.loads((tmp_path / name / "recipe.json").read_text()) for name in ("one", "two")
    )
    assert record.pop("processes") == 2
    assert (record["key"], record["rows"]) == (one["key"], one["rows"])
    assert not (tmp_path / "two.partial").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_loss_curve_is_that_of_one_process(base, tmp_path, method):
    """The last of the weights after each epoch are compared too, by what they make of the rows."""
    recipe, rows = make_recipe(base, method=method, epochs=4, lora_dropout=0.0), make_rows()
    ended = launch(SCRIPT, base, tmp_path / "two", method, "epochs")
    assert ended.returncode == 0, ended.stderr
    with Engines(threads=1, device="cpu") as engines:
        kept = {epoch: tmp_path / f"one-{epoch}" for epoch in (1, 2, 3)}
        fine_tune(recipe, rows, tmp_path / "one", epochs=kept, engines=engines)
        pairs = [(row[:-1], row[-1].content) for row in rows]
        curves = {
            count: [
                sum(engines.open(str(tmp_path / folder)).nll(pairs))
                for folder in (*(f"{count}-{epoch}" for epoch in kept), count)
            ]
            for count in ("one", "two")
        }
    assert curves["one"][0] > 1.1 * curves["one"][-1]
    assert curves["two"] == pytest.approx(curves["one"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "dies"), [("full", "0"), ("full", "1"), ("full", "all"), ("lora", "1")]
)
def test_a_training_of_which_a_process_was_killed_ends_with_the_same_tensors(
    base, tmp_path, method, dies
):
    unkilled = launch(SCRIPT, base, tmp_path / "unkilled", method, "never")
    assert unkilled.returncode == 0, unkilled.stderr
    killed = launch(SCRIPT, base, tmp_path / "out", method, f"step@16@{dies}")
    assert killed.returncode != 0
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.partial" / "checkpoint-12" / "complete").exists()
    assert launch(SCRIPT, base, tmp_path / "out", method, "never").returncode == 0
    assert tensors_sha256(tmp_path / "out") == tensors_sha256(tmp_path / "unkilled")
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.slow
def test_a_large_vocabulary_and_averaged_weights_are_shared_too(tmp_path):
    base = make_checkpoint(
        tmp_path / "base",
        build=lambda size, **shape: llama({**size, "vocab_size": LARGE_VOCABULARY}, **shape),
    )
    with Engines(threads=1, device="cpu") as engines:
        one = fine_tune(
            make_recipe(base, rules="ema"), make_rows(), tmp_path / "one", engines=engines
        )
    ended = launch(SCRIPT, base, tmp_path / "two", "full", "never", "ema")
    assert ended.returncode == 0, ended.stderr
    assert furthest(one, tmp_path / "two") < 1e-3 * furthest(one, base)


@pytest.mark.slow
def test_a_stop_of_one_process_stops_both_after_the_same_step(base, tmp_path):
    stopped = launch(SCRIPT, base, tmp_path / "out", "full", "stop@9@1")
    assert stopped.returncode != 0
    assert "step 9 of 24" in stopped.stderr
    assert (tmp_path / "out.partial" / "checkpoint-9" / "complete").exists()
    assert launch(SCRIPT, base, tmp_path / "out", "full", "never").returncode == 0
    assert (tmp_path / "out" / "recipe.json").exists()


@pytest.mark.slow
def test_a_process_that_is_lost_behind_the_last_step_is_an_error_of_the_others(base, tmp_path):
    """A file stands where the first process would write the result; no launcher ends the second one."""
    out, recipe = tmp_path / "out", make_recipe(base)
    claim(draft_of(out), f"{recipe.key.hex()} {rows_sha256(make_rows())}")
    (draft_of(out) / "final").write_text("in the way")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, base, out, "full", "never"],
            env={**os.environ, **shared, "RANK": number, "LOCAL_RANK": number},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in ("0", "1")
    ]
    first, second = (process.communicate()[1] for process in processes)
    assert "EngineError: recipe 'tiny': its checkpoint cannot be written" in first
    assert "EngineError: recipe 'tiny': a process of the training was lost" in second
    assert [process.returncode for process in processes] == [1, 1]


@pytest.mark.parametrize(
    ("batch", "accumulation", "shares"),
    [(8, 1, (2, 1)), (8, 3, (2, 3)), (6, 4, (6, 1)), (6, 1, None), (1, 1, None)],
)
def test_a_step_has_the_same_rows_however_many_processes_share_it(batch, accumulation, shares):
    training = Training(batch_size=batch, gradient_accumulation=accumulation)
    assert ALONE.shares(training) == (batch, accumulation)
    if shares is None:
        with pytest.raises(InputError, match=f"{batch} rows a step cannot be shared by 4"):
            Processes(0, 4).shares(training)
    else:
        assert Processes(3, 4).shares(training) == shares


@pytest.mark.parametrize(
    ("variables", "processes"),
    [
        ({}, ALONE),
        ({"WORLD_SIZE": "1", "RANK": "0"}, ALONE),
        ({"WORLD_SIZE": "4", "RANK": "3"}, Processes(3, 4)),
        ({"WORLD_SIZE": "two"}, ALONE),
    ],
)
def test_a_launcher_says_how_many_processes_there_are(variables, processes):
    assert launched(variables) == processes


@pytest.mark.parametrize("spread", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_weights_that_are_spread_over_processes_are_refused_at_once(
    base, tmp_path, command, monkeypatch, spread
):
    variables = {"WORLD_SIZE": "2", "RANK": "0", f"ACCELERATE_USE_{spread}": "true"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    line = command.refused("tune", base, tmp_path / "none.jsonl", "--out", tmp_path / "out")
    assert "every process holds the model" in line
