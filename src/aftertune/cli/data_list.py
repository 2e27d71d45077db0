"""`aftertune data list`: every set that has a loader, what it is, and whether it lies here."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from aftertune.cli.data_words import say, screen, shortened
from aftertune.core.records import TASKS
from aftertune.core.registry import known
from aftertune.data.bundled.behaviors import SET
from aftertune.data.bundled.safety_rows import SAFETY_SET
from aftertune.data.public import PublicSet, public_sets
from aftertune.report.files import write_json

FORMAT = 1
"""Formats of the JSON. 1: sets."""
LETTERS: Mapping[str, str] = {"text": "t", "code": "c", "translation": "r", "classification": "l"}
COLUMNS: Mapping[str, int] = {
    "name": 25, "intent": 7, "tasks": 5, "rows": 7, "licence": 14, "gated": 5, "facts": 6, "here": 4,
}  # fmt: skip
"""What the screen shows of a set, with the width of each: 80 columns together."""
GATES: Mapping[str, str] = {"automatic": "form", "manual": "hand"}
LEGEND = (
    "tasks: t text, c code, r translation, l classification (as posed without options). rows: as published. gated: the "
    "hub asks to accept a licence (form) or an author decides (hand). facts: where they were read: file, page, or memory "
    "(unchecked). here: the file lies in --data. --json has the whole licence, the home and the citation."
)


def list_sets(folder: Path, json_path: Path | None) -> None:
    """Print all sets: the bundled ones, the public ones, and those that plug-ins offer.

    Args:
        folder: where the files of public sets are looked for.
        json_path: where the list is also written, with everything that is known of each set.
    """
    sets = [*_bundled(), *(_public(each, folder) for each in public_sets()), *_others()]
    if json_path is not None:
        write_json(json_path, {"format": FORMAT, "sets": sets})
    _print(sets, screen())


def _bundled() -> Iterator[dict[str, Any]]:
    for name, kind in ((SET, "prompts and benign twins"), (SAFETY_SET, "safety rows (mix)")):
        yield {
            "name": name, "kind": kind, "tasks": list(TASKS), "rows": None, "intent": "both", "licence": "Apache-2.0", "gated": "",
            "here": True, "facts": "file", "home": "", "citation": "",
        }  # fmt: skip


def _public(found: PublicSet, folder: Path) -> dict[str, Any]:
    return {
        "name": found.name,
        "kind": found.kind,
        "tasks": list(found.tasks),
        "rows": found.rows,
        "intent": found.intent.value if found.intent is not None else "both",
        "licence": found.licence,
        "gated": found.gated,
        "here": here(found, folder),
        "facts": found.seen,
        "home": found.page,
        "citation": found.citation,
    }


def here(found: PublicSet, folder: Path) -> bool:
    """Return whether a set's file lies in a folder, under the path or the bare name that the table gives."""
    return bool(found.file) and any(
        next(folder.glob(pattern), None) is not None
        for pattern in (found.file, Path(found.file).name)
    )


def _others() -> Iterator[dict[str, Any]]:
    listed = {SET, *(each.name for each in public_sets())}
    for name in sorted(known("prompts").keys() - listed):
        yield {
            "name": name, "kind": "of a plug-in", "tasks": [], "rows": None, "intent": "", "licence": "", "gated": "", "here": True,
            "facts": "", "home": "", "citation": "",
        }  # fmt: skip


def _print(sets: Sequence[Mapping[str, Any]], console: Console) -> None:
    console.print(_line({name: name for name in COLUMNS}))
    for each in sets:
        console.print(_line({name: _cell(name, each[name]) for name in COLUMNS}))
    console.print()
    found = sum(each["here"] for each in sets)
    say(console, f"{len(sets)} sets, {found} of them here. {LEGEND}")


def _cell(column: str, value: Any) -> str:
    if column == "tasks":
        return "".join(LETTERS.get(task, "+") for task in value)
    if column == "rows":
        return "" if value is None else f"{value:,}"
    if column == "here":
        return "yes" if value else ""
    return GATES.get(value, value) if column == "gated" else str(value)


def _line(cells: Mapping[str, str]) -> str:
    return " ".join(
        f"{shortened(text, width):{'>' if name == 'rows' else '<'}{width}}"
        for (name, width), text in zip(COLUMNS.items(), cells.values(), strict=True)
    ).rstrip()
