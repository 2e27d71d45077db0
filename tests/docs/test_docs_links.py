"""Links lead somewhere, and the changelog knows the version."""

import re

import pytest
from doc_pages import PAGES, ROOT, headings, links, page

import aftertune


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_relative_links_resolve(path):
    broken = []
    for link in links(path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        found = target.exists()
        if found and anchor and target.suffix == ".md":
            found = anchor in headings(target.read_text(encoding="utf-8"))
        if not found:
            broken.append(link)
    assert not broken


def test_every_page_can_be_reached():
    linked = {
        (path.parent / link.partition("#")[0]).resolve()
        for path in PAGES
        for link in links(path.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:|#", link)
    }
    assert {path for path in PAGES if path.parent == ROOT / "docs"} <= linked | {
        ROOT / "docs/commands.md"
    }


def test_the_changelog_has_the_version_or_what_is_unreleased():
    titles = re.findall(r"^## \[(.+?)\]", page("CHANGELOG.md"), re.MULTILINE)
    assert titles
    assert titles[0] == "Unreleased" or titles[0] == aftertune.__version__
