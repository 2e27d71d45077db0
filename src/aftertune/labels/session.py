"""A labelling session: the answers of a labeller one after the other, and the file that holds the labels.

The labels of an annotator lie in ``labels/NAME.jsonl`` of the run's folder, those that count where annotators differ in
``adjudicated.jsonl``: JSON lines as `aftertune label import` reads them, in the order in which they were given. The file
is written anew, whole and on disk, before the next answer is shown.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import MappingProxyType

from aftertune.core.files import explained, write_whole
from aftertune.core.records import LabelValue
from aftertune.core.table import ADJUDICATED
from aftertune.errors import InputError, OptionError
from aftertune.labels.annotations import Labels, LabelsById
from aftertune.labels.draw import DrawnItem
from aftertune.labels.files import column_of, read_rows
from aftertune.report.wording import plural

FOLDER = "labels"
"""The folder of a run with the files of its annotators."""
ADJUDICATION = f"{ADJUDICATED}.jsonl"
DRAW_LOCK = ".draw.lock"
"""The file in a run's folder that everybody locks who labels the last draw."""
NAME = re.compile(r"\w(?:[\w .@+-]{0,58}[\w@+-])?")
"""Names of annotators, which become names of files."""
TWO = 2
"""Annotators between whom there is something to decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The answers that a labeller labels, and the place of the labels."""

    path: Path
    """The file of the labels; its folder exists."""
    column: str
    """Their column in it."""
    items: Sequence[DrawnItem]
    labels: LabelsById
    """Labels that were given before."""
    given: Mapping[str, Sequence[LabelValue]] = field(default_factory=lambda: MappingProxyType({}))
    """The labels between which is decided, by the response's id; empty for an annotator."""


def labels_file(folder: Path, annotator: str | None) -> Path:
    """Return the file of an annotator's labels in a run's folder; of the labels between annotators for None.

    Raises:
        OptionError: the name cannot be a file's. InputError: its folder cannot be made.
    """
    if annotator is None:
        return folder / ADJUDICATION
    if not NAME.fullmatch(annotator):
        raise OptionError(
            f"--annotator {annotator!r}: names the file of the labels too; use up to 60 letters, digits and . - + @ _, with "
            "spaces between them"
        )
    return _folder(folder / FOLDER) / f"{annotator}.jsonl"


def annotator_work(path: Path, name: str, items: Sequence[DrawnItem], kept: Labels) -> Work:
    """Return an annotator's work: all drawn answers, with the labels of the file and those that were imported.

    Args:
        path: the file of `labels_file`.
        name: the annotator's.
        items: the drawn answers.
        kept: the labels that were imported.

    Raises:
        InputError: the file is of another draw.
        DataError: the file cannot be read.
    """
    labels = dict(kept.annotators.get(name, {})) | _labels_in(path, name, items)
    return Work(path=path, column=column_of(name), items=items, labels=labels)


def adjudication_work(path: Path, items: Sequence[DrawnItem], kept: Labels) -> Work:
    """Return the work of whoever decides between annotators: the answers whose imported labels differ.

    Raises:
        InputError: the labels of fewer than two annotators were imported, or the file is of another draw.
        DataError: the file cannot be read.
    """
    if len(kept.annotators) < TWO:
        raise InputError(
            f"{path.parent}: has imported labels of {plural(len(kept.annotators), 'annotator')}, and there is something to "
            "decide between two; have both label to the end (aftertune label serve with --annotator), or import their files"
        )
    given = kept.differing()
    labels = dict(kept.adjudicated) | _labels_in(path, None, items)
    differing = [item for item in items if item.id in given]
    return Work(path=path, column=ADJUDICATED, items=differing, labels=labels, given=given)


def _folder(folder: Path) -> Path:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise explained(folder, error) from error
    return folder


def _labels_in(
    path: Path, annotator: str | None, items: Iterable[DrawnItem]
) -> dict[str, LabelValue]:
    """Return the labels of a session's file, in the order in which they were given."""
    if not path.exists() or not path.read_bytes().strip():
        return {}
    drawn = {item.id for item in items}
    labels: dict[str, LabelValue] = {}
    for row in read_rows(path, annotator or ""):
        if row.id not in drawn:
            raise InputError(
                f"{path}, line {row.line}: is a label of another draw; move the file away to label this one"
            )
        value = row.adjudicated if annotator is None else row.labels.get(annotator)
        if value is not None:
            labels[row.id] = value
    return labels


