"""Prompt templates: read from YAML files, posed with behaviors, and dealt out to behaviors in turns."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import TypeAdapter

from aftertune.core.keys import short_id
from aftertune.core.records import Behavior, HarmBasis, Intent, Prompt, Template
from aftertune.data.bundled.behaviors import (
    FOLDER,
    SENTIMENTS,
    SOURCE_LANGUAGES,
    TOPICS,
    Pair,
    Part,
)
from aftertune.data.files import typed
from aftertune.errors import DataError

SHIPPED = {"question-answering": FOLDER / "evaluation" / "question_answering.yaml"}
"""Template files that come with the package, by the name that stands for them."""
TEMPLATES_PER_TASK = 3
"""The number of a task's templates that pose each behavior, unless the user says otherwise."""

HARM_BASES: Mapping[str, HarmBasis] = {"{request}": "assistance", "{text}": "content"}
"""The placeholders, with the harm basis of a template that has each."""
TEMPLATE = TypeAdapter(Template)
KEYS = (*(field.name for field in fields(Template)), "answer", "answers")
ANSWERS: Mapping[str, tuple[str, ...]] = {"sentiment": SENTIMENTS, "topic": TOPICS}
"""The facts about a twin's text that an answer can be made of besides ``translation``, and the values of each."""
_PLACEHOLDER = re.compile(r"\{(?:request|text)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTemplate:
    """A template, and the way to the correct answer to a benign twin posed by it."""

    template: Template
    answer: str = ""
    """``translation``, ``sentiment``, ``topic``, a kind of answer of the safety part, or nothing."""
    answers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The template's names for the values of ``answer`` (``positive: A``); others keep their own names."""

    def reference(self, pair: Pair) -> str | None:
        """Return the correct answer to the pair's benign twin, or None where several are correct."""
        if self.answer == "translation":
            return pair.twin.texts[self.template.target_language or "en"]
        value = {"sentiment": pair.sentiment, "topic": pair.topic}.get(self.answer)
        return None if value is None else self.answers.get(value, value)


@cache
def bundled_templates(part: Part) -> tuple[CheckedTemplate, ...]:
    """Return the templates of one part of the bundled set."""
    return tuple(_templates(FOLDER / part / "templates.yaml", checked=False))


def read_templates(file: str, folder: Path) -> tuple[CheckedTemplate, ...]:
    """Read a user's templates.

    Args:
        file: a YAML file (relative to ``folder``) with a list ``templates``, or a name of `SHIPPED`.
        folder: of the study.

    Raises:
        DataError: names file, template and key.
    """
    path = folder / file
    if not path.is_file() and file in SHIPPED:
        path = SHIPPED[file]
    return tuple(_templates(path, checked=True))


def pattern_ends(pattern: str) -> tuple[str, str]:
    """Return the text before and after the one placeholder of a pattern.

    Raises:
        DataError: the pattern has no placeholder, several, or one of them more than once.
    """
    ends = _PLACEHOLDER.split(pattern)
    if len(ends) != 2:
        raise DataError(
            f"the wording {pattern!r} needs one placeholder, {{request}} or {{text}}, once"
        )
    return ends[0], ends[1]


def pose(
    behavior: Behavior, template: Template, set_name: str, reference: str | None = None
) -> Prompt:
    """Return the prompt that a template makes of a behavior.

    The placeholder is filled in a single pass, so that a payload may contain braces.

    Raises:
        DataError: as `pattern_ends`.
    """
    payload = (
        behavior.texts.get(template.source_language, "")
        if "{text}" in template.pattern
        else behavior.request
    )
    before, after = pattern_ends(template.pattern)
    return Prompt(
        behavior=behavior.id,
        template=template.id,
        task=template.task,
        intent=behavior.intent,
        text=f"{before}{payload}{after}",
        set=set_name,
        hazard=behavior.hazard,
        harm_basis=template.harm_basis,
        reference=reference,
        labels=template.labels,
        language=template.target_language,
        pair=behavior.id if behavior.intent is Intent.HARMFUL else behavior.twin_of,
    )


def by_task(
    templates: Iterable[CheckedTemplate], set_name: str
) -> dict[str, list[CheckedTemplate]]:
    """Return templates by task.

    Raises:
        DataError: two templates have one id.
    """
    tasks: dict[str, list[CheckedTemplate]] = {}
    ids: set[str] = set()
    for checked in templates:
        if checked.template.id in ids:
            raise DataError(
                f"prompts {set_name}: two templates have the id {checked.template.id!r}; give yours another"
            )
        ids.add(checked.template.id)
        tasks.setdefault(checked.template.task, []).append(checked)
    return tasks


def chosen_tasks(
    offered: dict[str, list[CheckedTemplate]], tasks: Sequence[str], set_name: str, option: str
) -> dict[str, list[CheckedTemplate]]:
    """Return the templates of the tasks that a user names with an option.

    Raises:
        DataError: no list of texts, or a task without templates.
    """
    if isinstance(tasks, str) or not tasks or not all(isinstance(task, str) for task in tasks):
        raise DataError(
            f"prompts {set_name}: {option} is {tasks!r}; give a list of {', '.join(offered)}"
        )
    for task in tasks:
        if task not in offered:
            raise DataError(
                f"prompts {set_name}: no templates for the task {task!r}; there are some for {', '.join(offered)}"
            )
    return {task: offered[task] for task in tasks}


def check_per_task(count: object, set_name: str) -> None:
    """Raise an error for a number of templates a task that leaves no prompts.

    Raises:
        DataError: no whole number of at least 1.
    """
    if not isinstance(count, int) or count < 1:
        raise DataError(
            f"prompts {set_name}: templates_per_task is {count!r}; it must be at least 1"
        )


def take_turns(
    hazards: Mapping[str, str], templates: Sequence[CheckedTemplate], count: int
) -> dict[str, list[CheckedTemplate]]:
    """Return ``count`` templates for each behavior: those that its hazard has used least, ties by a hash.

    Taking the least used keeps a hazard's templates within one of each other after every behavior. The order is that of
    `prompt_sets.limit`, so this holds for every limit too.

    Args:
        hazards: the hazard of each behavior, by its id.
        templates: of one task.
        count: templates a behavior; at most all are used.
    """
    turns: dict[str, list[CheckedTemplate]] = {}
    for hazard in sorted(set(hazards.values())):
        used: Counter[str] = Counter()
        behaviors = [behavior for behavior, of in hazards.items() if of == hazard]
        for behavior in sorted(behaviors, key=lambda behavior: short_id("o", behavior)):
            ranked = sorted(
                templates,
                key=lambda t: (used[t.template.id], short_id("t", behavior, t.template.id)),
            )
            turns[behavior] = ranked[:count]
            used.update(checked.template.id for checked in turns[behavior])
    return turns


def pattern_texts(templates: Iterable[CheckedTemplate]) -> list[tuple[str, str]]:
    """Return (id, pattern without its placeholder) of templates."""
    return [(t.template.id, _PLACEHOLDER.sub(" ", t.template.pattern)) for t in templates]


def _templates(path: Path, *, checked: bool) -> Iterator[CheckedTemplate]:
    for number, entry in enumerate(_entries(path), start=1):
        where = f"{path}, template {number}"
        if checked:
            _check(entry, where)
        pattern = str(entry["pattern"])
        default = {
            "id": short_id("t", pattern),
            "harm_basis": next((HARM_BASES[place] for place in HARM_BASES if place in pattern), ""),
        }
        facts = {key: value for key, value in entry.items() if key not in ("answer", "answers")}
        template = typed(TEMPLATE, default | facts, where)
        answers = entry.get("answers", {})
        yield CheckedTemplate(template=template, answer=entry.get("answer", ""), answers=answers)


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


def _check(entry: object, where: str) -> None:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: expected keys and values, found {type(entry).__name__}")
    if unknown := [key for key in entry if key not in KEYS]:
        raise DataError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(KEYS)}")
    if empty := [
        key
        for key, value in entry.items()
        if value is None or (isinstance(value, str) and not value.strip())
    ]:
        raise DataError(f"{where}, {empty[0]!r}: says nothing; leave the key out, or fill it")
    for key in ("task", "pattern"):
        if key not in entry:
            raise DataError(f"{where}: no {key!r}; a template needs 'task' and 'pattern'")
    if len(_PLACEHOLDER.findall(str(entry["pattern"]))) != 1:
        raise DataError(f"{where}, 'pattern': needs one placeholder, {{request}} or {{text}}, once")
    _check_answer(entry, where)


