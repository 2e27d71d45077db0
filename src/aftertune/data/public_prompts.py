"""The loaders of the built-in prompt sets: public data sets posed as prompts, and the preset of Multitask-Bench.

Source of the preset: Jan et al. 2025, COLING, and the authors' repository (comnetsAD/LLMSafetyGuardrails): four tasks, each
asked in a chat model's native style and in that of Alpaca, with and without a system prompt.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from aftertune.core.keys import short_id
from aftertune.core.protocols import Tools
from aftertune.core.records import Behavior, Prompt, Template
from aftertune.data.bundled.behaviors import SET, pairs
from aftertune.data.bundled.multitask import multitask_v1, posed
from aftertune.data.prompt_sets import PromptSet, gather
from aftertune.data.public import PublicSet, public_set, public_sets
from aftertune.data.public_files import Entry, FoundBehavior, open_source, read_behaviors
from aftertune.data.templates import (
    TEMPLATES_PER_TASK,
    CheckedTemplate,
    bundled_templates,
    by_task,
    check_per_task,
    chosen_tasks,
    pattern_ends,
    pose,
    read_templates,
    take_turns,
)
from aftertune.errors import DataError

REQUEST_TEMPLATES = Path(__file__).with_name("public_poses.yaml")
"""Templates that quote a request in wordings that fit any grammar."""
PRESET = "multitask-bench-2025"
PRESET_TEMPLATES = Path(__file__).with_name("public_preset.yaml")

Style = Literal["native", "alpaca"]
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response:\n"
)
"""Stanford Alpaca's prompt without input (tatsu-lab/stanford_alpaca, Apache-2.0)."""


def built_in_loaders() -> Mapping[str, Callable[..., PromptSet]]:
    """Return the loaders of all built-in prompt sets by name, for `core.registry`."""
    public = {table.name: partial(load_public, table.name) for table in public_sets()}
    return {**public, PRESET: multitask_bench_2025, SET: multitask_v1}


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
    attacks: bool = False,
) -> PromptSet:
    """Load a public data set as prompts.

    Args:
        name: of a set in `public.public_sets`.
        tools: for the folder that ``file`` and ``templates`` are relative to.
        file: the set's file, or a folder that holds it under the path or name that the table gives.
        hub: True reads the hub's copy, an id another copy, False never asks the hub (`public_files.open_source`).
        strict: refuse a file whose SHA-256 is not known; without it, a note is made.
        pattern: another wording, with ``{request}`` or ``{text}`` once.
        task: the task that the wording poses.
        pose: pose the payloads as these tasks by the bundled templates.
        templates: a file of templates of the user's (`templates.read_templates`); alone, they are the only ones.
        templates_per_task: the number of a task's templates that pose each behavior.
        attacks: give every request as it was posed, and beside it with the attack that the set puts around it.

    Raises:
        DataError: no such file, a column is missing, a row is broken, a label is unknown, a wording without a placeholder.
    """
    public = public_set(name)
    as_tasks = pose is not None or templates is not None
    if as_tasks and (pattern is not None or task is not None):
        raise DataError(f"prompts {name}: give pose and templates, or pattern and task, not both")
    own = None if pattern is None and task is None else _own_template(public, pattern, task)
    if attacks:
        _check_attacks(public, other_wording=as_tasks or own is not None)
    entries, notes = open_source(public, tools.folder / file, hub=hub, strict=strict)
    left_out: Counter[str] = Counter()
    if attacks:
        loaded = gather(_attacked(public, list(entries), left_out), notes)
        return replace(loaded, dropped=dict(left_out + Counter(loaded.dropped)))
    rows = read_behaviors(public, entries, left_out)
    if as_tasks:
        offered = _templates_for(public, pose, templates, tools.folder)
        prompts = _in_turns(public, rows, offered, templates_per_task)
    else:
        prompts = _by_its_templates(public, rows, own)
    loaded = gather(prompts, (*notes, *([f"{name}: {public.note}"] if public.note else ())))
    return replace(loaded, dropped=dict(left_out + Counter(loaded.dropped)))


def _check_attacks(public: PublicSet, *, other_wording: bool) -> None:
    if not public.attack:
        raise DataError(
            f"prompts {public.name}: has no attacks of its own; leave the option attacks out, and name attacks in the study"
        )
    if other_wording:
        raise DataError(
            f"prompts {public.name}: with attacks its requests stand as they are; leave pose, templates, pattern and task out"
        )


def _attacked(
    public: PublicSet, entries: Sequence[Entry], left_out: Counter[str]
) -> Iterator[Prompt]:
    """Yield each request without attack, and behind it with the attack of its row, if that has one."""
    plain = read_behaviors(replace(public, payload=public.posed), entries, left_out)
    attacked = read_behaviors(public, entries, Counter())
    template = public.templates[0]
    for (_, behavior, _), (_, wrapped, _) in zip(plain, attacked, strict=True):
        prompt = pose(behavior, template, public.name)
        yield prompt
        if wrapped.request != behavior.request:
            text = pose(wrapped, template, public.name).text
            yield replace(prompt, text=text, attack=public.attack, posed=prompt.text)


