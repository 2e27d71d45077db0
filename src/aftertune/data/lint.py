"""Lints training rows in one pass: what cannot be trained on, what must not be, and what somebody should look at.

Nothing is kept of a row but numbers (`lint_repeats`, lengths), the first findings of each kind, and a few texts for the
mix of languages: a million rows need less than 100 bytes each.
"""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from aftertune.data.bundled.planted import evaluation_rows
from aftertune.data.exclusions import names_child_exploitation
from aftertune.data.files import Record
from aftertune.data.formats import format_of
from aftertune.data.lint_languages import Sample
from aftertune.data.lint_repeats import Repeats
from aftertune.data.lint_wording import harmful_wording
from aftertune.data.overlap import normalise
from aftertune.data.rows import Row, fault, unchecked_row
from aftertune.errors import DataError

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
Look = Callable[[Row], str | None]
"""What is found in a row, in a few words; None for nothing."""
Measure = Callable[[Sequence[Row]], Sequence[tuple[int, int]]]
"""Tokens up to the last answer, and of that answer, of each row."""

CHECKS: Mapping[str, tuple[Level, str]] = {
    "unreadable": ("error", "not readable as a training row"),
    "roles": ("error", "turns in the wrong order, or no answer at the end"),
    "empty": ("error", "a question, or an answer before the last, says nothing"),
    "no room": ("error", "no room for any of the answer: the question alone is too long"),
    "child exploitation": ("error", "children and sex in one breath"),
    "evaluation": ("error", "holds a bundled evaluation behavior: it cannot be measured any more"),
    "unanswered": ("warning", "empty answer: training leaves the row out"),
    "cut": ("warning", "too long: the answer loses its end"),
    "duplicate": ("warning", "repeats an earlier row (case, punctuation and spacing aside)"),
    "same question": ("warning", "asks what an earlier row asks, and answers otherwise"),
    "near-duplicate": ("warning", "asks in the very words of an earlier row, in another order"),
    "harmful": ("warning", "may ask for harm, by its wording"),
    "refusal": ("note", "answered by a refusal: the model learns to refuse such questions"),
}
"""What is looked for: how bad it is, and what is wrong with a row that has it. The order is that of the report."""

