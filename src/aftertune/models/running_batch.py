"""A running batch: rows that a model goes on with together, token by token, while some end and others enter.

The keys and values of all rows lie in one block of memory a layer, ``[rows, heads, columns, width]``, taken once. Rows
share their last column: the step that gives each its next token fills the column behind it. A row that enters is put
before that column, whatever its length; a row that ends gives its place to the last one, so that the rows of a step are
always the first ones of the block. What stands left of a row is masked, and positions are counted in the row itself.

That is the same computation where attention goes by the positions and masks that it is given, and keeps the keys and values
of all tokens. It is not for sliding windows shorter than the rows, states that are carried on (Mamba), or positions counted
in the cache (MPT); `Stepping` tries a model on two rows, and such a model answers by transformers' ``generate``.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache, partial
from inspect import signature
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from aftertune.models.adapters import Weights
from aftertune.models.batching import pad_left, within_memory
from aftertune.models.foreign import out_of_memory
from aftertune.models.prefix import (
    NONE,
    Prefix,
    computed,
    last_logits,
    same_logits,
    shortest_window,
)

if TYPE_CHECKING:
    from torch import Tensor

SPARE = 64
"""Columns behind the longest row of a block: when they are full, all rows are moved to its front."""


_TRIED = 16
"""Tokens of the shorter row of a trial."""


class RunningBatch:
    """The rows that are in, with their keys and values.

    Attributes:
        rows: number of rows that are in.

    Args:
        device: where the model takes its tokens, in torch's names.
        length: tokens of the longest row with its answer.
    """

    def __init__(self, device: str, length: int) -> None:
        self.rows = 0
        self._device = device
        self._columns = length + SPARE
        self._layers: list[Any] = []
        self._mask: Any = None
        """int64 ``[rows of the block, 1, columns]``: 1 where a row has a token."""
        self._first: list[int] = []
        """The first column of each row."""
        self._next: list[int] = []
        """The position of each row's next token."""
        self._end = 0
        """The column of the next tokens."""

    def enter(
        self, model: Any, rows: Sequence[Sequence[int]], prefix: Prefix = NONE, *, room: int = 0
    ) -> "Tensor":
        """Put rows behind those that are in, and return the logits after their last tokens, ``[rows, vocabulary]``.

        Args:
            model: a transformers model.
            rows: their tokens, which all begin with the prefix and go on behind it.
            prefix: what they share.
            room: rows that the block shall hold, so that it need not be taken anew as more enter.
        """
        from transformers import DynamicCache

        tokens, mask = pad_left([row[len(prefix) :] for row in rows], self._device)
        if prefix:
            _, mask = prefix.before(tokens, mask)
        positions = (mask.cumsum(1) - 1)[:, len(prefix) :]
        cache = prefix.cache(len(rows)) if prefix else DynamicCache()
        logits = _last_logits(model, tokens, mask, positions, cache)
        width, new = mask.shape[1], slice(self.rows, self.rows + len(rows))
        self._make_room(cache.layers, max(room, new.stop), width)
        start, begin = self._end - width, self._begin
        for layer, part in zip(self._layers, cache.layers, strict=True):
            for block, tensor in ((layer.keys, part.keys), (layer.values, part.values)):
                block[new, :, start : self._end] = tensor
                # A mask does not keep out the NaN that a row before may have left there.
                block[new, :, begin:start] = 0
                block[: self.rows, :, start:begin] = 0
        self._mask[new] = 0
        self._mask[new, 0, start : self._end] = mask
        self._first += [start if prefix else self._end - len(row) for row in rows]
        self._next += map(len, rows)
        self.rows = new.stop
        return logits

    def step(self, model: Any, tokens: Sequence[int]) -> "Tensor":
        """Go on by one token a row, and return the logits after it, ``[rows, vocabulary]``."""
        import torch
        from transformers import DynamicCache

        begin, end = self._begin, self._end
        if end == self._mask.shape[2]:
            self._move(len(self._mask), self._end - begin)
            begin, end = self._begin, self._end
        self._mask[: self.rows, 0, end] = 1
        for layer in self._layers:
            layer.place = (self.rows, begin, end)
        cache = DynamicCache()
        cache.layers = list[Any](self._layers)
        logits = _last_logits(
            model,
            torch.tensor(tokens, device=self._device)[:, None],
            self._mask[: self.rows, 0, begin : end + 1],
            torch.tensor(self._next, device=self._device)[:, None],
            cache,
        )
        self._end += 1
        self._next = [position + 1 for position in self._next]
        return logits

    def leave(self, ended: Collection[int]) -> list[int]:
        """Take rows out; return the numbers that the rows left had before, in the order that they have now."""
        order, begin = list(range(self.rows)), self._begin
        for number in sorted(ended, reverse=True):
            last = order.pop()
            if number < len(order):
                order[number] = last
        for place, number in enumerate(order):
            if place != number:
                for block in self._blocks():
                    block[place, :, begin : self._end] = block[number, :, begin : self._end]
        self._first = [self._first[number] for number in order]
        self._next = [self._next[number] for number in order]
        self.rows = len(order)
        return order

    @property
    def _begin(self) -> int:
        """The first column in which a row has a token."""
        return min(self._first, default=self._end)

    def _blocks(self) -> Iterator["Tensor"]:
        yield self._mask
        for layer in self._layers:
            yield layer.keys
            yield layer.values

    def _make_room(self, like: Sequence[Any], rows: int, width: int) -> None:
        """See that the block holds so many rows, with so many columns left of that of the next tokens."""
        import torch

        if self._mask is None:
            self._mask = torch.zeros((0, 1, 0), dtype=torch.int64, device=self._device)
            self._layers = [_layer_class()(part.keys[:0], part.values[:0]) for part in like]
        if not self.rows:
            self._end = 0
        there, _, columns = self._mask.shape
        if rows > there or max(self._end, width) > columns:
            self._move(max(rows, there), max(self._end - self._begin, width))
        elif self.rows and width > self._end:
            self._move(there, width)
        self._end = max(self._end, width)

    def _move(self, rows: int, end: int) -> None:
        """Take a new block of so many rows, and put those that are in before its column ``end``."""
        begin, columns = self._begin, max(self._columns, end + SPARE)
        shift = end - self._end

        def moved(block: "Tensor") -> "Tensor":
            new = block.new_zeros((rows, block.shape[1], columns, *block.shape[3:]))
            new[: self.rows, :, begin + shift : end] = block[: self.rows, :, begin : self._end]
            return new

        self._mask = moved(self._mask)
        for layer in self._layers:
            layer.keys, layer.values = moved(layer.keys), moved(layer.values)
        self._first = [first + shift for first in self._first]
        self._end = end


