"""Keys and values of the tokens that all prompts begin with, computed once and read by every row.

A system prompt, a chat template or a guard's policy stands before every prompt. Rows go on behind it with padding between
prefix and row: padding is masked, and a token's position is its rank in its own row, so that neither the padding nor the
neighbours in the batch have a say. That holds where attention knows positions by the ids it is given and the keys and
values of all tokens are kept: not for sliding windows shorter than the rows, states that are carried on (Mamba), or
positions counted in the cache (MPT). What a model does is looked at, and its logits with and without are compared once.
"""

from copy import copy
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_LENGTH_SCALED = ("dynamic", "longrope")
"""Rotary embeddings whose angles depend on the length of the whole row; a prefix is rotated before that is known."""
_CLOSE, _CLOSE_16_BITS = 1e-3, 0.1
"""How far logits with and without a prefix may differ (root mean square, of their standard deviation) in float32, and in
16 bits, where rounding alone gives a few hundredths."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Tokens and their keys and values: a transformers cache layer for each layer, batch size one."""

    tokens: tuple[int, ...] = ()
    layers: tuple[Any, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def reaches(self, length: int) -> bool:
        """Return whether rows of ``length`` tokens, padding included, see all of it: no window is shorter."""
        return all(length < getattr(layer, "sliding_window", length + 1) for layer in self.layers)

    def cache(self, rows: int) -> Any:
        """Return a transformers cache for a batch. Keys and values are views until a row's own are put behind them."""
        from transformers import DynamicCache

        cache = DynamicCache()
        cache.layers = [_spread(layer, rows) for layer in self.layers]
        return cache

    def before(self, tokens: "Tensor", mask: "Tensor") -> tuple["Tensor", "Tensor"]:
        """Return ids and mask of whole rows: the prefix, padding, the row."""
        import torch

        head = torch.tensor([self.tokens], dtype=tokens.dtype, device=tokens.device).expand(
            len(tokens), -1
        )
        return torch.cat([head, tokens], dim=1), torch.cat([torch.ones_like(head), mask], dim=1)


NONE = Prefix()
"""Nothing is shared."""


def computed(model: Any, tokens: tuple[int, ...], device: str) -> Prefix:
    """Run the model over a prefix; `NONE` where its cache cannot be continued by rows of unequal length."""
    import torch

    known = signature(model.forward).parameters
    if not {"position_ids", "past_key_values"} <= set(known) or _scaled_by_length(
        model.config.get_text_config()
    ):
        return NONE
    options = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
    with torch.inference_mode():
        given = model(input_ids=torch.tensor([tokens], device=device), use_cache=True, **options)
    layers = tuple(getattr(getattr(given, "past_key_values", None), "layers", ()))
    return (
        Prefix(tokens, layers)
        if layers and all(_kept_whole(layer, len(tokens)) for layer in layers)
        else NONE
    )


def same_logits(own: "Tensor", shared: "Tensor") -> bool:
    """Return whether logits ``[rows, vocabulary]`` with a shared prefix are those without, but for rounding."""
    import torch

    allowed = _CLOSE if own.dtype == torch.float32 else _CLOSE_16_BITS
    own, shared = own.float(), shared.float()
    return bool((own - shared).pow(2).mean().sqrt() <= allowed * own.std())


def _spread(layer: Any, rows: int) -> Any:
    spread = copy(layer)
    spread.keys = layer.keys.expand(rows, -1, -1, -1)
    spread.values = layer.values.expand(rows, -1, -1, -1)
    return spread


def _kept_whole(layer: Any, length: int) -> bool:
    """Return whether a layer holds keys and values of every token and nothing else."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    plain = type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) and layer.is_initialized
    return bool(
        plain
        and layer.keys.shape[0] == 1
        and layer.keys.shape[-2] == layer.values.shape[-2] == length
    )


def _scaled_by_length(config: Any) -> bool:
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(each for each in rope.values() if isinstance(each, dict))]
    return any(each.get("rope_type") in _LENGTH_SCALED for each in kinds)
