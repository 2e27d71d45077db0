"""Big batches: rows sorted by length and padded on the left, as many as fit in memory, halved when memory runs out."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from aftertune.models.foreign import out_of_memory
from aftertune.models.packing import spare_memory

if TYPE_CHECKING:
    from torch import Tensor

MAX_ROWS = 256
"""Above this a batch gains nothing and more is lost with it when the process is killed."""
_MIN_CPU_ROWS = 16
_CPU_WORK = 3e12
"""Floating-point operations of a batch on a CPU: about 15 seconds of two cores, so that little is lost when a run is killed.
It is a constant and not measured: the same run has the same batches."""


class Sized(Protocol):
    """A row of a batch: ``length`` is its number of tokens, input and output together."""

    @property
    def length(self) -> int:
        """Tokens of the row."""


SizedRow = TypeVar("SizedRow", bound=Sized)
Result = TypeVar("Result")


@dataclass(slots=True, kw_only=True)
class Capacity:
    """The number of rows of a length that fit in a batch."""

    token_bytes: float
    """Memory per token of a row (keys and values, activations)."""
    row_bytes: float
    """Memory per row whatever its length (logits of the last position)."""
    memory: float
    """Bytes that a batch may take."""
    token_work: float = 0.0
    """Floating-point operations per token where they limit a batch (CPU), else 0."""
    cells: int | None = None
    """Rows times length that fit, known once memory has run out."""

    def rows(self, length: int, shared: int = 0) -> int:
        """Return the number of rows of ``length`` tokens that a batch may hold, at least 1.

        The first ``shared`` tokens are computed once for all; each row has their keys and values all the same.
        """
        rows = min(MAX_ROWS, int(self.memory / (self.row_bytes + self.token_bytes * length)))
        if self.token_work:
            rows = min(
                rows, max(_MIN_CPU_ROWS, int(_CPU_WORK / (self.token_work * (length - shared))))
            )
        if self.cells is not None:
            rows = min(rows, self.cells // length)
        return max(rows, 1)


def capacity(model: Any, device: str, dtype: str, *, all_logits: bool = False) -> Capacity:
    """Return how much of a batch fits, from the model's shape and the memory that is free.

    Args:
        model: a transformers model.
        device: where it is, in torch's names.
        dtype: its number format, in torch's names.
        all_logits: whether the logits of every position are kept (likelihoods), not of the last one only (generation).
    """
    import torch

    config = model.config.get_text_config()
    size = torch.finfo(getattr(torch, dtype)).bits // 8
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kept = 2 * config.num_hidden_layers * heads * head * size
    activations = 20 * config.hidden_size * size
    logits = 24 * config.vocab_size  # float32 scores, their noise and copies of both
    parameters = sum(parameter.numel() for parameter in model.parameters())
    # most of what is free on a GPU, an eighth of a memory that is shared with other programs
    memory = spare_memory()
    if device.startswith("cuda"):
        memory = 0.8 * float(torch.cuda.mem_get_info()[0])
    return Capacity(
        token_bytes=kept + activations + (logits if all_logits else 0),
        row_bytes=0 if all_logits else logits,
        memory=memory,
        token_work=2.0 * parameters if device == "cpu" else 0.0,
    )


def in_batches(
    rows: Sequence[SizedRow],
    capacity: Capacity,
    run: Callable[[list[SizedRow]], Sequence[Result]],
    shared: int = 0,
) -> Iterator[tuple[SizedRow, Result | None]]:
    """Run rows in batches, longest first, and yield each with its result batch by batch.

    A batch that runs out of memory is halved and tried again, and so are all later ones; a single row that does not fit
    is yielded with None. The first ``shared`` tokens of all rows are computed elsewhere.
    """
    waiting = deque(sorted(rows, key=lambda row: row.length, reverse=True))
    while waiting:
        longest = waiting[0].length
        batch = [
            waiting.popleft() for _ in range(min(capacity.rows(longest, shared), len(waiting)))
        ]
        results = within_memory(partial(run, batch))
        if results is not None:
            yield from zip(batch, results, strict=True)
        elif len(batch) == 1:
            yield batch[0], None
        else:
            # what did not fit is remembered: from now on at most half as much
            capacity.cells = max(len(batch) // 2, 1) * longest
            waiting.extendleft(reversed(batch))


def within_memory(run: Callable[[], Result]) -> Result | None:
    """Return the result, or None when memory ran out; by the return the failed run's tensors are released."""
    import torch

    try:
        return run()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def pad_left(rows: Sequence[Sequence[int]], device: str) -> tuple["Tensor", "Tensor"]:
    """Return token ids and attention mask, int64 ``[rows, longest]``.

    Rows are filled with their own first token: it is masked, and a penalty on the tokens that a row contains then stays
    the same whatever the length of its neighbours.
    """
    import torch

    longest = max(map(len, rows))
    tokens = [[row[0]] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)
