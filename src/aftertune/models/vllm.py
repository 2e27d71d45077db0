"""Starts vLLM for a base and all adapters on it, and asks it over HTTP: `engine: vllm` of a study."""

import atexit
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from aftertune.core.ids import Key
from aftertune.core.protocols import Answer
from aftertune.core.records import FREE, Decoding, GenerateJob, Message
from aftertune.errors import EngineError, ModelError
from aftertune.models.adapter import rank
from aftertune.models.endpoint.model import EndpointModel
from aftertune.models.local import LocalEngine

ENGINE = "vllm"
"""What `identity` calls this engine."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that ``--max-lora-rank`` takes."""
START_SECONDS = 1800.0
"""A large model takes minutes to load and compile."""
STOP_SECONDS = 60.0
_LINUX_LAUNCH = "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); os.execv(sys.argv[1], sys.argv[1:])"
"""Starts a program that ends when we are killed (``PR_SET_PDEATHSIG`` of prctl(2)): it would hold the GPU for ever."""
_LAST_LINES = 3
DECLARED = '{"top_k": -1, "min_p": 0.0}'
"""What a request leaves out is not drawn by: vLLM would take the checkpoint's ``generation_config`` for it."""
OF_SPEED = frozenset(
    f"--{name}"
    for name in (
        "cpu-offload-gb", "disable-log-requests", "disable-log-stats", "enforce-eager", "gpu-memory-utilization",
        "max-num-batched-tokens", "max-num-seqs", "pipeline-parallel-size", "swap-space", "tensor-parallel-size",
    )
)  # fmt: skip
"""Arguments that decide speed and memory alone."""


@dataclass(slots=True)
class Served:
    """A base folder and the adapters that were opened on it, by the names under which they are served."""

    base: Path
    name: str
    dtype: str
    adapters: dict[str, Path] = field(default_factory=dict)


