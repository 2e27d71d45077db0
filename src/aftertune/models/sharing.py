"""Which rows of a call read a shared prefix, and whether their model can."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from typing import NamedTuple

from aftertune.models.batching import SizedRow, within_memory
from aftertune.models.families import Family, families
from aftertune.models.loading import Weights
from aftertune.models.padding import pad_left
from aftertune.models.prefix import NONE, Prefix, computed, same_logits
from aftertune.models.scoring import last_logits


class _Seen(NamedTuple):
    """A row that is run whole and behind a prefix, to compare what comes."""

    tokens: list[int]
    length: int
    """Of the row with what stands behind these tokens."""

    @property
    def filled(self) -> list[int]:
        """All that a model is given of such a row, for its last token is never shown to it; what comes later is made up."""
        return [
            *self.tokens,
            *islice(cycle(self.tokens), max(self.length - 1 - len(self.tokens), 0)),
        ]


class Sharing:
    """Computes shared prefixes with the weights of one model, once it has been seen that the model can read them."""

    def __init__(self, weights: Weights, device: str) -> None:
        self._weights = weights
        self._device = device
        self._works = True
        self._seen = 0
        """Tokens of the longest row on which it was seen to work: a window that no cache tells of may be longer."""

    def groups(
        self, rows: Sequence[SizedRow], tokens: Sequence[list[int]], *, own: int = 1, steps: int = 1
    ) -> Iterator[tuple[Prefix, list[SizedRow]]]:
        """Yield rows with the prefix that they go on behind; `NONE` where none pays or the model cannot.

        Args:
            rows: what shall be run.
            tokens: of each row, what it may share.
            own: of these, how many each row keeps for itself at least.
            steps: forward passes that a batch takes.
        """
        found = families(tokens, own=own, steps=steps)
        seen = {
            family: [_Seen(tokens[i], rows[i].length) for i in family.rows]
            for family in found
            if family.shared
        }
        if not any(
            self._can(family, seen[family])
            for family in sorted(seen, key=lambda f: -_longest(seen[f]))
        ):
            yield NONE, list(rows)
            return
        for family in found:
            can = family in seen and _longest(seen[family]) <= self._seen
            yield (
                (self._prefix(family.shared) if can else None) or NONE,
                [rows[i] for i in family.rows],
            )

    def _prefix(self, shared: tuple[int, ...]) -> Prefix | None:
        """Return a prefix, `NONE` where the model has none that can be shared; None where memory runs out."""
        with self._weights.using() as model:
            return within_memory(partial(computed, model, shared, self._device))

    def _can(self, family: Family, rows: Sequence[_Seen]) -> bool:
        """Return whether the model gives rows behind a prefix the logits that it gives them whole, seen on two of them."""
        longest = _longest(rows)
        if self._works and longest > self._seen:
            chosen = [min(rows, key=_length), max(rows, key=_length)]
            same = within_memory(partial(self._same, family.shared, chosen))
            if same is None:
                return False  # this time: shorter rows may fit
            self._works, self._seen = same, longest
        return self._works

    def _same(self, shared: tuple[int, ...], chosen: Sequence[_Seen]) -> bool | None:
        """Return whether the logits are the same; None where memory or a window is too small for these rows."""
        import torch

        prefix = self._prefix(shared)
        if prefix is None or not prefix.reaches(_longest(chosen)):
            return None
        if not prefix:
            return False
        rows = [row.filled for row in chosen]
        with self._weights.using() as model, torch.inference_mode():
            whole = last_logits(model, *pad_left(rows, self._device), 1)
            behind = last_logits(
                model, *pad_left([row[len(prefix) :] for row in rows], self._device), 1, prefix
            )
        return same_logits(whole, behind)


def _length(row: _Seen) -> int:
    return row.length


def _longest(rows: Sequence[_Seen]) -> int:
    return max(map(_length, rows))
