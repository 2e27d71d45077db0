"""Training rows become tokens on disk, so that neither rows nor tokens need ever be in memory together.

Rows are rendered a thousand at a time into a file of Arrow, which `datasets` maps into memory: the trainer takes the rows of a
batch from it in any order. The whole order is drawn by the seed, as if everything were in memory, and the tensors are the same.
The file lies with the step checkpoints, so training that goes on renders nothing again.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from aftertune.core.files import write_whole
from aftertune.core.records import Message
from aftertune.errors import DataError
from aftertune.models.rendering import Renderer
from aftertune.train.loss import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset

Rows = Collection[tuple[Message, ...]]
"""Training rows; they are iterated over more than once, and may be read from their file each time."""
RENDERED = 1000
"""Rows that are in memory while they are rendered."""
TOKENS, COUNTS = "tokens.arrow", "tokens.json"
"""The files of the tokens; the second is written last, so that it vouches for the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Tokenised rows, ready for the trainer."""

    data: "Dataset"
    """Columns ``input_ids`` and ``labels``: `IGNORED` everywhere but on the last answer and its end token."""
    truncated: int
    """Rows cut on the right to the longest allowed length; their answer lost its end."""
    dropped: int
    """Rows left out because their answer is empty or nothing of it fits."""


def tokenise(
    rows: Rows, renderer: Renderer, max_length: int, folder: Path, sha256: str | None = None
) -> Examples:
    """Write rows as token ids with the loss on the last answer only, and return them.

    The chat template need not mark the answer itself: its prompt and the answer are rendered apart.

    Args:
        rows: conversations that end with an answer.
        renderer: the tokenizer and chat template.
        max_length: tokens of the longest row.
        folder: where the tokens go.
        sha256: hash of the rows when they were read before (`rows_sha256`).

    Raises:
        DataError: a row does not end with an answer to something, no row has an answer that fits, or these are not the rows
            that were read before.
        OSError: the disk is full.
    """
    import pyarrow as pa

    numbers = pa.list_(pa.int32())
    schema = pa.schema({"input_ids": numbers, "labels": numbers})
    kept, truncated, digest = 0, 0, hashlib.sha256()
    with (folder / TOKENS).open("wb") as file:
        with pa.ipc.new_stream(file, schema) as stream:
            for pairs in _rendered(_hashed(rows, digest), renderer):
                fitting = [(prompt, answer) for prompt, answer in pairs if len(prompt) < max_length]
                truncated += sum(
                    len(prompt) + len(answer) > max_length for prompt, answer in fitting
                )
                kept += len(fitting)
                columns = {
                    "input_ids": [(prompt + answer)[:max_length] for prompt, answer in fitting],
                    "labels": [
                        ([IGNORED] * len(prompt) + answer)[:max_length]
                        for prompt, answer in fitting
                    ],
                }
                stream.write_batch(pa.record_batch(columns, schema))
        file.flush()
        os.fsync(file.fileno())  # before the counts, which vouch for it
    if sha256 not in {None, digest.hexdigest()}:
        raise DataError(
            "the training rows changed after the command had begun; run it again, and leave the data alone until training starts"
        )
    if not kept:
        raise DataError(
            f"no training row is left: {len(rows)} given, none has an answer with room for it in {max_length} tokens; "
            "raise max_length or give other rows"
        )
    counts = {"truncated": truncated, "dropped": len(rows) - kept}
    write_whole(folder / COUNTS, [json.dumps(counts)])
    return kept_tokens(folder)


def has_tokens(folder: Path) -> bool:
    """Return whether a folder holds whole tokens."""
    return (folder / COUNTS).exists()


def kept_tokens(folder: Path) -> Examples:
    """Return the tokens that `tokenise` wrote."""
    from datasets import Dataset

    counts = json.loads((folder / COUNTS).read_text(encoding="utf-8"))
    return Examples(data=Dataset.from_file(str(folder / TOKENS)), **counts)


def _rendered(
    rows: Iterable[Sequence[Message]], renderer: Renderer
) -> Iterator[list[tuple[list[int], list[int]]]]:
    """Yield the tokens up to the last answer and those of the answer, for many rows at a time; rows without an answer are left out."""
    number = 0
    remaining = iter(rows)
    while chunk := list(islice(remaining, RENDERED)):
        for row in chunk:
            number += 1
            if not row or row[-1].role != "assistant":
                raise DataError(
                    f"training row {number}: the last message is not the assistant's; end every row with its answer"
                )
            if len(row) == 1:
                raise DataError(
                    f"training row {number}: nothing is asked before the answer; put the user's message first"
                )
        yield renderer.exchanges([row for row in chunk if row[-1].content.strip()])


@dataclass(frozen=True, slots=True)
class WithSystem(Collection[tuple[Message, ...]]):
    """Training rows with a system prompt before those that have none."""

    rows: Rows
    system: str | None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Message, ...]]:
        return (tuple(with_system(row, self.system)) for row in self.rows)

    def __contains__(self, row: object) -> bool:
        return any(row == own for own in self)


def with_system(row: Sequence[Message], system: str | None) -> Sequence[Message]:
    """Return the row with the recipe's system prompt, unless it has its own."""
    if system is None or (row and row[0].role == "system"):
        return row
    return (Message(role="system", content=system), *row)


def rows_sha256(rows: Iterable[Sequence[Message]]) -> str:
    """Return the hash of the rows in their order."""
    digest = hashlib.sha256()
    for _ in _hashed(rows, digest):
        pass
    return digest.hexdigest()


def _hashed(
    rows: Iterable[Sequence[Message]], digest: "hashlib._Hash"
) -> Iterator[Sequence[Message]]:
    """Yield rows on their way into a hash."""
    for row in rows:
        turns = [
            [turn.role, turn.content, *([turn.reasoning] if turn.reasoning else [])] for turn in row
        ]
        digest.update(json.dumps(turns).encode() + b"\n")
        yield row
