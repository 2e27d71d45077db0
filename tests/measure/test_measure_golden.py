"""Golden values of the statistics, each with its source."""

import math

import numpy as np
import pytest

from aftertune.measure.agreement import ac1, alpha_of, alpha_parts, kappa
from aftertune.measure.arrays import Average
from aftertune.measure.capability import corpus_bleu
from aftertune.measure.contrasts import MeanT, Table2x2, mover, p_above, p_value
from aftertune.measure.crossed import crossed_wilson, effective_n, quantiles, two_way
from aftertune.measure.intervals import benjamini_hochberg, holm, mcnemar, newcombe, tango, wilson
from aftertune.measure.judge_error import (
    explained,
    labels_needed,
    rogan_gladen,
)
from aftertune.measure.ppi import LabelSample, correct, label_variance

pytestmark = pytest.mark.golden

CROSSED = np.array(
    [[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]], float
)
BASE = np.array([[0.5], [0.0], [1.0], [0.0], [0.0], [0.0]])


def alpha(ratings):
    """Return Krippendorff's alpha of units x values."""
    observed, values = alpha_parts(ratings)
    return float(alpha_of(observed.sum(), values.sum(axis=0)))


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


# Order b, c, n and the two-sided error. The tests of the R package ratesci, which cite Tango (1998), Agresti and Min (2005)
# and Fagerland et al. (2013); the last row is a regression value.
@pytest.mark.parametrize(
    ("b", "c", "n", "alpha", "low", "high"),
    [
        (9, 3, 32, 0.05, -0.027, 0.390),
        (0, 1, 44, 0.10, -0.096, 0.037),
        (16, 8, 86, 0.05, -0.020, 0.207),
        (1, 7, 21, 0.05, -0.517, -0.026),
        (40, 20, 160, 0.05, 0.031, 0.218),
    ],
)
def test_tango(b, c, n, alpha, low, high):
    assert tango(b, c, n, alpha) == pytest.approx((low, high), abs=6e-4)


def test_tango_of_changes_in_one_direction_is_wilson():
    assert tango(6, 0, 60, 0.05)[1] == pytest.approx(wilson(6 / 60, 60, 0.05)[1], abs=1e-12)


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


# Shrout and Fleiss (1979), Psychol Bull 86:420: ICC(2,1), ICC(3,1), ICC(2,k) of six targets by four judges, and the components.
def test_shrout_and_fleiss():
    x = two_way(
        np.array(
            [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]],
            float,
        )
    )
    n, k, p, s, i = 6, 4, x.ms_behaviors, x.ms_seeds, x.ms_interaction
    assert ((p - i) / k, (s - i) / n) == pytest.approx((2.5556, 5.2444), abs=6e-5)
    assert (p - i) / (p + (k - 1) * i + k * (s - i) / n) == pytest.approx(0.2898, abs=6e-5)
    assert (p - i) / (p + (k - 1) * i) == pytest.approx(0.7148, abs=6e-5)
    assert (p - i) / (p + (s - i) / n) == pytest.approx(0.6201, abs=6e-5)


# The README of sacrebleu: BLEU 48.53 of its three sentences, from matches 14/17, 7/14, 5/11, 3/8 and lengths 17 and 18.
def test_corpus_bleu():
    counted = np.array([[14, 7, 5, 3, 17, 14, 11, 8, 17, 18]], float)
    assert 100 * corpus_bleu(counted)[0] == pytest.approx(48.5308, abs=6e-5)


COUNTS = (17, 4, 3, 76)  # both harmful, the judge alone, people alone, neither
LABELS = LabelSample(
    truth=np.repeat([1.0, 0.0, 1.0, 0.0], COUNTS),
    judged=np.repeat([1.0, 1.0, 0.0, 0.0], COUNTS),
    stratum=np.zeros(100, np.int64),
    weight=np.ones(100),
    shares=np.ones(1),
)
OTHERS = np.repeat([1.0, 0.0], [210, 790])
"""The judge's readings of the responses without a label."""
TUNED = 0.707849
"""The lambda of ppi_py."""


def plain_ppi(power):
    """Join label part and judge part of the plain PPI++ mean of one checkpoint: estimate and variance."""
    rest = LABELS.truth - power * LABELS.judged
    variance = power**2 * two_way(OTHERS[:, None]).variance + label_variance(LABELS, rest)[0]
    return power * OTHERS.mean() + LABELS.normal @ rest, variance


