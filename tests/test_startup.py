"""Start-up stays light: no heavy package is loaded by `--help`, nor by the rooms that promise to do without."""

import subprocess
import sys

import pytest

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
        "aftertune.score.rules, aftertune.score.run",
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


def test_ctrl_c_while_the_commands_load_is_a_stop_like_others():
    code = (
        "import sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "from aftertune.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == "aftertune: stopped before anything was begun\n"


def test_python_m_runs_the_commands():
    done = subprocess.run(
        [sys.executable, "-m", "aftertune", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("aftertune ")


def test_a_folder_that_is_gone_is_one_line(tmp_path):
    code = "import os\nos.rmdir(os.getcwd())\nimport sys\nsys.argv = ['aftertune', 'schema']\nfrom aftertune.cli.app import main\nmain()\n"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr.startswith("aftertune: ")
    assert done.stderr.count("\n") == 1
