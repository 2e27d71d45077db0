"""A checkpoint's weights in memory, as transformers reads them, and what must be known of its files before anything is asked.

The format of quantised weights stands in ``config.json``, so a package or a GPU that is missing is known when a model is
opened; whether it is missing is for transformers to say, whose quantisers check the machine. Whether the weights fit the
configuration is seen on torch's device ``meta``, which has shapes and no numbers.
"""

import re
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from aftertune.core.recipe import Method
from aftertune.errors import EngineError, ModelError
from aftertune.models.foreign import first_line, first_names, quiet, refused
from aftertune.models.gguf import SOURCE as GGUF_SOURCE
from aftertune.models.reference import read_json, stored_dtype, text_config

SECTION = "quantization_config"
"""The part of config.json about the quantisation of the file."""
OTHER_LAYOUTS = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""Files in which tools keep it in place of config.json; transformers reads none of them."""
_ACTIVATIONS = re.compile(
    r"\.([kvq]|kv|input|output|activation)_(scale|zero_point|global_scale)(_\w+)?$"
)
"""Tensors beside quantised weights that are about activations or the cache: transformers leaves them out where it
computes with ordinary numbers."""
_POOLER = re.compile(r"\.pooler\.")
"""Tensors that training tools save beside a classifier whose head reads the first token itself (RoBERTa's): no model here
uses them unless it has them."""


class Head(Enum):
    """The kind of a model's last layer. The value is the class of transformers that loads it."""

    CAUSAL_LM = "AutoModelForCausalLM"
    CLASSIFIER = "AutoModelForSequenceClassification"


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
        """Return CUDA, else Apple's MPS, else the CPU; bfloat16 on the first two, float32 on the CPU (but see `suits_bfloat16`).

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

    @property
    def device_map(self) -> str | dict[str, str]:
        """The place of the layers, as transformers takes it."""
        return "auto" if self.spread else {"": self.device}


@cache
def multiplies_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16 products (AVX-512 BF16 or AMX), several times as fast as float32's.

    Its flags say so. A measurement could say otherwise the next time, and the number format is part of every key.
    """
    import torch

    flags = torch.cpu.get_capabilities()
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))


def suits_bfloat16(name: str, folder: Path) -> bool:
    """Return whether bfloat16 holds a checkpoint's weights as well as its file: stored in bfloat16, or quantised (GGUF, too)."""
    sections = read_json(name, folder / "config.json"), text_config(name, folder)
    if (folder / GGUF_SOURCE).is_file() or any(SECTION in section for section in sections):
        return True
    try:
        return stored_dtype(folder) == "BF16"
    except ModelError:
        return False  # what is wrong with a file is said where it is loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """The quantisation of a checkpoint's own file, and how its weights are read on this machine."""

    method: str
    """The format as transformers calls it: ``fp8``, ``compressed-tensors``, ``gptq``, ``bitsandbytes_4bit`` …"""
    dequantised: bool
    """True where reading turns the weights into ordinary numbers, as FP8 needs it on a CPU."""
    trainable: bool
    """True where an adapter can be trained upon the weights."""
    settings: Any
    """The ``quantization_config`` for ``from_pretrained`` where it differs from the file's own, else None."""


