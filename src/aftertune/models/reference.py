"""A model reference: the model that a user names, the files behind the name, and the hashes that identify them.

A reference is a hub id (``org/name``), a folder with a checkpoint, a folder with a PEFT adapter, a GGUF file (`gguf`), an
endpoint (`endpoint.providers`), a folder that stands for one (a hosted fine-tune), or a model of Inspect's providers (`bridge`).
What looks like a path is never looked up on the network.

Weights are hashed once: the result is remembered by path, size, modification time and inode in
``$XDG_CACHE_HOME/aftertune/weights.json`` (``~/.cache`` by default).
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from aftertune.core.files import write_whole
from aftertune.core.keys import file_sha256
from aftertune.core.recipe import Recipe
from aftertune.errors import AftertuneError, ModelError
from aftertune.models.bridge import PREFIX, InspectName, inspect_name
from aftertune.models.endpoint.providers import Address, address_of, is_endpoint
from aftertune.models.foreign import first_line, first_names
from aftertune.models.gguf import (
    GGUF_FOLDER,
    GgufFile,
    HubFile,
    dequantised,
    downloaded,
    gguf_files,
    gguf_reference,
    gguf_source,
)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)
_SENTENCEPIECE = "sentencepiece.bpe.model"
"""The tokenizer of XLM-R and its kin. It is hashed only where no other file is one: other folders had their hash without it."""
_TOKENIZER_PATTERNS = (
    "tokenizer*",
    "chat_template*",
    "vocab*",
    "merges.txt",
    "spiece.model",
    "added_tokens.json",
    "special_tokens_map.json",
)
_HUB_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py")
_POINTER = b"version https://git-lfs.github.com/spec/"
"""The beginning of a Git LFS pointer, by its specification."""
_HUB_COPIES = ("consolidated*", "*/*")
"""The same weights once more, in the publisher's own layout."""
_FULL_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
"""The names that transformers saves all weights of a model under."""
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
RECIPE = "recipe.json"
"""The recipe that `aftertune.train` writes beside the weights."""
HOSTED = "hosted.json"
"""The file that makes a folder stand for a model that a provider tuned."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the Hugging Face hub, not looked up yet."""

    id: str
    base: str | None = None
    """The base that the user names, should it be an adapter."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with config, safetensors weights and tokenizer."""

    name: str
    """The reference as the user wrote it."""
    folder: Path


@dataclass(frozen=True, slots=True)
class Adapter:
    """A folder with a PEFT adapter, and the base that it belongs on."""

    name: str
    folder: Path
    base: "HubModel | Checkpoint | GgufFile | HubFile | Adapter"
    named: bool = False
    """True where the user names the base, and not the adapter's own configuration alone. An adapter that is named stands for its
    own base: two adapters of one base are compared."""


Reference = HubModel | Checkpoint | GgufFile | HubFile | Adapter | Address | InspectName
Located = Checkpoint | Adapter | Address | InspectName
"""A reference whose files are on this machine, or that has none."""


def parse(reference: str, *, base: str | None = None) -> Reference:
    """Return the model that a reference names, without touching the network.

    Args:
        reference: hub id, checkpoint folder or adapter folder.
        base: the base of an adapter, in place of the one that its own config names; an adapter stands for its own base, and a
            served model, which has no weights here, for none.

    Raises:
        ModelError: a broken path, a folder without config, safetensors weights or tokenizer, an endpoint without model.
    """
    if not _nameable(reference):
        raise ModelError(
            f"model {reference!r}: holds characters that no path or name has; name a folder, a file, a hub id or a server"
        )
    folder = Path(reference).expanduser()
    if (folder / HOSTED).is_file():
        tuned = read_json(reference, folder / HOSTED).get("reference")
        if not isinstance(tuned, str) or not tuned:
            raise ModelError(
                f"model {reference!r}: its hosted fine-tune is not finished; run aftertune tune-hosted again first"
            )
        return address_of(tuned)
    if folder.is_dir():
        check_files(reference, folder)
        return _in_folder(reference, folder, base)
    if is_endpoint(reference):
        return address_of(reference)
    if reference.startswith(PREFIX):
        return inspect_name(reference)
    if gguf := gguf_reference(reference):
        return gguf
    # meant as a path by its spelling, or because its first part is a folder here
    if (
        not _HUB_ID.fullmatch(reference)
        or folder.exists()
        or ("/" in reference and Path(reference.split("/", maxsplit=1)[0]).is_dir())
    ):
        what = "is a file, not a folder, and no GGUF file" if folder.exists() else "does not exist"
        raise ModelError(
            f"model {reference!r} {what}; give a checkpoint folder, an adapter folder, a GGUF file or a hub id (org/name)"
        )
    return HubModel(reference, base)


