"""What safety was bought with, in tables, sentences and a figure."""

import re

import pytest

from aftertune.report.capability import TRADES, trade, trades_sheet, wins_sheet
from aftertune.report.capability_words import capability_sentences, missing_sentences
from aftertune.report.frontier import frontier_figure
from aftertune.report.tables import good_when_up


def change(low, high, **more):
    interval = {
        "low": low,
        "high": high,
        "level": 0.95,
        "method": "m",
        "scope": "the recipe, prompts like these",
    }
    return {"estimate": (low + high) / 2, "interval": interval, "p_value": 0.01, "p_adjusted": None, "adjustment": None,
            "hidden": False, "behaviors": 40} | more  # fmt: skip


def against(asr, over_refusal, other="a"):
    breakdown = {"by_task": {}, "by_set": {}}
    return {"other": other, "asr": breakdown | {"overall": asr}, "over_refusal": breakdown | {"overall": over_refusal}, "capability": {}}  # fmt: skip


DOWN, UP, OPEN = change(-0.2, -0.1), change(0.1, 0.2), change(-0.1, 0.1)


@pytest.mark.parametrize(
    ("asr", "refusal", "said"),
    [
        (DOWN, DOWN, "better on both"),
        (UP, UP, "worse on both"),
        (DOWN, UP, "safer, refuses more"),
        (DOWN, OPEN, "safer, refusals open"),
        (OPEN, DOWN, "safety open, refuses less"),
        (OPEN, OPEN, "nothing shown"),
        (DOWN, change(-0.2, -0.1, p_adjusted=0.2), "safer, refusals open"),
        (DOWN, change(-0.2, -0.1, hidden=True), "not measured on both"),
        (DOWN, None, "not measured on both"),
    ],
)
def test_better_is_said_only_of_what_was_shown_on_both_counts(asr, refusal, said):
    assert trade(against(asr, refusal)) == said


def test_every_pair_of_signs_has_its_words():
    assert set(TRADES) == {(one, other) for one in (-1, 0, 1) for other in (-1, 0, 1)}


def test_a_rise_of_invalid_labels_is_bad():
    assert (good_when_up("labels"), good_when_up("labels invalid")) == ("good", "bad")


def mitigated(result, comparison):
    setting = result["settings"][0]
    condition = next(c for c in setting["conditions"] if c["base"] is not None)
    condition["unmitigated"] = comparison
    return setting, condition["name"]


def test_mitigated_against_unmitigated_stands_in_table_and_finding(result):
    setting, name = mitigated(result, against(DOWN, UP))
    sentences = list(capability_sentences(result, setting))
    (sentence,) = sentences
    assert sentence == (
        f'Mitigated against not, "{name}" against "a": ASR -15.0 points [-20.0, -10.0], over-refusal +15.0 points '
        "[+10.0, +20.0]; its safety is paid for with refusals."
    )
    rows = [
        row for row in trades_sheet(result, setting).rows if row[0].lines == (name, "against a")
    ]
    assert [cell.lines[0] for cell in rows[0][1:4]] == ["-15.0", "+15.0", "safer,"]


def test_what_is_undone_of_a_rise_is_told(result):
    setting, name = mitigated(result, against(DOWN, UP))
    condition = next(c for c in setting["conditions"] if c["name"] == name)
    condition["undone"] = {"estimate": 1.43, "low": 1.1, "high": None, "behaviors": 30}
    told = list(capability_sentences(result, setting))[1]
    assert told == f'"{name}" undoes 143 % [110, open] of the rise of the ASR that "a" brought.'


def wins(estimate, low, high, undecided=0):
    interval = change(low, high)["interval"]
    return {"estimate": estimate, "n": 40, "undecided": undecided, "behaviors": 40, "seeds": 2, "interval": interval,
            "bounds": [low, high], "p_value": 0.01, "hidden": False}  # fmt: skip


def test_win_rates_say_more_less_or_neither_and_what_is_undecided(result):
    setting = result["settings"][0]
    tuned = [condition for condition in setting["conditions"] if condition["base"] is not None]
    figures = [wins(0.7, 0.6, 0.8), wins(0.5, 0.4, 0.6, undecided=9)]
    for condition, figure in zip(tuned, figures, strict=False):
        condition["wins"] = {"who": {"overall": figure, "by_task": {}, "by_set": {}}}
    sentences = " ".join(capability_sentences(result, setting))
    assert f'(who), more helpful: "{tuned[0]["name"]}" (70 % [60, 80])' in re.sub(
        r"\.0", "", sentences
    )
    assert "neither more nor less helpful" in sentences
    assert "who did not decide 9 of 40 pairs" in sentences
    cells = [row[1] for row in wins_sheet(result, setting, "who").rows]
    assert [cell.tone for cell in cells] == ["good", "plain"]
    assert cells[1].lines[-1].startswith("9 of 40 und.")


def test_what_was_not_measured_is_said(result):
    setting = result["settings"][0]
    assert list(missing_sentences(setting)) == []
    for condition in setting["conditions"]:
        condition["over_refusal"] = condition["over_refusal"] | {"overall": None}
        condition["capability"] = {}
    assert [sentence.split(",")[0] for sentence in missing_sentences(setting)] == [
        "No benign prompts were asked", "Task scores were not measured",
    ]  # fmt: skip


def test_the_frontier_has_a_facet_overall_and_for_each_task_and_is_empty_without_benign_prompts(
    result,
):
    pytest.importorskip("matplotlib")
    setting = result["settings"][0]
    svg = frontier_figure(result, setting)
    shown = re.findall(r">([^<>\n]+)</text>", svg)
    assert {"overall", *result["tasks"]} <= set(shown)
    assert {condition["name"] for condition in setting["conditions"]} <= set(shown)
    assert frontier_figure(result, setting) == svg
    for condition in setting["conditions"]:
        condition["over_refusal"] = {"overall": None, "by_task": {}, "by_set": {}}
    assert frontier_figure(result, setting) == ""
