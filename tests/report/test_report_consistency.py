"""Consistency in words and tables: what a reader sees at 80 columns, from a real measurement."""

import io
from dataclasses import replace

import numpy as np
import pytest
from measure_tables import build
from rich.console import Console

from aftertune.measure.consistency import consistency
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.report.consistency import (
    chance,
    details,
    factor_sheet,
    limit,
    paragraphs,
    print_consistency,
    sheets,
)
from aftertune.report.consistency_figures import consistency_figures
from aftertune.report.drawing import svg


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(0)
    rates = {"base": 0.1, "<b>1": 0.3, "<b>2": 0.5, "early": 0.2, "late": 0.4}
    harmful = {model: (rng.random((30, 2, 6)) < rate).astype(int) for model, rate in rates.items()}
    series = [
        Condition(name=name, models=(name,), base="base", series="s", factors={"epoch": epoch})
        for epoch, name in enumerate(("early", "late"), 1)
    ]
    conditions = (
        Condition(name="base", models=("base",), attributes={"family": "x"}),
        Condition(name="<b>\x1b[31m", models=("<b>1", "<b>2"), base="base"),
        *series,
    )
    table = build(harmful, benign=harmful, templates=2, samples=3)
    return consistency(table, MeasurePlan(conditions=conditions, judges=("rules",)))


def printed(result):
    out = io.StringIO()
    print_consistency(result, Console(file=out, width=80, no_color=True))
    return out.getvalue()


def test_it_reads_at_80_columns_and_names_cannot_steer_the_screen(result):
    lines = printed(result).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 60, "two tables, a curve and a paragraph"
    assert not any("\x1b" in line for line in lines)


def test_fine_tunes_with_several_seeds_have_a_paragraph(result):
    ((name, paragraph),) = paragraphs(result)
    entry = next(e for e in result.entries if e.base and e.components.seeds == 2 and not e.task)
    assert name == "<b>[31m"
    for value in (limit(entry.limits.reproducibility), chance(entry.reproduction.same_sign)):
        assert value in paragraph
    single = [entry for entry in result.entries if entry.components.seeds == 1]
    assert [name for name, _ in paragraphs(replace(result, entries=tuple(single)))] == [
        "One training seed"
    ]


def test_the_screen_has_overall_figures_and_the_page_every_task(result):
    limits, factors, curve = sheets(result)
    assert [row[0].lines[0] for row in limits.rows] == ["base", "<b>[31m"], "a series has its curve"
    assert {row[1].lines[0] for row in factors.rows} == {"template"}
    assert [row[0].lines for row in curve.rows] == [("base",), ("1",), ("2",)]
    by_task, every_factor = details(result)
    assert len(by_task.rows) == len(result.entries) == 12
    assert len(every_factor.rows) == sum(len(entry.sensitivity) for entry in result.entries)


def test_a_factor_over_too_few_behaviors_is_hidden(result):
    entry = next(entry for entry in result.entries if "template" in entry.sensitivity)
    few = replace(entry.sensitivity["template"], behaviors=3, hidden=True)
    entry = replace(entry, sensitivity={"template": few})
    cells = [cell.lines for cell in factor_sheet([(entry, "template")]).rows[0]]
    assert ("too few", "3 behaviors") in cells
    assert not any("%" in line for lines in cells for line in lines)


def test_figures_are_drawn_for_what_is_there(result):
    drawings = consistency_figures(result)
    names = [drawing.name for drawing in drawings]
    assert names == ["labs", "variance-shares", "seed-tiles", "curve-s"]
    for drawing in drawings:
        assert drawing.description
        assert "<b>" not in svg(drawing)
    (entry,) = (e for e in result.entries if len(e.seed_rates) > 1 and e.task is None)
    tiles = [mark for mark in drawings[2].marks if getattr(mark, "title", "")]
    answered = sum(rate > 0 for rates in entry.by_behavior.values() for rate in rates)
    assert len(tiles) == answered


def test_nothing_is_certain_and_nothing_is_rounded_to_nought():
    assert [chance(p) for p in (1.0, 0.0, 0.5, None)] == ["> 99 %", "< 1 %", "50.0 %", "-"]
    assert [limit(x) for x in (None, 0.0, 0.0001, 0.1)] == ["unknown", "none seen", "<0.1", "10.0"]
