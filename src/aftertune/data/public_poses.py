"""Poses the payloads of a public set as any task: requests and sentences by the bundled templates and by the user's own."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from aftertune.core.records import Prompt
from aftertune.data.bundled.multitask import TEMPLATES_PER_TASK, by_task, take_turns
from aftertune.data.bundled.templates import Wording, bundled, read_templates
from aftertune.data.load import pose
from aftertune.data.public import PublicSet
from aftertune.data.public_rows import Found
from aftertune.errors import DataError

OWN = Path(__file__).with_name("public_poses.yaml")


def posed_as(
    known: PublicSet,
    rows: Iterable[Found],
    tasks: Sequence[str] | None,
    templates: str | None,
    templates_per_task: int | None,
    folder: Path,
) -> Iterator[Prompt]:
    """Pose every behavior of a set as every task, by templates that take turns within a hazard and a task.

    References are left out: the correct answer to a payload in another task is not known.

    Raises:
        DataError: a task without templates, a file of templates is wrong, a number that leaves no prompts.
    """
    count = TEMPLATES_PER_TASK if templates_per_task is None else templates_per_task
    if not isinstance(count, int) or count < 1:
        raise DataError(
            f"prompts {known.name}: templates_per_task is {count!r}; it must be at least 1"
        )
    chosen = wordings(known, tasks, templates, folder)
    found = {behavior.id: behavior for _, behavior, _ in rows}
    hazards = {behavior.id: behavior.hazard for behavior in found.values()}
    turns = [take_turns(hazards, choice, count) for choice in chosen.values()]
    for behavior in found.values():
        for dealt in turns:
            for wording in dealt[behavior.id]:
                yield pose(behavior, wording.template, known.name)


def wordings(
    known: PublicSet, tasks: Sequence[str] | None, templates: str | None, folder: Path
) -> dict[str, list[Wording]]:
    """Return the templates by task that fit a set's payloads: of sentences those that take a text in its language.

    With a file of templates and no ``tasks``, only those of the file are used; otherwise they join the bundled ones.

    Raises:
        DataError: a task has no templates that fit, a file of templates is wrong.
    """
    own = read_templates(templates, folder) if templates is not None else ()
    known_ones = () if tasks is None else _bundled(known)
    offered = by_task([wording for wording in (*known_ones, *own) if _fits(known, wording)])
    if tasks is None:
        if not offered:
            raise DataError(
                f"prompts {known.name}: no template of {templates} fits its payloads ({known.kind})"
            )
        return offered
    if isinstance(tasks, str) or not tasks or not all(isinstance(task, str) for task in tasks):
        raise DataError(
            f"prompts {known.name}: pose is {tasks!r}; give a list of {', '.join(offered)}"
        )
    for task in tasks:
        if task not in offered:
            raise DataError(
                f"prompts {known.name}: no templates pose it as {task!r}; there are some for {', '.join(offered)}"
            )
    return {task: offered[task] for task in tasks}


def _bundled(known: PublicSet) -> tuple[Wording, ...]:
    """Return the shipped templates: for requests, those that quote a request, and translations of it."""
    content = tuple(
        wording for wording in bundled("evaluation") if "{text}" in wording.template.pattern
    )
    if known.kind == "sentences":
        return content
    return (
        *read_templates(OWN.name, OWN.parent),
        *(w for w in content if w.template.task == "translation"),
    )


def _fits(known: PublicSet, wording: Wording) -> bool:
    template = wording.template
    if "{text}" in template.pattern:
        return (
            template.source_language == known.language
            and template.target_language != known.language
        )
    return known.kind != "sentences"
