"""The memory that a checkpoint takes, from the headers of its files: no weights are loaded."""

import json
from math import prod

from aftertune.models.gguf import GgufFile
from aftertune.models.reference import (
    Adapter,
    Checkpoint,
    fetch,
    parse,
    tensor_shapes,
    weight_files,
)

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
TRAINED = {"full": 16.0, "lora": 2.4, "qlora": 0.9}
"""Bytes per parameter while it trains. Full: weights, gradients and AdamW's three float32 copies (Rajbhandari et al. 2020,
ZeRO, 3.1); LoRA: frozen 16-bit weights, a few per cent trained; QLoRA: 4-bit weights with their constants. Activations
come on top."""


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


def generating_bytes(count: int, dtype: str, token_bytes: float, tokens: int, rows: int) -> float:
    """Return about the bytes that generation takes: weights, and keys and values of ``rows`` answers of ``tokens`` tokens."""
    return 1.1 * count * BYTES.get(dtype, 2) + rows * tokens * token_bytes


def token_bytes(reference: str, dtype: str, base: str | None = None) -> float:
    """Return the bytes that keys and values of one token take; 0 where the configuration does not say."""
    checkpoint = _checkpoint(reference, base)
    if checkpoint is None or not (checkpoint.folder / "config.json").is_file():
        return 0.0
    config = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config", config)
    try:
        heads = config.get("num_key_value_heads") or config["num_attention_heads"]
        head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        return float(2 * config["num_hidden_layers"] * heads * head * BYTES.get(dtype, 2))
    except KeyError:
        return 0.0
