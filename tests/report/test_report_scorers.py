"""Bypass, harm scores and labels of judges in tables."""

import io

from rich.console import Console
from typed_results import as_study, score

from aftertune.report.tables import detail_sheets, study_sheets
from aftertune.report.terminal import print_study


def with_scores(result):
    (setting,) = result["settings"]
    for number, condition in enumerate(setting["conditions"]):
        harm = score(0.1 * number + 0.05)
        condition["harm_scores"] = {"content": {"overall": harm, "by_task": {"code": harm}}}
        labels = {f"S{i}": i + 1 for i in range(8)} | {"\x1b[31m": 99}
        condition["second_labels"] = {"content": {"counts": labels, "n": 240}}
    return result


def printed(result):
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=False)
    print_study(as_study(result), console)
    return stream.getvalue()


def sheets(result):
    study = as_study(result)
    both = [*study_sheets(study, study.settings[0]), *detail_sheets(study, study.settings[0])]
    return {sheet.title: sheet for sheet in both}


def test_harm_scores_and_labels_are_printed(result):
    text = printed(with_scores(result))
    assert "Mean harm score" in text
    assert "0.450" in text
    assert "99 of 240" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_without_scores_and_labels_no_tables(result):
    assert not [title for title in sheets(result) if "harm score" in title or "Labels of" in title]


def test_bypass_harm_and_labels_by_task(result):
    titles = sheets(with_scores(result))
    assert {"Bypass by task of the guard world", "Mean harm score by task (content)"} <= set(titles)
    assert len(titles["Labels of the judge content"].rows) == 9
    labels = {row[0].lines[-1] for row in titles["Bypass by task of the guard world"].rows}
    assert {"bypass, change", "effect on change"} <= labels


def test_p_values_say_how_they_were_adjusted(result):
    titles = sheets(result)
    alone = "p-values: each test by itself, not adjusted for their number."
    assert alone in titles["Behind the guard world"].legend
    assert (
        "p-values adjusted: Holm over tasks." in titles["Bypass by task of the guard world"].legend
    )


def test_a_scorer_that_scored_nothing_takes_no_column(result):
    for condition in result["settings"][0]["conditions"]:
        condition["capability"] |= {"labels": {"overall": None}}
    headline = next(iter(sheets(result).values()))
    assert "labels" not in headline.headers
    assert "accuracy" in headline.headers
