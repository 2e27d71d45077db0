"""The rule that chooses a repair's strength, on figures that are written down."""

from dataclasses import replace

import pytest

from aftertune.measure.repair import Figures, Miss, choose
from aftertune.measure.results import Rate, Score, interval, scope

ABOUT = scope(1)
LIMITS = interval((0.0, 1.0), "none", ABOUT)


def rate(estimate):
    return Rate(
        estimate=estimate, behaviors=20, seeds=1, interval=LIMITS, hidden=False, k=round(20 * estimate), n=20, samples=1,
        undecided=0, incoherent=0, bounds=LIMITS, unequal=False,
    )  # fmt: skip


def score(estimate):
    return Score(
        estimate=estimate, behaviors=20, seeds=1, interval=LIMITS, hidden=False, n=20, unequal=False
    )


def figures(asr, refused, own):
    return Figures(asr=rate(asr), over_refusal=rate(refused), score=score(own))


BASE, TUNED = figures(0.1, 0.0, 0.2), figures(0.6, 0.0, 0.8)
"""The gain is 0.6: 90 % of it is kept from 0.74 on."""


def chosen(*swept, base=BASE, tuned=TUNED):
    return choose(base, tuned, swept, margin=0.05)


@pytest.mark.parametrize(
    ("swept", "strength"),
    [
        ([(0.9, figures(0.5, 0.0, 0.8)), (0.5, figures(0.3, 0.0, 0.8))], 0.5),
        ([(0.9, figures(0.5, 0.0, 0.8)), (0.5, figures(0.3, 0.06, 0.8))], 0.9),
        ([(0.9, figures(0.5, 0.0, 0.8)), (0.5, figures(0.3, 0.05, 0.8))], 0.5),
        ([(0.9, figures(0.5, 0.0, 0.8)), (0.5, figures(0.3, 0.0, 0.73))], 0.9),
        ([(0.9, figures(0.5, 0.0, 0.8)), (0.5, figures(0.3, 0.0, 0.74))], 0.5),
        ([(0.9, figures(0.3, 0.0, 0.8)), (0.5, figures(0.3, 0.0, 0.8))], 0.9),
        ([(0.9, figures(0.3, 0.0, 0.76)), (0.5, figures(0.3, 0.0, 0.8))], 0.5),
        ([(0.9, figures(0.6, 0.0, 0.8)), (0.5, figures(0.7, 0.0, 0.8))], None),
        ([(0.1, figures(0.1, 0.0, 0.2))], None),
    ],
    ids=[
        "the lowest ASR", "refuses too much", "refuses as much as the margin", "lost the task", "kept just enough",
        "of equal ones the gentler", "of equal ones that keeps more", "no lower than the fine-tune", "the base again",
    ],
)  # fmt: skip
def test_the_rule(swept, strength):
    assert chosen(*swept).chosen == strength


def test_a_strength_says_what_it_misses():
    selection = chosen((0.1, figures(0.7, 0.5, 0.2)))
    assert selection.candidates[0].misses == (Miss.OVER_REFUSAL, Miss.GAIN, Miss.NO_LOWER)
    assert (selection.candidates[0].kept, selection.gain) == (0, pytest.approx(0.6))


@pytest.mark.parametrize("own", [0.2, 0.1])
def test_without_a_gain_no_strength_is_chosen(own):
    selection = chosen((0.5, figures(0.3, 0.0, 0.8)), tuned=figures(0.6, 0.0, own))
    assert selection.chosen is None
    assert selection.candidates[0].kept is None


def test_without_an_own_task_the_rates_decide():
    base, tuned, mended = (replace(item, score=None) for item in (BASE, TUNED, figures(0.3, 0, 0)))
    assert chosen((0.5, mended), base=base, tuned=tuned).chosen == 0.5
