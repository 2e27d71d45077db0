"""Finds a prompt set by its name: a file of prompts, a public data set, or a registered loader."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aftertune.core.ids import short_id
from aftertune.core.protocols import Tools
from aftertune.core.records import Behavior, Intent, Prompt, Template
from aftertune.core.registry import find
from aftertune.errors import DataError, PluginError
from aftertune.prompts.files import Placed, Record, read_records, text_of
from aftertune.prompts.public import PUBLIC, PublicSet
from aftertune.prompts.sets import PromptSet, gather, read_prompts


def load_prompts(
    name: str,
    *,
    file: str | None = None,
    loader: str | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
    tools: Tools,
) -> PromptSet:
    """Load the prompt set that a study calls ``name``: a file of prompts, a loader, or a loader reading a file.

    Args:
        name: becomes the ``set`` of every prompt.
        file: a file of finished prompts (`sets.read_prompts`), or what the loader shall read.
        loader: a name of the registry: a public data set, ``package.module:factory`` or a plug-in's. It is called with
            ``tools``, with ``file`` if there is one, and with the options, and returns prompts or a `PromptSet`.
        options: the loader's own; those of the public data sets are the arguments of `load_public`.
        tools: for the loader, and for the folder that a relative ``file`` is relative to.

    Raises:
        DataError: the file or one of its rows is wrong; no prompt is left.
        PluginError: nobody knows the loader, or it does not take the options.
    """
    if loader is None:
        if file is None:
            raise DataError(f"prompt set {name}: give a file of prompts or a loader")
        made: Any = read_prompts(tools.folder / file)
    else:
        made = _call(loader, {"file": file} if file is not None else {}, options, tools)
    found = made if isinstance(made, PromptSet) else PromptSet(prompts=tuple(made))
    cleaned = gather(replace(prompt, set=name) for prompt in found.prompts)
    dropped = Counter(found.dropped) + Counter(cleaned.dropped)
    if not cleaned.prompts:
        raise DataError(f"prompt set {name}: no prompts in it (left out: {dict(dropped) or 'nothing'})")
    return PromptSet(prompts=cleaned.prompts, dropped=dropped, notes=found.notes)


def _call(loader: str, file: Mapping[str, str], options: Mapping[str, Any], tools: Tools) -> Any:
    factory = find("prompts", loader)
    try:
        inspect.signature(factory).bind(tools, **file, **options)
    except TypeError as error:
        raise PluginError(f"prompts loader {loader!r}: {error}; check its options") from error
    return factory(tools, **file, **options)


def __getattr__(name: str) -> Callable[..., PromptSet]:
    """Give each public data set its loader, as the registry names it: ``aftertune.prompts.load:advbench``."""
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return partial(load_public, name)


def load_public(
    name: str, tools: Tools, *, file: str = ".", pattern: str | None = None, task: str | None = None
) -> PromptSet:
    """Load a public data set.

    Args:
        name: a key of `public.PUBLIC`.
        tools: for the folder that ``file`` is relative to.
        file: the set's file, or a folder that holds it under the path or name that the table gives.
        pattern: another wording, with ``{request}`` or ``{text}`` once.
        task: the task that the wording poses.

    Raises:
        DataError: no such file, a column is missing, a row is broken, a wording without a placeholder.
    """
    source = PUBLIC[name]
    templates = source.templates
    if pattern is not None or task is not None:
        templates = (_own_template(templates[0], pattern, task),)
    prompts = (
        pose(behavior, template, name, reference)
        for number, behavior, reference in behaviors(name, tools.folder / file)
        for template in (templates if not source.blocks else (_block(source, number, name),))
    )
    return gather(prompts, (f"{name}: {source.note}",) if source.note else ())


def pose(behavior: Behavior, template: Template, set_name: str, reference: str | None = None) -> Prompt:
    """Pose a behavior by a template: the placeholder is filled in a single pass, so a payload may contain braces."""
    payload = behavior.texts.get(template.source_language, "") if "{text}" in template.pattern else behavior.request
    before, _, after = _split(template.pattern)
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
    raise DataError(
        f"{path}: no {source.file} in it; fetch it from {source.home} or name the file with file: (a study) or give its folder"
    )


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
