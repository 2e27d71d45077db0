"""Rows of unequal length in one tensor."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


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