def quantisation(name: str, folder: Path, placement: Placement) -> Quantisation | None:
    """Return the quantisation of a checkpoint's file, None for ordinary weights; reads no weights.

    Raises:
        ModelError: transformers does not know the format, or a package or GPU for it is missing, or the weights shall be
            quantised once more.
    """
    config = read_json(name, folder / "config.json")
    section = config.get(SECTION) or text_config(name, folder).get(SECTION)
    if section is None:
        return None
    method = _method(section)
    if placement.quantisation is not None:
        raise ModelError(
            f"model {name!r}: its weights are quantised already ({method}), so dtype {placement.quantisation} cannot be "
            "had; leave dtype out, or name the weights before quantisation"
        )
    import transformers
    from transformers.quantizers.auto import (
        AUTO_QUANTIZER_MAPPING,
        AutoHfQuantizer,
        AutoQuantizationConfig,
    )
    from transformers.utils.import_utils import is_kernels_available
    from transformers.utils.quantization_config import FineGrainedFP8Config, Mxfp4Config

    cannot = f"model {name!r}: its weights are quantised ({method}) and cannot be read here"
    if method not in AUTO_QUANTIZER_MAPPING:
        raise ModelError(
            f"{cannot}: transformers {transformers.__version__} does not know this format; name weights in another one, or serve "
            "the model and name its address"
        )
    try:
        with quiet():
            settings: Any = AutoQuantizationConfig.from_dict(dict(section))
            computed = placement.device.startswith("cuda") and is_kernels_available()
            plainly = isinstance(settings, FineGrainedFP8Config | Mxfp4Config) and not computed
            if plainly:
                # Their quantisers look for a GPU anywhere in the machine, and for kernels at the first answer only.
                settings.dequantize = True
            quantiser: Any = AutoHfQuantizer.from_config(settings, pre_quantized=True)
            quantiser.validate_environment(device_map=placement.device_map, weights_only=True)
            dequantised = bool(getattr(quantiser.quantization_config, "dequantize", False))
            trainable = dequantised or bool(quantiser.is_trainable)
    except Exception as error:  # whatever the quantisers import or look for
        raise ModelError(f"{cannot}: {first_line(error)}") from error
    return Quantisation(
        method=method,
        dequantised=dequantised,
        trainable=trainable,
        settings=settings if plainly else None,
    )


def _method(section: Any) -> str:
    """Return the format in a config's section on quantisation, as `AutoQuantizationConfig` tells formats apart."""
    if not isinstance(section, dict):
        return "no quant_method"
    method = str(section.get("quant_method", "no quant_method"))[:80]
    bits = next((bits for bits in ("4bit", "8bit") if section.get(f"load_in_{bits}")), None)
    return method if bits is None else f"bitsandbytes_{bits}"


def check_trainable(
    recipe: str, method: Method, base: str, folder: Path, placement: Placement
) -> None:
    """See that a training method can be used on a checkpoint whose own file is quantised; ordinary weights pass.

    Raises:
        ModelError: it cannot, or the checkpoint cannot be read here.
    """
    own = quantisation(base, folder, placement)
    if own is None:
        return
    reason = {
        "full": "method full changes all weights",
        "qlora": "method qlora quantises ordinary weights",
        "lora": None if own.trainable else "transformers cannot train upon this format",
    }[method]
    if reason is not None:
        remedy = "name the weights before quantisation" + ", or use method lora" * own.trainable
        raise ModelError(
            f"recipe {recipe!r}: the weights of its base {base!r} are quantised ({own.method}), and {reason}; {remedy}"
        )


def check_config(name: str, folder: Path, *, trust_remote_code: bool = False) -> None:
    """See that transformers can use a checkpoint's configurations; values of a wrong type would come out somewhere else.

    Raises:
        ModelError: it cannot; the message names the file.
    """
    from transformers import AutoConfig, GenerationConfig

    remedy = "; mend the file, or copy the folder again"
    with quiet():
        with refused(f"model {name!r}: config.json cannot be used", remedy):
            AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=trust_remote_code
            )
        if (folder / "generation_config.json").is_file():
            with refused(f"model {name!r}: generation_config.json cannot be used", remedy):
                GenerationConfig.from_pretrained(folder, local_files_only=True)


def load_model(
    name: str,
    folder: Path,
    placement: Placement,
    *,
    trust_remote_code: bool = False,
    quantization_config: object | None = None,
    head: Head = Head.CAUSAL_LM,
) -> Any:
    """Load a model from safetensors, as a rule a causal language model.

    Args:
        name: the model's name, for messages.
        folder: of the checkpoint.
        placement: where it computes, in which number format.
        trust_remote_code: run code that comes with it.
        quantization_config: transformers' settings for ordinary weights that shall be quantised.
        head: what its last layer gives.

    Raises:
        ModelError: the weights cannot be loaded, or do not fit the configuration: tensors are missing or left over.
    """
    own = quantisation(name, folder, placement)
    model, report = _read(
        name,
        folder,
        placement,
        trust_remote_code=trust_remote_code,
        quantization_config=quantization_config if own is None else own.settings,
        head=head,
    )
    _check_tensors(name, folder, model, report, quantised=own is not None)
    if own is not None and own.dequantised:
        import torch

        # transformers leaves what was not quantised in the file's own number format
        model.to(getattr(torch, placement.dtype))
    return model


