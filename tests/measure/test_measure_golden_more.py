"""Golden values of what stands beside the defaults: exact and Jeffreys' intervals, McNemar's chi-squared."""

import numpy as np
import pytest

from aftertune.measure.corpus import corpus_bleu
from aftertune.measure.crossed import two_way
from aftertune.measure.intervals import mcnemar, wilson
from aftertune.measure.textbook import clopper_pearson, jeffreys, mcnemar_chi_squared

pytestmark = pytest.mark.golden


# Newcombe (1998a), Stat Med 17:857, the method 5 column of its worked examples; the last three also in the tests of the R
# package ratesci.
@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_clopper_pearson(k, n, low, high):
    assert clopper_pearson(k / n, n) == pytest.approx((low, high), abs=6e-5)


# statsmodels 0.15, proportion_confint(method="jeffreys"), on the same examples.
@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(81, 263, 0.2545, 0.3656), (15, 148, 0.0604, 0.1576)]
)
def test_jeffreys(k, n, low, high):
    assert jeffreys(k / n, n) == pytest.approx((low, high), abs=6e-5)


def test_the_exact_interval_holds_the_others():
    for k in range(31):
        exact = clopper_pearson(k / 30, 30)
        for other in (wilson(k / 30, 30), jeffreys(k / 30, 30)):
            assert exact[0] <= other[0] + 0.011
            assert exact[1] >= other[1] - 0.011
        assert clopper_pearson(1 - k / 30, 30) == pytest.approx((1 - exact[1], 1 - exact[0]))


# (20, 12, 2, 16): Armitage and Berry, via StatsDirect (with Yates' correction). The approval table (794, 86, 150, 570), Agresti,
# Categorical Data Analysis, 10.1: statsmodels 0.15.
def test_mcnemar_chi_squared():
    assert mcnemar_chi_squared(12, 2, corrected=True) == pytest.approx(5.785714, abs=6e-7)
    assert mcnemar_chi_squared(86, 150) == pytest.approx(17.3559, abs=6e-5)
    assert mcnemar_chi_squared(86, 150, corrected=True) == pytest.approx(16.8178, abs=6e-5)
    assert mcnemar(86, 150) < 1e-4
    assert mcnemar_chi_squared(0, 0) == 0


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
