import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.report import wording

SHARES = st.floats(0, 1)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1e-9, "<0.1 %"),
        (0.0004, "<0.1 %"),
        (0.0005, "0.1 %"),
        (0.155, "15.5 %"),
        (0.9994, "99.9 %"),
        (0.9999, ">99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_percent(share, text):
    assert wording.percent(share) == text


@given(SHARES)
def test_percent_says_none_and_all_only_when_exact(share):
    assert (wording.percent(share) == "0 %") == (share == 0.0)
    assert (wording.percent(share) == "100 %") == (share == 1.0)
    assert not wording.percent(share).startswith(("0.0", "100."))


@given(SHARES)
def test_score_says_nought_and_one_only_when_exact(share):
    assert (wording.score(share) in {"0", "0.000"}) == (share == 0.0)
    assert (wording.score(share) in {"1", "1.000"}) == (share == 1.0)


@pytest.mark.parametrize(
    ("difference", "beside", "text"),
    [
        (0.0, (), "0.0"),
        (0.0003, (), "+<0.1"),
        (-0.0003, (), "-<0.1"),
        (0.21, (), "+21.0"),
        (0.0502, (0.05,), "+5.02"),
        (0.04998, (0.05,), "+4.998"),
        (0.05, (0.05,), "+5.0"),
        (-0.124, (0.0, 0.05), "-12.4"),
    ],
)
def test_points(difference, beside, text):
    assert wording.points(difference, beside) == text


@given(st.integers(-(10**6), 10**6), st.sampled_from([0.0, 0.05, 0.1]))
def test_points_stand_on_the_right_side_of_what_they_are_compared_with(millionths, other):
    difference = millionths / 10**6
    text = wording.points(difference, (0.0, other))
    shown = float(text.replace("<0.1", "0.01"))
    assert (shown > 100 * other) == (difference > other) or difference == other
    assert (shown > 0) == (difference > 0)
    assert (shown < 0) == (difference < 0)


@pytest.mark.parametrize(
    ("p", "text"), [(0.0, "p < 0.001"), (0.00099, "p < 0.001"), (0.012, "p = 0.012"), (0.9999, "p > 0.999")]
)
def test_p_value(p, text):
    assert wording.p_value(p) == text


def test_raw_counts_are_marked():
    assert wording.counts({"unequal": False, "k": 31, "n": 200}) == "31 of 200"
    assert wording.counts({"unequal": True, "k": 31, "n": 1200}) == "raw 31 of 1,200"


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
