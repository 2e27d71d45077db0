"""Which rows of a call read a shared prefix, and whether their model can."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TypeVar

from aftertune.engine.batching import within_memory
from aftertune.engine.families import Family, families
from aftertune.engine.loading import Weights
from aftertune.engine.padding import pad_left
from aftertune.engine.prefix import NONE, Prefix, computed, same_logits
from aftertune.engine.scoring import last_logits

Row = TypeVar("Row")


class Sharing:
    """Computes shared prefixes with the weights of one model, once it has been seen that the model can read them."""

    def __init__(self, weights: Weights, device: str) -> None:
        self._weights = weights
        self._device = device
        self._works = True
        self._seen = 0
        """Tokens of the longest row on which it was seen to work: a window that no cache tells of may be longer."""

    def groups(
        self, rows: Sequence[Row], tokens: Sequence[list[int]], *, own: int = 1, behind: int = 0, steps: int = 1
    ) -> Iterator[tuple[Prefix, list[Row]]]:
        """Yield rows with the prefix that they go on behind; `NONE` where none pays or the model cannot.

        Args:
            rows: what shall be run.
            tokens: of each row, what it may share.
            own: of these, how many each row keeps for itself at least.
            behind: how many tokens stand behind them at most.
            steps: forward passes that a batch takes.
        """
        found = families(tokens, own=own, steps=steps)
        sharing = [family for family in found if family.shared]
        if not sharing or not self._can(sharing[0], tokens):
            yield NONE, list(rows)
            return
        for family in found:
            longest = max(len(tokens[i]) for i in family.rows) + behind
            yield self._prefix(family.shared, longest), [rows[i] for i in family.rows]

    def _prefix(self, shared: tuple[int, ...], longest: int) -> Prefix:
        if not shared:
            return NONE
        with self._weights.using() as model:
            prefix = within_memory(partial(computed, model, shared, self._device))
        return prefix if prefix is not None and prefix.reaches(longest) else NONE

    def _can(self, family: Family, tokens: Sequence[list[int]]) -> bool:
        """Return whether the model gives rows behind a prefix the logits that it gives them whole, seen on two of them."""
        rows = sorted((tokens[i] for i in family.rows), key=len)
        if self._works and len(rows[-1]) > self._seen:
            same = within_memory(partial(self._same, family.shared, [rows[0], rows[-1]]))
            if same is None:
                return False  # this time: a shorter prefix may fit
            self._works, self._seen = same, len(rows[-1])
        return self._works

    def _same(self, shared: tuple[int, ...], rows: list[list[int]]) -> bool:
        import torch

        prefix = self._prefix(shared, max(map(len, rows)))
        if not prefix:
            return False
        with self._weights.using() as model, torch.inference_mode():
            whole = last_logits(model, *pad_left(rows, self._device), 1)
            behind = last_logits(model, *pad_left([row[len(prefix) :] for row in rows], self._device), 1, prefix)
        return same_logits(whole, behind)
