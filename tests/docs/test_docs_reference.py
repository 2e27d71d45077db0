"""The tables of options and keys are those that `make docs` writes."""

import sys

import pytest
from doc_pages import ROOT, page

sys.path.insert(0, str(ROOT / "docs"))
import reference


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_tables_of_a_page_are_those_of_the_code(name):
    text = page(f"docs/{name}")
    assert reference.PAGES[name](text) == text, "run `make docs`"


def test_what_is_missing_or_gone_is_put_right():
    text = page("docs/commands.md")
    lines = text.splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if line.startswith("| `--share` |"))
    gone = "| `--gone` | `N` | no such option |\n"
    other = "".join([*lines[:place], gone, *lines[place + 1 :]])
    mended = reference.commands_page(other)
    assert gone not in mended
    (row,) = (line for line in mended.splitlines() if line.startswith("| `--share` |"))
    assert row.startswith("| `--share` | `NUMBER`, default 0.15 | safety rows / all rows")
    assert reference.commands_page(mended) == mended


def test_a_default_that_changed_is_written_anew():
    text = page("docs/study.md")
    old = next(line for line in text.splitlines() if line.startswith("| `tail_loop` |"))
    cells = old.split(" | ")
    other = text.replace(old, " | ".join([*cells[:2], "0.99", *cells[3:]]))
    assert other != text
    assert reference.study_page(other) == text
