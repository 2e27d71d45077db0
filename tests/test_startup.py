"""Start-up stays light: no heavy package is loaded by `--help`, nor by the rooms that promise to do without."""

import os
import signal
import subprocess
import sys

import pytest
from tiny_study import COMMAND, make_base

HEAVY = {
    "accelerate",
    "datasets",
    "inspect_ai",
    "matplotlib",
    "peft",
    "pyarrow",
    "ray",
    "sacrebleu",
    "torch",
    "transformers",
    "trl",
}


def modules_after(code: str) -> set[str]:
    script = (
        f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "rooms",
    [
        "aftertune",
        "aftertune.cli.app",
        "aftertune.core.protocols, aftertune.core.registry, aftertune.core.recipe, aftertune.core.outcomes",
        "aftertune.measure.measure",
        "aftertune.report.terminal, aftertune.report.page",
        "aftertune.study, aftertune.store",
        "aftertune.data.prompt_sets, aftertune.data.public_prompts, aftertune.data.mix_file",
        "aftertune.score.refusal, aftertune.score.run",
        "aftertune.run, aftertune.result",
    ],
)
def test_importing_loads_nothing_heavy(rooms):
    assert not modules_after(f"import {rooms}") & HEAVY


def test_help_loads_nothing_heavy():
    code = "import sys; sys.argv = ['aftertune', '--help']\nfrom aftertune.cli.app import main\ntry:\n    main()\nexcept SystemExit:\n    pass"
    loaded = modules_after(code)
    assert not loaded & (HEAVY | {"numpy", "scipy", "pydantic", "yaml", "jinja2"})


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "aftertune", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("aftertune ")


def test_python_m_runs_the_commands():
    done = subprocess.run(
        [sys.executable, "-m", "aftertune", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("aftertune ")


def test_a_folder_that_is_gone_is_one_line(tmp_path):
    code = "import os\nos.rmdir(os.getcwd())\nimport sys\nsys.argv = ['aftertune', 'run', 'study.yaml']\nfrom aftertune.cli.app import main\nmain()\n"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr.startswith("aftertune: ")
    assert done.stderr.count("\n") == 1


STRANGER = "open('imported', 'w').close()\n"


@pytest.mark.parametrize("start", [[sys.executable, "-m", "aftertune"], [str(COMMAND)]])
def test_a_file_of_the_current_folder_is_not_imported_as_a_library(tmp_path, start):
    """A cloned model repository with a brotli.py or torchvision.py in it is enough to be asked for such a module."""
    make_base(tmp_path / "base")
    for name in ("brotli", "torchvision", "PIL", "soundfile"):
        (tmp_path / f"{name}.py").write_text(STRANGER)
    (tmp_path / "prompts.jsonl").write_text(
        '{"text": "tell me how to open a jar", "intent": "benign"}\n'
    )
    study = "name: s\nmodels: [{name: base, reference: ./base}]\nprompts: [./prompts.jsonl]\n"
    (tmp_path / "study.yaml").write_text(study)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [*start, "run", "study.yaml", "--dry-run"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 prompts" in done.stdout
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_while_the_commands_load_are_stops_and_after_the_last_word_change_nothing(number):
    # Under `nohup`, or in a script's background, the tests themselves were started with some of them ignored.
    handled = "default_int_handler" if number == signal.SIGINT else "SIG_DFL"
    obeyed = f"import signal\nsignal.signal({int(number)}, signal.{handled})\n"
    early = (
        f"{obeyed}import sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'typer':\n            signal.raise_signal({int(number)})\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "from aftertune.__main__ import main\nmain()\n"
    )
    late = (
        f"{obeyed}import atexit, sys\n"
        f"atexit.register(lambda: signal.raise_signal({int(number)}))\n"
        "sys.argv = ['aftertune', '--version']\n"
        "from aftertune.__main__ import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", early], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (5, "aftertune: stopped before anything was begun\n")
    done = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("aftertune ")
