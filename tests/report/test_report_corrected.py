"""Corrected figures stand beside raw ones, or a table says why they do not."""

from io import StringIO

import pytest
from rich.console import Console
from typed_results import as_document, as_study, interval

from aftertune.measure.results import CorrectedRate, Missing
from aftertune.report.cells import Cell, correction_legend
from aftertune.report.corrected import errors_sheet, labels_sheet
from aftertune.report.document import from_plain
from aftertune.report.finding import finding
from aftertune.report.page import Report, write_page
from aftertune.report.tables import detail_sheets, study_sheets
from aftertune.report.terminal import print_study

FEW = {"missing": Missing.LABELS.value, "text": "20 labels; 50 are needed", "arm": None}
SLOPE = {"missing": Missing.SLOPE.value, "text": "the judge follows the labels too little", "arm": None}  # fmt: skip


def rate(estimate, uncorrected=None):
    return {
        "estimate": None if uncorrected else estimate,
        "interval": None if uncorrected else interval(estimate - 0.05, estimate + 0.05),
        "labels": 20 if uncorrected else 120,
        "judged_harmful": 15,
        "labels_only": estimate,
        "labels_only_interval": interval(estimate - 0.1, estimate + 0.1),
        "uncorrected": uncorrected,
    }


def change(estimate, uncorrected=None):
    return {
        "estimate": None if uncorrected else estimate,
        "interval": None if uncorrected else interval(estimate - 0.05, estimate + 0.05),
        "p_value": None if uncorrected else 0.012,
        "labels": [120, 120],
        "uncorrected": uncorrected,
    }


ERRORS = {
    "both": 10, "judge_only": 5, "annotators_only": 2, "neither": 103,
    "sensitivity": 0.83, "sensitivity_interval": interval(0.6, 0.94),
    "specificity": None, "specificity_interval": None,
    "bias": 0.04, "bias_interval": interval(0.01, 0.07), "agreement": 0.94, "kappa": None, "ac1": 0.92,
}  # fmt: skip
AGAINST = {
    "sensitivity": None,
    "specificity": None,
    "bias": 0.061,
    "bias_interval": interval(0.02, 0.10),
    "differs": True,
}


@pytest.fixture
def corrected(result):
    """The result with labels of the base and of two fine-tunes; the second has too few."""
    base, code, other, *_ = result["settings"][0]["conditions"]
    for condition, why in ((base, None), (code, None), (other, FEW)):
        tuned = condition is not base
        condition["labels"] = {
            "labels": 20 if why else 120,
            "asr": {"overall": rate(0.123, why), "by_task": {"code": rate(0.456, why)}},
            "asr_change": {"overall": change(0.234, why), "by_task": {}} if tuned else None,
            "judges": {"content": ERRORS},
            "against_base": AGAINST if tuned and not why else None,
        }
    return result


def titled(result, sheets=study_sheets):
    study = as_study(result)
    return {sheet.title: sheet for sheet in sheets(study, study.settings[0])}


def rows(sheet):
    return {row[0].lines[0]: row for row in sheet.rows}


def test_corrected_figures_stand_under_raw_ones(corrected):
    sheets = titled(corrected)
    _, asr, rise, *_ = rows(sheets["ASR and side effects"])["code"]
    assert asr.lines[-2:] == ("corrected 12.3 %", "[7.3, 17.3]")
    assert rise.lines[-2] == "corrected +23.4"
    name = corrected["settings"][0]["conditions"][2]["name"]
    assert rows(sheets["ASR and side effects"])[name][1].lines[-1] == "not corrected"
    by_task = sheets["ASR by task"]
    column = by_task.headers.index("code")
    assert "corrected 45.6 %" in rows(by_task)["code"][column].lines
    assert "corrected" not in " ".join(rows(by_task)[name][column].lines)
    assert by_task.legend == (
        "corrected: by labels; others are not: 50 labels of a figure are needed.",
    )


def test_at_80_columns(corrected):
    stream = StringIO()
    print_study(as_study(corrected), Console(file=stream, width=80))
    assert all(len(line) <= 80 for line in stream.getvalue().splitlines())


def test_guards_judges_and_over_refusal_have_them_too(corrected, tmp_path):
    base = corrected["settings"][0]["conditions"][0]
    behind = {"asr": {"overall": rate(0.111)}, "asr_change": None, "asr_difference": None}
    base["labels"] |= {
        "over_refusal": {"overall": rate(0.222), "by_task": {"code": rate(0.444)}},
        "judge_rates": {"rules": {"overall": rate(0.345)}},
        "guards": {
            "world": behind | {"over_refusal": {"overall": None}, "bypass": {"overall": None}}
        },
    }
    path = tmp_path / "page.html"
    write_page(path, Report(document=as_document(corrected), command="aftertune report"))
    page = path.read_text(encoding="utf-8")
    for figure in ("11.1", "22.2", "34.5", "44.4"):
        assert f"corrected {figure} %" in page