def labelled_in_files(folder: Path) -> set[str]:
    """Return the ids of the responses that have a label in a file of the run's folder.

    Raises:
        DataError: a file cannot be read.
    """
    files = sorted((folder / FOLDER).glob("*.jsonl"))
    return {row.id for file in files if file.stat().st_size for row in read_rows(file, "")}


class Session:
    """The state of a labeller's work; its methods may be called from several threads."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._items = {item.id: item for item in work.items}
        self._labels = dict(work.labels)
        self._again: list[str] = []
        """Answers whose labels were taken back: the last of them comes next."""
        self._lock = Lock()

    @property
    def total(self) -> int:
        """The number of answers."""
        return len(self._items)

    @property
    def done(self) -> int:
        """The number of answers with a label."""
        return sum(number in self._labels for number in self._items)

    @property
    def finished(self) -> bool:
        """True where every answer has a label."""
        return self.done == self.total

    @property
    def undoable(self) -> bool:
        """True where there is a label to take back."""
        return any(number in self._items for number in self._labels)

    def next(self) -> DrawnItem | None:
        """Return the answer that comes next; None where every answer has a label."""
        with self._lock:
            waiting = (n for n in (*reversed(self._again), *self._items) if n not in self._labels)
            number = next(waiting, None)
            return None if number is None else self._items[number]

    def label(self, number: str, value: LabelValue) -> None:
        """Keep the label of an answer; a later label of the same answer takes its place.

        Raises:
            KeyError: there is no such answer.
            AftertuneError: the file cannot be written; nothing has changed then.
        """
        with self._lock:
            if number not in self._items:
                raise KeyError(number)
            others = {n: label for n, label in self._labels.items() if n != number}
            self._write({**others, number: value})

    def undo(self) -> None:
        """Take the last label back, so that its answer comes next; without labels nothing happens.

        Raises:
            AftertuneError: the file cannot be written; nothing has changed then.
        """
        with self._lock:
            last = next(
                (number for number in reversed(self._labels) if number in self._items), None
            )
            if last is not None:
                self._write({n: label for n, label in self._labels.items() if n != last})
                self._again = [*(n for n in self._again if n != last), last]

    def close(self) -> None:
        """Wait for a label that is being written, and take none after it."""
        self._lock.acquire()

    def _write(self, labels: dict[str, LabelValue]) -> None:
        column = self.work.column
        lines = (json.dumps({"id": n, column: label.value}) + "\n" for n, label in labels.items())
        write_whole(self.work.path, lines)
        self._labels = labels


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """See that no other process labels into the same file; the right to it dies with its process.

    Raises:
        InputError: another process does.
    """
    with _locked(
        path.with_name(f".{path.name}.lock"),
        fcntl.LOCK_EX,
        f"{path}: another process serves these labels; go on there, or end it first",
    ):
        yield


@contextmanager
def draw_in_use(folder: Path) -> Iterator[None]:
    """See that the last draw of a run keeps its responses while they are labelled; several processes may label them.

    Enter it while the store is open for writing: a new draw is kept under that lock.

    Raises:
        InputError: the folder cannot be written, or another process draws.
    """
    with _locked(folder / DRAW_LOCK, fcntl.LOCK_SH, f"{folder}: another process draws responses"):
        yield


@contextmanager
def draw_replaced(folder: Path) -> Iterator[None]:
    """See that nobody labels the last draw of a run while one that leaves out some of its responses takes its place.

    Raises:
        InputError: somebody labels them on the page of `aftertune label serve`.
    """
    with _locked(
        folder / DRAW_LOCK,
        fcntl.LOCK_EX,
        f"{folder}: the responses of the last draw are being labelled (aftertune label serve), and this draw would leave some "
        "of them out; ask for the same draw with a greater --n or --benign, or end the labelling first",
    ):
        yield


@contextmanager
def _locked(path: Path, kind: int, taken: str) -> Iterator[None]:
    """Hold a lock of this kind (``fcntl.LOCK_EX`` or ``LOCK_SH``) on a file; ``taken`` is the error where others hold it."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    except OSError as error:
        raise explained(path, error) from error
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(taken) from None
    else:
        yield
    finally:
        os.close(lock)
