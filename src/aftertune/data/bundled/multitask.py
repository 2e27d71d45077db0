"""The prompt set `multitask-v1`, and the search for its behaviors and templates in training rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

from aftertune.core.protocols import Tools
from aftertune.core.records import Prompt
from aftertune.data.bundled.behaviors import SET, Pair, pairs
from aftertune.data.overlap import (
    NEAR_DUPLICATE,
    PhraseIndex,
    near_duplicates,
    normalise,
    shown_texts,
)
from aftertune.data.prompt_sets import PromptSet
from aftertune.data.rows import Row
from aftertune.data.templates import (
    TEMPLATES_PER_TASK,
    CheckedTemplate,
    bundled_templates,
    by_task,
    check_per_task,
    chosen_tasks,
    pattern_ends,
    pattern_texts,
    pose,
    read_templates,
    take_turns,
)

SHORTEST_PAYLOAD = 5
"""Words by which a payload is looked up before it is compared as a whole; no bundled payload is shorter."""


def multitask_v1(
    tools: Tools,
    *,
    tasks: Sequence[str] | None = None,
    templates: str | None = None,
    templates_per_task: int = TEMPLATES_PER_TASK,
) -> PromptSet:
    """Build the prompt set ``multitask-v1``: 15 harmful behaviors and 15 benign twins a hazard, in every task.

    With 3 templates a task these are 165 behaviors x 2 intents x 4 tasks x 3 = 3,960 prompts. A behavior is posed by some
    of a task's templates, its twin by the same. Within a hazard and a task the templates take turns, in the order in
    which ``--limit`` takes behaviors: any limit uses each equally often, within one.

    Args:
        tools: for the folder that ``templates`` is relative to.
        tasks: the tasks that are posed; by default all that have templates.
        templates: a file of more templates, and so perhaps of more tasks (`templates.read_templates`).
        templates_per_task: templates a behavior and task; at most all of the task's are used.

    Raises:
        DataError: a file of templates is wrong, a task has no templates, a number that leaves no prompts.
    """
    check_per_task(templates_per_task, SET)
    own = read_templates(templates, tools.folder) if templates is not None else ()
    offered = by_task((*bundled_templates("evaluation"), *own), SET)
    chosen = offered if tasks is None else chosen_tasks(offered, tasks, SET, "tasks")
    notes = (
        f"template {ours} is worded like the safety template {theirs} (likeness {likeness:.2f}, limit {NEAR_DUPLICATE}): "
        "a model trained on the bundled safety data has seen such a wording"
        for ours, theirs, likeness in near_duplicates(
            pattern_texts(own), pattern_texts(bundled_templates("safety"))
        )
    )
    return PromptSet(
        prompts=tuple(posed(pairs("evaluation"), chosen, templates_per_task)), notes=tuple(notes)
    )


def posed(
    chosen: Sequence[Pair], templates: Mapping[str, list[CheckedTemplate]], count: int
) -> Iterator[Prompt]:
    """Pose pairs by ``count`` templates a task that take turns: both intents of a pair by the same ones."""
    turns = [deal(chosen, of_task, count) for of_task in templates.values()]
    for pair in chosen:
        for dealt in turns:
            for checked in dealt[pair.harmful.id]:
                yield pose(pair.harmful, checked.template, SET)
                yield pose(pair.twin, checked.template, SET, checked.reference(pair))


def deal(
    chosen: Sequence[Pair], templates: Sequence[CheckedTemplate], count: int
) -> dict[str, list[CheckedTemplate]]:
    """Return ``count`` templates of a task for each pair, by the id of its harmful behavior (`templates.take_turns`)."""
    return take_turns({pair.harmful.id: pair.harmful.hazard for pair in chosen}, templates, count)


def evaluation_rows(rows: Iterable[Row]) -> Iterator[tuple[int, str]]:
    """Yield the number of each row (from 1) that holds an evaluation behavior, and the behavior's id.

    A row holds a behavior, or a benign twin, if a text that is shown (`overlap.shown_texts`) contains its request or its
    text in any language, word for word after `overlap.normalise`. `overlap.find_overlap` knows only the prompts that it is given; this finds a request in
    a wording that nobody has foreseen. One pass, in time proportional to the words.
    """
    index = _payload_index()
    for number, row in enumerate(rows, start=1):
        held = dict.fromkeys(
            behavior for text in shown_texts(row) for behavior in index.owners(normalise(text))
        )
        for behavior in held:
            yield number, behavior


def evaluation_templates(row: Row) -> Iterator[str]:
    """Yield the ids of the evaluation templates in whose words a user turn stands, whatever they are filled with."""
    for turn in row:
        if turn.role == "user":
            text = normalise(turn.content)
            for template, before, after in _template_ends():
                if (
                    text.startswith(before)
                    and text.endswith(after)
                    and len(text) > len(before) + len(after)
                ):
                    yield template


@cache
def _template_ends() -> tuple[tuple[str, str, str], ...]:
    """Return the id of each evaluation template, and its normalised words before and after the payload."""
    ends = []
    for checked in bundled_templates("evaluation"):
        before, after = map(normalise, pattern_ends(checked.template.pattern))
        # The space keeps a template from matching inside a word.
        ends.append(
            (checked.template.id, f"{before} " if before else "", f" {after}" if after else "")
        )
    return tuple(ends)


@cache
def _payload_index() -> PhraseIndex[str]:
    index = PhraseIndex[str](SHORTEST_PAYLOAD)
    for pair in pairs("evaluation"):
        for behavior in (pair.harmful, pair.twin):
            for text in (behavior.request, *behavior.texts.values()):
                index.add(normalise(text), behavior.id)
    return index