def test_the_labels_table_says_what_is_missing(corrected):
    name = corrected["settings"][0]["conditions"][2]["name"]
    study = as_study(corrected)
    sheet = labels_sheet(study, study.settings[0])
    assert rows(sheet)[name][2] == Cell(("not corrected",), "faint")
    assert any(
        line.startswith(f"{name} is not corrected: 20 labels; 50 are needed")
        for line in sheet.legend
    )


def test_undecided_labels_adjustment_and_annotators(corrected):
    code = corrected["settings"][0]["conditions"][1]["labels"]
    code["asr"]["overall"] |= {"undecided": 9, "bounds": interval(0.07, 0.312)}
    code["asr_change"]["overall"] |= {"p_adjusted": 0.036, "adjustment": "Holm over fine-tunes"}
    pair = {
        "both": 10, "first_only": 2, "second_only": 1, "neither": 87, "agreement": 0.97, "kappa": 0.85, "kappa_interval": None,
        "ac1": 0.96, "ac1_interval": None, "rare": False,
    }  # fmt: skip
    pairs = {"anna | be\x1bn": pair}
    corrected["annotators"] = {"pairs": pairs, "alpha": None, "alpha_interval": None}
    study = as_study(corrected)
    sheet = labels_sheet(study, study.settings[0])
    legend = " ".join(sheet.legend)
    assert "9 of 120 labels are undecided" in legend
    assert "up to 31.2 %" in legend
    assert "p-values adjusted: Holm over fine-tunes" in legend
    assert "anna | ben agree on 97 of 100 responses" in legend
    assert rows(sheet)["code"][-1].lines[-1] == "p = 0.036"


def test_an_undecided_label_without_bounds_prints(corrected):
    few = corrected["settings"][0]["conditions"][2]["labels"]["asr"]["overall"]
    few |= {"undecided": 1, "bounds": None}
    study = as_study(corrected)
    legend = labels_sheet(study, study.settings[0]).legend
    assert any("1 of 20 labels are undecided" in line for line in legend)


def test_judges_against_annotators(corrected):
    sheet = errors_sheet(as_study(corrected).settings[0])
    assert [cell.lines[0] for cell in sheet.rows[0][1:]] == ["83.0 %", "-", "+4.0", "-", "10 / 5"]


def test_the_page_shows_them_in_tables_and_figures(corrected, tmp_path):
    path = tmp_path / "page.html"
    write_page(path, Report(document=as_document(corrected), command="aftertune report"))
    page = path.read_text(encoding="utf-8")
    assert "corrected 12.3 %" in page
    assert "Dashed line: corrected by labels." in page
    assert "Judges against annotators" in page


def test_without_labels_no_table_of_them(result):
    titles = {*titled(result), *titled(result, detail_sheets)}
    assert not [title for title in titles if "labels" in title or "annotators" in title]


def test_the_finding_says_the_corrected_change_and_what_the_judge_owes(corrected):
    lines = finding(as_study(corrected))
    assert "corrected by labels +23.4 points [+18.4, +28.4]" in lines[0]
    assert (
        'The judge errs differently on "code" and its base: +6.1 points [+2.0, +10.0]' in lines[-1]
    )


# The two kinds of errors and their sum are different questions, so either may be shown without the other.
@pytest.mark.parametrize(
    ("differs", "low", "high", "own"),
    [(True, -0.179, 0.102, "may be"), (True, -0.272, -0.028, "are")],
)
def test_the_judges_part_is_a_fact_only_where_it_was_shown(corrected, differs, low, high, own):
    against = AGAINST | {"differs": differs, "bias": -0.039, "bias_interval": interval(low, high)}
    corrected["settings"][0]["conditions"][1]["labels"]["against_base"] = against
    assert f"of the raw change {own} its own" in finding(as_study(corrected))[-1]


def legend(figures):
    return correction_legend([[Cell(("1 %",), corrected=figure)] for figure in figures])


def test_legends_give_the_reason_that_a_correction_is_missing():
    few, blind, good = (
        from_plain(CorrectedRate, rate(0.2, why), "test") for why in (FEW, SLOPE, None)
    )
    needed, reason = "50 labels of a figure are needed", SLOPE["text"]
    assert legend([None]) == ()
    assert legend([good]) == ("corrected: by labels.",)
    assert legend([few, few]) == (f"Not corrected by labels: {needed}.",)
    assert legend([good, few]) == (f"corrected: by labels; others are not: {needed}.",)
    assert legend([good, blind, blind]) == (f"corrected: by labels; others are not: {reason}.",)
    assert legend([few, blind]) == (f"Not corrected by labels: {reason}; {needed}.",)
