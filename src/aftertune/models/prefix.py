"""Shared prefixes: keys and values of the tokens that many rows begin with, computed once and read by every row.

A system prompt, a chat template or a guard's policy stands before every prompt. `families` finds which rows begin alike
and whether sharing pays; `Sharing` proves once, on two of the rows, that the model gives them the same logits behind a
prefix as whole, and computes the prefixes.

Rows go on behind a prefix with padding between prefix and row. The padding is masked, and a token's position is its rank
in its own row, so neither the padding nor the neighbours in the batch change a logit. That holds where attention knows
positions by the ids it is given and the keys and values of all tokens are kept: not for sliding windows shorter than the
rows, states that are carried on (Mamba), or positions counted in the cache (MPT).
"""

import math
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from inspect import signature
from itertools import cycle, islice, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from aftertune.models.adapters import Weights
from aftertune.models.batching import SizedRow, pad_left, within_memory

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 4
"""Tokens below which a shared beginning saves less than it costs."""
PASS = 1000
"""Tokens that have to be saved for one more forward pass to pay: what a GPU computes while it reads the weights once; on a
CPU fewer would do."""
_LENGTH_SCALED = ("dynamic", "longrope")
"""Rotary embeddings whose angles depend on the length of the whole row; a prefix is rotated before that is known."""
_CLOSE, _CLOSE_16_BITS = 1e-3, 0.1
"""Largest difference of logits with and without a prefix (root mean square, of their standard deviation) in float32, and in
16 bits, where rounding alone gives a few hundredths."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Tokens and their keys and values: a transformers cache layer for each layer, batch size one."""

    tokens: tuple[int, ...] = ()
    layers: tuple[Any, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def cache(self, rows: int) -> Any:
        """Return a transformers cache for a batch. Keys and values are views until a row's own are put behind them."""
        from transformers import DynamicCache

        cache = DynamicCache()
        layers: list[Any] = [copy(layer) for layer in self.layers]
        for layer in layers:
            layer.keys = layer.keys.expand(rows, -1, -1, -1)
            layer.values = layer.values.expand(rows, -1, -1, -1)
        cache.layers = layers
        return cache

    def before(self, tokens: "Tensor", mask: "Tensor") -> tuple["Tensor", "Tensor"]:
        """Return ids and mask of whole rows: the prefix, padding, the row."""
        import torch

        head = torch.tensor([self.tokens], dtype=tokens.dtype, device=tokens.device).expand(
            len(tokens), -1
        )
        return torch.cat([head, tokens], dim=1), torch.cat([torch.ones_like(head), mask], dim=1)


NONE = Prefix()
"""The empty prefix."""


def computed(model: Any, tokens: tuple[int, ...], device: str) -> Prefix:
    """Run the model over a prefix; return `NONE` where its cache cannot be continued by rows of unequal length."""
    import torch

    parameters = signature(model.forward).parameters
    rope = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    scaled = any(kind.get("rope_type") in _LENGTH_SCALED for kind in kinds)
    if scaled or not {"position_ids", "past_key_values"} <= set(parameters):
        return NONE
    options = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
    with torch.inference_mode():
        output = model(input_ids=torch.tensor([tokens], device=device), use_cache=True, **options)
    layers = tuple(getattr(getattr(output, "past_key_values", None), "layers", ()))
    whole = bool(layers) and all(_kept_whole(layer, len(tokens)) for layer in layers)
    return Prefix(tokens, layers) if whole else NONE


def last_logits(
    model: Any, tokens: "Tensor", mask: "Tensor", kept: int, prefix: Prefix = NONE
) -> "Tensor":
    """Return the logits of the last ``kept`` positions, ``[rows, kept, vocabulary]``, of rows behind a prefix.

    Positions are counted from each row's first real token, or from the prefix's.
    """
    if prefix:
        _, mask = prefix.before(tokens, mask)
    # The rank of a token among the real ones of its row: padding, left or in the middle, counts nothing.
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, len(prefix) :]
    optional = {"position_ids": positions, "logits_to_keep": kept}
    parameters = signature(model.forward).parameters
    options: dict[str, Any] = {
        name: value for name, value in optional.items() if name in parameters
    }
    if prefix:
        options["past_key_values"] = prefix.cache(len(tokens))
    logits: Tensor = model(
        input_ids=tokens, attention_mask=mask, use_cache=bool(prefix), **options
    ).logits
    return logits[:, -kept:]


def shortest_window(prefix: Prefix) -> float:
    """Return how many tokens back the layers of a prefix see at least; infinity where none has a window."""
    return min(
        (getattr(layer, "sliding_window", math.inf) for layer in prefix.layers), default=math.inf
    )


def same_logits(whole: "Tensor", others: "Tensor") -> bool:
    """Return whether logits that were computed in another way are the same but for rounding."""
    import torch

    allowed = _CLOSE if whole.dtype == torch.float32 else _CLOSE_16_BITS
    whole, others = whole.float(), others.float()
    return bool((whole - others).pow(2).mean().sqrt() <= allowed * whole.std())


