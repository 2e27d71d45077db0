"""Public data sets as they are read: from the user's file or the hub's copy, record by record, into behaviors."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias

from aftertune.core.keys import file_sha256, short_id
from aftertune.core.records import Behavior, Intent
from aftertune.data.files import Record, read_records, text_of
from aftertune.data.public import SKIP, PublicSet, public_set
from aftertune.errors import DataError
from aftertune.models.foreign import first_line

OTHER_ROWS, UNLABELLED = "other rows of the file", "without a label"
"""The reasons for which rows of a public file are left out and counted."""
ROW_NUMBER = ""
"""The column of the original row number: pandas leaves it without a name."""

FoundBehavior: TypeAlias = tuple[int, Behavior, str | None]
"""The original row number, the behavior, and the correct answer if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record of a public set."""

    where: str
    """The record's place, as errors name it."""
    record: Record
    stem: str = ""
    """The name of the record's file without ending, where the set has a file per category."""
    reference: str | None = None
    """The line of the reference file, where the set has one."""


Source: TypeAlias = tuple[Iterable[Entry], tuple[str, ...]]
"""The records of an open public set, and remarks about its files."""


def open_source(
    public: PublicSet, path: Path, *, hub: bool | str | None = None, strict: bool = False
) -> Source:
    """Open a public set.

    Args:
        public: the set.
        path: its file, or a folder that holds it under the path or the name that the table gives.
        hub: True reads the hub's copy, an id another copy with the same columns, False never asks the hub; None asks it
            if ``path`` is a folder without the set.
        strict: refuse a file whose digest is not known instead of saying so.

    Raises:
        DataError: no such file, not to be had from the hub, another digest while ``strict``.
    """
    files = [] if hub else _find(public, path)
    if files:
        return _local(public, files), tuple(_compare_digests(public, files, strict=strict))
    if hub is None and public.hub:
        try:
            return _from_hub(public, public.hub, strict=strict)
        except DataError as error:
            raise DataError(f"{path}: no {public.file} in it; and {error}") from error
    if not hub:
        raise DataError(f"{path}: no {public.file} in it; {_remedy(public)}")
    repository = hub if isinstance(hub, str) else public.hub
    if not repository:
        raise DataError(f"{public.name}: no copy on the hub is known; {_remedy(public)}")
    return _from_hub(public, repository, strict=strict)


