"""Trainings that `accelerate launch` shares among processes: the weights of one process, written once, killed and resumed.

The processes hold all weights each (DDP), or shards of them (FSDP).
"""

import json
import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from commands import Commands
from quantised import block_fp8
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
ALIKE = "--num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0"
LAYOUTS = {"ddp": "--multi_gpu", "fsdp": "--use_fsdp --fsdp_version 2"}


@pytest.fixture
def command(monkeypatch, capfd):
    return Commands(monkeypatch, capfd)


def launch(*arguments, layout="ddp", count=2):
    """Run a program as several processes on CPUs."""
    options = f"{LAYOUTS[layout]} --num_processes {count} {ALIKE}".split()
    command = [sys.executable, "-m", "accelerate.commands.launch", *options]
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
    trained = furthest(tmp_path / "one", base)
    for layout in LAYOUTS:
        out = tmp_path / layout
        two = launch("-m", "aftertune", *asked, out, layout=layout)
        assert two.returncode == 0, two.stderr
        assert furthest(tmp_path / "one", out) < 1e-3 * trained
        assert (two.stderr + two.stdout).count("full fine-tune of") == 1
        assert (two.stderr + two.stdout).count("next: ") == 1
        one, record = (
            json.loads((folder / "recipe.json").read_text()) for folder in (tmp_path / "one", out)
        )
        assert record.pop("processes") == 2
        assert record.get("sharded", False) == (layout == "fsdp")
        assert (record["key"], record["rows"]) == (one["key"], one["rows"])
        assert not out.with_name(f"{layout}.partial").exists()
        files = [{file.name for file in folder.iterdir()} for folder in (tmp_path / "one", out)]
        assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_loss_curve_is_that_of_one_process(base, tmp_path, method, layout):
    """The weights after each epoch are compared by what they make of the rows, and the norms that gradients are clipped by."""
    rows = make_rows()
    subprocess.run([sys.executable, SCRIPT, base, tmp_path / "one", method, "epochs"], check=True)
    ended = launch(SCRIPT, base, tmp_path / "two", method, "epochs", layout=layout)
    assert ended.returncode == 0, ended.stderr
    with Engines(threads=1, device="cpu") as engines:
        pairs = [(row[:-1], row[-1].content) for row in rows]
        curves = {
            count: [
                sum(engines.open(str(tmp_path / folder)).nll(pairs))
                for folder in (*(f"{count}-{epoch}" for epoch in (1, 2, 3)), count)
            ]
            for count in ("one", "two")
        }
    assert curves["one"][0] > 1.1 * curves["one"][-1]
    assert curves["two"] == pytest.approx(curves["one"], rel=1e-3)
    norms, *shared = (
        json.loads((tmp_path / name).read_text())
        for name in ("one-norms-0", "two-norms-0", "two-norms-1")
    )
    assert len(norms) == 48
    for of_process in shared:
        assert of_process == pytest.approx(norms, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "method", "dies"),
    [
        *(("ddp", "full", dies) for dies in ("0", "1", "all")),
        ("ddp", "lora", "1"),
        *(("fsdp", "full", dies) for dies in ("0", "all")),
        ("fsdp", "lora", "1"),
    ],
)
def test_a_training_of_which_a_process_was_killed_ends_with_the_same_tensors(
    base, tmp_path, layout, method, dies
):
    unkilled = launch(SCRIPT, base, tmp_path / "unkilled", method, "never", layout=layout)
    assert unkilled.returncode == 0, unkilled.stderr
    killed = launch(SCRIPT, base, tmp_path / "out", method, f"step@16@{dies}", layout=layout)
    assert killed.returncode != 0
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.partial" / "checkpoint-12" / "complete").exists()
    resumed = launch(SCRIPT, base, tmp_path / "out", method, "never", layout=layout)
    assert resumed.returncode == 0, resumed.stderr
    assert tensors_sha256(tmp_path / "out") == tensors_sha256(tmp_path / "unkilled")
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.slow
def test_a_step_checkpoint_of_shards_goes_on_with_more_shards_and_with_nothing_else(base, tmp_path):
    whole = fine_tune(make_recipe(base), make_rows(), tmp_path / "whole")
    out = tmp_path / "out"
    assert launch(SCRIPT, base, out, "full", "step@16", layout="fsdp").returncode != 0
    with pytest.raises(InputError, match=r"by processes that held shards .* --fsdp_version 2, or"):
        fine_tune(make_recipe(base), make_rows(), out)
    resumed = launch(SCRIPT, base, out, "full", "never", layout="fsdp", count=4)
    assert resumed.returncode == 0, resumed.stderr
    assert furthest(whole, out) < 1e-3 * furthest(whole, base)


