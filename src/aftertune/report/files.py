"""Results on disk: written whole or not at all, with one clear line when that fails."""

import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aftertune.errors import AftertuneError, InputError


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _explained(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _explained(path: Path, error: OSError) -> AftertuneError:
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return InputError(f"{path} cannot be written: there is no folder {path.parent}; create it or name another path")
    if error.errno == errno.EISDIR or path.is_dir():
        return InputError(f"{path} cannot be written: it is a folder; name a file")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return InputError(f"{path} cannot be written: no permission in {path.parent}; name another path")
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return AftertuneError(f"{path} was not written: the disk is full; free some space and run again")
    return AftertuneError(f"{path} was not written: {error.strerror or error}")
