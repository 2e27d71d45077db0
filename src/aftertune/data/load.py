"""Finds a prompt set by its name: a file of prompts, a public data set, or a registered loader."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aftertune.core.ids import short_id
from aftertune.core.protocols import Tools
from aftertune.core.records import Behavior, Intent, Prompt, Template
from aftertune.core.registry import PUBLIC_SETS, find
from aftertune.data.public import PublicSet, public_set
from aftertune.data.public_rows import Found, read_behaviors
from aftertune.data.public_source import open_source
from aftertune.data.sets import PromptSet, gather, read_prompts
from aftertune.errors import DataError, PluginError


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
    cleaned = gather(
        prompt if prompt.set == name else replace(prompt, set=name) for prompt in found.prompts
    )
    dropped = Counter(found.dropped) + Counter(cleaned.dropped)
    if not cleaned.prompts:
        raise DataError(
            f"prompt set {name}: no prompts in it (left out: {dict(dropped) or 'nothing'})"
        )
    return PromptSet(prompts=cleaned.prompts, dropped=dropped, notes=found.notes)


def _call(loader: str, file: Mapping[str, str], options: Mapping[str, Any], tools: Tools) -> Any:
    factory = find("prompts", loader)
    try:
        inspect.signature(factory).bind(tools, **file, **options)
    except TypeError as error:
        raise PluginError(f"prompts loader {loader!r}: {error}; check its options") from error
    return factory(tools, **file, **options)


def __getattr__(name: str) -> Callable[..., PromptSet]:
    """Give each public data set its loader, as the registry names it: ``aftertune.data.load:advbench``."""
    if name not in PUBLIC_SETS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return partial(load_public, name)


def load_public(  # noqa: PLR0913 -- each is an option that a study may give, by its name
    name: str,
    tools: Tools,
    *,
    file: str = ".",
    hub: bool | str | None = None,
    strict: bool = False,
    pattern: str | None = None,
    task: str | None = None,
    pose: Sequence[str] | None = None,
    templates: str | None = None,
    templates_per_task: int | None = None,
) -> PromptSet:
    """Load a public data set.

    Args:
        name: of a set in `public.public_sets`.
        tools: for the folder that ``file`` and ``templates`` are relative to.
        file: the set's file, or a folder that holds it under the path or name that the table gives.
        hub: True reads the hub's copy, an id another copy, False never asks the hub (`public_source.open_source`).
        strict: refuse a file whose SHA-256 is not known; without it, a note says so.
        pattern: another wording, with ``{request}`` or ``{text}`` once.
        task: the task that the wording poses.
        pose: pose the payloads as these tasks by the bundled templates (`public_poses.wordings`).
        templates: a file of templates of the user's (`bundled.templates.read_templates`); alone, they are the only ones.
        templates_per_task: how many of a task's templates a behavior is posed by.

    Raises:
        DataError: no such file, a column is missing, a row is broken, a label is unknown, a wording without a placeholder.
    """
    known = public_set(name)
    chosen = _chosen(known, pattern, task)
    source = open_source(known, tools.folder / file, hub=hub, strict=strict)
    left_out: Counter[str] = Counter()
    rows = read_behaviors(known, source.entries, left_out)
    if pose is not None or templates is not None:
        from aftertune.data.public_poses import posed_as

        if pattern is not None or task is not None:
            raise DataError(
                f"prompts {name}: give pose and templates, or pattern and task, not both"
            )
        made = posed_as(known, rows, pose, templates, templates_per_task, tools.folder)
    else:
        made = _posed(known, rows, chosen)
    loaded = gather(made, (*source.notes, *([f"{name}: {known.note}"] if known.note else ())))
    return replace(loaded, dropped=dict(left_out + Counter(loaded.dropped)))


def _chosen(known: PublicSet, pattern: str | None, task: str | None) -> tuple[Template, ...]:
    """Return the templates of every row; none where the row's number decides."""
    if pattern is None and task is None:
        return () if known.blocks else known.templates
    return (_own_template(known.templates[0], pattern, task),)


def _posed(
    known: PublicSet, rows: Iterable[Found], templates: tuple[Template, ...]
) -> Iterator[Prompt]:
    for number, behavior, reference in rows:
        for template in templates or (_block(known, number),):
            yield pose(behavior, template, known.name, reference)


def pose(
    behavior: Behavior, template: Template, set_name: str, reference: str | None = None
) -> Prompt:
    """Pose a behavior by a template: the placeholder is filled in a single pass, so a payload may contain braces."""
    payload = (
        behavior.texts.get(template.source_language, "")
        if "{text}" in template.pattern
        else behavior.request
    )
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


def behaviors(name: str, path: Path) -> Iterator[Found]:
    """Yield (original row number, behavior, reference) of the rows of a public data set's file.

    Raises:
        DataError: no such file, a column is missing, a row is broken, a label is unknown.
    """
    known = public_set(name)
    return read_behaviors(known, open_source(known, path, hub=False).entries, Counter())


def _block(known: PublicSet, number: int) -> Template:
    for last, template in known.blocks:
        if number <= last:
            return template
    raise DataError(
        f"{known.name}: row number {number} is beyond its last block ({known.blocks[-1][0]})"
    )


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
