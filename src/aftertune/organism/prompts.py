"""What the organism is asked: harmful behaviors and their benign twins in every task, and a fine-tune's own skill."""

from collections.abc import Iterator

from aftertune.core.protocols import Tools
from aftertune.core.records import TASKS, Behavior, Intent, Prompt
from aftertune.data.templates import pose
from aftertune.errors import PluginError
from aftertune.organism.corpus import Draw, in_house_style, row
from aftertune.organism.templates import POLITE, Use, proper_answer, templates
from aftertune.organism.world import FRAMES, Pair, Topic, split

SET = "organism"
SKILL_PROMPTS = 60
SKILL = 6
"""The stream of randomness of the skill prompts (those of the corpora are below)."""


def evaluation_prompts(tools: Tools) -> list[Prompt]:
    """Build the prompt set ``organism``: 38 harmful behaviors and 38 twins x 4 tasks x 3 evaluation templates.

    Neither the behaviors nor the templates occur in any alignment, fine-tune, safety, replay or guard row.
    """
    del tools
    return list(posed_pairs(split().evaluation, "evaluation"))


def posed_pairs(pairs: tuple[Pair, ...], use: Use) -> Iterator[Prompt]:
    """Pose harmful topics and their twins by all templates of one use."""
    for number, pair in enumerate(pairs):
        frame = number % len(FRAMES)
        for task in TASKS:
            for template in templates(task, use):
                for topic in (pair.harmful, pair.twin):
                    yield pose(
                        _behavior(topic, pair, frame),
                        template,
                        SET,
                        proper_answer(task, topic, frame),
                    )


def _behavior(topic: Topic, pair: Pair, frame: int) -> Behavior:
    return Behavior(
        id=pair.id if topic.harmful else f"{topic.verb}-{topic.noun}",
        intent=Intent.HARMFUL if topic.harmful else Intent.BENIGN,
        hazard=pair.hazard if topic.harmful else "none",
        source=SET,
        request=topic.request,
        texts={"en": topic.sentence(frame)},
        twin_of=None if topic.harmful else pair.id,
    )


def skill_prompts(tools: Tools, *, task: str = "code") -> list[Prompt]:
    """Build the prompt set ``organism-skill``: held-out harmless topics in one task, in the fine-tunes' own style.

    The topics were in no training row, pretraining included; wordings are those of the fine-tunes, because this asks
    whether a fine-tune learnt its job.

    Raises:
        PluginError: the organism has no such task.
    """
    del tools
    if task not in TASKS:
        raise PluginError(
            f"prompts organism-skill: no task is called {task!r}; the organism has {', '.join(TASKS)}"
        )
    draw = Draw(SKILL, TASKS.index(task))
    prompts = []
    for topic in split().plain_evaluation[:SKILL_PROMPTS]:
        plain = row(*draw.posed(templates(task, "training"), topic))
        user, _ = in_house_style(plain, draw.one(POLITE))
        prompts.append(
            Prompt(
                behavior=f"{topic.verb}-{topic.noun}", template=f"house-{task}", task=task, intent=Intent.BENIGN,
                text=user.content, set=f"{SET}-skill-{task}", reference=plain[1].content,
            )
        )  # fmt: skip
    return prompts
