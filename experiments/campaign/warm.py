"""Starts commands from a process that has loaded torch and its like, so that a kill finds the product's work and not imports.

A forked command runs what the console script runs; everything of Aftertune itself is imported in it, anew each time.
"""

import contextlib
import importlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from run import MODULES

LOADED = [
    "accelerate", "aiohttp", "peft", "rich.console", "safetensors.torch", "scipy.optimize", "scipy.stats", "torch", "transformers",
    "transformers.models.llama.modeling_llama", "typer", "yaml",
]  # fmt: skip
OUTPUTS = "stdout", "stderr"
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
"""What the libraries read once, as they are loaded."""
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(LOADED)


class Command:
    """A forked command, with as much of `subprocess.Popen` as the helpers of the tests use."""

    def __init__(
        self, process: ForkServerProcess, outputs: tempfile.TemporaryDirectory[str]
    ) -> None:
        """Take a process that was started, and the folder that its outputs go to."""
        self._process, self._outputs = process, outputs
        self.pid = process.pid or 0

    @property
    def returncode(self) -> int | None:
        """The exit code; below zero the signal that ended the command."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code of a command that has ended."""
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return standard output and standard error.

        Raises:
            subprocess.TimeoutExpired: The command runs for longer than ``timeout`` seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("aftertune", timeout or 0.0)
        folder = Path(self._outputs.name)
        out, err = ((folder / name).read_text(errors="replace") for name in OUTPUTS)
        self._outputs.cleanup()
        return out, err


def start(*arguments: object, env: dict[str, str], cwd: Path, largest_file: int = -1) -> Command:
    """Start a command in a process group of its own, as `tiny_study.start` does."""
    outputs = tempfile.TemporaryDirectory(prefix="campaign-")
    words = [str(argument) for argument in arguments]
    process = _context.Process(target=_command, args=(words, env, cwd, outputs.name, largest_file))
    process.start()
    while process.exitcode is None and not _leads_a_group(process.pid or 0):
        time.sleep(0.005)
    return Command(process, outputs)


def _leads_a_group(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid) == pid
    return False


def _command(words: list[str], env: dict[str, str], cwd: Path, outputs: str, largest: int) -> None:
    """Become the command: its group, environment, folder, outputs, and modules of the test such as the log of calls."""
    for descriptor, name in enumerate(OUTPUTS, start=1):
        file = os.open(Path(outputs) / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if largest >= 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:] = [
        *filter(None, env.get("PYTHONPATH", "").split(os.pathsep)),
        *(path for path in sys.path if path not in MODULES),
    ]
    sys.argv[:] = ["aftertune", *words]
    sys.modules.pop("sitecustomize", None)
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")
    from aftertune.__main__ import main

    sys.exit(main())
