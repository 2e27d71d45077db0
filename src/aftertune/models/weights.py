"""Hashes of what decides a model's answers: weights and config, adapter, tokenizer, chat template.

Weights are hashed once: the result is remembered by path, size, modification time and inode in
``$XDG_CACHE_HOME/aftertune/weights.json`` (``~/.cache`` by default).
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from aftertune.core.ids import file_sha256
from aftertune.models.reference import ADAPTER_CONFIG, weight_files

_TOKENIZER_PATTERNS = (
    "tokenizer*",
    "chat_template*",
    "vocab*",
    "merges.txt",
    "spiece.model",
    "added_tokens.json",
    "special_tokens_map.json",
)


def weights_sha256(folder: Path) -> str:
    """Return the hash of a checkpoint: every safetensors file by name and content, and ``config.json``."""
    files = [*weight_files(folder), folder / "config.json"]
    return _combined([(file.name, cached_sha256(file)) for file in files])


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
    if not files:
        return None
    return _combined([(file.relative_to(folder).as_posix(), file_sha256(file)) for file in files])


def tokenizer_sha256(folder: Path) -> str:
    """Return the hash of all tokenizer files in a folder, the chat template among them."""
    files = sorted(
        {file for pattern in _TOKENIZER_PATTERNS for file in folder.glob(pattern) if file.is_file()}
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
    known = _read_cache()
    entry = known.get(str(path))
    if entry is not None and entry[:-1] == stamp:
        return str(entry[-1])
    digest = file_sha256(path)
    _write_cache({**known, str(path): [*stamp, digest]})
    return digest


def cache_folder() -> Path:
    """Return the user's cache folder for Aftertune; it may not exist yet."""
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "aftertune"
    )


def _read_cache() -> dict[str, list[Any]]:
    """Return what the cache remembers; a missing or broken file remembers nothing."""
    try:
        known = json.loads((cache_folder() / "weights.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {
        path: entry for path, entry in known.items() if isinstance(entry, list) and len(entry) == 4
    }


def _write_cache(known: dict[str, list[Any]]) -> None:
    """Replace the cache; files that are gone are forgotten. A cache that cannot be written is done without."""
    known = {path: entry for path, entry in known.items() if Path(path).exists()}
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=cache_folder(), prefix="weights.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(known, stream)
        Path(temporary).replace(cache_folder() / "weights.json")
    except OSError:
        return


def _combined(parts: list[tuple[str, str]]) -> str:
    return text_sha256(json.dumps(parts))


def _ordered(value: object) -> object:
    """Return a config with its lists sorted: PEFT writes sets of module names in hash order."""
    if isinstance(value, dict):
        return {key: _ordered(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((_ordered(item) for item in value), key=str)
    return value
