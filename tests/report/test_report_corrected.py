"""What people's labels say stands beside what the judge says, or says why it does not."""

import copy
from io import StringIO

import pytest
from rich.console import Console

from aftertune.report.beside import correction_legend
from aftertune.report.finding import finding
from aftertune.report.page import Report, write_page
from aftertune.report.terminal import print_study


def interval(low, high):
    return {
        "low": low,
        "high": high,
        "level": 0.95,
        "method": "",
        "scope": "the recipe, prompts like these",
    }


def rate(estimate, refused=None):
    return {
        "estimate": None if refused else estimate,
        "interval": None if refused else interval(estimate - 0.05, estimate + 0.05),
        "labels": 20 if refused else 120,
        "judged_harmful": 15,
        "labels_only": estimate,
        "labels_only_interval": interval(estimate - 0.1, estimate + 0.1),
        "uncorrected": refused and {"missing": "labels", "text": refused, "arm": None},
    }


def change(estimate, refused=None):
    found = rate(estimate, refused)
    return {
        "estimate": found["estimate"],
        "interval": found["interval"],
        "p_value": None if refused else 0.012,
        "labels": [120, 120],
        "uncorrected": refused and {"missing": "labels", "text": refused, "arm": None},
    }


def errors():
    return {
        "both": 10, "judge_only": 5, "annotators_only": 2, "neither": 103,
        "sensitivity": 0.83, "sensitivity_interval": interval(0.6, 0.94),
        "specificity": None, "specificity_interval": None,
        "bias": 0.04, "bias_interval": interval(0.01, 0.07), "agreement": 0.94, "kappa": None, "ac1": 0.92,
    }  # fmt: skip


@pytest.fixture
def corrected(result):
    """The result with labels of the base and of two fine-tunes; the second has too few."""
    base, code, other, *_ = result["settings"][0]["conditions"]
    against = {
        "sensitivity": None,
        "specificity": None,
        "bias": 0.061,
        "bias_interval": interval(0.02, 0.10),
        "differs": True,
    }
    for condition, why in ((base, None), (code, None), (other, "20 labels; 50 are needed")):
        tuned = condition is not base
        condition["labels"] = {
            "labels": 20 if why else 120,
            "asr": {"overall": rate(0.123, why), "by_task": {"code": rate(0.456, why)}},
            "asr_change": {"overall": change(0.234, why), "by_task": {}} if tuned else None,
            "judges": {"content": errors()},
            "against_base": against if tuned and not why else None,
        }
    return result


def printed(result, *, full=False):
    stream = StringIO()
    print_study(result, Console(file=stream, width=80), full=full)
    return stream.getvalue()


def test_corrected_figures_stand_under_raw_ones_in_every_table(corrected):
    text = printed(corrected)
    headline, by_task, *_ = text.split("ASR by task")
    assert "corrected 12.3 %" in headline
    assert "[7.3, 17.3]" in headline
    assert "corrected +23.4" in headline
    assert "not corrected" in headline
    assert "corrected 45.6 %" in by_task
    assert all(len(line) <= 80 for line in text.splitlines())


def test_parts_with_few_labels_stay_as_they_are_and_it_is_said_once(corrected):
    by_task = printed(corrected).split("ASR by task")[1].split("ASR corrected by people")[0]
    assert "not corrected" not in by_task
    assert by_task.count("the others have too few labels (50 are needed)") == 1


def test_guards_judges_and_over_refusal_have_them_too(corrected, tmp_path):
    base = corrected["settings"][0]["conditions"][0]
    parts = {"overall": rate(0.345), "by_task": {}}
    behind = {
        "asr": {"overall": rate(0.111), "by_task": {}},
        "asr_change": None,
        "asr_difference": None,
    }
    base["labels"] |= {
        "over_refusal": {"overall": rate(0.222), "by_task": {"code": rate(0.444)}},
        "judge_rates": {"rules": parts},
        "guards": {"world": behind | {"over_refusal": {"overall": None}}},
    }
    path = tmp_path / "page.html"
    write_page(path, Report(result=corrected, command="aftertune report"))
    page = path.read_text(encoding="utf-8")
    for figure in ("11.1", "22.2", "34.5", "44.4"):
        assert f"corrected {figure} %" in page