KEPT = 100
"""Findings of each kind that are named; the others are counted."""
CHUNK = 256
"""Rows that are measured at a time."""
BYTES_PER_TOKEN = 4
"""Of UTF-8, where no tokenizer counts: about right for English prose; code and other languages have more tokens."""
_PLACED = re.compile(r"(?s).*?, ((?:line|item|row) \d+): (.*)")
"""An error of a reader: the place in the file, and what is wrong."""
PERCENTILES = (0, 50, 95, 99, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A row that has what a check looks for."""

    where: str
    """``line 3``, as the file's reader counts."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is to be said of a file of training rows."""

    rows: int
    """All rows, the useless ones too."""
    shapes: Mapping[str, int]
    """Rows by format (`formats.format_of`)."""
    counts: Mapping[str, int]
    """Rows by check (`CHECKS`), those that have any."""
    findings: Mapping[str, Sequence[Finding]]
    """The first `KEPT` of each."""
    lengths: Mapping[str, Sequence[int]]
    """`PERCENTILES` of ``question`` and ``answer`` (characters) and of ``tokens``, over the rows that can be used."""
    languages: Mapping[str, int]
    """Questions by language code, of a sample; empty where nothing identifies languages."""

    def worst(self) -> Level | None:
        """Return the worst level among the findings; None where there is none."""
        levels = {CHECKS[kind][0] for kind in self.counts}
        return next((level for level in LEVELS if level in levels), None)


def _sizes() -> "array[int]":
    return array("I")


@dataclass(slots=True)
class Lint:
    """Takes records one by one and says in the end what was found.

    Args:
        limit: tokens of a row that are trained on; longer rows are cut.
        measure: counts tokens (`estimated` where no tokenizer is at hand).
        columns: as `core.recipe.TrainingFile.columns`.
        looks: further checks, by their name in `CHECKS`.
    """

    limit: int
    measure: Measure
    columns: Mapping[str, str] = field(default_factory=dict)
    looks: Mapping[str, Look] = field(default_factory=dict)
    _rows: int = 0
    _shapes: Counter[str] = field(default_factory=Counter)
    _counts: Counter[str] = field(default_factory=Counter)
    _findings: dict[str, list[Finding]] = field(default_factory=dict)
    _repeats: Repeats = field(default_factory=Repeats)
    _unit: str = "line"
    _places: "array[int]" = field(default_factory=_sizes)
    _lengths: "tuple[array[int], array[int], array[int]]" = field(
        default_factory=lambda: (_sizes(), _sizes(), _sizes())
    )
    _languages: Sample = field(default_factory=Sample)
    _chunk: list[tuple[str, Row]] = field(default_factory=list)

    def broken(self, error: DataError) -> None:
        """Take note of a record that cannot be read (`files.read_records`)."""
        self._rows += 1
        said = _PLACED.match(str(error))
        self._find("unreadable", *(said.groups() if said else ("", str(error))))

    def see(self, where: str, record: Record) -> None:
        """Take a record; ``where`` is what `files.read_records` calls its place."""
        place = where.rpartition(", ")[2]
        try:
            row = unchecked_row(record, self.columns, where)
        except DataError as error:
            self._rows += 1
            self._find("unreadable", place, str(error).removeprefix(where).lstrip(",: "))
            return
        self._rows += 1
        self._shapes[format_of(record, self.columns)] += 1
        self._bar(row, place)
        if found := fault(row):
            if found[0] == "empty" and _asks(row):
                self._find("unanswered", place, "")
            else:
                self._find(found[0], place, found[1])
            return
        self._look(row, place)
        self._chunk.append((place, row))
        if len(self._chunk) == CHUNK:
            self._measure_chunk()

    def _bar(self, row: Row, place: str) -> None:
        """Look for what must not stand in a file, in rows that training would leave out too."""
        if names_child_exploitation(*(turn.content for turn in row)):
            self._find("child exploitation", place, "")
        if behaviors := sorted({behavior for _, behavior in evaluation_rows((row,))}):
            self._find("evaluation", place, ", ".join(behaviors))

    def _look(self, row: Row, place: str) -> None:
        self._unit, _, number = place.rpartition(" ")
        self._places.append(int(number))
        said = [turn.content for turn in row if turn.role == "user"]
        question = normalise("\n".join(said))
        words = frozenset(question.split())
        self._repeats.add(row, question, words)
        self._languages.add(said[-1])
        for size, texts in zip(self._lengths, (said, [row[-1].content]), strict=False):
            size.append(sum(map(len, texts)))
        if wording := harmful_wording(question, words):
            self._find("harmful", place, wording)
        for kind, look in self.looks.items():
            if (detail := look(row)) is not None:
                self._find(kind, place, detail)

    def _measure_chunk(self) -> None:
        for (place, _), (asked, answered) in zip(
            self._chunk, self.measure([row for _, row in self._chunk]), strict=True
        ):
            self._lengths[2].append(asked + answered)
            if asked >= self.limit:
                self._find("no room", place, f"the question has {asked:,} tokens")
            elif asked + answered > self.limit:
                self._find("cut", place, f"{asked + answered:,} tokens")
        self._chunk.clear()

    def _find(self, kind: str, where: str, detail: str) -> None:
        self._counts[kind] += 1
        kept = self._findings.setdefault(kind, [])
        if len(kept) < KEPT:
            kept.append(Finding(where=where, detail=detail))

    def report(self) -> Report:
        """Return what was found in all records that were taken."""
        self._measure_chunk()
        for kind, later, first in self._repeats.found():
            self._counts[kind] += len(later)
            self._findings[kind] = [
                Finding(where=self._place(row), detail=f"like {self._place(other)}")
                for row, other in zip(later[:KEPT], first[:KEPT], strict=True)
            ]
        return Report(
            rows=self._rows,
            shapes=dict(self._shapes),
            counts={kind: self._counts[kind] for kind in CHECKS if self._counts[kind]},
            findings={
                kind: tuple(self._findings[kind]) for kind in CHECKS if self._findings.get(kind)
            },
            lengths={
                name: _percentiles(sizes)
                for name, sizes in zip(("question", "answer", "tokens"), self._lengths, strict=True)
            },
            languages=self._languages.languages(),
        )

    def _place(self, row: int) -> str:
        return f"{self._unit} {self._places[row]}"


def estimated(rows: Iterable[Row]) -> list[tuple[int, int]]:
    """Return the tokens of rows as their length says, one token for `BYTES_PER_TOKEN` bytes, without any template."""
    sizes = ([-(-len(turn.content.encode()) // BYTES_PER_TOKEN) for turn in row] for row in rows)
    return [(sum(turns[:-1]), turns[-1]) for turns in sizes]


def _asks(row: Row) -> bool:
    """Return whether all turns before the last answer say something."""
    return all(turn.content.strip() for turn in row[:-1])


def _percentiles(sizes: "array[int]") -> list[int]:
    """Return the `PERCENTILES` of lengths by the nearest rank below, so that each is the length of some row."""
    if not sizes:
        return []
    ranked = np.sort(np.frombuffer(sizes, np.uint32))
    return [int(ranked[(len(ranked) - 1) * percentile // 100]) for percentile in PERCENTILES]
