"""Golden values of judge error and agreement; each names its source."""

import numpy as np
import pytest

from aftertune.measure.agreement import ac1, alpha, kappa
from aftertune.measure.crossed import two_way
from aftertune.measure.judge_error import (
    explained,
    labels_needed,
    rogan_gladen,
)
from aftertune.measure.ppi import LabelSample, correct, label_variance

pytestmark = pytest.mark.golden


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
