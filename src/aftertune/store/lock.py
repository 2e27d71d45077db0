"""Keeps a store to one writing process, and off network file systems."""

import fcntl
import os
from pathlib import Path

from aftertune.errors import StoreError, StoreLocked

NETWORK = {
    "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs",
    "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb2", "smb3", "smbfs",
}  # fmt: skip
"""File systems on which SQLite's shared memory and locks do not hold between machines."""

MOUNTS = Path("/proc/mounts")

_held: set[int] = set()


class WriteLock:
    """The right to write to a store, held on a side file by the operating system: it dies with its process."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            StoreLocked: another process (or another store object of this one) writes to the file.
        """
        self._descriptor = os.open(
            path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise StoreLocked(
                f"{path}: another run (process {holder}) is writing to this store; wait for it or stop it; "
                "reading is possible meanwhile"
            ) from None
        _held.add(self._descriptor)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let others write: at once, even while a child forked a moment ago has not yet closed its copy."""
        _held.discard(self._descriptor)
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)


def _forget_in_child() -> None:
    """Close inherited locks in a forked child, which would otherwise keep them when its parent dies."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_forget_in_child)


def refuse_network(path: Path, mounts: Path = MOUNTS) -> None:
    """Refuse a path on a network file system; where the system lists no mounts (macOS) nothing is refused.

    Raises:
        StoreError: the path is on one.
    """
    if not mounts.exists():
        return
    target = path.absolute().parent.resolve()
    best, kind = -1, ""
    for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        _, point, found, *_ = line.split(" ")
        folder = Path(_unescaped(point))
        if target.is_relative_to(folder) and len(folder.parts) >= best:
            best, kind = len(folder.parts), found
    if kind in NETWORK:
        raise StoreError(
            f"{path}: is on a network file system ({kind}), where a store can be damaged; put it on a local disk"
        )


def _unescaped(point: str) -> str:
    r"""Undo the octal escapes of spaces and tabs in a mount table (``\040``)."""
    for code in ("040", "011", "012", "134"):
        point = point.replace(f"\\{code}", chr(int(code, 8)))
    return point
