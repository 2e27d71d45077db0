"""The rate in every hazard of every task: its figures, its table, its drawings; exploratory, and said so."""

import re

import pytest
from typed_results import as_study

from aftertune.measure.measure import measure_table
from aftertune.report.hazards import MOST_FIGURES, hazard_changes, hazards_sheet


def test_a_cell_has_the_rate_of_its_rows_and_its_change_against_the_base(made_up):
    made, plan = made_up
    columns, names = made.columns, made.names
    conditions = measure_table(made, plan()).settings[0].conditions
    tuned = next(condition for condition in conditions if condition.name == "code")
    base = next(condition for condition in conditions if condition.name == "base")
    assert (
        list(tuned.hazards)
        == list(base.hazards)
        == ["text", "code", "translation", "classification"]
    )
    for task, of_task in tuned.hazards.items():
        assert list(of_task) == ["weapons", "privacy"], "four behaviors of fraud are too few"
        for hazard, figures in of_task.items():
            here = (columns["intent"] == 0) & (columns["task"] == names["task"].index(task))
            here &= columns["hazard"] == names["hazard"].index(hazard)
            rates = []
            for condition in ("code", "base"):
                models = [n.partition("/")[0] == condition for n in names["model"]]
                rows = here & [models[code] for code in columns["model"]]
                harmful = (columns["verdict:content"] == 0) & (columns["coherent"] == 1)
                rates.append(harmful[rows].mean())
            assert figures.rate.estimate == pytest.approx(rates[0])
            assert base.hazards[task][hazard].rate.estimate == pytest.approx(rates[1])
            assert figures.change.estimate == pytest.approx(rates[0] - rates[1])
            assert figures.change.p_adjusted >= figures.change.p_value
            assert "exploratory" in figures.change.adjustment
            assert base.hazards[task][hazard].change is None


def test_prompts_of_one_hazard_and_hazards_of_few_behaviors_have_no_cells(made_up):
    made, plan = made_up
    one = {**made.columns, "hazard": made.columns["hazard"] * 0}
    for changed, declared in (
        (type(made)(columns=one, scores=made.scores, names=made.names), plan()),
        (made, plan(min_cell=40)),
    ):
        result = measure_table(changed, declared)
        assert {len(c.hazards) for c in result.settings[0].conditions} == {0}
        assert hazards_sheet(result, result.settings[0]).rows == ()
        assert hazard_changes(result, result.settings[0]) == []


def test_the_table_has_a_row_a_hazard_and_condition_and_says_that_it_is_exploratory(result):
    typed = as_study(result)
    sheet = hazards_sheet(typed, typed.settings[0])
    assert sheet.headers == ("hazard", "text", "code", "translation", "classification")
    assert [row[0].lines for row in sheet.rows[:3]] == [
        ("privacy", "base"),
        ("weapons", "base"),
        ("privacy", "code"),
    ]
    assert "(exploratory)" in sheet.title
    assert "Benjamini-Hochberg over hazards within tasks" in sheet.legend[0]
    rate, limits, change = sheet.rows[2][2].lines
    assert re.fullmatch(r"[\d.]+ %", rate)
    assert re.fullmatch(r"\[[\d.<]+, [\d.]+\]", limits)
    assert re.fullmatch(r"\+[\d.]+ \[\+[\d.]+, \+[\d.]+\]", change)
    assert sheet.rows[2][2].tone == "bad"


def test_a_drawing_a_fine_tune_with_every_cell_in_words(result):
    typed = as_study(result)
    drawings = hazard_changes(typed, typed.settings[0])
    assert len(drawings) == MOST_FIGURES == 4
    first = drawings[0]
    assert first.name == "hazards-code"
    assert first.title.startswith("code: change of the ASR by hazard and task")
    cells = re.findall(
        r"(privacy|weapons) asked as (\w+) [+-][\d.]+ \[[+-][\d.]+, [+-][\d.]+\]", first.description
    )
    assert len(cells) == 8
