"""A model reference: what a user writes to name a model, and what it turns out to be.

A reference is a hub id (``org/name``), a folder with a checkpoint, a folder with a PEFT adapter, an endpoint
(`endpoint.providers`), a folder that stands for one (a hosted fine-tune), or a model of Inspect's providers (`bridge`).
What looks like a path is never looked up on the network.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftertune.errors import ModelError
from aftertune.models.bridge import PREFIX, InspectName, inspect_name
from aftertune.models.endpoint.providers import Address, address_of, is_endpoint
from aftertune.models.quiet import first_line

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)
_HUB_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py")
_HUB_COPIES = ("consolidated*", "*/*")
"""The same weights once more, in the publisher's own layout."""
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
HOSTED = "hosted.json"
"""What a folder keeps that stands for a model that a provider tuned."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the Hugging Face hub, not looked up yet."""

    id: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with config, safetensors weights and tokenizer."""

    name: str
    """As the user wrote it."""
    folder: Path


@dataclass(frozen=True, slots=True)
class Adapter:
    """A folder with a PEFT adapter, and the base that it belongs on."""

    name: str
    folder: Path
    base: HubModel | Checkpoint


Reference = HubModel | Checkpoint | Adapter | Address | InspectName


def parse(reference: str, *, base: str | None = None) -> Reference:
    """Say what a reference names, without touching the network.

    Args:
        reference: hub id, checkpoint folder or adapter folder.
        base: the base of an adapter, in place of the one that its own config names.

    Raises:
        ModelError: a broken path, a folder without config, safetensors weights or tokenizer, an endpoint without model.
    """
    if is_endpoint(reference):
        return address_of(reference)
    if reference.startswith(PREFIX):
        return inspect_name(reference)
    folder = Path(reference).expanduser()
    if (folder / HOSTED).is_file():
        return _hosted(reference, folder)
    if folder.is_dir():
        return (
            _adapter(reference, folder, base)
            if (folder / ADAPTER_CONFIG).is_file()
            else checkpoint(reference, folder)
        )
    if _looks_like_path(reference, folder):
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ModelError(
            f"model {reference!r} {what}; give a checkpoint folder, an adapter folder or a hub id (org/name)"
        )
    return HubModel(reference)


def _hosted(name: str, folder: Path) -> Address:
    """Return the endpoint of a model that a provider tuned."""
    tuned = read_json(name, folder / HOSTED).get("reference")
    if not isinstance(tuned, str) or not tuned:
        raise ModelError(
            f"model {name!r}: its hosted fine-tune is not finished; run aftertune tune-hosted again first"
        )
    return address_of(tuned)


def fetch(model: HubModel) -> Checkpoint | Adapter:
    """Download what is missing of a hub model (safetensors, configs, tokenizer) and return its local folder.

    Raises:
        ModelError: no such model, no access, no network, or no safetensors weights in it.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(
                model.id, allow_patterns=list(_HUB_FILES), ignore_patterns=list(_HUB_COPIES)
            )
        )
    except Exception as error:
        if (
            type(error).__name__ == "GatedRepoError"
        ):  # the class has moved between versions of huggingface_hub
            raise ModelError(
                f"model {model.id!r} is gated: accept its licence at https://huggingface.co/{model.id}, and set HF_TOKEN to "
                "a token of that account"
            ) from error
        raise ModelError(
            f"model {model.id!r} is no folder here and cannot be had from the hub ({first_line(error)})"
        ) from error
    if (folder / ADAPTER_CONFIG).is_file():
        return _adapter(model.id, folder, None)
    return checkpoint(model.id, folder)


def checkpoint(name: str, folder: Path) -> Checkpoint:
    """Return the checkpoint in ``folder`` after seeing that it is whole.

    Raises:
        ModelError: config, safetensors weights (any shard) or tokenizer is missing.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"model {name!r}: no config.json in the folder; give the folder that save_pretrained wrote"
        )
    if not weight_files(folder):
        pickled = sorted(
            file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern)
        )
        found = f"only {pickled[0]}, which can run code when loaded" if pickled else "no weights"
        raise ModelError(f"model {name!r}: {found}; save the weights as safetensors")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        missing = sorted(shard for shard in _shards(name, index) if not (folder / shard).is_file())
        if missing:
            raise ModelError(
                f"model {name!r}: the weights are incomplete, {missing[0]} is missing; copy the folder again"
            )
    if not has_tokenizer(folder):
        raise ModelError(
            f"model {name!r}: no tokenizer in the folder; save the tokenizer beside the weights"
        )
    return Checkpoint(name, folder)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint or adapter folder, sorted by name."""
    return sorted(file for file in folder.glob("*.safetensors") if file.is_file())


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder holds a tokenizer of its own."""
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)


def read_json(name: str, file: Path) -> dict[str, Any]:
    """Read a JSON object of the model called ``name``.

    Raises:
        ModelError: the file is not a JSON object.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name!r}: {file.name} cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise ModelError(f"model {name!r}: {file.name} is not a JSON object")
    return value


def _shards(name: str, index: Path) -> set[str]:
    shards = read_json(name, index).get("weight_map", {})
    return set(shards.values())


def _adapter(name: str, folder: Path, base: str | None) -> Adapter:
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            f"adapter {name!r}: no {ADAPTER_WEIGHTS} in the folder; save the adapter as safetensors"
        )
    recorded = read_json(name, folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if base is None and not recorded:
        raise ModelError(
            f"adapter {name!r}: {ADAPTER_CONFIG} names no base_model_name_or_path; name the base yourself"
        )
    try:
        found = parse(beside(folder, str(recorded)) if base is None else base)
    except ModelError as error:
        raise ModelError(f"adapter {name!r}, its base: {error}") from error
    if isinstance(found, Adapter | Address | InspectName):
        what = (
            "an adapter too; merge that one first"
            if isinstance(found, Adapter)
            else "an endpoint; name its weights"
        )
        raise ModelError(f"adapter {name!r}: its base {found.name!r} is {what}")
    return Adapter(name, folder, found)


def beside(folder: Path, recorded: str) -> str:
    """Return the recorded base, read relative to the adapter's folder where it is no folder from here."""
    beside = folder / recorded
    return str(beside) if not Path(recorded).is_dir() and beside.is_dir() else recorded


def _looks_like_path(reference: str, folder: Path) -> bool:
    """Return whether a reference can only be meant as a path: its spelling, or a first part that is a folder here."""
    return (
        not _HUB_ID.fullmatch(reference)
        or folder.exists()
        or ("/" in reference and Path(reference.split("/", maxsplit=1)[0]).is_dir())
    )