# The R package epiR, `epi.prev`: 23 of 150, sensitivity .96, specificity .89.
def test_rogan_gladen():
    assert pytest.approx(0.1533, abs=6e-5) == 23 / 150
    assert rogan_gladen(23 / 150, 0.96, 0.89) == pytest.approx(0.0510, abs=6e-5)


# ppi_py 0.2.3 (lambda 0, 1 and tuned), whose variances divide by n; ours by n - 1, so the limits agree to two digits more
# than are ever printed. The last row of figures was worked out by a second program with n - 1.
@pytest.mark.parametrize(
    ("power", "low", "high"),
    [(TUNED, 0.14806, 0.25194), (1.0, 0.14236, 0.25764), (0.0, 0.12160, 0.27840)],
)
def test_ppi_of_independent_responses(power, low, high):
    estimate, variance = plain_ppi(power)
    half = 1.959964 * variance**0.5
    assert estimate == pytest.approx(0.2, abs=1e-9)
    assert (estimate - half, estimate + half) == pytest.approx((low, high), abs=5e-4)


def test_ppi_of_independent_responses_with_unbiased_variances():
    assert plain_ppi(TUNED)[1] == pytest.approx(0.00070861, abs=1e-8)
    assert explained(0.2, 0.85, 0.95) == pytest.approx(0.61724, abs=1e-5)


# Ours is tuned for judge readings of everything and by the labels' own variance, ppi_py's for h labels beside n readings.
def test_lambda():
    y, f = LABELS.truth, LABELS.judged
    pooled, h, n = np.concatenate([f, OTHERS]).var(ddof=1), len(y), len(OTHERS)
    found = correct(LABELS, 0.21)
    assert found.power * f.var(ddof=1) / pooled / (1 + h / n) == pytest.approx(TUNED, abs=1e-6)
    assert found.estimate == pytest.approx(plain_ppi(found.power)[0])


# Labels for a half width, with the judge and without: worked out by a second program from Tenenbein (1970).
@pytest.mark.parametrize(
    ("p", "se", "sp", "half", "labels"),
    [
        (0.05, 0.85, 0.95, 0.03, (128, 203)),
        (0.05, 0.90, 0.99, 0.03, (55, 203)),
        (0.20, 0.85, 0.95, 0.05, (94, 246)),
        (0.20, 0.95, 0.98, 0.03, (106, 683)),
        (0.40, 0.85, 0.95, 0.05, (126, 369)),
    ],
)
def test_labels_needed(p, se, sp, half, labels):
    assert labels_needed(p, se, sp, half) == pytest.approx(labels, abs=1)


nan = 0
RATERS = np.array([
    [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
    [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
])  # fmt: skip
RATINGS = np.stack([(value == RATERS).sum(axis=0) for value in range(1, 6)], axis=1)


# Krippendorff (2011), the 4 x 12 example with missing ratings, nominal, and the binary 2 x 10 one.
def test_krippendorff():
    assert alpha(RATINGS) == pytest.approx(0.743, abs=6e-4)


def test_krippendorff_of_two_values():
    one, other = ([int(digit) for digit in text] for text in ("0100000010", "1110010000"))
    pairs = np.array([one, other])
    binary = np.stack([(pairs == value).sum(axis=0) for value in (0, 1)], axis=1)
    assert alpha(binary) == pytest.approx(0.095, abs=6e-4)


# Cohen's kappa: worked examples of the literature. AC1: Gwet (2008); the first table's is from a second program.
@pytest.mark.parametrize(
    ("table", "kappa_", "ac1_"),
    [
        ([[20, 5], [10, 15]], 0.400, 0.4059),
        ([[45, 15], [25, 15]], 0.1304, None),
        ([[25, 35], [5, 35]], 0.2593, None),
        ([[118, 5], [2, 0]], -0.0234, 0.9408),
    ],
)
def test_kappa_and_ac1(table, kappa_, ac1_):
    assert kappa(np.array(table, float)) == pytest.approx(kappa_, abs=6e-5)
    if ac1_ is not None:
        assert ac1(np.array(table, float)) == pytest.approx(ac1_, abs=6e-5)
