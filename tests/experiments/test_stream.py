"""The online rules of the hub's experiment, against published levels, and their false alarms."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

RUN = Path(__file__).parents[2] / "experiments" / "stream" / "run.py"


@pytest.fixture(scope="module")
def stream():
    spec = importlib.util.spec_from_file_location("stream", RUN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The levels that the R package onlineFDR prints for its example (LOND, alpha = .05).
P_VALUES = (
    2.9e-14,
    0.00143,
    0.06514,
    0.00174,
    0.00171,
    0.27201,
    3.61e-05,
    0.79149,
    7.59e-08,
    0.28295,
)
P_VALUES += (0.69274, 0.72342, 0.30443, 0.54757, 0.000487)
LEVELS = (0.0026758385, 0.0011638206, 0.0009912499, 0.0008243606, 0.0006988870, 0.0006045900)
LEVELS += (0.0005319444, 0.0007117838, 0.0006421423, 0.0007796504, 0.0007155186, 0.0006610273)
LEVELS += (0.0006141682, 0.0005734509, 0.0005377472)


def levels(rule, p_values):
    for p in p_values:
        level = rule.level()
        yield level
        rule.learn(failed=p <= level)


def test_lond_gives_the_published_levels(stream):
    assert list(levels(stream.Lond(), P_VALUES)) == pytest.approx(LEVELS, rel=1e-6)


def test_lord_gives_the_levels_of_its_equation(stream):
    """Worked by hand from gamma = .0535168, .0116382, .0099125, .0082436 with rejections at 1 and 3."""
    expected = [0.00026758, 0.00246645, 0.00057328, 0.00316312]
    assert list(levels(stream.Lord(), (1e-9, 0.5, 1e-9, 0.5))) == pytest.approx(expected, rel=2e-5)


def test_the_shares_of_alpha_sum_to_at_most_one(stream):
    million = stream.gammas(np.arange(1, 10**6 + 1)).sum()
    # What is left is the integral of c log(j) / (j exp(sqrt(log j))): 2 c (u^3 + 3 u^2 + 6 u + 6) exp(-u) at u = sqrt(log j).
    u = np.sqrt(np.log(10**6))
    rest = 2 * 0.07720838 * (u**3 + 3 * u**2 + 6 * u + 6) * np.exp(-u)
    assert 0.95 < million + rest < 1


def test_false_alarms_at_the_margin_are_at_most_those_declared_and_broken_bases_are_caught(stream):
    looks = np.array(list(stream.interim_analyses(200)), np.float64)
    worlds = {"margin": {stream.MARGIN: 1.0}, "broken": {0.3: 1.0}}
    failed = {}
    for name, world in worlds.items():
        tally = stream.Tally()
        for trial in stream.trials(world, 400, 20, 200, seed=3):
            tally.add(trial, stream.ALPHA, looks)
        failed[name] = tally.failed / 400
    assert failed["margin"] < stream.ALPHA
    assert failed["broken"] > 0.95
