"""The share of a rise that a mitigation undoes, in a study's result."""

import numpy as np
import pytest
from measure_tables import build

from aftertune.measure.measure import measure
from aftertune.measure.plan import Condition, MeasurePlan

SEEDS = {"a": ("a1", "a2", "a3"), "m": ("m1", "m2")}


def measured(rates):
    rng = np.random.default_rng(4)
    harmful = {"base": rng.random((80, 2)) < rates["base"]}
    harmful |= {
        model: rng.random((80, 2)) < rates[name]
        for name, models in SEEDS.items()
        for model in models
    }
    plan = MeasurePlan(
        conditions=(
            Condition(name="base", models=("base",)),
            Condition(name="a", models=SEEDS["a"], base="base"),
            Condition(name="m", models=SEEDS["m"], base="base", unmitigated="a"),
        ),
        judges=("rules",),
    )
    return measure(build(harmful), plan).settings[0]


def test_it_is_the_ratio_of_the_rates_with_an_interval():
    setting = measured({"base": 0.1, "a": 0.6, "m": 0.2})
    base, tuned, mended = (
        setting.condition(name).asr.overall.estimate for name in ("base", "a", "m")
    )
    found = setting.condition("m").undone
    assert found.estimate == pytest.approx((tuned - mended) / (tuned - base))
    assert found.low < found.estimate < found.high < 1.2
    assert found.behaviors == 80
    assert setting.condition("a").undone is None


def test_without_a_rise_nothing_is_undone():
    assert measured({"base": 0.6, "a": 0.3, "m": 0.2}).condition("m").undone is None


def test_where_the_rise_may_be_nothing_the_ratio_says_little():
    found = measured({"base": 0.3, "a": 0.36, "m": 0.3}).condition("m").undone
    assert found is None or found.low is None or found.high is None or found.high - found.low > 1
