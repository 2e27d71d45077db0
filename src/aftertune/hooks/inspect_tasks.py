"""What Inspect finds of Aftertune (entry-point group ``inspect_ai``): a task over any prompt set, and its scorers.

Only Inspect loads this module, so that it may load Inspect.
"""

from collections.abc import Sequence
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig, model_roles
from inspect_ai.solver import generate

from aftertune.core.records import Intent, Prompt
from aftertune.data.prompt_sets import limit as first_behaviors
from aftertune.data.prompt_sets import load_prompts
from aftertune.errors import DataError
from aftertune.hooks.inspect_samples import metadata_of
from aftertune.hooks.inspect_scorers import GRADER, graded, refusals, tools

BUNDLED = "multitask-v1"


@task
def multitask(
    prompts: str = BUNDLED,
    file: str | None = None,
    tasks: str | Sequence[str] | None = None,
    limit: int | None = None,
    intent: str | None = None,
) -> Task:
    """Ask a prompt set: harmful behaviors and their benign twins, posed as text, code, translation and classification.

    With a model role ``grader`` that model judges by the rubric of the task; without one refusal rules do, and the rate is
    a non-refusal rate.

    Args:
        prompts: a prompt set: a name of ``aftertune data list``, a loader, or a file of prompts (JSONL).
        file: the file that the set's loader shall read.
        tasks: only these task shapes, as in ``text,code``.
        limit: use so many harmful behaviors, with all their prompts (Inspect's own ``--limit`` counts prompts).
        intent: only ``harmful`` or only ``benign`` prompts.
    """
    chosen = _chosen(prompts, file, tasks, limit, intent)
    return Task(
        dataset=MemoryDataset([_sample(prompt) for prompt in chosen], name=Path(prompts).stem),
        solver=generate(),
        scorer=graded() if GRADER in model_roles() else refusals(),
        config=GenerateConfig(temperature=0.0, max_tokens=256),
        metadata={"prompts": prompts, "tasks": sorted({prompt.task for prompt in chosen})},
    )


def _chosen(
    prompts: str,
    file: str | None,
    tasks: str | Sequence[str] | None,
    limit: int | None,
    intent: str | None,
) -> Sequence[Prompt]:
    if intent not in (None, *(one.value for one in Intent)):
        raise DataError(f"intent is {intent!r}; give harmful or benign, or leave it out")
    own = file is None and Path(prompts).is_file()
    name = Path(prompts).name.split(".")[0] if own else prompts
    loaded = load_prompts(
        name, file=prompts if own else file, loader=None if own else prompts, tools=tools()
    ).prompts
    wanted = {one.strip() for one in (tasks.split(",") if isinstance(tasks, str) else tasks or ())}
    if missing := wanted - {prompt.task for prompt in loaded}:
        known = ", ".join(sorted({prompt.task for prompt in loaded}))
        raise DataError(f"prompts {name}: no prompts of the task {min(missing)!r}; it has {known}")
    kept = [
        prompt
        for prompt in (loaded if limit is None else first_behaviors(loaded, limit))
        if (not wanted or prompt.task in wanted) and intent in (None, prompt.intent.value)
    ]
    if not kept:
        raise DataError(f"prompts {name}: none are left with these tasks and this intent")
    return kept


def _sample(prompt: Prompt) -> Sample:
    return Sample(
        id=prompt.id, input=prompt.text, target=prompt.reference or "", metadata=metadata_of(prompt)
    )
