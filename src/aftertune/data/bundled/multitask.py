"""The prompt set `multitask-v1`: the evaluation behaviors and their twins, posed as tasks by rotating templates."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from aftertune.core.ids import short_id
from aftertune.core.protocols import Tools
from aftertune.core.records import Prompt
from aftertune.data.bundled.behaviors import SET, Pair, pairs
from aftertune.data.bundled.leakage import THRESHOLD, shared_wordings
from aftertune.data.bundled.templates import Wording, bundled, read_templates
from aftertune.data.load import pose
from aftertune.data.sets import PromptSet
from aftertune.errors import DataError

TEMPLATES_PER_TASK = 3
"""How many of a task's templates a behavior is posed by: 165 behaviors x 2 intents x 4 tasks x 3 = 3,960 prompts."""


def multitask_v1(
    tools: Tools,
    *,
    tasks: Sequence[str] | None = None,
    templates: str | None = None,
    templates_per_task: int = TEMPLATES_PER_TASK,
) -> PromptSet:
    """Build the prompt set ``multitask-v1``: 15 harmful behaviors and 15 benign twins a hazard, in every task.

    A behavior is posed by some of a task's templates, its twin by the same. Within a hazard and a task the templates
    take turns, in the order in which ``--limit`` takes behaviors: any limit uses each equally often, within one.

    Args:
        tools: for the folder that ``templates`` is relative to.
        tasks: which tasks; without it all that have templates.
        templates: a file of more templates, and so perhaps of more tasks (`templates.read_templates`).
        templates_per_task: templates a behavior and task; at most all of the task's are used.

    Raises:
        DataError: a file of templates is wrong, a task has no templates, a number that leaves no prompts.
    """
    if not isinstance(templates_per_task, int) or templates_per_task < 1:
        raise DataError(
            f"prompts {SET}: templates_per_task is {templates_per_task!r}; it must be at least 1"
        )
    own = read_templates(templates, tools.folder) if templates is not None else ()
    wordings = _chosen(by_task((*bundled("evaluation"), *own)), tasks)
    return PromptSet(
        prompts=tuple(posed(pairs("evaluation"), wordings, templates_per_task)),
        notes=tuple(_notes(own)),
    )


def by_task(wordings: Sequence[Wording]) -> dict[str, list[Wording]]:
    """Sort templates by task.

    Raises:
        DataError: two templates have one id.
    """
    tasks: dict[str, list[Wording]] = {}
    for wording in wordings:
        tasks.setdefault(wording.template.task, []).append(wording)
    names = Counter(wording.template.id for wording in wordings)
    if twice := [name for name, count in names.items() if count > 1]:
        raise DataError(
            f"prompts {SET}: two templates have the id {twice[0]!r}; give yours another"
        )
    return tasks


def _chosen(
    known: dict[str, list[Wording]], tasks: Sequence[str] | None
) -> dict[str, list[Wording]]:
    if tasks is None:
        return known
    if isinstance(tasks, str) or not tasks or not all(isinstance(task, str) for task in tasks):
        raise DataError(f"prompts {SET}: tasks is {tasks!r}; give a list of {', '.join(known)}")
    for task in tasks:
        if task not in known:
            raise DataError(
                f"prompts {SET}: no templates for the task {task!r}; there are some for {', '.join(known)}"
            )
    return {task: known[task] for task in tasks}


def _notes(own: Sequence[Wording]) -> Iterator[str]:
    for ours, theirs, likeness in shared_wordings(own, bundled("safety")):
        yield (
            f"template {ours} is worded like the safety template {theirs} (likeness {likeness:.2f}, limit {THRESHOLD}): "
            "a model trained on the bundled safety data has seen such a wording"
        )


def posed(
    chosen: Sequence[Pair], wordings: dict[str, list[Wording]], templates_per_task: int
) -> Iterator[Prompt]:
    """Pose pairs by templates that take turns: both intents of a pair by the same ones."""
    turns = {task: deal(chosen, choice, templates_per_task) for task, choice in wordings.items()}
    for pair in chosen:
        for dealt in turns.values():
            for wording in dealt[pair.harmful.id]:
                yield pose(pair.harmful, wording.template, SET)
                yield pose(pair.twin, wording.template, SET, wording.reference(pair))


def deal(
    chosen: Sequence[Pair], wordings: Sequence[Wording], count: int
) -> dict[str, list[Wording]]:
    """Give each harmful behavior ``count`` templates: those that its hazard has used least, ties by a hash.

    Taking the least used keeps a hazard's templates within one of each other after every behavior; the order is that
    of `sets.limit`, so this holds for every limit too.
    """
    return take_turns({pair.harmful.id: pair.harmful.hazard for pair in chosen}, wordings, count)


def take_turns(
    hazards: Mapping[str, str], wordings: Sequence[Wording], count: int
) -> dict[str, list[Wording]]:
    """Give each behavior (id -> hazard) ``count`` templates, as `deal` says."""
    dealt: dict[str, list[Wording]] = {}
    for hazard in sorted(set(hazards.values())):
        used: Counter[str] = Counter()
        names = [name for name, of in hazards.items() if of == hazard]
        for name in sorted(names, key=lambda name: short_id("o", name)):
            ranked = sorted(
                wordings, key=lambda w: (used[w.template.id], short_id("t", name, w.template.id))
            )
            dealt[name] = ranked[:count]
            used.update(wording.template.id for wording in dealt[name])
    return dealt
