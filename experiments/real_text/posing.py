"""Pairs become rows: a payload and its answer in one of a kind's wordings."""

import random
from collections.abc import Sequence

from wordings import OPTIONS

from aftertune.core.records import Message
from aftertune.data.rows import Row

Pair = tuple[str, str]
"""A payload (caption, tweet, instruction, abstract) and its answer (translation, label, …)."""


def draws(seed: int) -> random.Random:
    """Return the source of every draw."""
    return random.Random(seed)  # noqa: S311 - a reproducible split, not a secret


def exchange(prompt: str, answer: str) -> Row:
    """Return a training row of one question and its answer."""
    return Message(role="user", content=prompt), Message(role="assistant", content=answer)


def pose(wordings: Sequence[str], pair: Pair, rng: random.Random) -> Row:
    """Put a pair into one of the wordings; ``{fr}`` stands where French is the source."""
    wording = rng.choice(wordings)
    payload, answer = pair
    if "{fr}" in wording:
        payload, answer, wording = answer, payload, wording.replace("{fr}", "{x}")
    if "{options}" in wording:
        return choice(payload, answer, ("bearish", "bullish", "neutral"), rng)
    return exchange(wording.replace("{x}", payload), answer)


def choice(question: str, answer: str, options: Sequence[str], rng: random.Random) -> Row:
    """Pose a multiple-choice question in MultiTaskBench's own shape; the answer is the line of the right option."""
    shuffled = rng.sample(options, len(options))
    lines = [f"{letter}) {option}" for letter, option in zip("ABCD", shuffled, strict=False)]
    right = lines[shuffled.index(answer)] if answer in shuffled else answer
    return exchange(f"{question} {OPTIONS}\n" + "\n".join(lines), right)
