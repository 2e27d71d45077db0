"""Runs the steps of action.yml as a runner does: expressions, conditions, shell, environment, the files of GITHUB_*."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml
from doc_pages import ROOT

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
INPUTS = ACTION["inputs"]
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
TOKEN = "ghs_of_this_job"  # noqa: S105
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
"""The runner's command for ``shell: bash``."""


class Job:
    """A job in a folder of its own, with the inputs of the action and the environment of the runner."""

    def __init__(self, folder, inputs, environment):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.inputs = {name: str(spec.get("default", "")) for name, spec in INPUTS.items()}
        self.inputs |= {"token": TOKEN, **inputs}
        self.outputs = {}
        self.files = {n: folder / n.lower() for n in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        self.environment = os.environ | environment | {n: str(f) for n, f in self.files.items()}
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def value(self, expression):
        if expression == "github.action_path":
            return str(ROOT)
        where, _, name = expression.rpartition(".")
        return {"inputs": self.inputs, "steps.check.outputs": self.outputs}[where].get(name, "")

    def filled(self, text):
        """Return a text of action.yml with its expressions replaced."""
        return re.sub(r"\$\{\{ (\S+) \}\}", lambda match: self.value(match[1]), str(text))

    def wanted(self, step):
        """Return whether the condition of a step holds; it is a chain of comparisons in all of them."""
        condition = step.get("if", "").removeprefix("${{ ").removesuffix(" }}")
        for part in filter(None, condition.split(" && ")):
            if part == "!cancelled()":
                continue
            left, operator, right = part.split(" ")
            if (self.value(left) == right.strip("'")) != (operator == "=="):
                return False
        return True

    def run(self, name):
        """Run a step; return exit code and output, or None where its condition does not hold."""
        step = STEPS[name]
        if not self.wanted(step):
            return None
        assert step["shell"] == "bash"
        script = self.folder / "step.sh"
        script.write_text(step["run"])
        self.files["GITHUB_OUTPUT"].write_text("")
        done = subprocess.run(
            [*BASH, script],
            cwd=self.folder / self.filled(step.get("working-directory", ".")),
            env=self.environment | {n: self.filled(v) for n, v in step["env"].items()},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if step.get("id") == "check":
            text = self.files["GITHUB_OUTPUT"].read_text()
            self.outputs = {n: v for n, _, v in re.findall(r"(\S+)<<(\S+)\n(.*)\n\2\n", text)}
        return done.returncode, done.stdout + done.stderr
