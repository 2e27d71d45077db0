"""Golden values of intraclass correlations and of corpus BLEU."""

import numpy as np
import pytest

from aftertune.measure.capability import corpus_bleu
from aftertune.measure.crossed import two_way

pytestmark = pytest.mark.golden


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
