"""Figures: what they hold, their text alternatives, and the files for papers."""

import re
from xml.etree import ElementTree as ET

import pytest
from typed_results import as_document, as_study, change, conditions

from aftertune.measure.plan import Margins
from aftertune.report import figures
from aftertune.report.drawing import Box, Dot, Line, Words, svg, write_files
from aftertune.report.overview import overview, picture_rows
from aftertune.report.plots import axis

MARGINS = Margins(harm=0.05, harm_task=0.1, over_refusal=0.05, over_refusal_task=0.1, scores={})


def drawn(result):
    return {
        drawing.name: drawing
        for drawing in figures.all_figures(as_document(result, margins=MARGINS), None)
    }


def words(drawing):
    return [mark.text for mark in drawing.marks if isinstance(mark, Words)]


def test_every_figure_that_has_something_to_show(result):
    drawings = drawn(result)
    hazards = {f"hazards-{name}" for name in ("code", "translation", "code-text", "code-multitask")}
    expected = {"change", "change-by-task", "matrix", "guard-bypass", "frontier"}
    assert set(drawings) == expected | hazards
    condition = conditions(result)["code+text"]
    condition["unmitigated"] = {
        "other": "code",
        "asr": {"overall": change(-0.3, -0.1)},
        "over_refusal": {"overall": None},
        "capability": {},
    }
    assert "mitigations" in drawn(result)
    condition["unmitigated"]["asr"]["overall"]["hidden"] = True
    assert "mitigations" not in drawn(result)


def test_the_first_picture_has_a_panel_a_side_with_margins_and_seeds(result):
    picture = drawn(result)["change"]
    shown = words(picture)
    assert {"harm (ASR)", "over-refusal", "accuracy", "code", "code+multitask"} <= set(shown)
    dashes = [mark for mark in picture.marks if isinstance(mark, Line) and mark.dashed]
    assert len(dashes) == 4 * 2, "a margin a fine-tune, for harm and over-refusal"
    dots = [mark for mark in picture.marks if isinstance(mark, Dot)]
    assert len(dots) == 4 * 3 * (1 + 3), "a dot a figure, and one a training seed"
    assert "code: harm +33.1 points [+27.7, +37.6]" in picture.description
    study = as_study(result)
    glance = overview(study, study.settings[0])
    rows = picture_rows(glance, study, study.settings[0])
    narrow = figures.change_picture(glance, rows, "ASR", narrow=True)
    assert narrow.width < 400 < picture.width
    assert set(words(narrow)) >= {"harm (ASR)", "over-refusal", "accuracy"}


def test_a_single_fine_tune_is_drawn_task_by_task(result, gate):
    (setting,) = result["settings"]
    setting["conditions"] = [conditions(result)[name] for name in ("base", "code")]
    shown = words(
        figures.all_figures(as_document(result, gate | {"tuned": "code"}, margins=MARGINS), None)[0]
    )
    assert [text for text in shown if text in {"overall", *result["tasks"]}] == [
        "overall",
        "text",
        "code",
        "translation",
        "classification",
    ]


def test_hidden_figures_are_not_drawn(result):
    for condition in result["settings"][0]["conditions"]:
        condition["asr"]["by_task"]["text"] |= {"hidden": True, "estimate": 0.777}
        if condition["asr_change"] is not None:
            condition["asr_change"]["by_task"]["text"] |= {"hidden": True, "estimate": 0.777}
    drawings = drawn(result)
    assert not [text for drawing in drawings.values() for text in words(drawing) if "77.7" in text]
    assert words(drawings["matrix"]).count("too few") == 5


def test_frontier_has_a_facet_a_task_and_needs_refusals(result):
    assert {"overall", *result["tasks"]} <= set(words(drawn(result)["frontier"]))
    for condition in result["settings"][0]["conditions"]:
        condition["over_refusal"] = {"overall": None}
    assert "frontier" not in drawn(result)


def test_an_element_for_the_page_has_its_alternative_and_no_style(result):
    condition = conditions(result)["code"]
    condition["name"] = "<script>$x_1^2$ نموذج"
    for drawing in drawn(result).values():
        element = svg(drawing)
        root = ET.fromstring(element)  # noqa: S314  # our own
        assert root.get("role") == "img"
        assert [child.tag for child in root][:2] == ["title", "desc"]
        assert root[1].text == drawing.description
        assert "style" not in element
        assert "<script" not in element
        inside = [m for m in drawing.marks if isinstance(m, Box | Words | Dot)]
        assert all(-1 <= m.x <= drawing.width and -1 <= m.y <= drawing.height + 1 for m in inside)


def test_files_for_papers(result, tmp_path):
    pytest.importorskip("matplotlib", reason="PDF and PNG need the report extra")
    drawings = list(drawn(result).values())[:2]
    again = tmp_path / "again"
    again.mkdir()
    files = write_files(drawings, tmp_path)
    assert [path.name for path in files[:3]] == ["change.svg", "change.pdf", "change.png"]
    assert files[1].read_bytes().startswith(b"%PDF")
    assert files[2].read_bytes().startswith(b"\x89PNG")
    text = files[0].read_text(encoding="utf-8")
    assert not re.search(r"class=|style=", text), "a file stands alone"
    write_files(drawings, again)
    assert all(path.read_bytes() == (again / path.name).read_bytes() for path in files)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [((-3.0, 7.0), [-2, 0, 2, 4, 6]), ((0.0, 0.0), [0]), ((0.0, 100.0), [0, 20, 40, 60, 80, 100])],
)
def test_ticks_are_round(values, ticks):
    scale = axis(values, 0.0, 300.0)
    shown = [round(tick, 6) for tick in scale.ticks()]
    assert 0 in shown
    assert set(ticks) <= set(shown)
    assert len(shown) <= 8
    assert all(0 <= scale.at(tick) <= 300 for tick in shown)
