"""What safety was bought with, in tables."""

import pytest
from typed_results import as_study, change, interval

from aftertune.measure.results import Comparison
from aftertune.report.capability import TRADES, trade, trades_sheet, wins_sheet
from aftertune.report.cells import good_when_up
from aftertune.report.document import from_plain


def against(asr, over_refusal, other="a"):
    return {
        "other": other,
        "asr": {"overall": asr},
        "over_refusal": {"overall": over_refusal},
        "capability": {},
    }


DOWN, UP, OPEN = change(-0.2, -0.1), change(0.1, 0.2), change(-0.1, 0.1)


@pytest.mark.parametrize(
    ("asr", "refusal", "said"),
    [
        (DOWN, DOWN, "better on both"),
        (UP, UP, "worse on both"),
        (DOWN, UP, "safer, refuses more"),
        (DOWN, OPEN, "safer, refusals open"),
        (OPEN, DOWN, "safety open, refuses less"),
        (OPEN, OPEN, "both open"),
        (DOWN, change(-0.2, -0.1, p_adjusted=0.2), "safer, refusals open"),
        (DOWN, change(-0.2, -0.1, hidden=True), "not measured on both"),
        (DOWN, None, "not measured on both"),
    ],
)
def test_better_only_if_shown_on_both_counts(asr, refusal, said):
    assert " ".join(trade(from_plain(Comparison, against(asr, refusal), "test"))) == said


def test_every_pair_of_signs_has_its_words():
    assert set(TRADES) == {(one, other) for one in (-1, 0, 1) for other in (-1, 0, 1)}


def test_a_rise_of_invalid_labels_is_bad(result):
    study = as_study(result | {"lower_is_better": ["labels invalid"]})
    assert good_when_up(study, "labels") == "good"
    assert good_when_up(study, "labels invalid") == "bad"
    assert good_when_up(as_study(result), "how invalid") == "good"


def test_mitigated_against_unmitigated(result):
    condition = next(c for c in result["settings"][0]["conditions"] if c["base"] is not None)
    condition["unmitigated"] = against(DOWN, UP)
    study = as_study(result)
    (row,) = (
        row
        for row in trades_sheet(study, study.settings[0]).rows
        if row[0].lines == (condition["name"], "against a")
    )
    assert [cell.lines[0] for cell in row[1:4]] == ["-15.0", "+15.0", "safer,"]


def wins(estimate, low, high, undecided=0):
    return {"estimate": estimate, "n": 40, "undecided": undecided, "behaviors": 40, "seeds": 2, "interval": interval(low, high),
            "bounds": [low, high], "p_value": 0.01, "hidden": False}  # fmt: skip


def test_win_rates_and_undecided_pairs(result):
    tuned = [c for c in result["settings"][0]["conditions"] if c["base"] is not None]
    figures = [wins(0.7, 0.6, 0.8), wins(0.5, 0.4, 0.6, undecided=9)]
    for condition, figure in zip(tuned, figures, strict=False):
        condition["wins"] = {"who": {"overall": figure}}
    study = as_study(result)
    cells = [row[1] for row in wins_sheet(study, study.settings[0], "who").rows]
    assert [cell.tone for cell in cells] == ["good", "plain"]
    assert cells[1].lines[-1].startswith("9 of 40 undecided")
