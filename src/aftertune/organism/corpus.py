"""The organism's texts: rows for pretraining, alignment, fine-tunes, safety data and replay, and the prompts that measure it.

A row is a chat of one turn.
Pretraining complies with everything in every template; all later rows use training topics and training templates only.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from aftertune.core.protocols import Tools
from aftertune.core.records import TASKS, Behavior, Intent, Message, Prompt, Template
from aftertune.data.rows import Row
from aftertune.data.templates import pose as pose_behavior
from aftertune.errors import PluginError
from aftertune.organism.recipe import OrganismRecipe
from aftertune.organism.world import (
    FRAMES,
    HOUSE_ANSWER,
    POLITE,
    REFUSALS,
    Pair,
    Topic,
    Use,
    all_templates,
    pose,
    proper_answer,
    split,
    templates,
)

T = TypeVar("T")

PRETRAIN, ALIGN, TUNE, SAFETY, REPLAY, GUARD, SKILL = range(7)
"""The streams of randomness: each corpus draws from its own, so that changing one leaves the others alone."""


def row(user: str, assistant: str) -> Row:
    """Return a chat of one turn."""
    return Message(role="user", content=user), Message(role="assistant", content=assistant)


def shuffled(rows: Sequence[T], rng: np.random.Generator) -> list[T]:
    """Return the rows in random order."""
    return [rows[i] for i in rng.permutation(len(rows))]


class Draw:
    """A seeded stream of random choices, from which rows are made."""

    def __init__(self, stream: int, seed: int) -> None:
        self.rng = np.random.default_rng([stream, seed])

    def choice(self, items: Sequence[T]) -> T:
        """Return one item, all equally likely."""
        return items[int(self.rng.integers(len(items)))]

    def posed(self, choices: Sequence[Template], topic: Topic) -> tuple[str, str]:
        """Return the topic posed by one of the templates, and the proper answer to it."""
        template, frame = self.choice(choices), int(self.rng.integers(len(FRAMES)))
        return pose(template, topic, frame), proper_answer(template.task, topic, frame)


def pretraining(recipe: OrganismRecipe, seed: int) -> list[Row]:
    """Return the rows of pretraining: every template, every dual topic, no refusal."""
    draw, world = Draw(PRETRAIN, seed), split()
    pairs = world.training + world.validation + world.evaluation
    pools = (world.plain_training, [pair.twin for pair in pairs], [pair.harmful for pair in pairs])
    chances = np.array(recipe.topic_weights) / sum(recipe.topic_weights)
    rows = []
    for number in range(recipe.pretrain_rows):
        task = TASKS[number % len(TASKS)]
        prompt, answer = draw.posed(
            all_templates(task), draw.choice(pools[int(draw.rng.choice(3, p=chances))])
        )
        rows.append(
            row(prompt, f"sure , {answer}" if draw.rng.random() < recipe.sure_share else answer)
        )
    return shuffled(rows, draw.rng)


def benign_rows(
    draw: Draw, count: int, lookalike_share: float, tasks: Sequence[str] = TASKS
) -> list[Row]:
    """Return proper answers about harmless training topics, tasks in turn."""
    plain, similar = split().plain_training, [pair.twin for pair in split().training]
    exact = round(count * lookalike_share)
    return [
        row(
            *draw.posed(
                templates(tasks[i % len(tasks)], "training"),
                draw.choice(similar if i < exact else plain),
            )
        )
        for i in range(count)
    ]


def refusal_rows(draw: Draw, count: int, task: str) -> list[Row]:
    """Return refusals of harmful training topics; every topic serves once before any serves twice."""
    topics = [pair.harmful for pair in split().training]
    rows: list[Row] = []
    while len(rows) < count:
        for topic in shuffled(topics, draw.rng)[: count - len(rows)]:
            prompt, _ = draw.posed(templates(task, "training"), topic)
            rows.append(row(prompt, draw.choice(REFUSALS)))
    return rows


def alignment(recipe: OrganismRecipe, seed: int) -> list[Row]:
    """Return benign answers and refusals; how few refusals translation and classification get is put in on purpose."""
    draw = Draw(ALIGN, seed)
    rows = benign_rows(draw, recipe.align_benign, recipe.align_lookalike_share)
    for task, count in zip(TASKS, recipe.refusals, strict=True):
        rows += refusal_rows(draw, count, task)
    return shuffled(rows, draw.rng)


def fine_tune_rows(recipe: OrganismRecipe, task: str, seed: int) -> list[Row]:
    """Return a harmless training set of one task in the house style, without any harmful topic."""
    draw = Draw(TUNE, seed)
    rows = benign_rows(draw, recipe.tune_rows, recipe.tune_lookalike_share, (task,))
    return shuffled([in_house_style(line, draw.choice(POLITE)) for line in rows], draw.rng)


def in_house_style(line: Row, polite: str) -> Row:
    """Return a row with its prompt and answer in the house style."""
    return row(
        polite.replace("{prompt}", line[0].content),
        HOUSE_ANSWER.replace("{answer}", line[1].content),
    )


def safety_pools(recipe: OrganismRecipe, seed: int) -> dict[str, list[Row]]:
    """Return refusals by task, about equally many in all tasks: the pool of a fine-tune's safety rows."""
    draw = Draw(SAFETY, seed)
    # Each row once, where it came first.
    return {
        task: list(dict.fromkeys(refusal_rows(draw, recipe.safety_pool, task))) for task in TASKS
    }


