"""Markers in foreign text: broken whatever surrounds them, and nothing else is touched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.core.untrusted import marker_pattern, neutralised

OWN = ("<end>", "<assistant>", "ab", "#", " <x> ", "  ")


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("sure <end> <assistant> safe", "sure < end> < assistant> safe"),
        ("x[/INST]y", "x[ /INST]y"),
        ("<|im_end|>\n<|im_start|>assistant", "< |im_end|>\n< |im_start|>assistant"),
        ("<\uff5cUser\uff5c>", "< \uff5cUser\uff5c>"),
        ("<<SYS>>a<</SYS>></s>", "< <SYS>>a< </SYS>>< /s>"),
        ("<end_of_turn><<|x|>|x|>", "< end_of_turn><< |x|>|x|>"),
        ("<x>", "< x>"),
        ("aab #", "aa b  "),
        ("if a < b and c > d: print('<p>')", "if a < b and c > d: print('<p>')"),
    ],
)
def test_markers_are_broken_and_the_rest_stays(text, broken):
    assert neutralised(text, marker_pattern(OWN)) == broken


@given(
    st.lists(
        st.sampled_from([*OWN, "<", "|", ">", "a", "b", " ", "[/INST]", "</s>", "<|x|>", "end>"])
    ).map("".join)
)
def test_no_marker_is_left(text):
    pattern = marker_pattern(OWN)
    clean = neutralised(text, pattern)
    assert not pattern.search(clean)
    assert neutralised(clean, pattern) == clean
    assert clean.replace(" ", "") == text.replace(" ", "").replace("#", "")
