"""The files of a base and its fine-tune, tensor by tensor: read side by side, mended, and written as an ordinary model.

A full fine-tune is mended tensor by tensor, matched with the base's by name: memory holds a few tensors at a time. A LoRA
adapter is mended factor by factor and stays an adapter.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftertune.errors import ModelError
from aftertune.models.adapters import rewritten_by
from aftertune.models.foreign import first_names
from aftertune.models.loading import SECTION
from aftertune.models.reference import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    RECIPE,
    Adapter,
    Checkpoint,
    adapter_sha256,
    base_of,
    check_base,
    fetch,
    parse,
    read_json,
    tensor_shapes,
    text_config,
    weight_files,
    weights_sha256,
)

if TYPE_CHECKING:
    from torch import Tensor

RECORD = "repair.json"
"""The file beside mended weights that says what they were made of."""
COPIED = ("*.json", "*.jinja", "*.model", "*.txt", "*.py", "*.tiktoken")
"""Files of a fine-tune that go with its mended weights: configuration, tokenizer, chat template."""
NOT_COPIED = {RECIPE, RECORD, "trainer_state.json"}
"""Files that speak of the fine-tune as it was trained."""
PREFIX = "base_model.model."
"""The beginning of the names of PEFT's tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """The factors of a LoRA update of one weight: W is changed by ``scaling * up @ down``."""

    module: str
    """The name of the module in the base, without ``.weight``."""
    down: "Tensor"
    """A, [rank, columns of W]."""
    up: "Tensor"
    """B, [rows of W, rank]."""
    scaling: float


class Tensors:
    """The tensors of a checkpoint's safetensors files, read one at a time."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each tensor by name."""
        return tensor_shapes(weight_files(self.folder))

    @cached_property
    def _files(self) -> Mapping[str, Path]:
        return {name: file for file in weight_files(self.folder) for name in tensor_shapes([file])}

    def __getitem__(self, name: str) -> "Tensor":
        from safetensors import safe_open

        with safe_open(self._files[name], "pt") as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor

    def weight(self, module: str) -> "Tensor":
        """Return the weight of a module in float32.

        Raises:
            ModelError: the checkpoint has no such weight.
        """
        if f"{module}.weight" not in self._files:
            raise ModelError(f"model {self.name!r}: has no tensor {module}.weight")
        return self[f"{module}.weight"].float()


