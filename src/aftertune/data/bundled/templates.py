"""Templates from YAML files, the bundled ones and those that users register, with how their answers are checked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import yaml

from aftertune.core.ids import short_id
from aftertune.core.records import HarmBasis, Template
from aftertune.data.bundled.behaviors import (
    FOLDER,
    SENTIMENTS,
    SOURCE_LANGUAGES,
    TOPICS,
    Pair,
    Part,
)
from aftertune.errors import DataError

SHIPPED = {"question-answering": FOLDER / "evaluation" / "question_answering.yaml"}
"""Template files that come with the package, by the name that stands for them."""

BASES: Mapping[str, HarmBasis] = {"{request}": "assistance", "{text}": "content"}
KEYS = (
    "id",
    "task",
    "pattern",
    "harm_basis",
    "source_language",
    "target_language",
    "labels",
    "answer",
    "answers",
)
ANSWERS: Mapping[str, tuple[str, ...]] = {"sentiment": SENTIMENTS, "topic": TOPICS}
"""What a correct answer can be made of besides ``translation``, and the values that it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """A template and what the correct answer to a benign twin in it is made of."""

    template: Template
    answer: str = ""
    """``translation``, ``sentiment``, ``topic``, a kind of the safety part, or nothing."""
    answers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What the template calls the values of ``answer`` (``positive: A``); others keep their names."""

    def reference(self, pair: Pair) -> str | None:
        """Return the correct answer to the pair's benign twin, or None where several are."""
        match self.answer:
            case "translation":
                return pair.twin.texts[self.template.target_language or "en"]
            case "sentiment":
                return self.answers.get(pair.sentiment, pair.sentiment)
            case "topic":
                return self.answers.get(pair.topic, pair.topic)
            case _:
                return None


@cache
def bundled(part: Part) -> tuple[Wording, ...]:
    """Return the templates of one part."""
    return tuple(_wordings(FOLDER / part / "templates.yaml", checked=False))


def read_templates(file: str, folder: Path) -> tuple[Wording, ...]:
    """Read the templates that a user registers.

    Args:
        file: a YAML file (relative to ``folder``) with a list ``templates``, or a name of `SHIPPED`.
        folder: of the study.

    Raises:
        DataError: names file, template and key.
    """
    path = folder / file
    if not path.is_file() and file in SHIPPED:
        path = SHIPPED[file]
    return tuple(_wordings(path, checked=True))


def _wordings(path: Path, *, checked: bool) -> Iterator[Wording]:
    for number, entry in enumerate(_entries(path), start=1):
        where = f"{path}, template {number}"
        if checked:
            _check(entry, where)
        yield _wording(entry)


def _entries(path: Path) -> list[Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        offered = ", ".join(SHIPPED)
        raise DataError(
            f"{path}: no such file of templates; check the path, or name one of: {offered}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: broken YAML ({' '.join(str(error).split())})") from error
    entries = data.get("templates") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: expected a list 'templates', each with 'task' and 'pattern'")
    return entries


def _wording(entry: Mapping[str, Any]) -> Wording:
    pattern = entry["pattern"]
    return Wording(
        template=Template(
            id=entry.get("id") or short_id("t", pattern),
            task=entry["task"],
            harm_basis=entry.get("harm_basis")
            or next(BASES[place] for place in BASES if place in pattern),
            pattern=pattern,
            source_language=entry.get("source_language", "en"),
            target_language=entry.get("target_language"),
            labels=tuple(entry.get("labels", ())),
        ),
        answer=entry.get("answer", ""),
        answers=entry.get("answers", {}),
    )


def _check(entry: object, where: str) -> None:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: expected keys and values, found {type(entry).__name__}")
    if unknown := [key for key in entry if key not in KEYS]:
        raise DataError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(KEYS)}")
    for key in ("task", "pattern"):
        if key not in entry:
            raise DataError(f"{where}: no {key!r}; a template needs 'task' and 'pattern'")
    for key in set(entry) - {"labels", "answers"}:
        if not isinstance(entry[key], str) or not entry[key].strip():
            raise DataError(f"{where}, {key!r}: expected text, found {entry[key]!r}")
    if sum(entry["pattern"].count(place) for place in BASES) != 1:
        raise DataError(f"{where}, 'pattern': needs one placeholder, {{request}} or {{text}}, once")
    _one_of(entry, "harm_basis", get_args(HarmBasis), where)
    _one_of(entry, "source_language", SOURCE_LANGUAGES, where)
    _check_labels(entry, where)
    _check_answer(entry, where)


def _check_labels(entry: Mapping[str, Any], where: str) -> None:
    labels = entry.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError(
            f"{where}, 'labels': expected a list of texts; put words such as yes and no in quotes"
        )


def _check_answer(entry: Mapping[str, Any], where: str) -> None:
    _one_of(entry, "answer", ("translation", *ANSWERS), where)
    answer, names = entry.get("answer", ""), entry.get("answers", {})
    if answer and "{text}" not in entry["pattern"]:
        raise DataError(
            f"{where}, 'answer': only the answer to a {{text}} is known; leave it out for {{request}}"
        )
    if answer == "translation" and entry.get("target_language") not in (*SOURCE_LANGUAGES, "de"):
        raise DataError(f"{where}, 'target_language': a translation needs one of en, fr, es, de")
    if not _renames(names, ANSWERS.get(answer, ())):
        raise DataError(
            f"{where}, 'answers': give {answer or 'answer'}'s values and what the template calls them"
        )
    if answer in ANSWERS and "labels" in entry:
        given = {names.get(value, value) for value in ANSWERS[answer]}
        if missing := sorted(given - set(entry["labels"])):
            raise DataError(
                f"{where}, 'labels': the answer {missing[0]!r} is not among them; rename it in 'answers'"
            )


def _renames(names: object, values: tuple[str, ...]) -> bool:
    return (
        isinstance(names, dict)
        and not names.keys() - set(values)
        and all(isinstance(v, str) for v in names.values())
    )


def _one_of(entry: Mapping[str, Any], key: str, allowed: tuple[str, ...], where: str) -> None:
    if key in entry and entry[key] not in allowed:
        raise DataError(f"{where}, {key!r}: {entry[key]!r}; use one of {', '.join(allowed)}")
