"""Cells become calls: every prompt of a cell, under its system prompt, sample by sample, each with its key."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from aftertune.core.protocols import Engine
from aftertune.core.recipe import Cell
from aftertune.core.records import GenerateJob, Message, Prompt


def conversation(prompt: str, system: str | None) -> tuple[Message, ...]:
    """Return what the model sees: the system prompt, if there is one, and the prompt as the user's turn."""
    user = Message(role="user", content=prompt)
    return (user,) if system is None else (Message(role="system", content=system), user)


def calls(
    engine: Engine,
    cells: Iterable[Cell],
    prompts: Sequence[Prompt],
    systems: Mapping[str, str | None],
) -> Iterator[tuple[Cell, Prompt, GenerateJob]]:
    """Yield the calls of the cells of one model, cell by cell, prompt by prompt, sample by sample.

    The order is that of the arguments, so expanding twice gives the same calls in the same order.
    """
    for cell in cells:
        conversations = [conversation(prompt.text, systems[cell.system]) for prompt in prompts]
        for sample in range(cell.samples):
            keys = engine.keys(conversations, cell.decoding, sample)
            for prompt, messages, key in zip(prompts, conversations, keys, strict=True):
                yield (
                    cell,
                    prompt,
                    GenerateJob(key=key, messages=messages, decoding=cell.decoding, sample=sample),
                )