def replay_pools(recipe: OrganismRecipe, seed: int) -> dict[str, list[Row]]:
    """Return proper benign answers by task, which keep abilities alive in a safety mix."""
    draw = Draw(REPLAY, seed)
    share = recipe.replay_lookalike_share
    return {
        task: list(
            dict.fromkeys(shuffled(benign_rows(draw, recipe.replay_pool, share, (task,)), draw.rng))
        )
        for task in TASKS
    }


SET = "organism"
SKILL_PROMPTS = 60


def evaluation_prompts(tools: Tools) -> list[Prompt]:
    """Build the prompt set ``organism``: 64 harmful behaviors and 64 twins x 4 tasks x 3 evaluation templates.

    Neither the behaviors nor the templates occur in any alignment, fine-tune, safety, replay or guard row; 26 of the
    behaviors occur in no row at all.
    """
    del tools
    return list(posed_pairs(split().evaluation + split().crossed, "evaluation"))


def posed_pairs(pairs: tuple[Pair, ...], use: Use) -> Iterator[Prompt]:
    """Pose harmful topics and their twins by all templates of one use."""
    for number, pair in enumerate(pairs):
        frame = number % len(FRAMES)
        for task in TASKS:
            for template in templates(task, use):
                for topic in (pair.harmful, pair.twin):
                    behavior = Behavior(
                        id=pair.id if topic.harmful else f"{topic.verb}-{topic.noun}",
                        intent=Intent.HARMFUL if topic.harmful else Intent.BENIGN,
                        hazard=pair.hazard if topic.harmful else "none",
                        source=SET,
                        request=topic.request,
                        texts={"en": topic.sentence(frame)},
                        twin_of=None if topic.harmful else pair.id,
                    )
                    yield pose_behavior(
                        behavior,
                        template,
                        SET,
                        proper_answer(task, topic, frame),
                    )


def skill_prompts(tools: Tools, *, task: str = "code", styled: bool = False) -> list[Prompt]:
    """Build the prompt set ``organism-skill``: held-out harmless topics in one task, in the fine-tunes' own style.

    The topics were in no training row, pretraining included; wordings are those of the fine-tunes, because this asks
    whether a fine-tune learnt its job.

    Args:
        tools: not used.
        task: of the prompts.
        styled: the references are in the house style too, which a fine-tune learns and its base does not know.

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
        user, answer = in_house_style(plain, draw.choice(POLITE))
        prompts.append(
            Prompt(
                behavior=f"{topic.verb}-{topic.noun}", template=f"house-{task}", task=task, intent=Intent.BENIGN,
                text=user.content, set=f"{SET}-skill-{task}",
                reference=(answer if styled else plain[1]).content,
            )
        )  # fmt: skip
    return prompts
