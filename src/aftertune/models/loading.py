"""Weights: where models compute, and how they are loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftertune.errors import EngineError, ModelError
from aftertune.models.foreign import first_line, quiet


@dataclass(frozen=True, slots=True)
class Placement:
    """The device and number format of a model, as torch names them (``cuda``, ``bfloat16``)."""

    device: str
    dtype: str
    spread: bool = False
    """True where the layers lie on all GPUs, for models larger than one GPU."""
    quantisation: str | None = None
    """``4bit`` where the weights are kept so; numbers are computed in ``dtype`` all the same."""

    @classmethod
    def choose(cls, device: str = "auto", dtype: str = "auto") -> "Placement":
        """Return CUDA, else Apple's MPS, else the CPU; bfloat16 on the first two, float32 on the CPU.

        The device ``spread`` is all CUDA GPUs together, the number format ``4bit`` weights in 4 bits and bfloat16 numbers.

        Raises:
            ModelError: torch knows no such device or number format, or this machine has no such device.
        """
        import torch

        if device == "auto":
            device = (
                "cuda"
                if torch.cuda.is_available()
                else "mps"
                if torch.backends.mps.is_available()
                else "cpu"
            )
        spread = device == "spread"
        device = "cuda" if spread else device
        try:
            kind = torch.device(device).type
            there = {"cpu": True, "mps": torch.backends.mps.is_available()}
            available = there[kind] if kind in there else getattr(torch, kind).is_available()
        except (RuntimeError, AttributeError):
            raise ModelError(
                f"device {device!r} is unknown; use auto, cpu, cuda, cuda:1, spread or mps"
            ) from None
        if not available:
            raise ModelError(
                f"device {device!r}: torch finds none here; use auto or cpu, or install the torch build for it"
            )
        quantisation, dtype = (dtype, "bfloat16") if dtype == "4bit" else (None, dtype)
        if dtype == "auto":
            dtype = "float32" if device == "cpu" else "bfloat16"
        if not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise ModelError(
                f"dtype {dtype!r} is unknown; use auto, float32, bfloat16, float16 or 4bit"
            )
        return cls(device, dtype, spread, quantisation)


def load_model(
    name: str,
    folder: Path,
    placement: Placement,
    *,
    trust_remote_code: bool = False,
    quantization_config: object | None = None,
) -> Any:
    """Load a causal language model from safetensors.

    Raises:
        ModelError: the weights cannot be loaded, or some of the model's tensors are not among them.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            load: Any = (
                AutoModelForCausalLM.from_pretrained
            )  # its type does not know output_loading_info
            model, report = load(
                folder,
                dtype=getattr(torch, placement.dtype),
                device_map="auto" if placement.spread else {"": placement.device},
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                quantization_config=quantization_config,
                output_loading_info=True,
            )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # files that contradict themselves make the libraries raise anything
        reason = first_line(error)
        if "mismatched_sizes" in str(error):  # the reason stands in a report that transformers logs
            reason = "its tensors have other shapes than its config.json says"
        raise ModelError(f"model {name!r}: the weights cannot be loaded ({reason})") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"model {name!r}: {len(missing)} tensors are missing from its weights, {missing[0]} first"
        )
    return model


def four_bits(who: str, instead: str) -> Any:
    """Return the settings of 4-bit NormalFloat, its constants quantised too (Dettmers et al. 2023, "QLoRA", section 3).

    Args:
        who: the option or recipe that needs it, for the message.
        instead: the remedy where it cannot run.

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
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