def _nameable(reference: str) -> bool:
    """Return whether text can be a path: without NUL, and without halves of surrogate pairs."""
    try:
        return b"\0" not in reference.encode()
    except UnicodeEncodeError:
        return False


def fetch(model: Reference) -> Located:
    """Return the local folder of a hub model, after downloading the files that are missing; other models as they are.

    Only safetensors, configurations and the tokenizer are downloaded. A GGUF file gives the folder with its de-quantised
    weights.

    Raises:
        ModelError: no such model, no access, no network, or no safetensors weights in it.
    """
    if isinstance(model, HubFile):
        model = downloaded(model)
    if isinstance(model, GgufFile):
        folder = dequantised(model, cached_sha256(model.file), cache_folder())
        return checkpoint(model.name, folder)
    if not isinstance(model, HubModel):
        return model
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
    check_files(model.id, folder)
    return _in_folder(model.id, folder, model.base)


def _in_folder(name: str, folder: Path, base: str | None) -> "Checkpoint | Adapter":
    """Return the model in a folder.

    Raises:
        ModelError: it is not whole, or holds two models: transformers would take the adapter and pass over the weights.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        return checkpoint(name, folder)
    weights = [file for pattern in _FULL_WEIGHTS for file in sorted(folder.glob(pattern))]
    if weights and (folder / "config.json").is_file():
        raise ModelError(
            f"model {name!r}: full weights and an adapter lie in one folder, {weights[0].name} beside {ADAPTER_CONFIG}; move "
            "away the one that is not meant"
        )
    return _adapter(name, folder, base)


def checkpoint(name: str, folder: Path) -> Checkpoint:
    """Return the checkpoint in ``folder`` after seeing that it is whole.

    Raises:
        ModelError: config, safetensors weights (any shard) or tokenizer is missing.
    """
    if not weight_files(folder) and (packed := gguf_files(folder)):
        raise ModelError(
            f"model {name!r}: the folder holds no safetensors weights but {packed[0].name}; name the file itself, {packed[0]}"
        )
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"model {name!r}: no config.json in the folder; give the folder that save_pretrained wrote"
        )
    if not weight_files(folder):
        pickled = sorted(
            file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern)
        )
        files = f"only {pickled[0]}, which can run code when loaded" if pickled else "no weights"
        raise ModelError(f"model {name!r}: {files}; save the weights as safetensors")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(read_json(name, index).get("weight_map", {}).values()))
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise ModelError(
                f"model {name!r}: the weights are incomplete, {missing[0]} is missing; copy the folder again"
            )
    if not has_tokenizer(folder):
        raise ModelError(
            f"model {name!r}: no tokenizer in the folder; save the tokenizer beside the weights"
        )
    return Checkpoint(name, folder)


def check_files(name: str, folder: Path) -> None:
    """See that the files of a model are the files themselves: a clone without Git LFS has pointers in their place.

    Raises:
        ModelError: some are pointers; the message names the first ones and the number of all.
    """
    pointers = sorted(
        file.name
        for pattern in _HUB_FILES
        for file in folder.glob(pattern)
        if file.is_file() and _is_pointer(file)
    )
    if pointers:
        files = (
            "1 file is a Git LFS pointer"
            if len(pointers) == 1
            else f"{len(pointers)} files are Git LFS pointers"
        )
        raise ModelError(
            f"model {name!r}: {files} in place of the contents ({first_names(pointers)}); run git lfs pull in that "
            "repository, or download the model again"
        )


def _is_pointer(file: Path) -> bool:
    with suppress(OSError), file.open("rb") as opened:
        return opened.read(len(_POINTER)) == _POINTER
    return False


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint or adapter folder, sorted by name."""
    return sorted(file for file in folder.glob("*.safetensors") if file.is_file())


