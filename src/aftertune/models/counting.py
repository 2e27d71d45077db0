"""Number of tokens of calls that are still to be made: counted where the tokenizer is here, else estimated from the length."""

from collections.abc import Iterable, Sequence

from aftertune.core.protocols import Engine
from aftertune.core.records import GenerateJob
from aftertune.core.untrusted import safe_prompt

PER_TOKEN = 4
"""Characters of English per token, where nothing better is known."""
AROUND = 16
"""Tokens that a chat template puts around a message, at most."""


def has_tokenizer(engine: Engine | None) -> bool:
    """Return whether the model's own tokenizer counts."""
    return engine is not None and engine.input_tokens([]) is not None


def input_tokens(engine: Engine | None, jobs: Sequence[GenerateJob]) -> list[float]:
    """Return how many tokens each job puts to a model, None for an unknown model; asks nothing, loads no weights."""
    counts = None if engine is None else engine.input_tokens(jobs)
    if counts is not None:
        return [float(count) for count in counts]
    return [_characters(job) / PER_TOKEN for job in jobs]


def most_tokens(sizes: Sequence[int]) -> int:
    """Return a number of tokens that messages of so many bytes cannot exceed: one a byte, and the template's around each."""
    return sum(sizes) + AROUND * (1 + len(sizes))


def most_cost(engine: Engine, jobs: Iterable[GenerateJob]) -> float | None:
    """Return the most that jobs of messages can cost, each answered at its full length; None without a price.

    Every byte of a prompt counts as a token, and every answer as long as it may be.
    """
    price = engine.price
    if price is None:
        return None
    return sum(
        price.of(
            most_tokens([len(m.content.encode("utf-8", "surrogatepass")) for m in job.messages]),
            job.decoding.limit,
        )
        for job in jobs
    )


def _characters(job: GenerateJob) -> int:
    question = job.question
    if question is None:
        return sum(len(message.content) for message in job.messages)
    if question.moderated is not None:
        return len(question.moderated)
    return (
        len(safe_prompt(question))
        if question.pattern
        else sum(len(message.content) for message in question.messages)
    )
