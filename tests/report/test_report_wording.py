from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typed_results import as_study

from aftertune.report import wording

SHARES = st.floats(0, 1)


@given(SHARES)
def test_score_says_nought_and_one_only_when_exact(share):
    assert (wording.score(share) in {"0", "0.000"}) == (share == 0.0)
    assert (wording.score(share) in {"1", "1.000"}) == (share == 1.0)


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0, "p < 0.001"), (0.00099, "p < 0.001"), (0.012, "p = 0.012"), (0.9999, "p > 0.999")],
)
def test_p_value(p, text):
    assert wording.p_value(p) == text


def test_raw_counts_are_marked(result):
    rate = as_study(result).settings[0].conditions[0].asr.overall
    assert wording.counts(replace(rate, unequal=False, k=31, n=200)) == "31 of 200"
    assert wording.counts(replace(rate, unequal=True, k=31, n=1200)) == "raw 31 of 1,200"


def test_few_counts_the_rest():
    assert wording.few(["a", "b", "c"]) == "a, b and c"
    assert wording.few(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


HOSTILE = "a\x1b[31mb\x00c\u202ed\u2066e\x9bf\u2028g\x07\ud800h\r\ni\u200be"


def test_clean_leaves_nothing_that_steers():
    assert wording.clean(HOSTILE) == "a[31mbcdef gh ie"
    assert wording.clean("modèle 模型 نموذج 👩‍🔬") == "modèle 模型 نموذج 👩‍🔬"


def test_visible_shows_what_steers_and_keeps_lines():
    assert wording.visible("a\x1b[0m\x00\u202eb\n\tc") == "a<U+001B>[0m<U+0000><U+202E>b\n\tc"


@given(st.text())
def test_nothing_that_steers_survives(text):
    assert not any(map(wording._steers, wording.clean(text)))
    assert not any(map(wording._steers, wording.visible(text).replace("\n", "").replace("\t", "")))