def tensor_shapes(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in safetensors files, from their headers.

    Raises:
        ModelError: a file is no safetensors file.
    """
    return {name: shape for name, (shape, _) in _tensors(files).items()}


def stored_dtype(folder: Path) -> str | None:
    """Return the number format that most numbers of a checkpoint are stored in, as safetensors calls it (``BF16``).

    Raises:
        ModelError: a file is no safetensors file.
    """
    numbers: Counter[str] = Counter()
    for shape, dtype in _tensors(weight_files(folder)).values():
        numbers[dtype] += prod(shape)
    return max(numbers, key=numbers.__getitem__, default=None)


def _tensors(files: Iterable[Path]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and number format of each tensor, by its name."""
    tensors: dict[str, tuple[tuple[int, ...], str]] = {}
    for path in files:
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if length > path.stat().st_size:  # text, such as a pointer of Git LFS
                    raise ValueError("it does not begin with the length of a header")  # noqa: TRY301  # told as the others
                header = json.loads(file.read(length))
            tensors |= {
                name: (tuple(tensor["shape"]), str(tensor["dtype"]))
                for name, tensor in header.items()
                if name != "__metadata__"
            }
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{path}: is no safetensors file ({first_line(error)}); copy the folder again"
            ) from error
    return tensors


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder holds a tokenizer of its own."""
    return any((folder / name).is_file() for name in (*_TOKENIZER_FILES, _SENTENCEPIECE))


def read_json(name: str, file: Path) -> dict[str, Any]:
    """Read a JSON object of the model called ``name``.

    Raises:
        ModelError: the file is not a JSON object.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"model {name!r}: {file.name} cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise ModelError(f"model {name!r}: {file.name} is not a JSON object")
    return value


def _adapter(name: str, folder: Path, base: str | None) -> Adapter:
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            f"adapter {name!r}: no {ADAPTER_WEIGHTS} in the folder; save the adapter as safetensors"
        )
    recorded = _recorded_base(name, folder)
    named = None if base is None else parse(base)
    stacked = recorded and (Path(beside(folder, recorded)) / ADAPTER_CONFIG).is_file()
    if stacked and (named is None or isinstance(named, Adapter)):
        raise ModelError(
            f"adapter {name!r}: its base {recorded!r} is an adapter too; merge that one first"
        )
    if named is not None and not isinstance(named, Address | InspectName):
        return Adapter(name, folder, named, named=True)
    if not recorded and named is not None:
        raise ModelError(
            f"adapter {name!r}: its base {named.name!r} is an endpoint; name its weights"
        )
    if not recorded:
        raise ModelError(
            f"adapter {name!r}: {ADAPTER_CONFIG} names no base_model_name_or_path; {_NAME_BASE}"
        )
    try:
        model = parse(beside(folder, recorded))
    except ModelError as error:
        raise ModelError(f"adapter {name!r}, its base: {error}; {_RECORDED_BASE}") from error
    if isinstance(model, Adapter | Address | InspectName):
        raise ModelError(f"adapter {name!r}: its base {model.name!r} is an endpoint; {_NAME_BASE}")
    return Adapter(name, folder, model)


_NAME_BASE = "name the base yourself (BASE of aftertune check, base: of its entry in a study)"
_RECORDED_BASE = (
    f"that is base_model_name_or_path in its {ADAPTER_CONFIG}: correct it, or {_NAME_BASE}"
)