def _kept_whole(layer: Any, length: int) -> bool:
    """Return whether a layer holds keys and values of every token and nothing else."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    # No subclass: one that a model brings along may keep less than it shows.
    plain = type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) and layer.is_initialized
    return bool(
        plain
        and layer.keys.shape[0] == 1
        and layer.keys.shape[-2] == layer.values.shape[-2] == length
    )


@dataclass(frozen=True, slots=True)
class Family:
    """Rows, by number, and the tokens that they all begin with; none where sharing them does not pay."""

    rows: tuple[int, ...]
    shared: tuple[int, ...] = ()


def families(rows: Sequence[list[int]], *, own: int = 1, steps: int = 1) -> list[Family]:
    """Return rows sorted into families by their beginnings.

    Rows with a longer beginning in common (the rubric of a task, a guard's policy) form a family of their own where that
    saves more tokens than the additional batch costs. All others share what every row begins with: a chat template, a
    system prompt.

    Args:
        rows: tokens of each row.
        own: tokens that each row keeps for itself at least.
        steps: forward passes of a batch: one to score it, as many as it has new tokens to generate.
    """
    if not rows:
        return []
    order = sorted(range(len(rows)), key=rows.__getitem__)
    # In sorted order all rows begin with what the first and the last have in common.
    common = _alike(rows[order[0]], rows[order[-1]])
    alike = [
        common + _alike(rows[left][common:], rows[right][common:])
        for left, right in pairwise(order)
    ]
    result, stack = [], [(0, len(order))]
    while stack:
        begin, end = stack.pop()
        pieces = list(_pieces(alike, begin, end))
        shared = _shared(alike, begin, end)
        leaving = [
            (low, high)
            for low, high in pieces
            if len(pieces) > 1
            # Tokens saved by a piece's own prefix, against the prefix pass and the passes of its batch.
            and (_shared(alike, low, high) - shared) * (high - low - 1) >= PASS * (steps + 1)
        ]
        stack += leaving
        staying = [i for piece in pieces if piece not in leaving for i in order[slice(*piece)]]
        if staying:
            tokens = [rows[i] for i in staying]
            first = min(tokens)
            length = min(_alike(first, max(tokens)), min(map(len, tokens)) - own)
            pays = length >= LEAST and length * (len(staying) - 1) >= PASS
            result.append(Family(tuple(sorted(staying)), tuple(first[:length]) if pays else ()))
    return result


def _shared(alike: Sequence[int], begin: int, end: int) -> int:
    """Return how many tokens the sorted rows from ``begin`` to ``end`` share; 0 for a single row."""
    return min(alike[begin : end - 1], default=0)


def _pieces(alike: Sequence[int], begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut sorted rows where neighbours share no more than all do."""
    shared, low = _shared(alike, begin, end), begin
    for high in range(begin + 1, end):
        if alike[high - 1] == shared:
            yield low, high
            low = high
    yield low, end


def _alike(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many tokens two rows begin with in common."""
    differ = (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b)
    return next(differ, min(len(left), len(right)))


_Trial = tuple[list[int], int]
"""A row on which the model is tried, whole and behind a prefix: its tokens, and how many it has with its answer."""


class Sharing:
    """Computes shared prefixes with the weights of one model, once a trial has shown that the model can read them."""

    def __init__(self, weights: Weights, device: str) -> None:
        self._weights = weights
        self._device = device
        self._works = True
        self._tried = 0
        """Tokens of the longest row of a trial: a longer row may meet a window that no cache tells of."""

    def groups(
        self, rows: Sequence[SizedRow], tokens: Sequence[list[int]], *, own: int = 1, steps: int = 1
    ) -> Iterator[tuple[Prefix, list[SizedRow]]]:
        """Yield rows with the prefix that they go on behind; `NONE` where none pays or the model cannot.

        Args:
            rows: rows to run.
            tokens: of each row, the tokens that it may share.
            own: of these, the number that each row keeps for itself at least.
            steps: forward passes of a batch.
        """
        groups = families(tokens, own=own, steps=steps)
        trials = {
            family: [(tokens[i], rows[i].length) for i in family.rows]
            for family in groups
            if family.shared
        }
        # Longest rows first: a trial on them speaks for the shorter ones.
        longest_first = sorted(trials, key=lambda family: -_longest(trials[family]))
        if not any(self._can(family, trials[family]) for family in longest_first):
            yield NONE, list(rows)
            return
        for family in groups:
            shares = family in trials and _longest(trials[family]) <= self._tried
            prefix = self._prefix(family.shared) if shares else NONE
            yield prefix or NONE, [rows[i] for i in family.rows]

    def _prefix(self, shared: tuple[int, ...]) -> Prefix | None:
        """Return a prefix, `NONE` where the model has none that can be shared; None where memory runs out."""
        with self._weights.using() as model:
            return within_memory(partial(computed, model, shared, self._device))

    def _can(self, family: Family, rows: Sequence[_Trial]) -> bool:
        """Return whether the model can read prefixes, after a trial on the shortest and the longest of these rows."""
        longest = _longest(rows)
        if self._works and longest > self._tried:
            pair = [min(rows, key=itemgetter(1)), max(rows, key=itemgetter(1))]
            same = within_memory(partial(self._same, family.shared, pair))
            if same is None:
                return False  # this time: shorter rows may fit
            self._works, self._tried = same, longest
        return self._works

    def _same(self, shared: tuple[int, ...], pair: Sequence[_Trial]) -> bool | None:
        """Return whether the logits are the same but for rounding; None where memory or a window is too small for these rows."""
        import torch

        prefix = self._prefix(shared)
        if prefix is None:
            return None
        # rows, padding included, see all of the prefix where no window is shorter
        if shortest_window(prefix) <= _longest(pair):
            return None
        if not prefix:
            return False
        # Rows at their full length with a made-up answer, without the last token, which a model is never given.
        rows = [
            [*tokens, *islice(cycle(tokens), max(length - 1 - len(tokens), 0))]
            for tokens, length in pair
        ]
        with self._weights.using() as model, torch.inference_mode():
            whole = last_logits(model, *pad_left(rows, self._device), 1)
            behind = last_logits(
                model, *pad_left([row[len(prefix) :] for row in rows], self._device), 1, prefix
            )
        return same_logits(whole, behind)


def _longest(rows: Sequence[_Trial]) -> int:
    return max(length for _, length in rows)
