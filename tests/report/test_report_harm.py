"""Bypass, harm scores and labels of judges, as a reader sees them."""

import io

from rich.console import Console

from aftertune.report.finding import finding
from aftertune.report.tables import detail_sheets, study_sheets
from aftertune.report.terminal import print_study


def with_scores(result):
    (setting,) = result["settings"]
    for number, condition in enumerate(setting["conditions"]):
        score = {
            "estimate": 0.1 * number + 0.05, "n": 240, "behaviors": 60, "seeds": 1, "unequal": False, "hidden": False,
            "interval": {"low": 0.01, "high": 0.6, "level": 0.95, "method": "two-way t", "scope": "this"},
        }  # fmt: skip
        condition["harm_scores"] = {"content": {"overall": score, "by_task": {"code": score}}}
        labels = {f"S{i}": i + 1 for i in range(8)} | {"\x1b[31m": 99}
        condition["second_labels"] = {"content": {"counts": labels, "n": 240}}
    return result


def printed(result, *, full=True):
    stream = io.StringIO()
    print_study(result, Console(file=stream, width=80, force_terminal=False), full=full)
    return stream.getvalue()


def test_harm_scores_and_labels_are_printed_in_full_alone(result):
    text = printed(with_scores(result))
    assert "Mean harm score" in text
    assert "0.450" in text
    assert "99 of 240" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    short = printed(result, full=False)
    assert "Mean harm score" not in short
    assert "Labels of" not in short


def test_without_scores_and_labels_nothing_is_said(result):
    text = printed(result)
    assert "Mean harm score" not in text
    assert "Labels of" not in text


def test_the_page_has_bypass_harm_and_labels_by_task(result):
    result = with_scores(result)
    titles = {sheet.title: sheet for sheet in detail_sheets(result, result["settings"][0])}
    assert {"Bypass by task of the guard world", "Mean harm score by task (content)"} <= set(titles)
    assert len(titles["Labels of the judge content"].rows) == 9
    labels = {row[0].lines[-1] for row in titles["Bypass by task of the guard world"].rows}
    assert {"bypass, change", "effect on change"} <= labels


def test_the_finding_tells_the_bypass_and_a_shown_change_of_it(result):
    assert (
        'Of the harmful responses of "code" it lets 88.9 % through (bypass; "base": 100 %).'
        in finding(result)
    )
    code = next(c for c in result["settings"][0]["conditions"] if c["name"] == "code")
    change = code["guards"]["world"]["bypass_change"]["overall"]
    change |= {"estimate": 0.3, "p_value": 0.001}
    change["interval"] |= {"low": 0.2, "high": 0.4}
    said = 'the guard world lets through a greater share of the harmful responses of "code" (+30.0 points [+20.0, +40.0]).'
    assert any(said in sentence for sentence in finding(result))


def test_a_result_of_an_older_version_without_these_figures_still_prints(result):
    for condition in result["settings"][0]["conditions"]:
        del condition["harm_scores"], condition["harm_score_change"], condition["second_labels"]
        for guard in condition["guards"].values():
            del guard["bypass"], guard["bypass_change"]
    assert "not measured" in printed(result)
    assert not any("bypass" in sentence for sentence in finding(result))
    assert detail_sheets(result, result["settings"][0])


def test_p_values_that_belong_to_no_family_say_so(result):
    (setting,) = result["settings"]
    sheets = [
        sheet
        for sheet in study_sheets(result, setting)
        if sheet.title.startswith("Behind the guard")
    ]
    assert sheets
    assert all(
        "p-values: each test by itself, not adjusted for their number." in sheet.legend
        for sheet in sheets
    )
    (by_task,) = [s for s in detail_sheets(result, setting) if s.title.startswith("Bypass by task")]
    assert "p-values adjusted: Holm over tasks." in by_task.legend


def test_a_scorer_that_scored_nothing_takes_no_column(result):
    (setting,) = result["settings"]
    for condition in setting["conditions"]:
        condition["capability"] = {
            **condition["capability"],
            "labels": {"overall": None, "by_task": {}, "by_set": {}},
        }
    (headline, *_) = study_sheets(result, setting)
    assert "labels" not in headline.headers
    assert set(setting["conditions"][0]["capability"]) - {"labels"} <= set(headline.headers)
