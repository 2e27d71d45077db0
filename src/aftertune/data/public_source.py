"""Opens a public data set: the user's file or folder, or the hub's copy, each record with its place; digests are compared."""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from aftertune.data.files import Placed, Record, read_records
from aftertune.data.public import PublicSet
from aftertune.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record of a public set."""

    where: str
    """Its place, as errors name it."""
    record: Record
    stem: str = ""
    """The name of its file without ending, where the set has a file per category."""
    reference: str | None = None
    """The line of the reference file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a public set is read from."""

    entries: Iterable[Entry]
    notes: tuple[str, ...] = ()


def open_source(
    known: PublicSet, path: Path, *, hub: bool | str | None = None, strict: bool = False
) -> Source:
    """Open a public set.

    Args:
        known: the set.
        path: its file, or a folder that holds it under the path or the name that the table gives.
        hub: True reads the hub's copy, an id another copy with the same columns, False never asks the hub; None asks it
            if ``path`` is a folder without the set.
        strict: refuse a file whose digest is not known instead of saying so.

    Raises:
        DataError: no such file, not to be had from the hub, another digest while ``strict``.
    """
    found = [] if isinstance(hub, str) or hub else _find(known, path)
    if found:
        return Source(
            entries=_local(known, found), notes=tuple(_compare(known, found, strict=strict))
        )
    if hub is None and known.hub:
        try:
            return _from_hub(known, known.hub, strict=strict)
        except DataError as error:
            raise DataError(f"{path}: no {known.file} in it; and {error}") from error
    if not hub:
        raise DataError(f"{path}: no {known.file} in it; {_remedy(known)}")
    repository = hub if isinstance(hub, str) else known.hub
    if not repository:
        raise DataError(f"{known.name}: no copy on the hub is known; {_remedy(known)}")
    return _from_hub(known, repository, strict=strict)


def _find(known: PublicSet, path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    folder, _, pattern = known.file.rpartition("/")
    for place in (path / folder, path):
        if files := sorted(place.glob(pattern)):
            return files
    return []


def _local(known: PublicSet, files: Sequence[Path]) -> Iterator[Entry]:
    for file in files:
        if known.reference_file:
            yield from _in_step(file, file.with_name(Path(known.reference_file).name))
            continue
        stem = file.name.split(".")[0] if "*" in known.file else ""
        for where, record in _headless(file, known.header) if known.header else read_records(file):
            yield Entry(where=where, record=record, stem=stem)


def _in_step(file: Path, other: Path) -> Iterator[Entry]:
    for one, two in zip_longest(read_records(file), read_records(other)):
        if one is None or two is None:
            raise DataError(
                f"{file} and {other.name}: not equally many lines, so they cannot be a text and its translation"
            )
        yield Entry(where=one[0], record=one[1], reference=two[1]["text"])


def _headless(path: Path, columns: Sequence[str]) -> Iterator[Placed]:
    if path.suffix != ".csv":
        yield from read_records(path)
        return
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; check the path")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            for cells in filter(None, reader):
                where = f"{path}, line {reader.line_num}"
                if len(cells) != len(columns):
                    raise DataError(
                        f"{where}: {len(cells)} cells; expected {len(columns)} ({', '.join(columns)})"
                    )
                yield where, dict(zip(columns, cells, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}, line {reader.line_num}: broken CSV ({error})") from error


def _compare(known: PublicSet, files: Sequence[Path], *, strict: bool) -> Iterator[str]:
    """Say of each file with a digest that is not known; nothing can be said of a set whose digests are not known."""
    accepted = {digest for digests in known.sha256.values() for digest in digests}
    if not accepted:
        if strict:
            raise DataError(
                f"{known.name}: no SHA-256 is known of this set, so nothing can be compared; leave out strict"
            )
        return
    others = [
        file.with_name(Path(known.reference_file).name) for file in files if known.reference_file
    ]
    for file in (*files, *others):
        digest = sha256(file)
        if digest in accepted:
            continue
        said = f"{file.name}: SHA-256 {digest} is none of those that are known of {known.name}"
        if strict:
            raise DataError(f"{said}; fetch the file from {known.home}, or leave out strict")
        yield f"{said}: rows may differ from the published ones"


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{file}: there is no such file, or it cannot be read; check the path"
        ) from error


def _from_hub(known: PublicSet, repository: str, *, strict: bool) -> Source:
    folder = _snapshot(known, repository)
    notes: tuple[str, ...] = (f"{known.name}: {repository} on the hub, revision {folder.name}",)
    if known.hub_files:
        if files := sorted(folder.glob(known.hub_files)):
            told = [file for file in files if file.name in known.sha256]
            notes += tuple(_compare(known, told, strict=strict)) if told or strict else ()
            return Source(entries=_local(known, files), notes=notes)
        raise DataError(
            f"{known.name}: {repository} has no {known.hub_files} at revision {folder.name}; {_remedy(known)}"
        )
    return Source(entries=_prepared(known, repository, folder), notes=notes)


def _remedy(known: PublicSet) -> str:
    return f"fetch it from {known.home} into that folder, or name the file (file: in a study, --file in data show)"


def _snapshot(known: PublicSet, repository: str) -> Path:
    """Return the folder of the hub cache that holds the set; what is missing is downloaded, unless HF_HUB_OFFLINE."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError
    except ImportError as error:
        raise DataError(
            f"{known.name}: hub data sets need the package: pip install 'aftertune[local]'"
        ) from error
    wanted = [known.hub_files] if known.hub_files else None
    revision = known.revision or None
    try:
        return Path(
            snapshot_download(
                repository, repo_type="dataset", allow_patterns=wanted, revision=revision
            )
        )
    except GatedRepoError as error:
        how = "wait for the authors to approve" if known.gated == "manual" else "accept its licence"
        raise DataError(
            f"{known.name}: {repository} is gated; {how} at https://huggingface.co/datasets/{repository} and set "
            "HF_TOKEN, or name a file of yours (file: in a study, --file in data show)"
        ) from error
    except Exception as error:
        gated = (
            f" (it is gated: accept the licence at {known.page} and set HF_TOKEN)"
            if known.gated
            else ""
        )
        raise DataError(
            f"{known.name}: {repository} is not to be had from the hub: {_first_line(error).rstrip('.')}{gated}; {_remedy(known)}"
        ) from error


def _prepared(known: PublicSet, repository: str, folder: Path) -> Iterator[Entry]:
    """Yield what `datasets` finds in the downloaded folder: its card says which files are a config and a split."""
    from datasets import load_dataset

    number = 0
    for config in known.configs or (None,):
        try:
            for record in load_dataset(str(folder), config, split=known.split, streaming=True):
                number += 1
                yield Entry(
                    where=f"{repository}, {config or known.split}, row {number}",
                    record=dict(record),
                )
        except Exception as error:
            which = f"{config or 'default'}/{known.split}"
            raise DataError(
                f"{known.name}: {repository}, {which}: {_first_line(error)}; {_remedy(known)}"
            ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