def _own_template(public: PublicSet, pattern: str | None, task: str | None) -> Template:
    """Return the template that a user makes of a set's default one by another pattern or task."""
    default = public.templates[0]
    pattern = default.pattern if pattern is None else pattern
    pattern_ends(pattern)
    same_task = task in (None, default.task)
    return Template(
        id=short_id("t", pattern),
        task=task or default.task,
        harm_basis="content" if "{text}" in pattern else "assistance",
        pattern=pattern,
        target_language=default.target_language if same_task else None,
        labels=default.labels if same_task else (),
    )


def _by_its_templates(
    public: PublicSet, rows: Iterable[FoundBehavior], own: Template | None
) -> Iterator[Prompt]:
    """Pose each row by the user's own template, by that of its block of row numbers, or by all of the set's."""
    for number, behavior, reference in rows:
        if own is not None:
            chosen: Sequence[Template] = (own,)
        elif public.blocks:
            chosen = [template for last, template in public.blocks if number <= last][:1]
            if not chosen:
                raise DataError(
                    f"{public.name}: row number {number} is beyond its last block ({public.blocks[-1][0]})"
                )
        else:
            chosen = public.templates
        for template in chosen:
            yield pose(behavior, template, public.name, reference)


def _in_turns(
    public: PublicSet,
    rows: Iterable[FoundBehavior],
    offered: Mapping[str, list[CheckedTemplate]],
    templates_per_task: int | None,
) -> Iterator[Prompt]:
    """Pose every behavior as every task, by templates that take turns within a hazard and a task.

    References are left out: the correct answer to a payload in another task is not known.
    """
    count = TEMPLATES_PER_TASK if templates_per_task is None else templates_per_task
    check_per_task(count, public.name)
    behaviors: dict[str, Behavior] = {behavior.id: behavior for _, behavior, _ in rows}
    hazards = {behavior.id: behavior.hazard for behavior in behaviors.values()}
    turns = [take_turns(hazards, of_task, count) for of_task in offered.values()]
    for behavior in behaviors.values():
        for dealt in turns:
            for checked in dealt[behavior.id]:
                yield pose(behavior, checked.template, public.name)


def _templates_for(
    public: PublicSet, tasks: Sequence[str] | None, templates: str | None, folder: Path
) -> dict[str, list[CheckedTemplate]]:
    """Return the templates by task that fit a set's payloads: of sentences those that take a text in its language.

    With a file of templates and no ``tasks``, only those of the file are used; otherwise they join the bundled ones.

    Raises:
        DataError: a task has no templates that fit, a file of templates is wrong.
    """
    own = read_templates(templates, folder) if templates is not None else ()
    bundled = () if tasks is None else _bundled_for(public)
    fitting = [
        checked
        for checked in (*bundled, *own)
        if (
            checked.template.source_language == public.language != checked.template.target_language
            if "{text}" in checked.template.pattern
            else public.kind != "sentences"
        )
    ]
    offered = by_task(fitting, public.name)
    if tasks is not None:
        return chosen_tasks(offered, tasks, public.name, "pose")
    if not offered:
        raise DataError(
            f"prompts {public.name}: no template of {templates} fits its payloads ({public.kind})"
        )
    return offered


def _bundled_for(public: PublicSet) -> tuple[CheckedTemplate, ...]:
    """Return the shipped templates: for requests those that quote a request, and translations of it."""
    on_texts = tuple(
        checked
        for checked in bundled_templates("evaluation")
        if "{text}" in checked.template.pattern
    )
    if public.kind == "sentences":
        return on_texts
    quoting = read_templates(REQUEST_TEMPLATES.name, REQUEST_TEMPLATES.parent)
    return (*quoting, *(t for t in on_texts if t.template.task == "translation"))


def multitask_bench_2025(
    tools: Tools,
    *,
    file: str = ".",
    strict: bool = False,
    style: Style = "native",
    behaviors: Literal["released", "bundled"] = "released",
) -> PromptSet:
    """Load the prompts of Multitask-Bench as its authors pose them.

    Args:
        tools: for the folder that ``file`` is relative to.
        file: the released CSV, or a folder that holds it.
        strict: refuse a CSV whose SHA-256 is not known.
        style: ``native`` leaves the prompt to the model's chat template, ``alpaca`` puts it into Alpaca's.
        behaviors: ``released`` are the CSV's; ``bundled`` are those of `multitask-v1` and their benign twins, posed by
            the benchmark's own templates. The release has no twins.

    Raises:
        DataError: no such file, a broken row, an unknown style or kind of behaviors.
    """
    for option, value, allowed in (
        ("style", style, get_args(Style)),
        ("behaviors", behaviors, ("released", "bundled")),
    ):
        if value not in allowed:
            raise DataError(
                f"prompts {PRESET}: {option} is {value!r}; use one of {', '.join(allowed)}"
            )
    if behaviors == "released":
        loaded = load_public("multitaskbench", tools, file=file, strict=strict)
    else:
        templates = read_templates(PRESET_TEMPLATES.name, PRESET_TEMPLATES.parent)
        prompts = posed(pairs("evaluation"), by_task(templates, PRESET), 1)
        loaded = PromptSet(prompts=tuple(prompts))
    if style == "native":
        return loaded
    in_alpaca = (
        replace(prompt, text=ALPACA.format(prompt.text), template=f"{prompt.template}-alpaca")
        for prompt in loaded.prompts
    )
    return replace(loaded, prompts=tuple(in_alpaca))