def check_weights(
    name: str,
    folder: Path,
    *,
    trust_remote_code: bool = False,
    head: Head = Head.CAUSAL_LM,
) -> None:
    """See, without reading a number, that a checkpoint's weights fit its configuration.

    Weights of a quantised file, and of a model with code of its own, are compared when they are loaded: they need not
    bear a device without numbers.

    Raises:
        ModelError: a file cannot be used, or tensors are missing or left over.
    """
    config = read_json(name, folder / "config.json")
    if SECTION in config or SECTION in text_config(name, folder):
        return
    if not (trust_remote_code and "auto_map" in config):
        model, report = _read(name, folder, Placement("meta", "float32"), head=head)
        _check_tensors(name, folder, model, report, quantised=False)


def _read(
    name: str,
    folder: Path,
    placement: Placement,
    *,
    trust_remote_code: bool = False,
    quantization_config: object | None = None,
    head: Head = Head.CAUSAL_LM,
) -> tuple[Any, dict[str, Any]]:
    """Return the model in a folder, and transformers' report on the tensors of its file."""
    import torch
    import transformers

    check_config(name, folder, trust_remote_code=trust_remote_code)
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    with quiet():
        if quantization_config is not None:  # None would wipe what the file says of itself
            options["quantization_config"] = quantization_config
        # its type does not know output_loading_info
        load: Any = getattr(transformers, head.value).from_pretrained
        try:
            model, report = load(
                folder,
                dtype=getattr(torch, placement.dtype),
                device_map=placement.device_map,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
        except torch.OutOfMemoryError:
            raise
        except (
            Exception
        ) as error:  # files that contradict themselves make the libraries raise anything
            reason = first_line(error)
            if "mismatched_sizes" in str(error):  # the reason is in a report that transformers logs
                reason = "its tensors have other shapes than its config.json says"
            raise ModelError(f"model {name!r}: the weights cannot be loaded ({reason})") from error
    return model, report


def _check_tensors(
    name: str, folder: Path, model: Any, report: dict[str, Any], *, quantised: bool
) -> None:
    """See that the file gives all tensors of the model, and that the model uses all that belong to it.

    Left over may be what transformers itself passes over, and what stands beside the language model, in parts that the
    model does not have: a value head, a vision tower, layers for prediction ahead.

    Raises:
        ModelError: tensors are missing or left over; the message names the first ones and the number of all.
    """
    hint = next(
        (
            f"; {file} beside the weights says that they are quantised, in a layout that transformers does not read"
            for file in OTHER_LAYOUTS
            if (folder / file).is_file()
        ),
        "",
    )
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"model {name!r}: {_count(missing)} missing from its weights ({first_names(missing)})"
            f"{hint or '; copy the folder again'}"
        )
    # a file that the inner model saved lacks the name of the part that holds it
    parts = {part for whole in (model, model.base_model) for part, _ in whole.named_children()}
    ahead = _layers_ahead(model.config)
    unused = sorted(
        key
        for key in report["unexpected_keys"]
        if key.partition(".")[0] in parts
        and not (ahead and ahead.search(key))
        and not (_ACTIVATIONS.search(key) and quantised)
        and not _POOLER.search(key)
    )
    if unused:
        raise ModelError(
            f"model {name!r}: {_count(unused)} in its weights that the model of its config.json does not have "
            f"({first_names(unused)}){hint or '; give the configuration that belongs to these weights'}"
        )


def _count(names: list[str]) -> str:
    return "1 tensor is" if len(names) == 1 else f"{len(names):,} tensors are"


def _layers_ahead(config: Any) -> re.Pattern[str] | None:
    """Return a pattern of the layers that predict further tokens (``num_nextn_predict_layers``), None without any.

    DeepSeek and GLM keep them behind the last layer of the model; transformers knows those of the published sizes only.
    """
    text = config.get_text_config()
    number = getattr(text, "num_nextn_predict_layers", None)
    if not isinstance(number, int) or number < 1:
        return None
    first = text.num_hidden_layers
    return re.compile(rf"\.layers\.({'|'.join(map(str, range(first, first + number)))})\.")


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