def matched(model: Tensors, other: Tensors) -> None:
    """See that two checkpoints have the same tensors, by name and shape.

    Raises:
        ModelError: they have not; the message names the first ones that differ.
    """
    apart = sorted(model.shapes.keys() ^ other.shapes.keys())
    if apart:
        raise ModelError(
            f"model {model.name!r} and {other.name!r} do not have the same tensors: {len(apart)} are in one of them alone "
            f"({first_names(apart)}); name models of one family and size"
        )
    shapes = [name for name, shape in model.shapes.items() if other.shapes[name] != shape]
    if shapes:
        name = shapes[0]
        raise ModelError(
            f"model {model.name!r} and {other.name!r}: {len(shapes)} tensors have other shapes, {name} is "
            f"{list(model.shapes[name])} and {list(other.shapes[name])}; name models of one family and size"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTune:
    """A finished fine-tune beside its base, both on this machine."""

    reference: str
    base: Checkpoint
    folder: Path
    adapter: Adapter | None
    """None for a full fine-tune."""

    @property
    def identity(self) -> str:
        """The hash of its weights."""
        return weights_sha256(self.folder) if self.adapter is None else adapter_sha256(self.folder)


def base_checkpoint(reference: str) -> Checkpoint:
    """Return a base as files on this machine.

    Raises:
        ModelError: it is no checkpoint, or its weights are quantised.
    """
    model = fetch(parse(reference))
    if not isinstance(model, Checkpoint):
        raise ModelError(
            f"model {reference!r} has no weights of its own here (an adapter or an endpoint); repair needs a checkpoint"
        )
    _check_numbers(reference, model.folder)
    return model


def fine_tune_of(reference: str, base: str) -> FineTune:
    """Return a fine-tune beside its base.

    Raises:
        ModelError: it is no checkpoint or plain LoRA adapter, its weights are quantised, or it does not fit the base.
    """
    own = base_checkpoint(base)
    model = fetch(parse(reference, base=base))
    if isinstance(model, Adapter):
        check_base(model, base_of(model))
        _check_plain(model)
        return FineTune(reference=reference, base=own, folder=model.folder, adapter=model)
    if not isinstance(model, Checkpoint):
        raise ModelError(
            f"model {reference!r} is an endpoint, which has no weights here; repair needs a checkpoint or an adapter"
        )
    _check_numbers(reference, model.folder)
    matched(Tensors(reference, model.folder), Tensors(base, own.folder))
    return FineTune(reference=reference, base=own, folder=model.folder, adapter=None)


def _check_numbers(name: str, folder: Path) -> None:
    if SECTION in read_json(name, folder / "config.json") or SECTION in text_config(name, folder):
        raise ModelError(
            f"model {name!r}: its weights are quantised, and what they stand for cannot be mended; name the weights before "
            "quantisation"
        )


def _check_plain(adapter: Adapter) -> None:
    """See that an adapter is LoRA and nothing else, so that its change of a weight is one product."""
    config = read_json(adapter.name, adapter.folder / ADAPTER_CONFIG)
    other = rewritten_by(config)
    if other is None and config.get("peft_type") != "LORA":
        other = f"peft_type: {config.get('peft_type')}"
    for key in ("use_dora", "modules_to_save", "lora_bias", "trainable_token_indices"):
        other = other or (f"{key}: {config[key]}" if config.get(key) else None)
    names = [
        name
        for name in tensor_shapes([adapter.folder / ADAPTER_WEIGHTS])
        if not name.endswith((".lora_A.weight", ".lora_B.weight"))
    ]
    if other is None and names:
        other = first_names(names)
    if other is not None:
        raise ModelError(
            f"adapter {adapter.name!r} changes more than plain LoRA does ({other}); merge it into its base and repair the "
            "merged checkpoint"
        )


def factors_of(adapter: Adapter) -> list[Factors]:
    """Return the LoRA factors of every module, in float32, by the order of their names."""
    from safetensors.torch import load_file

    tensors = load_file(adapter.folder / ADAPTER_WEIGHTS)
    config = read_json(adapter.name, adapter.folder / ADAPTER_CONFIG)
    factors = []
    for key in sorted(tensors):
        if not key.endswith(".lora_A.weight"):
            continue
        stem = key.removesuffix(".lora_A.weight")
        module, down, up = stem.removeprefix(PREFIX), tensors[key], tensors[f"{stem}.lora_B.weight"]
        factors.append(
            Factors(
                module=module,
                down=down.float(),
                up=up.float(),
                scaling=_scaling(config, module, down.shape[0]),
            )
        )
    return factors


def _scaling(config: Mapping[str, Any], module: str, rank: int) -> float:
    """Return what PEFT multiplies an update by: alpha / r, or alpha / sqrt(r) of rank-stabilised LoRA."""
    patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
    own = [
        value for name, value in patterns.items() if module == name or module.endswith(f".{name}")
    ]
    alpha = float(own[0] if own else config.get("lora_alpha", rank))
    return alpha / rank**0.5 if config.get("use_rslora") else alpha / rank


def write_full(
    tune: FineTune, out: Path, mended: Callable[[str, "Tensor", "Tensor"], "Tensor"]
) -> None:
    """Write a mended full fine-tune: the files of the fine-tune, with the tensors that ``mended`` gives.

    Args:
        tune: the fine-tune.
        out: an empty folder.
        mended: called with a tensor's name, the base's values and the fine-tune's, both in float32; gives the new values.
            Tensors of whole numbers stay as they are.
    """
    from safetensors.torch import save_file

    base, own = Tensors(tune.base.name, tune.base.folder), Tensors(tune.reference, tune.folder)
    copy_files(tune.folder, out)
    for file in weight_files(tune.folder):
        tensors = {}
        for name in tensor_shapes([file]):
            before = own[name]
            values = before
            if before.is_floating_point():
                values = mended(name, base[name].float(), before.float()).to(before.dtype)
            tensors[name] = values.contiguous()
        save_file(tensors, out / file.name, metadata={"format": "pt"})


def write_adapter(
    tune: FineTune, out: Path, mended: Callable[[Factors], tuple["Tensor", "Tensor"]]
) -> None:
    """Write a mended adapter: the files of the fine-tune, with the factors that ``mended`` gives (A, B; their shapes stay)."""
    from safetensors.torch import load_file, save_file

    assert tune.adapter is not None
    copy_files(tune.folder, out)
    tensors = load_file(tune.folder / ADAPTER_WEIGHTS)
    for factors in factors_of(tune.adapter):
        down, up = mended(factors)
        for side, values in (("A", down), ("B", up)):
            key = f"{PREFIX}{factors.module}.lora_{side}.weight"
            tensors[key] = values.to(tensors[key].dtype).contiguous()
    save_file(tensors, out / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def copy_files(source: Path, out: Path) -> None:
    """Copy everything of a model but its weights, its card and the records of its training."""
    for pattern in COPIED:
        for file in source.glob(pattern):
            if file.is_file() and file.name not in NOT_COPIED:
                shutil.copyfile(file, out / file.name)


def write_record(out: Path, record: Mapping[str, object]) -> None:
    """Write what mended weights were made of beside them."""
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    (out / RECORD).write_text(text, encoding="utf-8")


def recorded_key(folder: Path) -> str | None:
    """Return the key in the record of mended weights; None where there is no record."""
    file = folder / RECORD
    return str(read_json(str(folder), file).get("key")) if file.is_file() else None


def inner_matrices(model: Tensors, tokens: int | None) -> list[str]:
    """Return the modules of a checkpoint whose weight is a matrix inside the layers, without those whose rows are tokens."""
    return [
        name.removesuffix(".weight")
        for name, shape in model.shapes.items()
        if len(shape) == 2 and name.endswith(".weight") and shape[0] != tokens
    ]
