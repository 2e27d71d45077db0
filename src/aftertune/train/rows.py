"""Training rows become token ids with the loss on the last answer only."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from aftertune.core.records import Message
from aftertune.errors import DataError
from aftertune.models.rendering import Renderer

IGNORED = -100
"""The label of a token without loss, by PyTorch's convention."""

Row = Sequence[Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Tokenised rows, ready for the trainer."""

    input_ids: list[list[int]]
    labels: list[list[int]]
    """`IGNORED` everywhere but on the last answer and its end token."""
    truncated: int
    """Rows cut on the right to the longest allowed length; their answer lost its end."""
    dropped: int
    """Rows left out because their answer is empty or nothing of it fits."""


def with_system(row: Row, system: str | None) -> Row:
    """Return the row with the recipe's system prompt, unless it has one of its own."""
    if system is None or (row and row[0].role == "system"):
        return row
    return (Message(role="system", content=system), *row)


def tokenise(rows: Sequence[Row], renderer: Renderer, max_length: int) -> Examples:
    """Render rows with the chat template, which need not mark the answer itself.

    Raises:
        DataError: a row that does not end with an answer to something, or no row whose answer fits.
    """
    for number, row in enumerate(rows, start=1):
        _check(row, number)
    pairs = renderer.exchanges([row for row in rows if row[-1].content.strip()])
    fitting = [(prompt, answer) for prompt, answer in pairs if len(prompt) < max_length]
    if not fitting:
        raise DataError(
            f"no training row is left: {len(rows)} given, none has an answer with room for it in {max_length} tokens; "
            "raise max_length or give other rows"
        )
    return Examples(
        input_ids=[(prompt + answer)[:max_length] for prompt, answer in fitting],
        labels=[([IGNORED] * len(prompt) + answer)[:max_length] for prompt, answer in fitting],
        truncated=sum(len(prompt) + len(answer) > max_length for prompt, answer in fitting),
        dropped=len(rows) - len(fitting),
    )


def rows_sha256(rows: Sequence[Row]) -> str:
    """Return the hash of the rows in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(
            json.dumps([[message.role, message.content] for message in row]).encode() + b"\n"
        )
    return digest.hexdigest()


def _check(row: Row, number: int) -> None:
    if not row or row[-1].role != "assistant":
        raise DataError(
            f"training row {number}: the last message is not the assistant's; end every row with its answer"
        )
    if len(row) == 1:
        raise DataError(
            f"training row {number}: nothing is asked before the answer; put the user's message first"
        )