class VllmServer:
    """One ``vllm serve`` at a time, for one base with its adapters; another base or a new adapter starts it anew.

    Args:
        arguments: further arguments of ``vllm serve``.
        log: where its output goes.
        start_seconds: how long it may take to become healthy.
    """

    def __init__(
        self, arguments: Sequence[str], log: Path, *, start_seconds: float = START_SECONDS
    ) -> None:
        self._arguments, self._log, self._start_seconds = tuple(arguments), log, start_seconds
        self._bases: dict[Path, Served] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._serving: tuple[Path, frozenset[str]] | None = None
        self.port = _free_port()
        atexit.register(self.stop)

    @property
    def identity(self) -> dict[str, object]:
        """What of this engine decides an answer: its name, and the arguments that are not of speed alone."""
        deciding: list[str] = []
        kept = True
        for argument in self._arguments:
            if argument.startswith("--"):
                kept = argument.partition("=")[0] not in OF_SPEED
            deciding += [argument] * kept
        return {"engine": ENGINE} | ({"arguments": deciding} if deciding else {})

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}/v1"

    def add(self, base: Path, adapter: Path | None, identity: Mapping[str, object]) -> str:
        """Take a model among those that are served; return the name that it is asked by."""
        served = self._bases.setdefault(
            base, Served(base, f"base-{str(identity['weights'])[:12]}", str(identity["dtype"]))
        )
        if adapter is None:
            return served.name
        name = f"adapter-{str(identity['adapter'])[:12]}"
        served.adapters[name] = adapter
        return name

    def serve(self, base: Path) -> None:
        """See that a base and all its adapters are served.

        Raises:
            ModelError: vLLM is not installed.
            EngineError: it ended, or did not become healthy in time.
        """
        served = self._bases[base]
        wanted = base, frozenset(served.adapters)
        if self._serving == wanted and self._process is not None and self._process.poll() is None:
            return
        self.stop()
        program = shutil.which("vllm")
        if program is None:
            raise ModelError(
                "engine vllm: no command vllm is on the PATH; pip install vllm (it needs a GPU)"
            )
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_launch(), program, *self.command(served)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it has workers, and Ctrl-C is ours to handle
            )
        self._wait(self._process, {served.name, *served.adapters})
        self._serving = wanted

    def command(self, served: Served) -> list[str]:
        """Return the arguments of ``vllm`` for a base and its adapters."""
        command = ["serve", str(served.base), "--served-model-name", served.name]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--dtype", served.dtype]
        command += ["--override-generation-config", DECLARED]
        if served.adapters:
            needed = max(rank(folder) for folder in served.adapters.values())
            fits = next((allowed for allowed in RANKS if allowed >= needed), needed)
            modules = [f"{name}={folder}" for name, folder in served.adapters.items()]
            command += ["--enable-lora", "--max-lora-rank", str(fits), "--lora-modules", *modules]
        return [*command, *self._arguments]

    def stop(self) -> None:
        """End the server and all that it started."""
        process, self._process, self._serving = self._process, None, None
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
                break
        with suppress(ProcessLookupError):  # workers that outlive it hold the GPU's memory
            os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        atexit.unregister(self.stop)

    def _wait(self, process: "subprocess.Popen[bytes]", names: set[str]) -> None:
        """Wait until the server that was started serves these names; another one may have taken the port meanwhile."""
        deadline = time.monotonic() + self._start_seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                self._failed(f"ended with status {process.returncode}")
            if (
                (answered := self._served()) is not None
                and names <= answered
                and process.poll() is None
            ):
                return
            time.sleep(0.2)
        self.stop()
        self._failed(f"was not healthy after {self._start_seconds:.0f} s")

    def _served(self) -> set[str] | None:
        """Return the names of the models that are served at the port; None while no vLLM answers there."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v1/models")
            reply = connection.getresponse()
            told = json.loads(reply.read()) if reply.status == http.client.OK else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        listed = told.get("data") if isinstance(told, dict) else None
        return None if listed is None else {str(model.get("id")) for model in listed}

    def _failed(self, what: str) -> NoReturn:
        lines = (
            self._log.read_text(encoding="utf-8", errors="replace").split("\n")
            if self._log.exists()
            else []
        )
        said = " | ".join([" ".join(line.split()) for line in lines if line.strip()][-_LAST_LINES:])
        raise EngineError(
            f"vllm serve {what}: {said[-400:] or 'it said nothing'} (all of it: {self._log})"
        )


class VllmModel:
    """A local model that vLLM serves: rendered and keyed here, answered there.

    Attributes:
        name: for messages and tables.
        identity: hashes of weights, adapter and tokenizer as of a local model, with `VllmServer.identity`.
        local: the same model in this process, which renders and keys; its weights are not loaded.
    """

    remote = by_batch = moderates = False  # one server at a time has the GPU
    served = True
    price = FREE
    price_source = destination = ""

    def __init__(
        self, local: LocalEngine, endpoint: EndpointModel, server: VllmServer, base: Path
    ) -> None:
        self.name = local.name
        self.identity = local.identity
        self.endpoint = endpoint
        self.local, self._server, self._base = local, server, base

    def keys(
        self, conversations: Sequence[Sequence[Message]], decoding: Decoding, sample: int
    ) -> list[Key]:
        """Return the key of each call: identity, rendered input tokens, merged decoding settings, seed and sample."""
        return self.local.keys(conversations, decoding, sample)

    def generate(self, jobs: Iterable[GenerateJob]) -> Iterator[tuple[Key, Answer]]:
        """Answer each job, in any order; starts the server if it has to.

        Raises:
            ModelError: vLLM is not installed.
            EngineError: it does not start, or answers nothing any more.
        """
        listed = list(jobs)
        if listed:
            self._server.serve(self._base)
            yield from self.endpoint.generate(listed)

    @property
    def folds_system(self) -> bool:
        """Return whether the chat template has no system turn."""
        return self.local.folds_system

    def check_ready(self) -> None:
        """Do nothing: the server is this run's own."""

    def input_tokens(self, jobs: Sequence[GenerateJob]) -> list[int]:
        """Return how many tokens each job puts to the model; loads no weights."""
        return self.local.input_tokens(jobs)

    def unknown_share(self, texts: Sequence[str]) -> float:
        """Return the share of ``<unk>`` tokens in ``texts``."""
        return self.local.unknown_share(texts)

    def choice_logprobs(
        self, prompts: Sequence[Sequence[Message]], choices: Sequence[str]
    ) -> list[list[float]]:
        """Raise: a server gives no likelihood of a given answer."""
        return self.endpoint.choice_logprobs(prompts, choices)

    def nll(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[float]:
        """Raise: a server gives no likelihood of a given answer."""
        return self.endpoint.nll(pairs)

    def close(self) -> None:
        """Close the connections; the server ends with the run."""
        self.endpoint.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _launch() -> list[str]:
    return [sys.executable, "-c", _LINUX_LAUNCH] if sys.platform.startswith("linux") else []
