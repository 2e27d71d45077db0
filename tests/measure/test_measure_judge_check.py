"""The figures of a judge on labelled answers: published values, a second program, coverage, and what stands apart."""

import numpy as np
import pytest

from aftertune.core.records import VerdictValue
from aftertune.measure.judge_check import (
    AnswerLabel,
    JudgedAnswer,
    flips,
    group_figures,
    judge_figures,
    kappa_at,
    label_verdicts,
)

COMPLIED, REFUSED, DEFLECTED, UNDECIDED = VerdictValue


def answers(*counts, group=None):
    return [
        JudgedAnswer(group, AnswerLabel(label), VerdictValue(verdict))
        for label, verdict, n in counts
        for _ in range(n)
    ]


# Newcombe (1998c), Stat Med 17:873, table II, method 10: 56 of 70 against 48 of 80.
@pytest.mark.golden
def test_youden_j_has_the_interval_of_an_unpaired_difference():
    j = judge_figures(56, 70, 80 - 48, 80).youden_j
    assert (j.value, j.low, j.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=6e-5)


# Cohen's kappa of published tables (labels in rows, refused first).
@pytest.mark.golden
@pytest.mark.parametrize(
    ("table", "value"),
    [(((20, 5), (10, 15)), 0.4), (((45, 15), (25, 15)), 0.1304), (((25, 35), (5, 35)), 0.2593)],
)
def test_kappa(table, value):
    (hits, missed), (alarms, cleared) = table
    figures = judge_figures(hits, hits + missed, cleared, alarms + cleared)
    assert figures.kappa.value == pytest.approx(value, abs=6e-5)
    assert figures.kappa.low < value < figures.kappa.high


@pytest.mark.golden
def test_kappa_of_many_answers_has_the_interval_of_statsmodels():
    from statsmodels.stats.inter_rater import cohens_kappa

    table = np.array([[3000, 500], [400, 6100]])
    other = cohens_kappa(table)
    kappa = judge_figures(3000, 3500, 6100, 6500).kappa
    assert kappa.value == pytest.approx(other.kappa, abs=1e-12)
    # theirs lets the share of refusals vary too, which matters little where both rates are high
    assert (kappa.low, kappa.high) == pytest.approx((other.kappa_low, other.kappa_upp), abs=2e-3)


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "refused", "complied"),
    [(0.9, 0.97, 30, 30), (0.5, 0.99, 20, 80), (0.98, 0.8, 60, 15)],
)
def test_the_interval_of_kappa_covers(sensitivity, specificity, refused, complied):
    rng = np.random.default_rng(5)
    true = kappa_at(sensitivity, specificity, refused / (refused + complied))
    covered = []
    for hits, cleared in zip(
        rng.binomial(refused, sensitivity, 200),
        rng.binomial(complied, specificity, 200),
        strict=True,
    ):
        kappa = judge_figures(int(hits), refused, int(cleared), complied).kappa
        covered.append(kappa.low <= true <= kappa.high)
    assert np.mean(covered) >= 0.92  # .95 is expected; 200 draws have a standard error of .015


def test_a_faultless_judge_is_not_said_to_be_certain():
    figures = judge_figures(20, 20, 20, 20)
    for figure in (figures.sensitivity, figures.specificity, figures.youden_j, figures.kappa):
        assert (figure.value, figure.high) == (1.0, 1.0)
        assert 0.6 < figure.low < 0.9


@pytest.mark.parametrize(
    ("refused", "complied", "defined"),
    [(0, 9, ["specificity"]), (9, 0, ["sensitivity"]), (0, 0, [])],
)
def test_a_figure_without_answers_of_its_label_is_none(refused, complied, defined):
    figures = judge_figures(refused, refused, complied, complied)
    named = {
        name: getattr(figures, name) for name in ("sensitivity", "specificity", "youden_j", "kappa")
    }
    assert [name for name, figure in named.items() if figure.value is not None] == defined
    assert all((f.value is None) == (f.low is None) == (f.high is None) for f in named.values())
    assert figures.n == refused + complied


def test_deflected_finds_a_refusal_undecided_is_an_error_and_partial_stands_apart():
    judged = answers(
        ("refused", "refused", 4), ("refused", "deflected", 2), ("refused", "complied", 1), ("refused", "undecided", 1),
        ("complied", "complied", 6), ("complied", "deflected", 1), ("complied", "undecided", 3),
        ("partial", "refused", 5), ("deflected", "complied", 5), ("incoherent", "complied", 5), ("undecided", "refused", 5),
    )  # fmt: skip
    overall, groups = group_figures(judged)
    assert (overall.n, overall.sensitivity.value, overall.specificity.value) == (18, 6 / 8, 6 / 10)
    assert groups == {}
    counts = label_verdicts(judged)
    assert list(counts) == [
        "complied",
        "refused",
        "partial",
        "deflected",
        "incoherent",
        "undecided",
    ]
    assert counts[AnswerLabel.COMPLIED] == {COMPLIED: 6, DEFLECTED: 1, UNDECIDED: 3}
    assert sum(n for by_verdict in counts.values() for n in by_verdict.values()) == len(judged)


def test_groups_have_their_own_figures():
    judged = [
        *answers(("refused", "refused", 3), ("complied", "complied", 1), group="b"),
        *answers(("refused", "complied", 3), group="a"),
    ]
    overall, groups = group_figures(judged)
    assert list(groups) == ["a", "b"]
    assert [figures.sensitivity.value for figures in groups.values()] == [0.0, 1.0]
    assert (overall.n, overall.sensitivity.value) == (7, 0.5)


def test_a_verdict_that_stays_on_its_side_does_not_turn():
    before = [REFUSED, REFUSED, COMPLIED, COMPLIED, UNDECIDED]
    after = [DEFLECTED, COMPLIED, COMPLIED, UNDECIDED, UNDECIDED]
    turned = flips([AnswerLabel.REFUSED] * 2 + [AnswerLabel.COMPLIED] * 3, before, after)
    assert {label: (f.flips, f.n) for label, f in turned.items()} == {
        AnswerLabel.COMPLIED: (1, 3),
        AnswerLabel.REFUSED: (1, 2),
    }
