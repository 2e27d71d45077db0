"""How well a model tells harmful from harmless prompts, against what can be counted by hand."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from aftertune.study import load_study
from aftertune.study.expand import variants

FOLDER = Path(__file__).parents[2] / "experiments" / "mitigations"


@pytest.fixture(scope="module")
def telling():
    spec = importlib.util.spec_from_file_location("telling", FOLDER / "telling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("refused", [0.0, 1.0])
def test_refusing_everything_or_nothing_separates_nothing(telling, refused):
    found = telling.separation(np.full((20, 3), refused), np.full((30, 3), refused))
    assert found.value == 0


def test_the_interval_holds_the_true_difference_as_often_as_it_says(telling):
    draws = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        found = telling.separation(draws.random((60, 3)) < 0.8, draws.random((50, 3)) < 0.3)
        held += found.low <= 0.5 <= found.high
    assert 0.93 <= held / 400 <= 1


def test_more_refusals_on_both_sides_are_no_gain(telling):
    draws = np.random.default_rng(2)
    lifted = (draws.random((2, 200, 3)) < 0.4).astype(float)
    found = telling.separation(*lifted)
    assert found.low < 0 < found.high


@pytest.mark.parametrize("name", ["organism", "real_text"])
def test_the_studies_can_be_read_and_hold_every_mitigation(name):
    study = load_study(FOLDER / f"{name}.yaml", finished=True)
    conditions = {variant.condition for entry in study.fine_tunes for variant in variants(entry)}
    shares = {f"code+multitask+replay@share{share}" for share in (0.01, 0.05, 0.1, 0.2, 0.3)}
    tasks = {
        f"code+multitask+replay+part@without-{t}"
        for t in ("text", "code", "translation", "classification")
    }
    assert shares | tasks | {"code", "code+text-only", "code+multitask"} <= conditions
    assert all(entry.seeds == (1, 2, 3) for entry in study.fine_tunes)
