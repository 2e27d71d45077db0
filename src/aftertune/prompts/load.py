"""Finds a prompt set by its name: a file of prompts, a public data set, or a registered loader."""

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from aftertune.core.ids import short_id
from aftertune.core.protocols import Tools
from aftertune.core.records import Behavior, Intent, Prompt, Template
from aftertune.core.registry import find
from aftertune.errors import DataError
from aftertune.prompts.files import READERS, Placed, Record, read_records, text_of
from aftertune.prompts.public import PUBLIC, PublicSet
from aftertune.prompts.sets import PromptSet, gather, read_prompts


def load_prompts(name: str, folder: Path, tools: Tools | None = None, **options: Any) -> PromptSet:
    """Load a prompt set.

    Args:
        name: a file of prompts (`sets.read_prompts`) relative to ``folder``; a public data set (`public.PUBLIC`); or a
            loader of the registry, which is called with ``tools`` and the options.
        folder: what relative paths are relative to.
        tools: for loaders of the registry.
        options: for a public data set ``path`` (its file, or the folder that holds the public sets; default
            ``folder``) and ``pattern`` with ``task`` (another wording, with ``{request}`` or ``{text}``).

    Raises:
        DataError: the file or one of its rows is wrong; no prompt is left.
        PluginError: nobody knows the name.
    """
    if name in PUBLIC:
        found = load_public(name, folder / options.pop("path", "."), **options)
    elif Path(name.removesuffix(".gz")).suffix in READERS or (folder / name).is_file():
        found = gather(read_prompts(folder / name))
    else:
        made = find("prompts", name)(tools, **options)
        found = made if isinstance(made, PromptSet) else gather(made)
    if not found.prompts:
        raise DataError(f"{name}: no prompts in it (left out: {dict(found.dropped) or 'nothing'})")
    return found


def load_public(name: str, path: Path, *, pattern: str | None = None, task: str | None = None) -> PromptSet:
    """Load a public data set from its file, or from the folder that holds the public sets; see `load_prompts`.

    Raises:
        DataError: no such file, a column is missing, a row is broken, a wording without a placeholder.
    """
    source = PUBLIC[name]
    templates = source.templates
    if pattern is not None or task is not None:
        templates = (_own_template(templates[0], pattern, task),)
    prompts = (
        pose(behavior, template, name, reference)
        for number, behavior, reference in behaviors(name, path)
        for template in (templates if not source.blocks else (_block(source, number, name),))
    )
    return gather(prompts, (f"{name}: {source.note}",) if source.note else ())


def pose(behavior: Behavior, template: Template, set_name: str, reference: str | None = None) -> Prompt:
    """Pose a behavior by a template: the placeholder is filled in a single pass, so a payload may contain braces."""
    payload = behavior.texts.get(template.source_language, "") if "{text}" in template.pattern else behavior.request
    before, placeholder, after = _split(template.pattern)
    del placeholder
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


def behaviors(name: str, path: Path) -> Iterator[tuple[int, Behavior, str | None]]:
    """Yield (original row number, behavior, reference) of a public data set.

    Raises:
        DataError: no such file, a column is missing, a row is broken.
    """
    source = PUBLIC[name]
    for position, (where, record, label, reference) in enumerate(_records(source, path)):
        payload = _joined(record, source.payload, where)
        extra = text_of(record, source.more, where).strip() if source.more else ""
        payload = f"{payload}\n\n{extra}" if extra else payload
        category = text_of(record, source.label, where) if source.label else label
        number = int(text_of(record, source.row_number, where)) if source.blocks else position
        yield (
            number,
            Behavior(
                id=short_id("b", name, payload),
                intent=_intent(source, record, where),
                hazard=source.hazards.get(category, source.hazard),
                source=name,
                source_label=category,
                request=payload,
                texts={"en": payload},
            ),
            reference if reference is not None else _reference(source, record, where),
        )


def _records(source: PublicSet, path: Path) -> Iterator[tuple[str, Record, str, str | None]]:
    """Yield (place, record, label from the file's name, line of the reference file)."""
    for file in _files(source, path):
        label = file.name.split(".")[0] if "*" in source.file else ""
        if not source.reference_file:
            yield from ((where, record, label, None) for where, record in read_records(file))
        else:
            other = file.with_name(Path(source.reference_file).name)
            yield from _in_step(read_records(file), read_records(other), f"{file} and {other.name}")


def _in_step(
    ours: Iterable[Placed], theirs: Iterable[Placed], files: str
) -> Iterator[tuple[str, Record, str, str | None]]:
    for one, other in zip_longest(ours, theirs):
        if one is None or other is None:
            raise DataError(f"{files}: not equally many lines, so they cannot be a text and its translation")
        yield one[0], one[1], "", other[1]["text"]


def _files(source: PublicSet, path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    folder, _, pattern = source.file.rpartition("/")
    for place in (path / folder, path):
        if files := sorted(place.glob(pattern)):
            return files
    raise DataError(f"{path}: no {source.file} in it; fetch it from {source.home} or name the file with path:")


def _joined(record: Record, column: str, where: str) -> str:
    value = record.get(column)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " ".join(part.strip() for part in value)
    return text_of(record, column, where).strip()


def _reference(source: PublicSet, record: Record, where: str) -> str | None:
    if not source.reference:
        return None
    value = record.get(source.reference)
    text = value[0] if isinstance(value, list) and value else text_of(record, source.reference, where)
    if source.answers and text not in source.answers:
        raise DataError(f"{where}, {source.reference!r}: {text!r}; expected one of {', '.join(source.answers)}")
    return source.answers.get(text, text) or None


def _intent(source: PublicSet, record: Record, where: str) -> Intent:
    if isinstance(source.intent, Intent):
        return source.intent
    value = text_of(record, source.intent_column, where)
    if value not in source.intent:
        raise DataError(f"{where}, {source.intent_column!r}: {value!r}; expected one of {', '.join(source.intent)}")
    return source.intent[value]


def _block(source: PublicSet, number: int, name: str) -> Template:
    for last, template in source.blocks:
        if number <= last:
            return template
    raise DataError(f"{name}: row number {number} is beyond its last block ({source.blocks[-1][0]})")


def _own_template(default: Template, pattern: str | None, task: str | None) -> Template:
    pattern = pattern if pattern is not None else default.pattern
    _split(pattern)
    return Template(
        id=short_id("t", pattern),
        task=task or default.task,
        harm_basis="content" if "{text}" in pattern else "assistance",
        pattern=pattern,
        target_language=default.target_language if task in (None, default.task) else None,
        labels=default.labels if task in (None, default.task) else (),
    )


def _split(pattern: str) -> tuple[str, str, str]:
    for placeholder in ("{request}", "{text}"):
        if pattern.count(placeholder) == 1:
            return pattern.partition(placeholder)
    raise DataError(f"the wording {pattern!r} needs one placeholder, {{request}} or {{text}}, once")
