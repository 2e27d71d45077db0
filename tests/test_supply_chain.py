"""Files from strangers never reach a loader that runs code, plug-ins load only when named, and hashes cover what is pinned."""

import ast
import importlib.util
import json
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CODE = sorted(
    path for folder in (".ci", "src", "action", "examples", "bench", "experiments", "studies") for path in (ROOT / folder).rglob("*.py")
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


EXTRAS = ("local", "gguf", "report", "endpoint", "hosted", "inspect", "dev")
"""What `make setup` installs."""
BY_INDEX = "torch"
"""What differs by index is not followed: its CUDA wheels bring packages of their own."""
OF_VENV = {"setuptools"}
"""What an environment of CPython 3.11 begins with; pip does not list it."""


def requirements(name, extras):
    """Yield the requirements of an installed package that hold here, with the extras that they name."""
    try:
        texts = requires(name) or ()
    except PackageNotFoundError:
        return
    for requirement in map(Requirement, texts):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(requirement.name), tuple(sorted(requirement.extras))


@pytest.mark.skipif(
    (sys.version_info[:2], sys.platform, platform.machine()) != ((3, 11), "linux", "x86_64"),
    reason="the pins are those of CPython 3.11 on Linux x86-64",
)
def test_everything_that_setup_installs_is_pinned():
    waiting, reached = [("aftertune", EXTRAS)], set()
    while waiting:
        package = waiting.pop()
        if package not in reached:
            reached.add(package)
            waiting += requirements(*package) if package[0] != BY_INDEX else ()
    names = {name for name, _ in reached} - {"aftertune"} - OF_VENV
    assert len(names) > 100
    assert names - set(map(canonicalize_name, pins("constraints.txt"))) == set()


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLEAN = {"name": "a", "version": "1", "vulns": []}
WEAK = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"]}]}
MISSING = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (3)"}  # fmt: skip


@pytest.mark.parametrize(
    ("output", "code", "words"),
    [
        (json.dumps({"dependencies": [CLEAN], "fixes": []}), 0, ["1 pins looked up"]),
        (json.dumps({"dependencies": [CLEAN, WEAK]}), 1, ["b 2: PYSEC-1, mended in 2.1, 3.0"]),
        (json.dumps({"dependencies": [CLEAN, MISSING]}), 4, ["1 of 2 pins"]),
        (json.dumps({"dependencies": [MISSING, WEAK]}), 1, ["PYSEC-1", "1 of 2 pins"]),
        (json.dumps({"dependencies": []}), 4, ["0 of 0 pins"]),
        ("", 4, ["ProxyError: nobody there"]),
        ("[]", 4, ["ProxyError: nobody there"]),
    ],
)
def test_an_audit_that_looked_nothing_up_is_not_clean(output, code, words):
    lines, ended = script("audit").read(output, "Traceback …\n  File …\nProxyError: nobody there\n")
    assert ended == code
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))


def test_a_hash_that_changed_without_its_version_is_named():
    before = "# head\na==1 --hash=sha256:00\nb==1 --hash=sha256:11\n"
    rows = ["a==1 --hash=sha256:22\n", "b==2 --hash=sha256:33\n", "c==1 --hash=sha256:44\n"]
    assert script("hashes").changed(before, rows) == ["a==1"]
