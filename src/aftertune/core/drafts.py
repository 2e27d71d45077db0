"""Draft folders: work that lies beside its result until it is finished, and that is deleted only where it is ours.

A draft carries a marker file that names its owner. The marker is written first and deleted last, so that a kill at any
moment leaves a draft that is known as ours.
"""

import shutil
from pathlib import Path

from aftertune.errors import InputError

MARKER = ".aftertune-draft"


def draft_of(out: Path) -> Path:
    """Return the folder in which ``out`` is made."""
    return out.with_name(f"{out.name}.partial")


def claim(folder: Path, owner: str) -> None:
    """Make ``folder`` ready for the work of ``owner``: its own earlier work stays, that of another owner is deleted.

    Raises:
        InputError: something stands there that carries no marker of ours, which is never deleted.
    """
    check_ours(folder)
    if _owner(folder) != owner:
        discard(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text(owner, encoding="utf-8")


def check_ours(folder: Path) -> None:
    """See that nothing foreign is in the way of a draft.

    Raises:
        InputError: something stands there that carries no marker of ours.
    """
    if (folder.exists() or folder.is_symlink()) and not _is_ours(folder):
        raise InputError(
            f"{folder}: holds something that is not ours, where the unfinished work is kept; move it away or give "
            "another output folder"
        )


def discard(folder: Path) -> None:
    """Delete a draft, its marker last; what carries no marker of ours is left alone."""
    if not _is_ours(folder):
        return
    for path in folder.iterdir():
        if path.name == MARKER:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (folder / MARKER).unlink(missing_ok=True)
    folder.rmdir()


def _is_ours(folder: Path) -> bool:
    """Return whether a folder carries our marker, or nothing at all."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return (folder / MARKER).is_file() or not any(folder.iterdir())


def _owner(folder: Path) -> str | None:
    try:
        return (folder / MARKER).read_text(encoding="utf-8")
    except OSError:
        return None