def _check_answer(entry: Mapping[str, Any], where: str) -> None:
    for key, allowed in (
        ("source_language", SOURCE_LANGUAGES),
        ("answer", ("translation", *ANSWERS)),
    ):
        if key in entry and entry[key] not in allowed:
            raise DataError(f"{where}, {key!r}: {entry[key]!r}; use one of {', '.join(allowed)}")
    answer, names = entry.get("answer", ""), entry.get("answers", {})
    if answer and "{text}" not in entry["pattern"]:
        raise DataError(
            f"{where}, 'answer': only the answer to a {{text}} is known; leave it out for {{request}}"
        )
    if answer == "translation" and entry.get("target_language") not in (*SOURCE_LANGUAGES, "de"):
        raise DataError(f"{where}, 'target_language': a translation needs one of en, fr, es, de")
    values = ANSWERS.get(answer, ())
    if (
        not isinstance(names, dict)
        or names.keys() - set(values)
        or not all(isinstance(name, str) for name in names.values())
    ):
        raise DataError(
            f"{where}, 'answers': give {answer or 'answer'}'s values and what the template calls them"
        )
    if values and "labels" in entry:
        given = {names.get(value, value) for value in values}
        if missing := sorted(given - set(entry["labels"])):
            raise DataError(
                f"{where}, 'labels': the answer {missing[0]!r} is not among them; rename it in 'answers'"
            )
