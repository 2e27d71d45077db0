"""Rounded numbers never say what the exact ones do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.core.rounding import by_chance, p_value, percent, points

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
    assert percent(share) == text


@given(SHARES)
def test_percent_says_none_and_all_only_when_exact(share):
    assert (percent(share) == "0 %") == (share == 0.0)
    assert (percent(share) == "100 %") == (share == 1.0)
    assert not percent(share).startswith(("0.0", "100."))


@pytest.mark.parametrize(
    ("share", "beside", "text"),
    [
        (0.1001, (0.1,), "10.01 %"),
        (0.09999, (0.1,), "9.999 %"),
        (0.1, (0.1,), "10.0 %"),
        (0.155, (0.1, 0.2), "15.5 %"),
    ],
)
def test_percent_stands_on_its_side_of_what_it_is_compared_with(share, beside, text):
    assert percent(share, beside) == text


def test_percent_without_its_unit():
    assert [percent(share, unit="") for share in (0.0, 1e-5, 0.155, 0.9999)] == [
        "0",
        "<0.1",
        "15.5",
        ">99.9",
    ]


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
    assert points(difference, beside) == text


@given(st.integers(-(10**6), 10**6), st.sampled_from([0.0, 0.05, 0.1]))
def test_points_stand_on_the_right_side_of_what_they_are_compared_with(millionths, other):
    difference = millionths / 10**6
    text = points(difference, (0.0, other))
    shown = float(text.replace("<0.1", "0.01"))
    assert (shown > 100 * other) == (difference > other) or difference == other
    assert (shown > 0) == (difference > 0)
    assert (shown < 0) == (difference < 0)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.05, "p = 0.050"),
        (0.0504, "p = 0.0504"),
        (0.04996, "p = 0.04996"),
        (0.0512, "p = 0.051"),
        (0.0489, "p = 0.049"),
    ],
)
def test_p_value_stands_on_its_side_of_the_error(p, text):
    assert p_value(p) == text


def test_nothing_is_left_to_chance_where_all_was_seen():
    assert by_chance(0.0) == ""
    assert by_chance(5e-16) == " (p < 0.001)"


def test_the_last_digits_of_a_sum_are_no_difference():
    assert points(0.1 - 1e-17 - 1e-16, (0.1,)) == "+10.0"
    assert percent(0.3 - 0.1 - 0.1, (0.1,)) == "10.0 %"
