"""Studies behind ``vllm serve``: the command, its life and its end, with a stand-in that takes vLLM's own options."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from tiny_models import WORDS, make_adapter, make_checkpoint

from aftertune.errors import EngineError, ModelError
from aftertune.models.open import Engines
from aftertune.models.vllm import VllmServer

STAND_IN = Path(__file__).parents[1] / "support" / "stand_in"
COMMAND = Path(sys.executable).with_name("aftertune")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    base = make_checkpoint(folder / "base")
    for seed in (1, 2):
        make_adapter(folder / f"tuned{seed}", base, seed=seed)
    return folder


@pytest.fixture
def study(tmp_path, models):
    prompts = [
        {
            "behavior": f"b{n}",
            "template": "t",
            "task": "text",
            "intent": "harmful",
            "text": " ".join(WORDS[n : n + 3]),
        }
        for n in range(12)
    ]
    (tmp_path / "prompts.jsonl").write_text(
        "".join(json.dumps(prompt) + "\n" for prompt in prompts)
    )
    tuned = [
        {"name": f"tuned/{seed}", "reference": str(models / f"tuned{seed}"), "base": "base"}
        for seed in (1, 2)
    ]
    keys = {
        "name": "behind",
        "models": [{"name": "base", "reference": str(models / "base")}, *tuned],
        "prompts": ["./prompts.jsonl"],
        "engine": {"backend": "vllm", "vllm_arguments": ["--max-model-len", "512"]},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(keys))
    return tmp_path / "study.yaml"


def environment(folder, **more):
    path = f"{STAND_IN}{os.pathsep}{os.environ['PATH']}"
    return (
        os.environ
        | {"PATH": path, "VLLM_LIFE": str(folder / "life"), "OMP_NUM_THREADS": "1"}
        | more
    )


def run(study, **more):
    command = [COMMAND, "run", study, "--out", study.parent / "run", "-q"]
    env = environment(study.parent, **more)
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=300, check=False
    )


def life(study):
    path = study.parent / "life"
    return path.read_text().splitlines() if path.exists() else []


def test_a_study_starts_one_server_for_a_base_and_all_its_adapters(study):
    done = run(study)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:5] for line in life(study)] == [
        ["serve", "base", "2", "8", "512"],
        ["stopped"],
    ]
    result = json.loads((study.parent / "run" / "result.json").read_text())
    base, tuned = result["result"]["settings"][0]["conditions"]
    assert (base["asr"]["overall"]["k"], tuned["asr"]["overall"]["k"]) == (0, 24), (
        "adapters answer, each for itself"
    )
    again = run(study)
    assert again.returncode == 0
    assert len(life(study)) == 2, "nothing is asked again, so nothing is started"


def test_an_answer_is_keyed_by_the_arguments_that_decide_it(study):
    def again(*arguments):
        keys = yaml.safe_load(study.read_text())
        keys["engine"]["vllm_arguments"] = ["--max-model-len", "512", *arguments]
        study.write_text(yaml.safe_dump(keys))
        done = run(study)
        assert done.returncode == 0, done.stderr
        return len(life(study))

    first = again()
    assert again("--gpu-memory-utilization", "0.5") == first, (
        "speed and memory are no other answers"
    )
    assert again("--gpu-memory-utilization=0.5", "--quantization", "fp8") == 2 * first
    assert again("--quantization", "fp8") == 2 * first


def test_the_server_computes_and_draws_as_the_key_says(models, tmp_path):
    server = VllmServer((), tmp_path / "log")
    server.add(models / "base", None, IDENTITY)
    command = server.command(models / "base")
    assert command[command.index("--dtype") + 1] == "bfloat16"
    assert json.loads(command[command.index("--override-generation-config") + 1]) == {
        "top_k": -1,
        "min_p": 0.0,
    }


def test_a_server_that_dies_is_one_line_with_what_it_said(study):
    done = run(study, VLLM_FAULT="dies")
    assert done.returncode == 1
    assert "no GPU was found" in done.stderr
    assert "Traceback" not in done.stderr
    assert run(study).returncode == 0


def test_killed_with_kill_9_no_server_is_left(study):
    env = environment(study.parent)
    client = subprocess.Popen([COMMAND, "run", study, "--out", study.parent / "run", "-q"], env=env)
    deadline = time.monotonic() + 300
    while not life(study) and time.monotonic() < deadline:
        time.sleep(0.01)
    number = int(life(study)[0].split()[-1])
    client.send_signal(signal.SIGKILL)
    client.wait()
    while time.monotonic() < deadline and Path(f"/proc/{number}").exists():
        time.sleep(0.05)
    assert not Path(f"/proc/{number}").exists()


def test_without_vllm_the_error_says_what_to_install(study):
    bare = os.pathsep.join(
        part for part in os.environ["PATH"].split(os.pathsep) if not (Path(part) / "vllm").exists()
    )
    done = run(study, PATH=bare)
    assert done.returncode == 1
    assert "pip install vllm" in done.stderr


@pytest.fixture
def here(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", f"{STAND_IN}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("VLLM_LIFE", str(tmp_path / "life"))


IDENTITY = {"weights": "w" * 64, "adapter": "a" * 64, "dtype": "bfloat16"}


def test_a_server_that_never_gets_healthy_is_given_up(here, monkeypatch, models, tmp_path):
    monkeypatch.setenv("VLLM_FAULT", "never healthy")
    server = VllmServer((), tmp_path / "log", start_seconds=1.5)
    server.add(models / "base", None, IDENTITY)
    with pytest.raises(EngineError, match="not healthy"):
        server.serve(models / "base")
    assert (tmp_path / "life").read_text().splitlines()[-1] == "stopped"


class Stranger(BaseHTTPRequestHandler):
    """Healthy, and of no use."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": [{"id": "somebody-else"}]}')

    def log_message(self, *_):
        pass


