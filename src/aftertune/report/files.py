"""Results on disk: written whole or not at all, with one clear line when that fails."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aftertune.core.files import write_whole


def write_json(path: Path, mapping: Mapping[str, Any]) -> None:
    """Write a versioned result as JSON: sorted keys, no NaN, the same bytes for the same result.

    Args:
        path: where to; its folder must exist.
        mapping: JSON-able values with a ``format`` number, so that a later version knows what it reads.

    Raises:
        AftertuneError: the folder is missing or cannot be written, or the disk is full.
        ValueError: there is no ``format``, or a number is not finite.
    """
    if "format" not in mapping:
        raise ValueError("a result on disk needs a format number")
    write_text(path, json.dumps(mapping, sort_keys=True, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file by way of a temporary one beside it, so that no reader and no crash sees half of it.

    Raises:
        AftertuneError: the folder is missing or cannot be written, or the disk is full.
    """
    write_whole(path, [text], encoding_errors="backslashreplace")
