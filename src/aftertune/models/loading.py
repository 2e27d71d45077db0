"""Weights in memory: where models compute, how they are loaded, and one base at a time with its adapters upon it."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftertune.errors import EngineError, ModelError
from aftertune.models.foreign import first_line, quiet

MAX_ADAPTERS = 8
"""Adapters kept in memory with their base; the one used longest ago leaves first."""


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


class Loader:
    """Holds the loaded base. Asking for another one frees it first."""

    def __init__(
        self, placement: Placement, *, threads: int | None = None, trust_remote_code: bool = False
    ) -> None:
        self.placement = placement
        self._quantised = (
            None if placement.quantisation is None else four_bits("dtype 4bit", "bfloat16 or auto")
        )
        self._threads = threads
        self._trust_remote_code = trust_remote_code
        self._base: Path | None = None
        self._model: Any = None
        self._peft: Any = None
        self._adapters: dict[Path, str] = {}
        self._loaded = 0

    @contextmanager
    def using(self, name: str, base: Path, adapter: Path | None) -> Iterator[Any]:
        """Give the transformers model of a base with one adapter, or with none, switched on."""
        self._load_base(name, base)
        if adapter is not None:
            label = self._adapters.pop(adapter, None) or self._add_adapter(name, adapter)
            self._adapters[adapter] = label
            self._peft.set_adapter(label)
            self._peft.eval()
            while len(self._adapters) > MAX_ADAPTERS:
                self._peft.delete_adapter(self._adapters.pop(next(iter(self._adapters))))
        none = adapter is None and self._peft is not None
        with self._peft.disable_adapter() if none else nullcontext():
            yield self._model

    def free(self) -> None:
        """Drop base and adapters from memory."""
        import torch

        self._base = self._model = self._peft = None
        self._adapters = {}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load_base(self, name: str, base: Path) -> None:
        import torch
        from transformers import GenerationConfig

        if self._threads is not None:
            torch.set_num_threads(self._threads)
        if self._base == base:
            return
        self.free()
        self._model = load_model(
            name,
            base,
            self.placement,
            trust_remote_code=self._trust_remote_code,
            quantization_config=self._quantised,
        ).eval()
        # All decoding settings are given at the call, where they are part of the key.
        self._model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
        self._base = base

    def _add_adapter(self, name: str, adapter: Path) -> str:
        import torch
        from peft import PeftModel

        label = f"adapter_{self._loaded}"
        self._loaded += 1
        try:
            _check_sharing(name, adapter)
            with quiet():
                warnings.filterwarnings("error", message="Found missing adapter keys")
                if self._peft is None:
                    self._peft = PeftModel.from_pretrained(
                        self._model, str(adapter), adapter_name=label
                    )
                else:
                    self._peft.load_adapter(str(adapter), adapter_name=label)
        except (ModelError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # as in `load_model`
            self.free()  # PEFT leaves the base half changed
            raise ModelError(
                f"adapter {name!r} cannot be put on its base ({first_line(error)})"
            ) from error
        return label


def _check_sharing(name: str, adapter: Path) -> None:
    from peft import PeftConfig

    if PeftConfig.from_pretrained(str(adapter)).is_prompt_learning:
        raise ModelError(
            f"adapter {name!r}: prompt-learning adapters cannot share a base; use LoRA"
        )


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of one model: a base and perhaps an adapter, in the memory that `loader` keeps."""

    name: str
    base: Path
    adapter: Path | None
    loader: Loader

    def using(self) -> AbstractContextManager[Any]:
        """Give the transformers model with these weights, loading what is not in memory."""
        return self.loader.using(self.name, self.base, self.adapter)
