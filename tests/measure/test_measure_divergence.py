"""KL divergence of two distributions, against scipy and by hand."""

import numpy as np
import pytest
from scipy.stats import entropy

from aftertune.measure.divergence import kl_divergence


@pytest.mark.golden
def test_by_hand():
    base, tuned = np.log([0.5, 0.25, 0.25]), np.log([0.25, 0.5, 0.25])
    assert kl_divergence(base, tuned) == pytest.approx(0.25 * np.log(2), abs=1e-12)


@pytest.mark.golden
def test_scipys_relative_entropy():
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.full(50, 0.3), size=20) for _ in range(2))
    assert kl_divergence(np.log(p), np.log(q)) == pytest.approx(entropy(p, q, axis=1))


def test_equal_distributions_have_none_and_impossible_tokens_add_nothing():
    with np.errstate(divide="ignore"):
        p = np.log(np.array([0.5, 0.5, 0.0], np.float32))
    assert kl_divergence(p, p) == 0
    assert kl_divergence(p, np.log([0.4, 0.4, 0.2])) == pytest.approx(np.log(0.5 / 0.4))
    assert kl_divergence(np.log([0.4, 0.4, 0.2]), p) == np.inf


def test_embeddings_that_are_padded_are_compared_on_the_tokens_of_both():
    p, q = np.log([0.5, 0.25, 0.25]), np.log([0.25, 0.5, 0.2, 0.05])
    shared = np.array([0.25, 0.5, 0.2]) / 0.95
    assert kl_divergence(p, q) == pytest.approx(entropy([0.5, 0.25, 0.25], shared))
