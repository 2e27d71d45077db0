"""The documentation as text, code blocks, tables and links."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: ([^\n]+) -->\n+ *$")


@dataclass(frozen=True)
class Block:
    page: Path
    info: str
    text: str
    not_run: str = ""
    """The reason why nobody can run the block here, from the comment before it."""

    @property
    def language(self):
        return self.info.split(" ")[0]

    def __str__(self):
        return f"{self.page.name}: {self.info}: {self.text[:30]!r}"


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(*languages, pages=PAGES):
    found = []
    for path in pages:
        text = path.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            reason = _NOT_RUN.search(text[: match.start()])
            found.append(Block(path, match[2].strip(), match[3], reason[1] if reason else ""))
    return [block for block in found if block.language in languages]


def prose(text):
    """Return a page without its code blocks."""
    return _FENCE.sub("", text)


def spans(text):
    """Return the inline code of a page."""
    return re.findall(r"`([^`\n]+)`", prose(text))


def section(text, heading):
    """Return what stands under a heading, up to the next one of its level or higher."""
    level = heading.split(" ")[0]
    start = re.search(rf"^{re.escape(heading)}.*$", text, re.MULTILINE)
    assert start, f"no heading {heading!r}"
    end = re.search(rf"^#{{1,{len(level)}}} ", text[start.end() :], re.MULTILINE)
    return text[start.end() :][: end.start() if end else None]


def tables(text):
    """Return each table as rows of cells, without its head."""
    found = re.findall(r"(?:^\|.*\n?)+", prose(text), re.MULTILINE)
    return [
        [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in table.splitlines()[2:]
        ]
        for table in found
    ]


def first_names(rows):
    """Return the inline code in the first cells of a table's rows, whatever follows the name."""
    return [re.match(r"[\w-]*", span)[0] for row in rows for span in spans(row[0])]


def headings(text):
    """Return the anchors of a page, by GitHub's rule."""
    lines = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def links(text):
    return re.findall(r"\]\(([^)\s]+)\)", prose(text)) + re.findall(
        r'(?:src|href)="([^"]+)"', prose(text)
    )
