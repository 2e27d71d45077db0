"""Golden values; published ones name their source, the others are values that a second, independent program gave."""

import math

import numpy as np
import pytest

from aftertune.measure.arrays import Average
from aftertune.measure.contrasts import MeanT, Table2x2, mover, p_above, p_value
from aftertune.measure.crossed import crossed_wilson, effective_n, quantiles, two_way
from aftertune.measure.intervals import benjamini_hochberg, holm, mcnemar, newcombe, wilson

pytestmark = pytest.mark.golden

CROSSED = np.array(
    [[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]], float
)
BASE = np.array([[0.5], [0.0], [1.0], [0.0], [0.0], [0.0]])


def average(matrix, responses):
    """Return a matrix as the average of so many equally weighted responses."""
    return Average(
        matrix=matrix,
        complete=True,
        k=float(matrix.mean() * responses),
        n=responses,
        behaviors=len(matrix),
        responses=responses,
        samples=responses // len(matrix),
        unequal=False,
    )


# Newcombe (1998a), Stat Med 17:857, table of worked examples; also in the tests of the R package ratesci.
@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson(k, n, low, high):
    assert wilson(k / n, n) == pytest.approx((low, high), abs=6e-5)


# Newcombe (1998b), Stat Med 17:2635, method 10, order a, b, c, e; the R package propint tests the same rows.
# The last row is a regression value.
@pytest.mark.parametrize(
    ("table", "difference", "low", "high"),
    [
        ((36, 12, 2, 0), 0.2, 0.0569, 0.3404),
        ((18, 12, 2, 18), 0.2, 0.0562, 0.3290),
        ((53, 0, 0, 1), 0.0, -0.0729, 0.0729),
        ((0, 30, 0, 0), 1.0, 0.8395, 1.0),
        ((1, 1, 7, 12), -0.2857, -0.5069, -0.0256),
    ],
)
def test_newcombe_method_10(table, difference, low, high):
    a, b, c, e = table
    assert Table2x2(a=a, b=b, c=c, e=e).estimate == pytest.approx(difference, abs=6e-5)
    assert newcombe(*table) == pytest.approx((low, high), abs=6e-5)


# (20, 12, 2, 16): Armitage and Berry, via StatsDirect (exact); (1, 1, 7, 12): Bentur, in Fagerland et al. (2013);
# b = 6, c = 16: exact from statsmodels. The mid-p of the first and last rows are regression values.
@pytest.mark.parametrize(
    ("b", "c", "exact", "mid"),
    [(12, 2, 0.0129, 0.007385), (1, 7, 0.0703125, 0.0390625), (6, 16, 0.0524788, 0.0346897)],
)
def test_mcnemar(b, c, exact, mid):
    point = math.comb(b + c, b) / 2 ** (b + c)
    assert mcnemar(b, c) + point == pytest.approx(exact, abs=6e-5)
    assert mcnemar(b, c) == pytest.approx(mid, abs=6e-7)


# Shrout and Fleiss (1979), Psychol Bull 86:420: six targets, four judges; V and df are regression values.
def test_two_way_mean_squares():
    x = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
    )
    result = two_way(x)
    assert (result.ms_behaviors, result.ms_seeds, result.ms_interaction) == pytest.approx(
        (11.2417, 32.4861, 1.0194), abs=6e-5
    )
    assert (result.variance, result.df) == pytest.approx((1.77951, 4.8366), abs=6e-5)


# Regression values, worked out by a second program from the formulas in docs/statistics.md.
def test_two_way_wilson():
    result = two_way(CROSSED)
    assert result.mean == pytest.approx(0.416667, abs=6e-7)
    assert (result.ms_behaviors, result.ms_seeds, result.ms_interaction) == pytest.approx(
        (0.666667, 0.166667, 0.133333), abs=6e-7
    )
    assert (result.variance, result.df) == pytest.approx((0.02916667, 4.93289), abs=6e-6)
    assert quantiles(0.05, result.df)[1] == pytest.approx(2.58114, abs=6e-6)
    assert result.mean * (1 - result.mean) / result.variance == pytest.approx(8.3333, abs=6e-5)
    assert effective_n(result, 24) == pytest.approx(4.8050, abs=6e-5)
    assert crossed_wilson(result, 24) == pytest.approx((0.123000, 0.784380), abs=6e-7)


# Regression values, worked out by a second program from the formulas in docs/statistics.md.
def test_mover_and_two_way_t():
    change = mover(average(CROSSED, 24), average(BASE, 12))
    base = two_way(BASE)
    assert wilson(base.mean, effective_n(base, 12)) == pytest.approx((0.043407, 0.710032), abs=6e-7)
    assert change.r == pytest.approx(0.857143, abs=6e-7)
    assert change.estimate == pytest.approx(0.166667, abs=6e-7)
    assert change.interval(0.05) == pytest.approx((-0.090775, 0.384989), abs=6e-7)
    paired = MeanT(x=two_way(CROSSED - BASE))
    assert (paired.x.variance, paired.x.df) == pytest.approx((0.00833333, 3.0), abs=6e-9)
    assert paired.interval(0.05) == pytest.approx((-0.123850, 0.457183), abs=6e-7)


def test_p_values_invert_the_interval():
    change = mover(average(CROSSED, 24), average(BASE, 12))
    p = p_value(change)
    assert change.interval(p)[0] == pytest.approx(0.0, abs=1e-9)
    low, high = change.interval(0.10)
    assert p_above(change, low) == pytest.approx(0.05, abs=1e-6)
    assert p_above(change, high) == pytest.approx(0.95, abs=1e-6)


# Benjamini and Hochberg (1995), J R Statist Soc B 57:289, the thrombolysis example.
def test_families():
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
    ]
    p += [0.6528, 0.7590, 1.0]
    assert sum(value <= 0.05 for value in benjamini_hochberg(p)) == 4
    assert sum(value <= 0.05 for value in holm(p)) == 3
    assert sum(value * len(p) <= 0.05 for value in p) == 3
    shuffled = p[::-1]
    assert holm(shuffled)[::-1] == holm(p)
    assert benjamini_hochberg(shuffled)[::-1] == benjamini_hochberg(p)


# Worked out by hand from the two papers: neither adjusted value may be under that of a smaller p-value.
def test_adjusted_p_values_keep_their_order():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert benjamini_hochberg([0.04, 0.05]) == pytest.approx([0.05, 0.05])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