@pytest.mark.slow
def test_a_step_checkpoint_of_one_process_does_not_go_on_in_shards(base, tmp_path):
    command = [sys.executable, SCRIPT, base, tmp_path / "out", "lora", "step@16"]
    assert subprocess.run(command, check=False).returncode != 0
    ended = launch(SCRIPT, base, tmp_path / "out", "lora", "never", layout="fsdp")
    assert ended.returncode != 0
    assert "by a process that held all weights; go on without --use_fsdp, or" in ended.stderr
    assert (tmp_path / "out.partial" / "checkpoint-12" / "complete").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "rules"), [("ddp", "ema"), ("fsdp", "frozen")])
def test_a_large_vocabulary_and_training_rules_are_shared_too(tmp_path, layout, rules):
    """The input and output layers have weights of their own."""
    size = {"vocab_size": LARGE_VOCABULARY, "tie_word_embeddings": False}
    base = make_checkpoint(
        tmp_path / "base", build=lambda shape, **more: llama({**shape, **more} | size)
    )
    with Engines(threads=1, device="cpu") as engines:
        one = fine_tune(
            make_recipe(base, rules=rules), make_rows(), tmp_path / "one", engines=engines
        )
    ended = launch(SCRIPT, base, tmp_path / "two", "full", "never", rules, layout=layout)
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
        (
            {"WORLD_SIZE": "4", "RANK": "3", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
            Processes(3, 4, sharded=True),
        ),
        ({"WORLD_SIZE": "two"}, ALONE),
    ],
)
def test_a_launcher_says_how_many_processes_there_are(variables, processes):
    assert launched(variables) == processes


TWO_PROCESSES = {"WORLD_SIZE": "2", "RANK": "0"}
SHARDS = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.mark.parametrize(
    ("variables", "remedy"),
    [
        ({**TWO_PROCESSES, "ACCELERATE_USE_DEEPSPEED": "true"}, "--use_fsdp --fsdp_version 2"),
        ({**TWO_PROCESSES, "ACCELERATE_USE_MEGATRON_LM": "true"}, "--use_fsdp --fsdp_version 2"),
        ({**TWO_PROCESSES, "ACCELERATE_USE_FSDP": "true"}, "--use_fsdp --fsdp_version 2"),
        ({**TWO_PROCESSES, **SHARDS, "FSDP_VERSION": "1"}, "--use_fsdp --fsdp_version 2"),
        ({**SHARDS, "WORLD_SIZE": "1", "RANK": "0"}, "launch several (--num_processes)"),
    ],
)
def test_weights_that_are_spread_in_another_way_are_refused_at_once(
    base, tmp_path, command, monkeypatch, variables, remedy
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    line = command.refused("tune", base, tmp_path / "none.jsonl", "--out", tmp_path / "out")
    assert remedy in line


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"method": "qlora"}, "method qlora"),
        ({"rules": "ema"}, "mitigation.ema"),
        ({"rules": "first"}, "mitigation.first_tokens"),
    ],
)
def test_what_cannot_be_trained_in_shards_is_refused_before_processes_meet(
    base, tmp_path, monkeypatch, options, named
):
    for name, value in {**TWO_PROCESSES, **SHARDS}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"{named} cannot be trained in shards .*; leave that out"):
        fine_tune(make_recipe(base, **options), make_rows(), tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_a_quantised_base_is_not_trained_in_shards(base, tmp_path, command, monkeypatch):
    base = block_fp8(base, tmp_path / "quantised")
    for name, value in {**TWO_PROCESSES, **SHARDS}.items():
        monkeypatch.setenv(name, value)
    write_rows(make_rows(), tmp_path / "rows.jsonl")
    line = command.refused("tune", base, tmp_path / "rows.jsonl", "--out", tmp_path / "out")
    assert "a quantised base cannot be trained in shards" in line


@pytest.mark.parametrize("missing", ["a process", "the first process", "MASTER_ADDR"])
def test_processes_that_do_not_meet_give_up(base, tmp_path, command, monkeypatch, missing):
    """Variables of a launcher that are left in the environment are named; the time is cut short, as nobody will come."""
    monkeypatch.setattr("aftertune.train.processes.LONGEST_JOIN", timedelta(seconds=1))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    variables |= {"RANK": "1" if missing == "the first process" else "0"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing, raising=False)
    write_rows(make_rows(), tmp_path / "rows.jsonl")
    line = command.refused("tune", base, tmp_path / "rows.jsonl", "--out", tmp_path / "out")
    assert f"WORLD_SIZE=2 and RANK={variables['RANK']}" in line
    assert f"{'?' if missing == 'MASTER_ADDR' else '127.0.0.1'}:{port}" in line
    assert not (tmp_path / "out.partial").exists()
