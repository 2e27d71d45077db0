"""The memory that a model takes while it answers or trains, from its files' headers and configuration: no weights are loaded.

What was measured beside these estimates stands in docs/log/speed.md.
"""

from dataclasses import dataclass
from math import prod

from aftertune.core.recipe import Recipe
from aftertune.models.gguf import GgufFile
from aftertune.models.packing import packed_bytes
from aftertune.models.reference import (
    Adapter,
    Checkpoint,
    fetch,
    parse,
    tensor_shapes,
    text_config,
    weight_files,
)

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
PROCESS = 0.5 * 2**30
"""Bytes that Python takes with torch, transformers, PEFT and TRL loaded, before there is a model; on a CPU they count."""
ADAM = 16
"""Bytes per trained parameter: weight, gradient and AdamW's two moments in float32 (Rajbhandari et al. 2020, ZeRO, 3.1)."""
QLORA = 0.9
"""Bytes per frozen parameter in 4 bits, with its constants."""
LOGITS = 6
"""Numbers per token and entry of the vocabulary: logits, their softmax and its gradient, in float32, with copies. Measured."""
LARGE_VOCABULARY = 8192
"""Words from which training on a CPU computes the logits of labelled positions alone (`train/loss.py`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of a decoder that decide how much memory it takes."""

    layers: int
    hidden: int
    feed: int
    """Width of the feed-forward part."""
    query: int
    """Width of all query heads together."""
    keys: int
    """Width of all key heads together; values have as many."""
    vocabulary: int

    @property
    def linear(self) -> tuple[int, ...]:
        """Return inputs plus outputs of each linear layer of a block."""
        attention = (self.query, self.keys, self.keys, self.query)
        feed = (self.feed,) * 3
        return tuple(self.hidden + width for width in (*attention, *feed))


def shape(reference: str, base: str | None = None) -> Shape | None:
    """Return the sizes of a checkpoint on this disk, of an adapter's base; None where its configuration does not say.

    Args:
        reference: the model.
        base: the base of an adapter, where the user names one.

    Raises:
        ModelError: the reference or its configuration cannot be read.
    """
    checkpoint = _checkpoint(reference, base)
    if checkpoint is None:
        return None
    config = text_config(checkpoint.name, checkpoint.folder)
    try:
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or config["hidden_size"] // heads
        return Shape(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            feed=config["intermediate_size"],
            query=heads * head,
            keys=(config.get("num_key_value_heads") or heads) * head,
            vocabulary=config["vocab_size"],
        )
    except (KeyError, TypeError):
        return None


def parameters(reference: str, base: str | None = None) -> int | None:
    """Return the number of parameters of a local checkpoint, of an adapter's base; None for what is not on this disk.

    Args:
        reference: the model.
        base: the base of an adapter, where the user names one.

    Raises:
        ModelError: the reference or a file cannot be read.
    """
    checkpoint = _checkpoint(reference, base)
    return (
        None
        if checkpoint is None
        else sum(map(prod, tensor_shapes(weight_files(checkpoint.folder)).values())) or None
    )


def _checkpoint(reference: str, base: str | None) -> Checkpoint | None:
    """Return the checkpoint on this disk, of an adapter its base."""
    there = parse(reference, base=base)
    while isinstance(there, Adapter):
        there = there.base
    if isinstance(there, GgufFile):
        there = fetch(there)
    return there if isinstance(there, Checkpoint) else None


def generating_bytes(
    count: int, of: Shape | None, dtype: str, *, tokens: int, rows: int, device: str
) -> float:
    """Return about the bytes at the peak of generating: weights, and keys, values and last logits of a batch.

    On a CPU a copy of the weights is multiplied (`models.packing`).

    Args:
        count: number of parameters.
        of: the sizes of the model; None counts the weights alone.
        dtype: its number format.
        tokens: of a prompt and its answer.
        rows: answers of a batch.
        device: where it computes.
    """
    size = BYTES.get(dtype, 2)
    kept = 0.0
    if of is not None:
        kept = rows * (tokens * 2 * of.layers * of.keys * size + _ROW_LOGITS * of.vocabulary)
    copies = packed_bytes(count, size) if device == "cpu" else 0
    return _process(device) + 1.1 * count * size + copies + kept


def training_bytes(
    count: int,
    of: Shape | None,
    recipe: Recipe,
    dtype: str,
    *,
    longest: tuple[int, int],
    device: str,
) -> float:
    """Return about the bytes at the peak of an optimisation step.

    They are weights with gradients and moments, the activations that wait for the backward pass, and the logits. A GPU
    trains in 16 bits and computes the activations of all layers but one anew (gradient checkpointing); a CPU computes
    the logits of labelled positions alone where the vocabulary is large.

    Args:
        count: number of parameters.
        of: the sizes of the model; None counts the weights alone.
        recipe: the method, the batch and the rank.
        dtype: number format of frozen weights.
        longest: tokens of the longest row, and those of its answer; all rows of a batch are like it.
        device: where it trains.
    """
    full, gpu = recipe.method == "full", device == "cuda"
    frozen = QLORA if recipe.method == "qlora" else BYTES.get(dtype, 2)
    weights = float(count) * (ADAM if full else frozen)
    if of is None:
        return _process(device) + weights
    if not full:
        weights += ADAM * recipe.training.lora_r * of.layers * sum(of.linear)
    # Numbers per position that a Llama's block keeps for the backward pass; an adapter keeps inputs of its layers once more.
    width = 8 * of.hidden + 4 * of.feed + 2 * of.keys
    if not full:
        width = 16 * of.hidden + 5 * of.feed + 2 * of.keys
    tokens, answer = longest
    rows, size = recipe.training.batch_size, 2 if gpu else BYTES.get(dtype, 4)
    activations = size * (width + of.layers * of.hidden if gpu else of.layers * width)
    positions = answer if device == "cpu" and of.vocabulary >= LARGE_VOCABULARY else tokens
    logits = 4 * LOGITS * positions * of.vocabulary
    return _process(device) + weights + rows * (tokens * activations + logits)


_ROW_LOGITS = 24
"""Bytes per entry of the vocabulary and row while a token is drawn, as `batching.capacity` counts them."""


def _process(device: str) -> float:
    return PROCESS if device == "cpu" else 0.0
