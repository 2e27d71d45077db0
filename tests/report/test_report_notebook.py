"""A result in a notebook: HTML that stands alone, and the numbers as rows."""

import math
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from typed_results import as_document, conditions

from aftertune.report.notebook import frame_rows, html_of

HOSTILE = "<script>alert(1)</script>&\"'"


def element(document):
    html = html_of(document)
    assert not re.search(r"<script|\bon\w+=|https?://(?!www\.w3\.org)|class=", html)
    return html, ET.fromstring(html)  # noqa: S314 - our own


def test_a_verdict_its_three_figures_and_the_picture(result, gate):
    html, root = element(as_document(result, gate))
    strong = root.find(".//strong")
    assert strong.text == "FAIL"
    rows = [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]
    assert [row[0] for row in rows] == ["", "ASR", "over-refusal", "accuracy"]
    assert re.fullmatch(r"\+33\.\d \[\+\d+\.\d, \+\d+\.\d\]", rows[1][3])
    assert rows[1][5] == "FAIL"
    assert [child.tag for child in root].count("{http://www.w3.org/2000/svg}svg") == 1
    assert "harm: code against base" in html
    assert len(html) < 40_000


def test_names_of_others_are_text(result, gate):
    text = HOSTILE
    conditions(result)["code"]["name"] = gate["tuned"] = text
    gate["reasons"] = [text]
    html, _ = element(as_document(result, gate))
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_what_is_amiss_stands_below(result, gate):
    document = replace(as_document(result, gate), notes=(HOSTILE, "b", "c", "d"))
    _, root = element(document)
    lines = ["".join(line.itertext()) for line in root.iter("p")]
    assert lines[-3:] == [f"note: {HOSTILE}", "note: b", "note: c"]


def test_a_study_has_a_row_a_model(result):
    _, root = element(as_document(result))
    rows = ["".join(next(iter(row)).itertext()) for row in root.iter("tr")]
    assert rows[1:] == ["base", "code", "translation", "code+text", "code+multitask"]
    result["settings"] = []
    assert "nothing was measured" in html_of(as_document(result))


@pytest.mark.parametrize("with_gate", [True, False])
def test_every_figure_is_a_row_with_its_change(result, gate, with_gate):
    rows = list(frame_rows(as_document(result, gate if with_gate else None)))
    at = {(r["condition"], r["quantity"], r["part"], r["name"]): r for r in rows}
    assert len(at) == len(rows)
    condition = conditions(result)["code"]
    row = at["code", "ASR", "task", "translation"]
    level = condition["asr"]["by_task"]["translation"]
    assert (row["estimate"], row["k"], row["n"]) == (level["estimate"], level["k"], level["n"])
    change = condition["asr_change"]["by_task"]["translation"]
    assert row["change"] == change["estimate"]
    assert (row["change_low"], row["p_value"]) == (change["interval"]["low"], change["p_value"])
    line = gate["sides"]["harm"]["lines"][3]
    assert line["name"] == "translation"
    assert row["margin"] == (line["margin"] if with_gate else None)
    assert row["line"] == ("above" if with_gate else None)
    assert math.isclose(
        at["code", "accuracy", "overall", "overall"]["estimate"],
        condition["capability"]["accuracy"]["overall"]["estimate"],
    )
    assert {part for _, _, part, _ in at} == {"overall", "task", "set", "harm basis", "hazard"}
    assert at["code+text", "ASR", "overall", "overall"]["line"] is None
