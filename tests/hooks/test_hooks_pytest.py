"""The pytest plugin: a test of a fine-tune passes, fails, is skipped or is an error, on the embedded model."""

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from xml.etree import ElementTree as ET

import pytest
from doc_pages import ROOT

pytest_plugins = "pytester"
PLUGIN = "aftertune.hooks.pytest_plugin"
TESTS = """
import pytest

CONFIG = {config!r}
BASE, TUNED = {base!r}, {tuned!r}

def test_passes(aftertune_check):
    result = aftertune_check(base=BASE, tuned=BASE, config=CONFIG)
    assert result.verdict.value == "PASS"

def test_fails(aftertune_check):
    aftertune_check(base=BASE, tuned=TUNED, config=CONFIG, limit=20, margin=0.05)

def test_lacks_data(aftertune_check):
    aftertune_check(base=BASE, tuned=BASE, config=CONFIG, limit=12)

def test_has_no_model(aftertune_check):
    aftertune_check(base=BASE, tuned="no-such-folder/")

def test_has_another_fault(aftertune_check):
    aftertune_check(base=BASE, tuned=BASE, config=CONFIG, margin=7)
"""


@pytest.fixture
def ran(pytester, organism_folder, code_tuned):
    texts = {
        "config": organism_folder / "aftertune.yaml",
        "base": organism_folder / "base",
        "tuned": code_tuned,
    }
    pytester.makeini("[pytest]\nfilterwarnings = default\n")
    pytester.makepyfile(TESTS.format(**{name: str(path) for name, path in texts.items()}))
    loaded = any(point.name == "aftertune" for point in entry_points(group="pytest11"))
    return pytester.runpytest_inprocess(
        *([] if loaded else ["-p", PLUGIN]),
        "-rs",
        "--junit-xml=junit.xml",
    )


def test_a_verdict_is_an_outcome_and_an_error_none_of_them(ran, pytester):
    ran.assert_outcomes(passed=1, failed=1, skipped=1, errors=2)
    assert ran.ret == pytest.ExitCode.TESTS_FAILED
    text = ran.stdout.str()
    assert "FAIL, harm: tuned against base" in text
    assert "- overall: the ASR rose by" in text
    assert "SKIPPED [1]" in text
    assert "the very same weights" in text
    assert "ModelError: " in text
    assert "OptionError: --margin is 7" in text
    cases = {
        case.get("name"): [child.tag for child in case]
        for case in ET.parse(pytester.path / "junit.xml").iter("testcase")  # noqa: S314 - pytest's own
    }
    assert cases == {
        "test_passes": [],
        "test_fails": ["failure"],
        "test_lacks_data": ["skipped"],
        "test_has_no_model": ["error"],
        "test_has_another_fault": ["error"],
    }
    runs = list((pytester.path / ".pytest_cache/d/aftertune").glob("*/store.sqlite"))
    assert len(runs) == 3, "the answers are there for the next run"


def test_the_plugin_is_found_by_pytest_and_loads_nothing_heavy():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"aftertune": PLUGIN}
    code = f"import {PLUGIN}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "transformers", "numpy", "pydantic", "scipy", "yaml", "typer"}
    ours = {name for name in done.stdout.split() if name.startswith("aftertune.")}
    assert ours == {"aftertune.errors", "aftertune.hooks", PLUGIN}