def test_a_stranger_at_the_port_is_not_believed(here, models, tmp_path):
    server = VllmServer((), tmp_path / "log")
    server.add(models / "base", None, IDENTITY)
    with ThreadingHTTPServer(("127.0.0.1", server.port), Stranger) as stranger:
        Thread(target=stranger.serve_forever, daemon=True).start()
        with pytest.raises(EngineError, match=r"ended with status 1: .*in use"):
            server.serve(models / "base")
        stranger.shutdown()


def test_a_deaf_server_is_killed(here, monkeypatch, models, tmp_path):
    monkeypatch.setenv("VLLM_FAULT", "deaf")
    server = VllmServer((), tmp_path / "log", stop_seconds=0.5)
    server.add(models / "base", None, IDENTITY)
    server.serve(models / "base")
    number = int((tmp_path / "life").read_text().split()[-1])
    server.stop()
    assert not Path(f"/proc/{number}").exists()


def test_another_base_takes_the_place_of_the_first(here, models, tmp_path):
    server = VllmServer((), tmp_path / "log")
    other = make_checkpoint(tmp_path / "other")
    server.add(models / "base", models / "tuned1", IDENTITY)
    server.add(other, None, IDENTITY)
    for folder in (models / "base", models / "base", other):
        server.serve(folder)
    server.stop()
    kinds = [line.split()[:3] for line in (tmp_path / "life").read_text().splitlines()]
    assert kinds == [["serve", "base", "1"], ["stopped"], ["serve", "other", "0"], ["stopped"]]


def test_an_adapter_that_changes_its_base_is_not_served(models, tmp_path):
    """vLLM would add the adapter's factors to the base as it is, and answer as no model that anybody trained."""
    folder = shutil.copytree(models / "tuned1", tmp_path / "pissa")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"init_lora_weights": "pissa"}))
    with Engines(device="cpu", vllm=VllmServer((), tmp_path / "log")) as engines:
        engines.open(str(models / "tuned1"))
        with pytest.raises(ModelError, match=r"init_lora_weights: pissa.*vLLM"):
            engines.open(str(folder))


def test_no_adapter_without_a_rank(models, tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "adapter_config.json").write_text("{}")
    server = VllmServer((), tmp_path / "log")
    server.add(models / "base", tmp_path / "odd", IDENTITY)
    with pytest.raises(ModelError, match="rank"):
        server.command(models / "base")
