"""Write the tables of options into commands.md and of keys into study.md, and the schemas of results, from the code; `make docs` calls it.

Names, order, values and defaults come from the code. The column *meaning* (and the type of a key) is kept as it stands in the page; a
new row takes the code's own line of help. A row whose option or key is gone goes too.

Usage: python docs/reference.py [--check]
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import typer

from aftertune.cli.app import COMMANDS, load_command
from aftertune.report.result_schema import repair_schema, result_schema
from aftertune.study import json_schema

DOCS = Path(__file__).parent
OPTION_HEAD = ("option", "value", "meaning")
KEY_HEAD = ("key", "type", "default", "meaning")
KEY_TABLES = {
    "## The keys": ["Study"],
    "### `models`": ["ModelKeys"],
    "### `fine_tunes`": ["FineTuneKeys", "Rows", "MitigationKeys", "TrainingKeys", "DoseKeys"],
    "### Training rules": ["FirstTokensKeys", "SelfAnswersKeys"],
    "### `prompts`": ["PromptKeys"],
    "### `decoding`": ["DecodingKeys"],
    "### `judges`, `guards`, `metrics`, `preferences`": ["ScorerKeys"],
    "### `coherence`": ["CoherenceKeys"],
    "### `measurement`": ["MeasurementKeys"],
    "### At equal capability": ["MatchKeys"],
    "### `engine`": ["EngineKeys"],
    "### `execute`": ["ExecuteKeys"],
}
"""The definitions whose keys stand in the tables of a section, in order."""
NAMES = {"int": "N", "float": "NUMBER", "str": "TEXT", "Path": "PATH"}
"""What stands behind an option that names no value of its own, by its type."""

Row = tuple[str, ...]


def commands() -> dict[str, Any]:
    """Return every command by its name as typed, `data check` among them."""
    return {
        f"{name} {inner}".strip(): command
        for name in COMMANDS
        for inner, command in getattr(
            load_command(name), "commands", {"": load_command(name)}
        ).items()
    }


def option_rows(command: Any, kept: Mapping[str, Row]) -> list[Row]:
    """Return the rows of a command's options; ``kept`` are the page's own, by the option's first name."""
    return [
        (
            ", ".join(f"`{name}`" for name in names(option)),
            value(option),
            kept[first][-1] if (first := f"`{names(option)[0]}`") in kept else line(option.help),
        )
        for option in command.params
        if option.param_type_name == "option" and option.name != "help"
    ]


def line(text: str) -> str:
    """Return a line of help as a cell of the table."""
    return (text[:1].lower() + text[1:]).rstrip(".")


def names(option: Any) -> list[str]:
    """Return an option's names, the long one first."""
    return sorted([*option.opts, *option.secondary_opts], key=len, reverse=True)


def value(option: Any) -> str:
    """Return the word for what is written behind an option, its choices and its default; nothing for a switch."""
    if option.is_flag:
        return ""
    annotation = option.type_descriptor.annotation
    inner = [part for part in get_args(annotation) if part is not NoneType] or [annotation]
    if choices := [part for part in inner if isinstance(part, str)]:
        word = ", ".join(f"`{choice}`" for choice in choices)
    else:
        word = f"`{option.metavar or NAMES[inner[0].__name__]}`"
    notes = ["required"] * option.required + ["repeat for several"] * option.multiple
    if isinstance(option.default, int | float | str) and option.default != "":
        notes.append(f"default {option.default}")
    return ", ".join([word, *notes])


def key_rows(definition: Mapping[str, Any], kept: Mapping[str, Row]) -> list[Row]:
    """Return the rows of the keys that a part of the JSON Schema defines."""
    rows = []
    for name, key in definition["properties"].items():
        cells = kept.get(
            f"`{name}`", (f"`{name}`", key.get("type", ""), "none", key.get("description", ""))
        )
        plain = key.get("default")
        written = cells[2]
        if isinstance(plain, bool | int | float | str) and not equal(written, plain):
            written = f"`{json.dumps(plain)}`" if isinstance(plain, bool | str) else str(plain)
        rows.append((f"`{name}`", cells[1], written, cells[3]))
    return sorted(rows, key=lambda row: [*kept, row[0]].index(row[0]))


