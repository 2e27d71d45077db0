"""The page of statistics names the test of every published value, and each of them is there and marked."""

import re

from doc_pages import ROOT, page, section, tables

ROWS = tables(section(page("docs/statistics.md"), "## Checked against"))[0]


def test_every_named_test_is_there_and_golden():
    named = [name for row in ROWS for name in re.findall(r"`([\w/]+)::(\w+)`", row[2])]
    assert len(named) >= len(ROWS)
    for file, test in named:
        text = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
        assert f"def {test}(" in text, f"{file}.py has no {test}"
        marks = text[: text.index(f"def {test}(")].rpartition("\n\n\n")[2]
        assert "pytestmark = pytest.mark.golden" in text or "pytest.mark.golden" in marks, (
            f"{test} is not marked"
        )


def test_every_row_names_a_test_and_a_source():
    assert all(row[1].strip() and "::" in row[2] for row in ROWS)
