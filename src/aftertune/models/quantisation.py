"""4-bit weights, where bitsandbytes runs."""

from typing import Any

from aftertune.errors import EngineError


def four_bits(who: str, instead: str) -> Any:
    """Return the settings of 4-bit NormalFloat, its constants quantised too (Dettmers et al. 2023, "QLoRA", section 3).

    Args:
        who: what wants it, for the message.
        instead: what to use where it cannot run.

    Raises:
        EngineError: this machine cannot run it.
    """
    import torch
    from transformers import BitsAndBytesConfig
    from transformers.utils.import_utils import is_bitsandbytes_available

    if not is_bitsandbytes_available() or not torch.cuda.is_available():
        raise EngineError(
            f"{who} needs a CUDA GPU and the package bitsandbytes, not both are here; use {instead}"
        )
    make: Any = BitsAndBytesConfig  # untyped there
    return make(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
