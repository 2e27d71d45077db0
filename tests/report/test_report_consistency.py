"""Consistency in words and tables: what a reader sees at 80 columns, from a real measurement."""

import io

import numpy as np
import pytest
from measure_tables import build
from rich.console import Console

from aftertune.errors import InputError
from aftertune.measure.consistency import consistency
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.report.consistency import drawings, print_consistency
from aftertune.report.consistency_sheets import factor_sheet
from aftertune.report.consistency_words import chance, limit, times


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
    return consistency(table, MeasurePlan(conditions=conditions, judges=("rules",))).to_json()


def printed(result):
    out = io.StringIO()
    print_consistency(result, Console(file=out, width=80, no_color=True))
    return out.getvalue()


def test_it_reads_at_80_columns_and_names_cannot_steer_the_screen(result):
    text = printed(result)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    joined = " ".join(text.split())
    assert (
        "Two labs running one training seed each on these prompts would differ by more than 10 points"
        in joined
    )
    assert "On these very prompts, a great many training seeds would change the ASR by [" in joined
    assert "One training seed says nothing of what another one would give" in joined
    assert "sensitivity to the template" in joined
    assert "s: ASR by epoch" in joined


def test_a_factor_over_too_few_behaviors_is_not_told(result):
    entry = next(entry for entry in result["entries"] if "template" in entry["sensitivity"])
    few = {**entry["sensitivity"]["template"], "behaviors": 3, "hidden": True}
    cells = [
        cell.lines
        for cell in factor_sheet(
            "a", "template", [{**entry, "sensitivity": {"template": few}}]
        ).rows[0]
    ]
    assert ("too few", "3 behaviors") in cells
    assert not any("%" in line for lines in cells for line in lines)


def test_figures_are_drawn_once_for_what_is_there(result):
    pytest.importorskip("matplotlib", reason="figures need the report extra")
    found = [(svg, caption) for svg, caption in drawings(result) if svg]
    assert [caption.partition(":")[0] for _, caption in found] == [
        "Each dot a training seed; line", "Shares of the variance of the rate.", "<b>[31m", "s",
    ]  # fmt: skip
    assert all(svg.startswith("<svg") and "<b>" not in svg for svg, _ in found)
    assert found == [(svg, caption) for svg, caption in drawings(result) if svg], "the same bytes"
    assert not any("<image" in svg for svg, _ in found), "the page's policy shows no images"


def test_another_format_is_refused(result):
    with pytest.raises(InputError, match="format 99"):
        printed({**result, "format": 99})


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.33, "one time in three"), (0.147, "one time in seven"), (0.051, "one time in twenty"),
        (0.5, "every second time"), (0.001, "less than one time in a hundred"), (0.99, "nearly always"),
    ],
)  # fmt: skip
def test_a_probability_is_a_frequency(p, words):
    assert times(p) == words


def test_nothing_is_certain_and_nothing_is_rounded_to_nought():
    assert [chance(p) for p in (1.0, 0.0, 0.5, None)] == ["> 99 %", "< 1 %", "50.0 %", "-"]
    assert [limit(x) for x in (None, 0.0, 0.0001, 0.1)] == ["unknown", "none seen", "<0.1", "10.0"]
