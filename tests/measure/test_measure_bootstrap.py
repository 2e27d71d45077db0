"""The pigeonhole bootstrap, and the share of a rise that a mitigation undoes."""

import math

import numpy as np
import pytest
from crossed_model import draw
from measure_tables import build

from aftertune.measure.bootstrap import macro_f1, pigeonhole, rise_undone
from aftertune.measure.contrasts import MeanT
from aftertune.measure.crossed import two_way
from aftertune.measure.measure import measure_table
from aftertune.measure.plan import Condition, MeasurePlan


def ratio(totals):
    """Return the first quantity over the second, of one arm."""
    (arm,) = totals
    return arm[:, 0] / arm[:, 1]


def cells(hits):
    """Return hits as cells of (hits, responses)."""
    return np.stack([hits, np.ones_like(hits)], axis=2)


def test_a_mean_has_about_the_interval_of_the_formula():
    _, tuned = draw(np.random.default_rng(0), 0.3, 0.3, 200, 8)
    x = tuned.mean(axis=(1, 2))
    found = pigeonhole([cells(x)], ratio, seed=1)
    low, high = MeanT(x=two_way(x)).interval(0.05)
    assert found.estimate == pytest.approx(x.mean())
    assert np.isfinite(found.draws).all()
    assert 0.75 < np.diff(found.interval())[0] / (high - low) < 1.25


def test_the_same_seed_gives_the_same_interval_and_one_column_draws_behaviors_alone():
    x = np.random.default_rng(2).random((40, 1))
    drawn, again = (pigeonhole([cells(x)], ratio, seed=3) for _ in range(2))
    assert (drawn.draws == again.draws).all()
    low, high = drawn.interval()
    half = 1.96 * x.std(ddof=1) / math.sqrt(40)
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)


def test_empty_cells_count_for_nothing():
    x = np.random.default_rng(4).random((30, 4))
    whole = cells(x)
    missing = whole.copy()
    missing[::3, 1] = 0
    kept = np.ones((30, 4), bool)
    kept[::3, 1] = False
    assert pigeonhole([missing], ratio).estimate == pytest.approx(x[kept].mean())


def test_a_ratio_of_nothing_is_undefined_and_its_interval_says_so():
    rise = np.zeros((10, 3, 2))
    rise[..., 1] = 1
    rise[0, :, 0] = 1
    base = np.zeros((10, 1, 2))
    base[..., 1] = 1
    found = pigeonhole([base, rise, base], rise_undone, seed=5)
    assert found.estimate == 1
    assert (~np.isfinite(found.draws)).mean() == pytest.approx(0.9**10, abs=0.05), (
        "draws without the only behavior that rose"
    )
    assert found.interval() == (-math.inf, math.inf)


def test_macro_f1_is_that_of_the_counts():
    truth, said = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 1])
    counts = np.zeros((6, 1, 9))
    for label in range(3):
        counts[:, 0, 3 * label] = (truth == label) & (said == label)
        counts[:, 0, 3 * label + 1] = (truth != label) & (said == label)
        counts[:, 0, 3 * label + 2] = (truth == label) & (said != label)
    found = pigeonhole([counts], macro_f1)
    assert found.estimate == pytest.approx((2 / 4 + 4 / 7 + 0) / 3), (
        "by label: 1 of 2 and 1 wrong; 2 of 3 and 2 wrong; none"
    )
    low, high = found.interval()
    assert low < found.estimate < high


@pytest.mark.slow
def test_the_share_of_a_rise_undone_is_covered():
    rng = np.random.default_rng(7)
    base, tuned, mended, n, seeds = 0.10, 0.40, 0.20, 100, 5
    held = []
    for _ in range(300):
        before, after = draw(rng, base, tuned, n, seeds)
        _, mitigated = draw(rng, base, mended, n, seeds)
        arms = [
            cells(before.mean(axis=(1, 2))[:, None]),
            *(cells(x.mean(axis=(1, 2))) for x in (after, mitigated)),
        ]
        found = pigeonhole(arms, rise_undone, draws=500, seed=int(rng.integers(2**31)))
        low, high = found.interval()
        held.append(low <= (tuned - mended) / (tuned - base) <= high)
    assert np.mean(held) >= 0.93


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
    return measure_table(build(harmful), plan).settings[0]


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
