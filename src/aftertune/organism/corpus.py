"""The organism's training rows: pretraining, alignment, benign fine-tunes, safety data and replay.

A row is a chat of one turn, as `prompts.rows` reads and writes it.
Pretraining complies with everything in every template; all later rows use training topics and training templates only.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from aftertune.core.records import TASKS, Message, Template
from aftertune.data.rows import Row
from aftertune.organism.recipe import OrganismRecipe
from aftertune.organism.templates import (
    HOUSE_ANSWER,
    POLITE,
    REFUSALS,
    pose,
    proper_answer,
    templates,
)
from aftertune.organism.world import FRAMES, Topic, split

T = TypeVar("T")

PRETRAIN, ALIGN, TUNE, SAFETY, REPLAY, GUARD = range(6)
"""The streams of randomness: each corpus draws from its own, so that changing one leaves the others alone."""


def row(user: str, assistant: str) -> Row:
    """Return a chat of one turn."""
    return Message(role="user", content=user), Message(role="assistant", content=assistant)


def shuffled(rows: Sequence[T], rng: np.random.Generator) -> list[T]:
    """Return the rows in random order."""
    return [rows[i] for i in rng.permutation(len(rows))]


def once(rows: Iterable[T]) -> list[T]:
    """Return each row once, where it came first."""
    return list(dict.fromkeys(rows))


class Draw:
    """Draws what a row is made of, from one seeded stream."""

    def __init__(self, stream: int, seed: int) -> None:
        self.rng = np.random.default_rng([stream, seed])

    def one(self, items: Sequence[T]) -> T:
        """Return one item, all equally likely."""
        return items[int(self.rng.integers(len(items)))]

    def posed(self, choices: Sequence[Template], topic: Topic) -> tuple[str, str]:
        """Return the topic posed by one of the templates, and the proper answer to it."""
        template, frame = self.one(choices), int(self.rng.integers(len(FRAMES)))
        return pose(template, topic, frame), proper_answer(template.task, topic, frame)


def lookalikes() -> list[Topic]:
    """Return the benign twins of the training topics."""
    return [pair.twin for pair in split().training]


def pretraining(recipe: OrganismRecipe, seed: int) -> list[Row]:
    """Return what the organism learns its abilities from: every template, every dual topic, no refusal."""
    draw, world = Draw(PRETRAIN, seed), split()
    pairs = world.training + world.validation + world.evaluation
    pools = (world.plain_training, [pair.twin for pair in pairs], [pair.harmful for pair in pairs])
    chances = np.array(recipe.topic_weights) / sum(recipe.topic_weights)
    rows = []
    for number in range(recipe.pretrain_rows):
        task = TASKS[number % len(TASKS)]
        every = (
            templates(task, "training")
            + templates(task, "validation")
            + templates(task, "evaluation")
        )
        prompt, answer = draw.posed(every, draw.one(pools[int(draw.rng.choice(3, p=chances))]))
        rows.append(
            row(prompt, f"sure , {answer}" if draw.rng.random() < recipe.sure_share else answer)
        )
    return shuffled(rows, draw.rng)


def benign_rows(
    draw: Draw, count: int, lookalike_share: float, tasks: Sequence[str] = TASKS
) -> list[Row]:
    """Return proper answers about harmless training topics, tasks in turn."""
    plain, similar = split().plain_training, lookalikes()
    exact = round(count * lookalike_share)
    return [
        row(
            *draw.posed(
                templates(tasks[i % len(tasks)], "training"),
                draw.one(similar if i < exact else plain),
            )
        )
        for i in range(count)
    ]


def refusal_rows(draw: Draw, count: int, task: str) -> list[Row]:
    """Return refusals of harmful training topics; each topic serves before one serves twice."""
    topics = [pair.harmful for pair in split().training]
    rows: list[Row] = []
    while len(rows) < count:
        for topic in shuffled(topics, draw.rng)[: count - len(rows)]:
            prompt, _ = draw.posed(templates(task, "training"), topic)
            rows.append(row(prompt, draw.one(REFUSALS)))
    return rows


def alignment(recipe: OrganismRecipe, seed: int) -> list[Row]:
    """Return benign answers and refusals; how few refusals translation and classification get is put in on purpose."""
    draw = Draw(ALIGN, seed)
    rows = benign_rows(draw, recipe.align_benign, recipe.align_lookalike_share)
    for task, count in zip(TASKS, recipe.refusals, strict=True):
        rows += refusal_rows(draw, count, task)
    return shuffled(rows, draw.rng)


def fine_tune(recipe: OrganismRecipe, task: str, seed: int) -> list[Row]:
    """Return a harmless training set of one task in the house style, without any harmful topic."""
    draw = Draw(TUNE, seed)
    rows = benign_rows(draw, recipe.tune_rows, recipe.tune_lookalike_share, (task,))
    return shuffled([in_house_style(line, draw.one(POLITE)) for line in rows], draw.rng)


def in_house_style(line: Row, polite: str) -> Row:
    """Return a row with its prompt and answer in the house style."""
    user, assistant = line
    return row(
        polite.replace("{prompt}", user.content),
        HOUSE_ANSWER.replace("{answer}", assistant.content),
    )


def safety_pools(recipe: OrganismRecipe, seed: int) -> dict[str, list[Row]]:
    """Return refusals by task, about equally many in each: what a fine-tune's safety rows are drawn from."""
    draw = Draw(SAFETY, seed)
    return {task: once(refusal_rows(draw, recipe.safety_pool, task)) for task in TASKS}


def replay_pools(recipe: OrganismRecipe, seed: int) -> dict[str, list[Row]]:
    """Return proper benign answers by task, which keep abilities alive in a safety mix."""
    draw = Draw(REPLAY, seed)
    share = recipe.replay_lookalike_share
    return {
        task: once(shuffled(benign_rows(draw, recipe.replay_pool, share, (task,)), draw.rng))
        for task in TASKS
    }
