"""Files from strangers never reach a loader that runs code, plug-ins load only when named, and hashes cover what is pinned."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted(
    path for folder in ("src", "action", "examples", "bench", "experiments", "studies") for path in (ROOT / folder).rglob("*.py")
)  # fmt: skip
RUNS_CODE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
"""Modules whose loaders run code of the file that they read."""
TORCH_LOAD = {"experiments/real_text/base.py": "its own training's file, with weights_only"}
"""The only places that call ``torch.load``, and what they read."""
SAFE_YAML, UNSAFE_YAML = {"SafeLoader"}, {"FullLoader", "UnsafeLoader", "yaml.Loader"}
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)")


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_loads_a_file_in_a_way_that_runs_its_code(path):
    name, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            assert not RUNS_CODE & {alias.name.partition(".")[0] for alias in node.names}, (
                node.lineno
            )
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in RUNS_CODE, node.lineno
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        options = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
        if owner == "torch" and node.func.attr == "load":
            assert name in TORCH_LOAD, node.lineno
            assert options.get("weights_only") is True, node.lineno
        if owner in {"np", "numpy"} and node.func.attr == "load":
            assert options.get("allow_pickle", False) is False, node.lineno
        assert node.func.attr not in {"read_pickle", "unsafe_load", "full_load"}, node.lineno
        if owner == "yaml" and node.func.attr == "load":
            assert {name for name in SAFE_YAML if name in text}, node.lineno
            assert not {name for name in UNSAFE_YAML if name in text}, node.lineno


LOADED = """
import sys
import aftertune, aftertune.cli.app
from aftertune.core.registry import factories
from importlib.metadata import entry_points
offered = [point.value.partition(":")[0] for point in entry_points(group="aftertune.plugins")]
assert offered
for kind in ("judge", "guard", "metric", "preference"):
    assert factories(kind)
judges = [module for module in sys.modules if module.startswith(("aftertune.score.", "aftertune.organism."))]
print(sorted(set(judges) - {*offered}))
"""


def test_names_of_plug_ins_are_listed_without_loading_them():
    """The module of an entry point is loaded, for it holds the names; what the names stand for is not."""
    ended = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert not re.search(r"published|rubric|moderation|organism\.(?!plugin)", ended.stdout)


def pins(file):
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return dict(match.groups() for line in lines if (match := PIN.match(line)))


def test_hashes_cover_every_pin_but_those_that_differ_by_machine():
    hashed, pinned = pins("requirements-ci.txt"), pins("constraints.txt")
    assert set(pinned) - set(hashed) == {"torch"}
    assert {name: pinned[name] for name in hashed} == hashed
    text = (ROOT / "requirements-ci.txt").read_text(encoding="utf-8")
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", text)) >= len(hashed)
