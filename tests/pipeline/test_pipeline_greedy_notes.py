"""Several draws at temperature 0 are one answer, and a reader of the counts must know."""

from aftertune.generate import greedy_notes
from aftertune.study.config import DecodingKeys


def test_draws_that_draw_nothing_are_told():
    for more in ({"samples": 3}, {"samples": 1, "seeds": (0, 1, 2)}):
        (note,) = greedy_notes(DecodingKeys(temperatures=(0.7, 0.0), **more))
        assert note.startswith("temperature 0 draws nothing: the 3 answers to each prompt")


def test_draws_that_differ_and_single_ones_are_not():
    assert greedy_notes(DecodingKeys()) == []
    assert greedy_notes(DecodingKeys(temperatures=(0.7,), samples=5)) == []
