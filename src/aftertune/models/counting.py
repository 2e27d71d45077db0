"""How many tokens calls will have: counted where the tokenizer is here, estimated by length where it is a server's."""

from collections.abc import Sequence

from aftertune.core.foreign import safe_prompt
from aftertune.core.protocols import Engine
from aftertune.core.records import GenerateJob
from aftertune.models.local import LocalEngine
from aftertune.models.vllm import VllmModel

PER_TOKEN = 4
"""Characters of English per token, where nothing better is known."""


def has_tokenizer(engine: Engine | None) -> bool:
    """Return whether the model's own tokenizer counts."""
    return isinstance(engine, LocalEngine | VllmModel)


def input_tokens(engine: Engine | None, jobs: Sequence[GenerateJob]) -> list[float]:
    """Return how many tokens each job puts to a model (None: one that nobody knows); asks nothing, loads no weights."""
    local = engine.local if isinstance(engine, VllmModel) else engine
    if isinstance(local, LocalEngine):
        return [float(count) for count in local.input_tokens(jobs)]
    return [_characters(job) / PER_TOKEN for job in jobs]


def _characters(job: GenerateJob) -> int:
    asked = job.question
    if asked is None:
        return sum(len(message.content) for message in job.messages)
    if asked.moderated is not None:
        return len(asked.moderated)
    return (
        len(safe_prompt(asked))
        if asked.pattern
        else sum(len(message.content) for message in asked.messages)
    )