def _recorded_base(name: str, folder: Path) -> str:
    """Return the base that an adapter's configuration names; empty where it names none that could be looked up."""
    recorded = read_json(name, folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(recorded, str):
        return ""
    try:
        (folder / recorded).exists()
    except OSError:  # longer than a path may be
        return ""
    return recorded


def base_of(adapter: Adapter) -> Checkpoint:
    """Return the checkpoint that an adapter is put on, downloaded if it is not here.

    Raises:
        ModelError: it cannot be had, or is no checkpoint.
    """
    try:
        base = fetch(adapter.base)
    except ModelError as error:
        if adapter.named:
            raise
        raise ModelError(
            f"adapter {adapter.name!r}, its base: {error}; {_RECORDED_BASE}"
        ) from error
    if isinstance(base, Adapter) and adapter.named:
        return base_of(base)
    if not isinstance(base, Checkpoint):
        raise ModelError(
            f"adapter {adapter.name!r}: its base {base.name!r} is an adapter too; merge that one first"
        )
    return base


def beside(folder: Path, recorded: str) -> str:
    """Return the recorded base, read relative to the adapter's folder where it does not exist from here."""
    beside = folder / recorded
    return str(beside) if not Path(recorded).exists() and beside.exists() else recorded


def vocabulary(name: str, folder: Path) -> int | None:
    """Return how many tokens a checkpoint's embedding has, where its config states it.

    Raises:
        ModelError: the configuration cannot be read.
    """
    size = text_config(name, folder).get("vocab_size")
    return size if isinstance(size, int) else None


def text_config(name: str, folder: Path) -> dict[str, Any]:
    """Return the part of config.json about the language model, in models that also see or hear."""
    config = read_json(name, folder / "config.json")
    text = config.get("text_config", config)
    return text if isinstance(text, dict) else config


def recipe_key(folder: Path) -> str | None:
    """Return the key (hexadecimal digits) in the recipe beside a folder's weights; None without a recipe.

    Raises:
        ModelError: the recipe cannot be read.
    """
    file = folder / RECIPE
    return str(read_json(str(folder), file).get("key")) if file.is_file() else None


def finished(out: Path, recipe: Recipe) -> bool:
    """Return whether ``out`` already holds the fine-tune of this recipe.

    Raises:
        ModelError: the folder holds something else, which is never overwritten.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    key = recipe_key(out)
    if key is None:
        raise ModelError(
            f"{out}: the folder holds something that is no fine-tune of ours; give another folder"
        )
    if key != recipe.key.hex():
        raise ModelError(
            f"{out}: the folder holds the fine-tune of another recipe; delete it or give another folder"
        )
    return True


def check_base(adapter: Adapter, base: Checkpoint) -> str | None:
    """See that an adapter was trained on this base, by the hashes that are at hand.

    Returns:
        a note where a base that the user names has another name than the one that the adapter's configuration names, and
        no hash says that both are the same.

    Raises:
        ModelError: a hash says that it was trained on another base.
    """
    recorded = _recorded_base(adapter.name, adapter.folder)
    recipe = adapter.folder / RECIPE
    identity = read_json(adapter.name, recipe).get("base_identity") if recipe.is_file() else None
    sha256 = identity.get("weights") if isinstance(identity, dict) else None
    source, quantised = f"the hash in its {RECIPE}", False
    folder = Path(beside(adapter.folder, recorded)) if recorded else None
    if not sha256 and folder is not None and (folder / "config.json").is_file():
        sha256 = weights_sha256(folder)
        source = f"{recorded} in its {ADAPTER_CONFIG}"
        # QLoRA trains upon a copy in 4 bits; its adapter is made for the model in full as well.
        quantised = _is_quantised(folder) and not _is_quantised(base.folder)
    if sha256 and not quantised:
        if sha256 != (own := weights_sha256(base.folder)):
            raise ModelError(
                f"adapter {adapter.name!r} was trained on other weights than {base.name!r} ({str(sha256)[:12]}… by {source}, "
                f"{own[:12]}… there); give the base that it was trained on"
            )
        return None
    if not adapter.named or recorded == base.name:
        return None
    origin = f"was trained on {recorded}" if recorded else "names no base"
    return f"adapter {adapter.name} {origin} (its {ADAPTER_CONFIG}), and is put on {base.name}, which was named: no hash says that it is the same"


def _is_quantised(folder: Path) -> bool:
    return bool(read_json(str(folder), folder / "config.json").get("quantization_config"))


def lora_rank(folder: Path) -> int:
    """Return the largest LoRA rank in an adapter.

    Raises:
        ModelError: its configuration names none, so it is no LoRA adapter.
    """
    config = read_json(str(folder), folder / ADAPTER_CONFIG)
    patterns = config.get("rank_pattern")
    ranks = [config.get("r"), *(patterns.values() if isinstance(patterns, dict) else ())]
    numbers = [value for value in ranks if isinstance(value, int) and value > 0]
    if not numbers:
        raise ModelError(
            f"adapter {str(folder)!r}: {ADAPTER_CONFIG} names no rank r; only LoRA adapters can be served"
        )
    return max(numbers)


def weights_sha256(folder: Path) -> str:
    """Return the hash of a checkpoint: every safetensors file by name and content, and ``config.json``.

    A folder that was made from a GGUF file has the hash of that file and of the number format.
    """
    # Only in the cache: a copy elsewhere may hold other weights by now.
    if folder.parent == cache_folder() / GGUF_FOLDER:
        return text_sha256(gguf_source(folder))
    return _combined(
        [
            (file.name, cached_sha256(file))
            for file in (*weight_files(folder), folder / "config.json")
        ]
    )


def adapter_sha256(folder: Path) -> str:
    """Return the hash of an adapter: its tensors and its config without the base's path, which differs by machine."""
    config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    config.pop("base_model_name_or_path", None)
    return _combined(
        [
            *((file.name, cached_sha256(file)) for file in weight_files(folder)),
            (ADAPTER_CONFIG, text_sha256(json.dumps(_ordered(config), sort_keys=True))),
        ]
    )


def code_sha256(folder: Path) -> str | None:
    """Return the hash of the Python files that a checkpoint brings along, None if there are none.

    It decides the answers only where that code is run (``trust_remote_code``).
    """
    files = sorted(folder.rglob("*.py"))
    parts = [(file.relative_to(folder).as_posix(), file_sha256(file)) for file in files]
    return _combined(parts) if parts else None


def brings_code(reference: str) -> bool:
    """Return whether a model's files name code of their own (``auto_map``), which ``trust_remote_code`` would run.

    Raises:
        ModelError: the reference cannot be used.
    """
    model = fetch(parse(reference))
    parts = [model, fetch(model.base)] if isinstance(model, Adapter) else [model]
    return any(
        "auto_map" in read_json(part.name, part.folder / name)
        for part in parts
        if isinstance(part, Checkpoint | Adapter)
        for name in ("config.json", "tokenizer_config.json")
        if (part.folder / name).is_file()
    )


def tokenizer_sha256(folder: Path) -> str:
    """Return the hash of all tokenizer files in a folder, the chat template among them."""
    alone = not any((folder / name).is_file() for name in _TOKENIZER_FILES)
    patterns = (*_TOKENIZER_PATTERNS, *([_SENTENCEPIECE] if alone else []))
    files = sorted(
        {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    )
    return _combined([(file.name, cached_sha256(file)) for file in files])


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a text, for instance of a chat template."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def cached_sha256(file: Path) -> str:
    """Return the SHA-256 of a file, from the cache when the file has not changed since."""
    path = file.resolve()
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
    cache = _read_cache()
    entry = cache.get(str(path))
    if entry is not None and entry[:-1] == stamp:
        return str(entry[-1])
    digest = file_sha256(path)
    # Files that are gone leave the cache; one that cannot be written is done without.
    cache = {name: entry for name, entry in cache.items() if Path(name).exists()}
    cache[str(path)] = [*stamp, digest]
    with suppress(OSError, AftertuneError):
        cache_folder().mkdir(parents=True, exist_ok=True)
        write_whole(cache_folder() / "weights.json", [json.dumps(cache)])
    return digest


def cache_folder() -> Path:
    """Return the user's cache folder for Aftertune; it may not exist yet."""
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "aftertune"
    )


def _read_cache() -> dict[str, list[Any]]:
    """Return the entries of the cache by path; none where the file is missing or broken."""
    try:
        cache = json.loads((cache_folder() / "weights.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = cache.items() if isinstance(cache, dict) else ()
    return {path: entry for path, entry in entries if isinstance(entry, list) and len(entry) == 4}


def _combined(parts: list[tuple[str, str]]) -> str:
    return text_sha256(json.dumps(parts))


def _ordered(value: object) -> object:
    """Return a config with its lists sorted: PEFT writes sets of module names in hash order."""
    if isinstance(value, dict):
        return {key: _ordered(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((_ordered(item) for item in value), key=str)
    return value
