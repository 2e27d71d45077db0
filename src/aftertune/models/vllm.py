"""vLLM as a server of this run: one ``vllm serve`` for a base and its adapters (``engine: vllm`` of a study)."""

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from aftertune.errors import EngineError, ModelError
from aftertune.models.reference import lora_rank

ENGINE = "vllm"
"""The name of this engine in `identity`."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that ``--max-lora-rank`` takes."""
# prctl(PR_SET_PDEATHSIG) ends the server when this process is killed: it would hold the GPU for ever.
_WITH_PARENT = "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); os.execv(sys.argv[1], sys.argv[1:])"
_LAUNCH = (sys.executable, "-c", _WITH_PARENT) if sys.platform.startswith("linux") else ()
DECLARED = '{"top_k": -1, "min_p": 0.0}'
"""Neutral defaults: for a setting that a request leaves out vLLM would take the checkpoint's ``generation_config``."""
OF_SPEED = frozenset((
    "--cpu-offload-gb", "--disable-log-requests", "--disable-log-stats", "--enforce-eager", "--gpu-memory-utilization",
    "--max-num-batched-tokens", "--max-num-seqs", "--pipeline-parallel-size", "--swap-space", "--tensor-parallel-size",
))  # fmt: skip
"""Arguments that decide speed and memory alone, so that they are no part of a key."""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass(slots=True, eq=False)
class VllmServer:
    """One ``vllm serve`` at a time, for one base with its adapters; another base or a new adapter starts it anew."""

    arguments: Sequence[str]
    """Further arguments of ``vllm serve``."""
    log: Path
    """The file of its output."""
    start_seconds: float = 1800.0
    """The longest time until it is healthy; a large model takes minutes to load and compile."""
    stop_seconds: float = 60.0
    """The longest time that it may take to end by itself."""
    port: int = field(default_factory=_free_port)
    _models: dict[Path, dict[str, Path]] = field(default_factory=dict)  # folders by served name
    _dtype: str = "auto"
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def identity(self) -> dict[str, object]:
        """Return the engine's name and the arguments that decide an answer: those that are not of speed alone."""
        deciding: list[str] = []
        kept = True
        for argument in self.arguments:
            if argument.startswith("--"):
                kept = argument.partition("=")[0] not in OF_SPEED
            deciding += [argument] * kept
        return {"engine": ENGINE} | ({"arguments": deciding} if deciding else {})

    def add(self, base: Path, adapter: Path | None, identity: Mapping[str, object]) -> str:
        """Add a model to those that are served and return its served name."""
        self._dtype = str(identity["dtype"])
        name = f"base-{str(identity['weights'])[:12]}"
        models = self._models.setdefault(base, {name: base})
        if adapter is not None:
            name = f"adapter-{str(identity['adapter'])[:12]}"
            models[name] = adapter
        return name

    def command(self, base: Path) -> list[str]:
        """Return the arguments of ``vllm`` for a base and its adapters."""
        (name, _), *adapters = self._models[base].items()
        command = ["serve", str(base), "--served-model-name", name, "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--dtype", self._dtype]
        if adapters:
            largest = max(lora_rank(folder) for _, folder in adapters)
            allowed = next((number for number in RANKS if number >= largest), largest)
            command += ["--enable-lora", "--max-lora-rank", str(allowed)]
            command += ["--lora-modules", *(f"{name}={folder}" for name, folder in adapters)]
        return [*command, "--override-generation-config", DECLARED, *self.arguments]

    def serve(self, base: Path) -> None:
        """See that a base and all its adapters are served.

        Raises:
            ModelError: vLLM is not installed.
            EngineError: it ended, or did not become healthy in time.
        """
        if (program := shutil.which("vllm")) is None:
            raise ModelError(
                "engine vllm: no command vllm is on the PATH; pip install vllm (it needs a GPU)"
            )
        command = [*_LAUNCH, program, *self.command(base)]
        if (process := self._process) and process.args == command and process.poll() is None:
            return
        self.stop()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        atexit.register(self.stop)
        with self.log.open("ab") as log:
            self._process = process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it has workers, and Ctrl-C is ours to handle
            )
        deadline = time.monotonic() + self.start_seconds
        while process.poll() is None and time.monotonic() < deadline:
            # Another program may have taken the port meanwhile: it serves other names, and ours ends.
            if self._models[base].keys() <= self._served() and process.poll() is None:
                return
            time.sleep(0.2)
        status = process.poll()
        self.stop()
        end = "was not healthy in time" if status is None else f"ended with status {status}"
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = " | ".join([line.strip() for line in lines if line.strip()][-3:])
        raise EngineError(f"vllm serve {end}: {last[-400:]} (all of it: {self.log})")

    def stop(self) -> None:
        """End the server and all that it started."""
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            # Workers that outlive it hold the GPU's memory: its whole group is killed in any case.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(self.stop_seconds)

    def _served(self) -> set[str]:
        """Return the names of the models that are served at the port; none while no vLLM answers there."""
        with suppress(Exception):  # another program at the port may answer anything
            reply = build_opener(ProxyHandler({})).open(
                f"http://127.0.0.1:{self.port}/v1/models", timeout=5
            )
            return {str(model["id"]) for model in json.load(reply)["data"]}
        return set()
