"""Files and folders that appear whole or not at all, with one clear line when they cannot be written.

A draft folder lies beside its result until the work in it is finished, and is deleted only where it is ours: a marker file
names its owner, is written first and deleted last, so that a kill at any moment leaves a draft that is known as ours.
"""

import errno
import glob
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aftertune.errors import AftertuneError, InputError


def write_whole(path: Path, pieces: Iterable[str], *, encoding_errors: str = "strict") -> None:
    """Write a text file by way of a temporary one beside it, so that no reader and no crash sees half of it.

    Args:
        path: where to; its folder must exist. A link stays, and what it leads to is written; a device or a pipe is
            written to as it is, for it can be neither replaced nor whole.
        pieces: the text, in pieces as they come; nothing is written if they end in an error.
        encoding_errors: what becomes of half a surrogate pair, as `open` names it.

    Raises:
        AftertuneError: the folder is missing or cannot be written, or the disk is full.
    """
    _write(path, (piece.encode("utf-8", encoding_errors) for piece in pieces))


def write_whole_bytes(path: Path, data: bytes) -> None:
    """Write a file of bytes as `write_whole` writes text.

    Raises:
        AftertuneError: the folder is missing or cannot be written, or the disk is full.
    """
    _write(path, [data])


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    """Write bytes into a device or a pipe, or as a whole file into the place of the one before."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open("wb") as stream:
                stream.writelines(pieces)
        else:
            _replace(real(path) if path.is_symlink() else path, pieces)
    except OSError as error:
        raise explained(path, error) from error


def real(path: Path) -> Path:
    """Return where a path leads to, absolute; links that lead in a circle stay as they are, for whoever opens them to tell."""
    return Path(os.path.realpath(path))


def _replace(path: Path, pieces: Iterable[bytes]) -> None:
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.writelines(pieces)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have a folder's new names on disk; without that a crash of the machine may bring the file of before back."""
    with suppress(OSError):  # some file systems do not sync folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, beside ``folder``, that takes its place once the block has ended without an error.

    Several processes may fill one at the same time: the first that is finished stays. What killed ones left is deleted.

    Args:
        folder: the result; its parent must exist, and an existing result stays as it is.

    Raises:
        OSError: the disk is full, or nothing can be written there.
    """
    _sweep(folder)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)  # in containers process numbers come again
    draft.mkdir()
    try:
        yield draft
        try:
            draft.rename(folder)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:  # another process was faster
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Delete what writers of this file or folder left that were killed; those that live keep theirs."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        number = left.name.removeprefix(f".{path.name}.").removesuffix(".tmp")
        if number.isdecimal() and not _lives(int(number)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            with suppress(OSError):
                left.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def explained(path: Path, error: OSError) -> AftertuneError:
    """Turn what the system says about a file that could not be written into one line that says what to do."""
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return InputError(
            f"{path} cannot be written: there is no folder {path.parent}; create it or name another path"
        )
    if error.errno == errno.EISDIR or path.is_dir():
        return InputError(f"{path} cannot be written: it is a folder; name a file")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return InputError(
            f"{path} cannot be written: no permission in {path.parent}; name another path"
        )
    if error.errno in FULL:
        return AftertuneError(
            f"{path} was not written: the disk is full ({error.strerror}); free some space and run again"
        )
    return AftertuneError(f"{path} was not written: {error.strerror or error}")


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of the system that stand for too little room: no space, no quota, a file that may not grow."""
_RUST = re.compile(r"\(os error (\d+)\)")
"""The form in which Rust writes an error of the system; tokenizers and safetensors raise it in classes without a number."""


def full_disk(error: BaseException) -> OSError | None:
    """Return the full disk behind an error of any library, None if there is another reason."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno in FULL:
            return link
        number = _RUST.search(str(link))
        if number is not None and int(number[1]) in FULL:
            return OSError(int(number[1]), os.strerror(int(number[1])))
        link = link.__cause__ or link.__context__
    return None


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