def equal(written: str, plain: object) -> bool:
    """Return whether a page's word for a default is that default."""
    word = written.strip("`")
    if isinstance(plain, bool):
        return word == str(plain).lower()
    return (
        float(word) == plain if isinstance(plain, int | float) and number(word) else word == plain
    )


def number(word: str) -> bool:
    """Return whether a word is a number."""
    return re.fullmatch(r"-?[\d.]+(e-?\d+)?", word) is not None


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return a table in Markdown."""
    first, *others = (
        f"| {' | '.join(cells)} |\n".replace("|  |", "| |") for cells in [head, *rows]
    )
    return "".join([first, "|---" * len(head) + "|\n", *others])


def rows_of(text: str) -> dict[str, Row]:
    """Return the rows of a table in Markdown, by the first inline code of each."""
    rows = [
        tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        for line in text.splitlines()[2:]
    ]
    return {match[0]: cells for cells in rows if (match := re.match(r"`[^`]+`", cells[0]))}


def section_of(text: str, heading: str) -> tuple[int, int]:
    """Return where the text under a heading begins and ends, up to the next heading."""
    start = re.search(rf"^{re.escape(heading)}\b.*\n|^{re.escape(heading)}\n", text, re.MULTILINE)
    if start is None:
        raise SystemExit(f"no heading {heading!r}")
    following = re.search(r"^#{2,4} ", text[start.end() :], re.MULTILINE)
    return start.end(), start.end() + following.start() if following else len(text)


def with_tables(text: str, first: str, made: Mapping[str, list[Any]]) -> str:
    """Return a page whose tables with the head cell ``first`` are those that are made of its own rows, section by section."""
    for heading, makers in made.items():
        place = section_of(text, heading)[0]
        for make in makers:
            match = re.compile(rf"^\| {first} \|.*\n(?:\|.*\n)+", re.MULTILINE).search(text, place)
            if match is None:
                raise SystemExit(f"{heading}: no table of {first}s")
            new = make(rows_of(match[0]))
            text = text[: match.start()] + new + text[match.end() :]
            place = match.start() + len(new)
    return text


def commands_page(text: str) -> str:
    """Return commands.md with the options of the code."""
    made = {
        f"## `aftertune {name}": [
            lambda kept, command=command: table(OPTION_HEAD, option_rows(command, kept))
        ]
        for name, command in commands().items()
        if any(p.param_type_name == "option" and p.name != "help" for p in command.params)
    }
    return with_tables(text, "option", made)


def study_page(text: str) -> str:
    """Return study.md with the keys of the code."""
    schema = json_schema()
    parts = {"Study": schema, **schema["$defs"]}
    made = {
        heading: [
            lambda kept, part=parts[name]: table(KEY_HEAD, key_rows(part, kept))
            for name in definitions
        ]
        for heading, definitions in KEY_TABLES.items()
    }
    return with_tables(text, "key", made)


def result_page(_text: str) -> str:
    """Return the JSON Schema of result.json as its file holds it."""
    return json.dumps(result_schema(), indent=2) + "\n"


def repair_page(_text: str) -> str:
    """Return the JSON Schema of repair.json as its file holds it."""
    return json.dumps(repair_schema(), indent=2) + "\n"


PAGES = {
    "commands.md": commands_page,
    "study.md": study_page,
    "result.schema.json": result_page,
    "repair.schema.json": repair_page,
}


def main(*, check: bool) -> None:
    """Write the pages; or only say which of them the code would write otherwise."""
    for name, make in PAGES.items():
        path = DOCS / name
        text = path.read_text(encoding="utf-8")
        if (new := make(text)) == text:
            continue
        if check:
            raise SystemExit(f"docs/{name} is not what the code says: make docs")
        path.write_text(new, encoding="utf-8")
        typer.echo(f"written: docs/{name}")


if __name__ == "__main__":
    main(check="--check" in sys.argv[1:])