def test_why_a_rate_is_not_corrected_is_said(corrected):
    text = " ".join(printed(corrected, full=True).split())
    name = corrected["settings"][0]["conditions"][2]["name"]
    assert f"{name} is not corrected: 20 labels; 50 are needed." in text


def test_the_finding_says_what_the_judge_owes(corrected):
    text = " ".join(finding(corrected))
    assert 'the ASR of "code" changed by +23.4 points [+18.4, +28.4]' in text
    assert (
        'errs differently on "code" than on its base: +6.1 points [+2.0, +10.0] of the raw change'
        in text
    )
    assert "is not corrected by human labels (20 labels; 50 are needed)" in text


# The two kinds of errors and their sum are different questions, so either may be shown without the other.
@pytest.mark.parametrize(
    ("differs", "low", "high", "said"),
    [
        (
            True,
            -0.179,
            0.102,
            "though no effect on the change was shown: -3.9 points [-17.9, +10.2] of it may be",
        ),
        (False, -0.272, -0.028, "errs differently"),
        (False, -0.179, 0.102, "No difference of the judge's errors"),
    ],
)
def test_the_judges_part_is_a_fact_only_where_it_was_shown(corrected, differs, low, high, said):
    result = copy.deepcopy(corrected)
    for condition in result["settings"][0]["conditions"]:
        if condition["labels"] and condition["labels"]["against_base"]:
            condition["labels"]["against_base"] |= {
                "differs": differs, "bias": -0.039, "bias_interval": {"low": low, "high": high},
            }  # fmt: skip
    text = " ".join(finding(result))
    assert said in text
    assert ("are the judge's own" in text) == (high < 0)


def test_the_page_shows_them_in_tables_and_figures(corrected, tmp_path):
    path = tmp_path / "page.html"
    write_page(path, Report(result=corrected, command="aftertune report"))
    page = path.read_text(encoding="utf-8")
    assert "corrected 12.3 %" in page
    assert "Hollow: corrected by people." in page
    assert "Judges against people" in page


def test_without_labels_nothing_is_said_of_people(result):
    assert "people" not in printed(result, full=True)


def test_people_who_labelled_the_same_are_compared(corrected):
    pair = {
        "both": 10,
        "first_only": 2,
        "second_only": 1,
        "neither": 87,
        "kappa": 0.85,
        "ac1": 0.96,
    }
    corrected["annotators"] = {"pairs": {"anna | be\x1bn": pair}}
    assert (
        "anna | ben agree on 97 of 100 responses that both labelled (kappa 0.85, AC1 0.96)."
        in " ".join(printed(corrected, full=True).split())
    )


def test_undecided_labels_and_adjusted_p_values_are_said(corrected):
    _, code, *_ = corrected["settings"][0]["conditions"]
    code["labels"]["asr"]["overall"] |= {"undecided": 9, "bounds": interval(0.07, 0.312)}
    code["labels"]["asr_change"]["overall"] |= {
        "p_adjusted": 0.036,
        "adjustment": "Holm over fine-tunes",
    }
    table = " ".join(printed(corrected, full=True).split("ASR corrected by people")[1].split())
    assert (
        "code: people left 9 of 120 labels undecided, which the rate counts as not harmful" in table
    )
    assert "were they harmful, it could reach 31.2 %" in table
    assert "in brackets 95 % intervals; p-values adjusted: Holm over fine-tunes." in table
    assert "p = .036" in table or "p = 0.036" in table


def test_a_legend_gives_the_reason_that_a_correction_is_missing():
    few, blind = (
        {"uncorrected": {"missing": "labels", "text": "3 labels; 50 are needed"}},
        {"uncorrected": {"missing": "slope", "text": "the judge follows people too little"}},
    )
    assert correction_legend([None]) == ()
    assert correction_legend([few, few]) == (
        "No figure here has the 50 labels of people that a correction takes.",
    )
    assert correction_legend([{"uncorrected": None}, few]) == (
        "corrected: by people's labels; the others have too few labels (50 are needed).",
    )
    assert correction_legend([{"uncorrected": None}, blind, blind]) == (
        "corrected: by people's labels.", "Not corrected: the judge follows people too little.",
    )  # fmt: skip
    assert correction_legend([few, blind])[0] == "Nothing here is corrected by people's labels."