@cache
def _layer_class() -> type:
    """Return the class of a layer of a transformers cache that holds the part of a block which the rows of a step see."""
    from transformers import cache_utils

    plain: Any = cache_utils.DynamicLayer  # it carries no types

    class Layer(plain):  # type: ignore[misc]
        def __init__(self, keys: "Tensor", values: "Tensor") -> None:
            super().__init__()
            self.keys: Tensor = keys
            self.values: Tensor = values
            self.is_initialized = True
            self.place = (0, 0, 0)
            """Number of rows, their first column, and the column of the next tokens."""

        def update(
            self, key_states: "Tensor", value_states: "Tensor", *_: object, **_options: object
        ) -> tuple["Tensor", "Tensor"]:
            """Write keys and values of the next tokens behind the others; return all."""
            rows, begin, end = self.place
            stop = end + key_states.shape[-2]
            self.keys[:rows, :, end:stop], self.values[:rows, :, end:stop] = (
                key_states,
                value_states,
            )
            return self.keys[:rows, :, begin:stop], self.values[:rows, :, begin:stop]

        def get_seq_length(self) -> int:
            """Return the number of columns before the next tokens."""
            _, begin, end = self.place
            return end - begin

    return Layer


@cache
def _keeps(model: Callable[..., Any]) -> bool:
    """Return whether a model's forward pass computes the logits of the last positions alone where it is told to."""
    return "logits_to_keep" in signature(model).parameters


def _last_logits(
    model: Any, tokens: "Tensor", mask: "Tensor", positions: "Tensor", cache: Any
) -> "Tensor":
    """Return the logits of the last position, ``[rows, vocabulary]``, and put keys and values into the cache."""
    options = {"logits_to_keep": 1} if _keeps(type(model).forward) else {}
    logits: Tensor = model(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=positions.clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        **options,
    ).logits
    return logits[:, -1]


class Stepping:
    """Says whether a model can go on in a running batch, once a trial on the beginnings of two rows has shown that it can.

    The tokens of a row stand side by side, or behind a prefix that `Sharing` has tried. So beginnings speak for whole rows,
    as long as no window is shorter than those.
    """

    def __init__(self, weights: Weights, device: str) -> None:
        self._weights = weights
        self._device = device
        self._window: float | None = None
        """Tokens of the longest row that it can serve, 0 for none; None before the trial."""

    def can(self, rows: Sequence[Sequence[int]], longest: int) -> bool:
        """Return whether these rows can.

        Args:
            rows: tokens of at least two.
            longest: tokens of the longest with its answer.
        """
        if self._window is None:
            order = sorted(rows, key=len)
            pair = [list(order[0][:_TRIED]), list(order[-1][: 2 * _TRIED])]
            pair = [[*islice(cycle(row), max(len(row), 3))] for row in pair]
            self._window = within_memory(partial(self._served, pair))
        return self._window is not None and longest <= self._window

    def _served(self, pair: list[list[int]]) -> float:
        """Return the length up to which rows have the logits of whole rows but for rounding; 0 where they have others."""
        import torch

        short, long = pair
        with self._weights.using() as model, torch.inference_mode():
            try:
                prefix = computed(model, tuple(short[:2]), self._device)
                if not prefix:
                    return 0
                whole = last_logits(model, *pad_left(pair, self._device), 1)[:, 0]
                batch = RunningBatch(self._device, len(long))
                batch.enter(model, [long[:-2]])
                batch.step(model, [long[-2]])
                batch.enter(model, [short[:-1]])
                stepped = batch.step(model, [long[-1], short[-1]]).flip(0)
            except Exception as error:
                if out_of_memory(error):
                    raise
                return 0  # code of models is other people's, and may raise anything in a cache of another kind
        return shortest_window(prefix) if same_logits(whole, stepped) else 0