def _find(public: PublicSet, path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    # Some sets come with a folder of their own, some are dropped into the data folder by their bare name.
    folder, _, pattern = public.file.rpartition("/")
    for place in (path / folder, path):
        if files := sorted(place.glob(pattern)):
            return files
    return []


def _local(public: PublicSet, files: Sequence[Path]) -> Iterator[Entry]:
    for file in files:
        if public.reference_file:
            yield from _in_step(file, file.with_name(Path(public.reference_file).name))
            continue
        stem = file.name.split(".")[0] if "*" in public.file else ""
        for where, record in read_records(file, columns=public.header or None):
            yield Entry(where=where, record=record, stem=stem)


def _in_step(file: Path, other: Path) -> Iterator[Entry]:
    for line, translation in zip_longest(read_records(file), read_records(other)):
        if line is None or translation is None:
            raise DataError(
                f"{file} and {other.name}: not equally many lines, so they cannot be a text and its translation"
            )
        yield Entry(where=line[0], record=line[1], reference=translation[1]["text"])


def _compare_digests(public: PublicSet, files: Sequence[Path], *, strict: bool) -> Iterator[str]:
    """Yield a note for each file whose digest is not among those of the set; none for sets without digests."""
    accepted = {digest for digests in public.sha256.values() for digest in digests}
    if not accepted:
        if strict:
            raise DataError(
                f"{public.name}: no SHA-256 is known of this set, so nothing can be compared; leave out strict"
            )
        return
    references = [
        file.with_name(Path(public.reference_file).name) for file in files if public.reference_file
    ]
    for file in (*files, *references):
        try:
            digest = file_sha256(file)
        except OSError as error:
            raise DataError(
                f"{file}: there is no such file, or it cannot be read; check the path"
            ) from error
        if digest in accepted:
            continue
        note = f"{file.name}: SHA-256 {digest} is none of those that are known of {public.name}"
        if strict:
            raise DataError(f"{note}; fetch the file from {public.home}, or leave out strict")
        yield f"{note}: rows may differ from the published ones"


def _from_hub(public: PublicSet, repository: str, *, strict: bool) -> Source:
    folder = _snapshot(public, repository)
    notes: tuple[str, ...] = (f"{public.name}: {repository} on the hub, revision {folder.name}",)
    if public.hub_files:
        if files := sorted(folder.glob(public.hub_files)):
            described = [file for file in files if file.name in public.sha256]
            if described or strict:
                notes += tuple(_compare_digests(public, described, strict=strict))
            return _local(public, files), notes
        raise DataError(
            f"{public.name}: {repository} has no {public.hub_files} at revision {folder.name}; {_remedy(public)}"
        )
    return _prepared(public, repository, folder), notes


def _remedy(public: PublicSet) -> str:
    return f"fetch it from {public.home} into that folder, or name the file (file: in a study, --file in data show)"


def _snapshot(public: PublicSet, repository: str) -> Path:
    """Return the folder of the hub cache that holds the set; what is missing is downloaded, unless HF_HUB_OFFLINE."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError
    except ImportError as error:
        raise DataError(
            f"{public.name}: hub data sets need the package: pip install 'aftertune[local]'"
        ) from error
    wanted = [public.hub_files] if public.hub_files else None
    revision = public.revision or None
    try:
        return Path(
            snapshot_download(
                repository, repo_type="dataset", allow_patterns=wanted, revision=revision
            )
        )
    except GatedRepoError as error:
        remedy = (
            "wait for the authors to approve" if public.gated == "manual" else "accept its licence"
        )
        raise DataError(
            f"{public.name}: {repository} is gated; {remedy} at https://huggingface.co/datasets/{repository} and set "
            "HF_TOKEN, or name a file of yours (file: in a study, --file in data show)"
        ) from error
    except Exception as error:
        gated = (
            f" (it is gated: accept the licence at {public.page} and set HF_TOKEN)"
            if public.gated
            else ""
        )
        raise DataError(
            f"{public.name}: {repository} is not to be had from the hub: {first_line(error).rstrip('.')}{gated}; {_remedy(public)}"
        ) from error


def _prepared(public: PublicSet, repository: str, folder: Path) -> Iterator[Entry]:
    """Yield the records that `datasets` finds in a downloaded folder, whose card maps files to configs and splits."""
    from datasets import load_dataset

    number = 0
    # From the folder and not by the hub's id, so that the records are those of the revision that the note names.
    for config in public.configs or (None,):
        try:
            for record in load_dataset(str(folder), config, split=public.split, streaming=True):
                number += 1
                yield Entry(
                    where=f"{repository}, {config or public.split}, row {number}",
                    record=dict(record),
                )
        except Exception as error:
            place = f"{repository}, {config or 'default'}/{public.split}"
            raise DataError(
                f"{public.name}: {place}: {first_line(error)}; {_remedy(public)}"
            ) from error


def behaviors(name: str, path: Path) -> Iterator[FoundBehavior]:
    """Yield the behaviors in a public data set's file, each with its row number and reference.

    Raises:
        DataError: no such file, a column is missing, a row is broken, a label is unknown.
    """
    public = public_set(name)
    entries, _ = open_source(public, path, hub=False)
    return read_behaviors(public, entries, Counter())


def read_behaviors(
    public: PublicSet, entries: Iterable[Entry], left_out: Counter[str]
) -> Iterator[FoundBehavior]:
    """Yield the rows of a set as behaviors, and count the others by reason in ``left_out``.

    Raises:
        DataError: a column is missing, a value is no text, a label or intent is not in the table.
    """
    for position, entry in enumerate(entries):
        if not all(
            column_text(entry.record, column, entry.where).casefold() == value
            for column, value in public.where.items()
        ):
            left_out[OTHER_ROWS] += 1
            continue
        intent = _intent(public, entry)
        if intent is None:
            left_out[UNLABELLED] += 1
            continue
        number = (
            int(column_text(entry.record, ROW_NUMBER, entry.where)) if public.blocks else position
        )
        reference = entry.reference if entry.reference is not None else _reference(public, entry)
        yield number, _behavior(public, entry, intent), reference


def _behavior(public: PublicSet, entry: Entry, intent: Intent) -> Behavior:
    payload = column_text(entry.record, public.payload, entry.where).strip()
    if public.first_turn:
        payload = payload.removeprefix("Human:").partition("\n\nAssistant:")[0].strip()
    if public.more and (more := column_text(entry.record, public.more, entry.where).strip()):
        payload = f"{payload}\n\n{more}"
    labels = _labels(public, entry)
    hazard = _hazard(public, labels, entry.where)
    return Behavior(
        id=short_id("b", public.name, payload),
        intent=intent,
        hazard=hazard if intent is Intent.HARMFUL or hazard == "cse" else "none",
        source=public.name,
        source_label="; ".join(labels),
        request=payload,
        texts={public.language: payload},
    )


def _labels(public: PublicSet, entry: Entry) -> list[str]:
    """Return the source's categories of a row: of a record of truth values, the names of the true ones."""
    if not public.label:
        return [entry.stem] if entry.stem and public.kind != "tasks" else []
    value = column_value(entry.record, public.label, entry.where)
    if isinstance(value, Mapping):
        return [str(name) for name, yes in value.items() if yes] or [""]
    return [_as_text(value, public.label, entry.where)]


def _hazard(public: PublicSet, labels: list[str], where: str) -> str:
    if not public.hazards:
        return public.hazard
    given = [label.strip().casefold() for label in labels]
    for name, label in zip(given, labels, strict=True):
        if name not in public.hazards:
            raise DataError(
                f"{where}, {public.label or 'file name'}: {public.name} has no category {label!r} that is mapped to a "
                f"hazard; known: {', '.join(filter(None, public.hazards))}"
            )
    return next(hazard for name, hazard in public.hazards.items() if name in given)


def _intent(public: PublicSet, entry: Entry) -> Intent | None:
    if public.intent is not None:
        return public.intent
    value = column_text(entry.record, public.intent_column, entry.where)
    if value not in public.intents:
        expected = ", ".join(filter(None, public.intents))
        raise DataError(
            f"{entry.where}, {public.intent_column!r}: {value!r}; expected one of {expected}"
        )
    return None if public.intents[value] == SKIP else Intent(public.intents[value])


def _reference(public: PublicSet, entry: Entry) -> str | None:
    if not public.reference:
        return None
    value = column_value(entry.record, public.reference, entry.where)
    text = (
        str(value[0])
        if isinstance(value, list) and value
        else column_text(entry.record, public.reference, entry.where)
    )
    if public.answers and text not in public.answers:
        expected = ", ".join(public.answers)
        raise DataError(
            f"{entry.where}, {public.reference!r}: {text!r}; expected one of {expected}"
        )
    return public.answers.get(text, text) or None


def column_text(record: Record, column: str, where: str) -> str:
    """Return the text in a column that is named as `PublicSet` says; a list is joined by spaces.

    Raises:
        DataError: none of the columns is there (unless the name ends in ``?``), or the value is no text.
    """
    if column.endswith("?") and not _present(record, column):
        return ""
    column_value(record, column, where)  # raises where none is there
    texts = (_as_text(value, column, where) for value in _present(record, column))
    return next(filter(None, texts), "")


def column_value(record: Record, column: str, where: str) -> Any:
    """Return the value in a column that is named as `PublicSet` says.

    Raises:
        DataError: none of the columns is there.
    """
    present = _present(record, column)
    if not present:
        names = " or ".join(map(repr, column.split("|")))
        raise DataError(
            f"{where}: no column {names}; it has {', '.join(map(repr, record)) or 'none'}"
        )
    return present[0]


def _present(record: Record, column: str) -> list[Any]:
    """Return the values of a record under the names of a column, those inside nested records too."""
    values = []
    for name in column.removesuffix("?").split("|"):
        outer, _, inner = name.partition(".")
        nested = record.get(outer)
        if name in record:
            values.append(record[name])
        elif inner and isinstance(nested, Mapping) and inner in nested:
            values.append(nested[inner])
    return values


def _as_text(value: Any, name: str, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " ".join(part.strip() for part in value)
    return text_of({name: value}, name, where)
