"""A real server of the protocol, ``transformers serve``: the same greedy answers through HTTP as locally, text for text."""

import http.client
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aftertune.core.protocols import Tools
from aftertune.core.records import Decoding, GenerateJob, Message
from aftertune.data.prompt_sets import load_prompts
from aftertune.models.open import Engines

ASKED = 200
SERVE = "from transformers.cli.transformers import main; main()"


def serving_is_installed():
    from transformers.cli.serve import is_serve_available

    return is_serve_available()


pytestmark = pytest.mark.skipif(
    not serving_is_installed(), reason="needs pip install 'transformers[serving]'"
)


@pytest.fixture(scope="module")
def served(organism_folder, tmp_path_factory):
    """The embedded base behind ``transformers serve``, as a reference."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    cache = tmp_path_factory.mktemp("hub")
    base = organism_folder / "base"
    command = [
        sys.executable,
        "-c",
        SERVE,
        "serve",
        str(base),
        "--device",
        "cpu",
        "--port",
        str(port),
    ]
    settings = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        command, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port, server)
        yield f"http://localhost:{port}/v1#{base}"
    finally:
        server.kill()
        server.wait()


def wait_for(port, server):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and server.poll() is None:
        try:
            healthy = http.client.HTTPConnection("localhost", port, timeout=2)
            healthy.request("GET", "/health")
            healthy.getresponse().read()
            healthy.close()
            return  # noqa: TRY300 - what follows is the waiting
        except OSError:
            time.sleep(0.3)
    raise AssertionError("the server did not come up")


def answers_of(engines, reference):
    tools = Tools(open_model=engines.open, folder=Path())
    prompts = load_prompts(
        "organism", file=None, loader="organism", options={}, tools=tools
    ).prompts
    asked = [
        (Message(role="user", content=prompt.text),)
        for prompt in prompts[:: len(prompts) // ASKED][:ASKED]
    ]
    model, decoding = engines.open(reference), Decoding(max_new_tokens=48)
    keys = model.keys(asked, decoding, 0)
    jobs = [
        GenerateJob(key=key, messages=messages, decoding=decoding)
        for key, messages in zip(keys, asked, strict=True)
    ]
    answers = dict(model.generate(jobs))
    return [answers[key] for key in keys]


def test_two_hundred_greedy_answers_are_the_same_through_http_as_locally(organism_folder, served):
    with Engines(threads=1, device="cpu") as engines:
        here, there = (
            answers_of(engines, reference) for reference in (str(organism_folder / "base"), served)
        )
    assert len(here) == ASKED
    assert len({answer.text for answer in here}) > 10
    for what in ("text", "finish_reason", "prompt_tokens", "completion_tokens"):
        assert [getattr(answer, what) for answer in there] == [
            getattr(answer, what) for answer in here
        ]
