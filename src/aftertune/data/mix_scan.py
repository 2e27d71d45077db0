"""What `aftertune mix` looks for in a training file before it adds to it."""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aftertune.data.bundled.planted import evaluation_rows, evaluation_templates
from aftertune.data.draw import question_hash
from aftertune.data.exclusions import names_child_exploitation
from aftertune.data.formats import format_of
from aftertune.data.rowfile import RowFile
from aftertune.data.rows import answered
from aftertune.errors import DataError

SHOWN = 5
"""Rows that a message names before it counts the rest."""


@dataclass(slots=True)
class Seen:
    """What the scan of a training file has found."""

    questions: "array[int]" = field(default_factory=lambda: array("Q"))
    formats: Counter[str] = field(default_factory=Counter)
    """Rows by format, that of the first row first."""
    inputs: int = 0
    """Rows with something in a column ``input``."""
    planted: list[str] = field(default_factory=list)
    """The first rows that hold evaluation behaviors."""
    planted_count: int = 0
    silent: list[str] = field(default_factory=list)
    """The first rows without an answer."""
    silent_count: int = 0
    barred: list[str] = field(default_factory=list)
    """The first rows that speak of children and sex in one breath."""
    barred_count: int = 0
    worded: Counter[str] = field(default_factory=Counter)
    """Rows in the words of an evaluation template, by template."""

    @property
    def format(self) -> str:
        """The format of the first row, which added rows take."""
        return next(iter(self.formats))


def scan(rows: RowFile) -> Seen:
    """Read the training file once, for all that has to be known of it."""
    seen = Seen()
    for number, _, record, row in rows.scan():
        seen.formats[format_of(record, rows.file.columns)] += 1
        seen.questions.append(question_hash(row))
        seen.inputs += bool("instruction" in record and str(record.get("input") or "").strip())
        if not answered(row):
            seen.silent_count += 1
            seen.silent += [f"{number + 1}"] if seen.silent_count <= SHOWN else []
        if names_child_exploitation(*(turn.content for turn in row)):
            seen.barred_count += 1
            seen.barred += [f"{number + 1}"] if seen.barred_count <= SHOWN else []
        for _, behavior in evaluation_rows([row]):
            seen.planted_count += 1
            seen.planted += (
                [f"row {number + 1} ({behavior})"] if seen.planted_count <= SHOWN else []
            )
        seen.worded.update(evaluation_templates(row))
    return seen


def refuse_evaluation(train: Path, seen: Seen) -> None:
    """Refuse a training file that holds what the bundled evaluation asks: a model trained on it cannot be measured."""
    if seen.planted:
        named = _named(seen.planted, seen.planted_count)
        raise DataError(
            f"{train}: holds evaluation behaviors of multitask-v1: {named}; take these rows out"
        )


def _named(first: Sequence[str], count: int) -> str:
    more = f" and {count - len(first):,} more" if count > len(first) else ""
    return f"{', '.join(first)}{more}"


def _yours(first: Sequence[str], count: int, one: str, several: str) -> str:
    """Return the beginning of a sentence about some of the user's rows, with its verb."""
    return f"{count:,} of your rows ({_named(first, count)}) {one if count == 1 else several}"


def warnings(seen: Seen, to: str | None) -> Iterator[str]:
    """Yield what the user should know of the file, a line each; ``to`` is the format asked for."""
    if to is None and len(seen.formats) > 1:
        named = ", ".join(f"{name} {count:,}" for name, count in seen.formats.items())
        yield f"your rows are in several formats ({named}), and trainers read one; --to writes all rows in one"
    if seen.barred:
        yield (
            f"{_yours(seen.barred, seen.barred_count, 'speaks', 'speak')} of children and sex in one breath; kept as is: "
            "look at them, and take out what must not be trained on"
        )
    if seen.silent:
        yield (
            f"{_yours(seen.silent, seen.silent_count, 'has', 'have')} no answer; kept as is, but trainers may refuse or "
            "skip such rows"
        )
    if seen.worded:
        named = ", ".join(
            f"{template} {count:,}" for template, count in seen.worded.most_common(SHOWN)
        )
        yield (
            f"your rows share the wording of evaluation templates ({named}); they hold none of its behaviors, but the model "
            "will know these wordings"
        )
