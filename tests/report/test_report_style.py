"""The sentences on style and the judge's errors: at most two, of the fine-tune that they matter most for."""

from dataclasses import replace

import numpy as np
import pytest
from measure_tables import build

from aftertune.measure.judge_bounds import CheckedJudge, ErrorRates
from aftertune.measure.measure import Evidence, measure_table
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.results import JudgeBounds
from aftertune.report.document import from_plain, to_plain
from aftertune.report.style import bounds_sheet, style_sentences, style_sheet
from aftertune.score.style import styles_of

PLAN = MeasurePlan(
    conditions=(Condition(name="base", models=("base",)), *(Condition(name=n, models=(n,), base="base") for n in "ab")),
    judges=("rules",),
)  # fmt: skip
GROUPS = {
    "x": ErrorRates(sensitivity=1.0, specificity=1.0),
    "y": ErrorRates(sensitivity=0.5, specificity=0.9),
}


def result(drifts, groups=GROUPS):
    """Return a result in which all models refuse everything, those that drift in other words."""
    refusing = {name: np.zeros((40, 1), int) for name in ("base", "a", "b")}
    table = build(refusing)
    models = [table.names["model"][code] for code in table.columns["model"].tolist()]
    texts = ("such a thing stays untold" if m in drifts else "sorry I cannot help" for m in models)
    checked = (
        CheckedJudge(judge="rules", version="1", source="x", groups=groups) if groups else None
    )
    styles = styles_of(range(len(table)), texts)
    measured = measure_table(table, PLAN, Evidence(checked=checked, styles=styles))
    assert from_plain(type(measured), to_plain(measured), "result.json") == measured
    return measured


def sentences(measured):
    return list(style_sentences(measured, measured.settings[0]))


def test_a_drift_and_its_bounds_are_two_sentences():
    style, bounds = sentences(result({"a", "b"}))
    assert 'Style: "a" (and 1 more fine-tune) does the same in other words' in style
    assert "wording of refusals of harmful prompts" in style
    assert "each of the two models as on any of its 2 groups" in bounds


def test_without_a_drift_the_judge_is_taken_to_err_alike():
    (bounds,) = sentences(result(set()))
    assert "both models alike as on one of its 2 groups" in bounds


def test_nothing_is_said_without_a_drift_and_without_a_check():
    measured = result(set(), groups={})
    assert sentences(measured) == []
    assert not bounds_sheet(measured, measured.settings[0]).rows
    assert len(style_sheet(measured.settings[0]).rows) == 2 * 3  # wording, length and script


@pytest.mark.parametrize(
    ("limits", "remedy"), [((0.0, 0.04), False), ((-0.2, 0.3), True), ((0.06, 0.3), False)]
)
def test_the_remedy_is_named_where_the_bounds_lie_on_both_sides_of_the_margin(limits, remedy):
    measured = result(set())
    (setting,) = measured.settings
    bounds = JudgeBounds(margin=0.05, by_group={"x": limits}, alike=limits, apart=limits)
    changed = [
        replace(c, judge_bounds={"overall": bounds} if c.name == "a" else {})
        for c in setting.conditions
    ]
    lines = list(style_sentences(measured, replace(setting, conditions=tuple(changed))))
    assert ["50 labels of each model" in sentence for sentence in lines] == [remedy]
