"""The table of public data sets: the columns of each set's file, the kind of its payloads, and the templates that pose them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from aftertune.core.records import TASKS, Intent, Template
from aftertune.data.templates import read_templates
from aftertune.errors import DataError

FOLDER = Path(__file__).parent
TABLES = ("public_harmful.yaml", "public_benign.yaml")
SKIP = "skip"
"""A value in `PublicSet.intents` that stands for no intent: such rows are left out and counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicSet:
    """A public data set: facts about its file, none about how it is read.

    A column is a name, ``a|b`` (the first that the record has and that is not empty), ``a.b`` (inside a nested record);
    with a ``?`` at its end it may be missing.
    """

    name: str
    home: str
    licence: str
    citation: str
    facts_from: Literal["file", "page", "memory"]
    """The source of the facts: the file, a page or public code that reads it, or memory alone."""
    payload: str
    """The column of the request or text; a list of texts is joined by spaces."""
    kind: Literal["requests", "sentences", "tasks"] = "requests"
    """The kind of the payloads: requests, sentences, or the inputs of benign tasks with correct answers."""
    file: str = ""
    """Below the data folder; ``*`` reads every file that fits, with the file's stem as source label."""
    hub: str = ""
    """The data set's id on the Hugging Face hub."""
    configs: tuple[str, ...] = ()
    """The hub configurations that make up the set; none: the default one."""
    split: str = "train"
    hub_files: str = ""
    """The files on the hub that hold the set, where it is known; otherwise config and split say it."""
    revision: str = ""
    """The revision of the hub's copy; by default the newest."""
    gated: Literal["", "automatic", "manual"] = ""
    """The gate of the hub: a licence to accept (``automatic``), or an author who approves (``manual``)."""
    rows: int | None = None
    """The number of rows, as published."""
    intent: Intent | None = None
    """The intent of all rows; if None, ``intents`` gives it by the value of the column ``intent_column``."""
    intent_column: str = ""
    intents: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)
    """Column -> value of the rows that belong to the set; the others are left out and counted."""
    more: str = ""
    """A column that is put under the payload after an empty line, where it is not empty."""
    label: str = ""
    """The column of the source's own category; of a record of yes and no, the names of what is yes."""
    hazard: str = "none"
    """The hazard of all rows, where the source has no categories."""
    hazards: Mapping[str, str] = field(default_factory=dict)
    """Hazard by source category, of all categories; of several, the first in this order counts."""
    first_turn: bool = False
    """The payload is the first human turn of a transcript ``Human: ... Assistant: ...``."""
    attack: str = ""
    """The name of the attack in ``payload``, of a set that has the same requests without it …"""
    posed: str = ""
    """… in this column."""
    header: tuple[str, ...] = ()
    """The columns of a CSV file that has no header."""
    reference: str = ""
    """The column of a correct answer; of a list, its first text."""
    reference_file: str = ""
    """A file with the references line by line."""
    answers: Mapping[str, str] = field(default_factory=dict)
    """The correct answer by the value of ``reference``; other values are the answer themselves."""
    answer: str = ""
    """The column of the answer in training rows, which is no reference for a harmful prompt."""
    language: str = "en"
    """The language of the payload."""
    templates: tuple[Template, ...]
    """The templates that pose the set unless the user says otherwise."""
    blocks: tuple[tuple[int, Template], ...] = ()
    """Instead of ``templates``: the template of the rows up to each original row number."""
    note: str = ""
    sha256: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """File name -> the digests it is known by: as published, and without rows about children."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the set is posed as unless the user says otherwise."""
        templates = [template for _, template in self.blocks] or self.templates
        return tuple(task for task in TASKS if task in {template.task for template in templates})

    @property
    def page(self) -> str:
        """The address of the set's page, where a licence may have to be accepted."""
        return f"https://huggingface.co/datasets/{self.hub}" if self.hub else self.home


@cache
def public_sets() -> tuple[PublicSet, ...]:
    """Return every public set that is described, in the order of their names."""
    digests = _read("public_sha256.yaml")
    read = read_templates("public_templates.yaml", FOLDER)
    templates = {checked.template.id: checked.template for checked in read}
    entries = {name: entry for table in TABLES for name, entry in _entries(table)}
    return tuple(_set(name, entries[name], digests, templates) for name in sorted(entries))


def public_set(name: str) -> PublicSet:
    """Return one public set by its name.

    Raises:
        DataError: no set is called so.
    """
    sets = {public.name: public for public in public_sets()}
    if name not in sets:
        raise DataError(f"no public set is called {name!r}; known: {', '.join(sets)}")
    return sets[name]


def _read(table: str) -> dict[str, Any]:
    # The C loader takes 15 ms for all tables, the Python one 200: every study is checked against these names.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    data: dict[str, Any] = yaml.load((FOLDER / table).read_text(encoding="utf-8"), loader)  # noqa: S506 - both are safe
    return data


def _entries(table: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, facts): a set in parts is one entry a part, with the facts that all parts share."""
    own = {"intent": "benign", "kind": "tasks"} if table == "public_benign.yaml" else {}
    for name, facts in _read(table).items():
        shared = own | {key: value for key, value in facts.items() if key != "parts"}
        parts = facts.get("parts") or {"": {}}
        for part, differing in parts.items():
            entry = shared | differing
            if "intent_column" in differing:
                entry.pop("intent", None)
            yield f"{name}-{part}" if part else name, entry


def _set(
    name: str,
    facts: dict[str, Any],
    digests: Mapping[str, list[str]],
    templates: Mapping[str, Template],
) -> PublicSet:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()
    }
    if "intent" in facts:
        values["intent"] = Intent(facts["intent"])
    values["templates"] = tuple(templates[name] for name in facts.get("templates", ["plain"]))
    values["blocks"] = tuple(
        (last, templates[name]) for last, name in facts.get("blocks", {}).items()
    )
    values["hazards"] = {
        label.casefold(): hazard for label, hazard in facts.get("hazards", {}).items()
    }
    files = [facts.get("file", ""), facts.get("reference_file", "")]
    values["sha256"] = {
        Path(path).name: tuple(of_file)
        for path, of_file in digests.items()
        if any(pattern and Path(path).match(pattern) for pattern in files)
    }
    return PublicSet(name=name, **values)
