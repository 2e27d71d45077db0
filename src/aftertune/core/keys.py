"""Content keys: the identity of a record is the hash of what decides its content."""

import hashlib
import json
from functools import partial
from pathlib import Path

Key = bytes
"""Sixteen bytes; the primary key of calls in the store."""

KEY_BYTES = 16
_encode = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
).encode
_hash = partial(hashlib.blake2b, digest_size=KEY_BYTES)


def content_key(*parts: object) -> Key:
    """Return the 16-byte BLAKE2b key of JSON-able ``parts``, independent of the order of mapping keys.

    Raises:
        TypeError: a part is not JSON-able (a key must never depend on ``repr``).
    """
    return _hash(_encode(parts).encode(errors="surrogatepass")).digest()


def encoded(part: object) -> str:
    """Return the JSON of a part of a content key; a caller with many keys that share a part writes it once.

    Raises:
        TypeError: the part is not JSON-able.
    """
    return _encode(part)


def encoded_key(*parts: str) -> Key:
    """Return the content key of parts that `encoded` has written already."""
    return _hash(f"[{','.join(parts)}]".encode(errors="surrogatepass")).digest()


def replicate_part(replicate: int) -> list[int]:
    """Return what a replicate's number adds to the parts of a call's key: nothing for the first, whose key never moves."""
    return [replicate] if replicate else []


def short_id(prefix: str, *parts: object) -> str:
    """Return a readable id such as ``p-3f2a…``: the prefix and 12 hexadecimal digits of the content key."""
    return f"{prefix}-{content_key(*parts).hex()[:12]}"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
