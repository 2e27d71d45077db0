"""The result document of a run: result.json, its notes, and the reader that refuses what another version wrote."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from aftertune.core.files import write_whole
from aftertune.core.keys import short_id
from aftertune.core.records import Prompt
from aftertune.errors import InputError
from aftertune.measure.attack_results import AttackedSetting
from aftertune.measure.judge_bounds import CheckedJudge
from aftertune.measure.plan import Margins
from aftertune.measure.results import GateResult, StudyResult
from aftertune.report.wording import listing

T = TypeVar("T")
FORMAT = 2
"""Formats of result.json. 2: results as they are since annotators, series and uncorrected figures have fields. 1: the first."""
CHECKSUM = "sha256"
"""The key of result.json that holds the hash of all others."""
LONGEST_SHOWN = 60
"""Characters of a damaged value in an error."""
STALE_LABELS = (
    "the responses are not those that were drawn for labels, so nothing is corrected; draw again"
)
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """A model of a run: its hashes, and for a fine-tune its recipe's key and the probe."""

    name: str
    condition: str
    base: str | None
    training_seed: int | None
    identity: Mapping[str, object]
    recipe: str | None
    """The recipe's key in hexadecimal digits; None for a base or a foreign checkpoint."""
    probe: object
    """The proof that the fine-tune was measured, and not its base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCounts:
    """The prompts of a run, counted."""

    count: int
    sets: Mapping[str, Mapping[str, int]]
    """Prompt set -> intent -> prompts."""
    dropped: Mapping[str, Mapping[str, int]]
    """Prompt set -> reason -> prompts that were left out."""
    overlap: Mapping[str, int]
    """Training file -> evaluation prompts that occur in it."""
    digests: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Task -> hash of the ids of its prompts, by which two results know whether they asked the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCounts:
    """The labels of a run, counted."""

    drawn: int
    labelled: int
    annotators: tuple[str, ...]
    seed: int
    """The seed of the draw."""
    version: str
    """Hash of all labels."""
    applies: bool
    """False where the responses have changed since the draw, so that nothing is corrected."""
    adjudicated: int = 0
    """Responses with a label that counts in the place of the annotators', who differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """The part of a result document that measuring again does not change."""

    study: str
    models: tuple[ModelRecord, ...]
    prompts: PromptCounts
    notes: tuple[str, ...]
    """Sentences on the run."""
    gate: GateResult | None
    """The judge's verdict, if the run has a gate."""
    scorers: Mapping[str, str]
    """Metric -> its version: how it counts, with sacrebleu's signature."""
    judge_kind: str = "grammar"
    """The way in which the deciding judge works (`Scorer.kind`); style is not looked at where it parses a grammar."""
    judge_check: CheckedJudge | None = None
    """The deciding judge's errors on groups of labelled answers; None where nobody measured them."""
    versions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Kind and name of a scorer (``judge refusal``) -> its version; empty in documents that were written before it had a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultDocument(Basis):
    """Everything that a run gave; result.json holds it, without times and paths."""

    format: int
    result: StudyResult
    finding: tuple[str, ...]
    labels: LabelCounts | None
    measured: Mapping[str, str] | None = None
    """Column of the table that was measured -> hash of its values, labels left out; None for a document without a table."""
    margins: Margins | None = None
    """The declared margins; None in documents that were written before they had a place."""
    attacks: tuple[AttackedSetting, ...] = ()
    """The figures under attacks, which ``result`` has none of; empty without attacks."""


def read_document(path: Path) -> ResultDocument:
    """Return the result document in a file.

    Raises:
        InputError: it is missing, is not JSON, was written by another version, or was damaged; the error names the place.
    """
    if not path.is_file():
        raise InputError(
            f"{path.parent}: no finished run here ({path.name} is missing); run the study first, or check the path"
        )
    try:
        return _document(path)
    except InputError as error:
        raise InputError(
            f"{error}; run the study again to write it anew (nothing is asked twice)"
        ) from error


def _document(path: Path) -> ResultDocument:
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path}: was written by another version")
    document = from_plain(ResultDocument, content, str(path))
    if content.pop(CHECKSUM, None) != _checksum(content):
        raise InputError(
            f"{path}: was changed after it was written ({CHECKSUM} does not fit what it holds)"
        )
    return document


def _checksum(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_document(path: Path, document: ResultDocument) -> None:
    """Write a result document with its checksum: sorted keys, no NaN, the same bytes for the same result.

    Raises:
        AftertuneError: the folder is missing or cannot be written, or the disk is full.
    """
    write_json(path, document_json(document))


def document_json(document: ResultDocument) -> dict[str, Any]:
    """Return a result document as the values of result.json, its checksum among them."""
    content: dict[str, Any] = to_plain(document)
    return {**content, CHECKSUM: _checksum(content)}


def to_plain(value: object) -> Any:
    """Return a record, or any value inside one, as the values of JSON: in the order of its fields, nothing rounded."""
    return to_jsonable_python(value, fallback=dict)


def from_plain(kind: type[T], value: object, source: str) -> T:
    """Return the record that `to_plain` turned into ``value``.

    A field with a default may be missing, and a key that names no field is left out, so that files of neighbouring
    versions open.

    Args:
        kind: the frozen dataclass.
        value: plain values, as `json.loads` gives them.
        source: where they come from (a file's name), for the error.

    Raises:
        InputError: a value has the wrong type or a field is missing: ``FILE: result.settings[0].asr.k: ...``.
    """
    # Strict validation takes lists for tuples and texts for enums from JSON only. Half a surrogate pair, which is no text
    # there and can stand in the name of a file, becomes a question mark.
    text = json.dumps(value, ensure_ascii=False).encode(errors="replace")
    try:
        record: T = _adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        steps, fault, message, part = itemgetter("loc", "type", "msg", "input")(problem)
        place = "".join(f".{x}" if str(x).isidentifier() else f"[{x!r}]" for x in steps)
        shown = ascii(part)
        shown = shown if len(shown) <= LONGEST_SHOWN else f"{shown[: LONGEST_SHOWN - 3]}..."
        message = f"{message[0].lower()}{message[1:]}, not {shown}"
        message = "is missing" if fault == "missing" else message
        raise InputError(
            ": ".join(filter(None, (source, place.removeprefix("."), message)))
        ) from None
    return record


def read_json(path: Path) -> object:
    """Return the content of a JSON file as plain values.

    Raises:
        InputError: the file cannot be read, or is not JSON (NaN and Infinity are not).
    """
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error})") from error
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def write_json(path: Path, mapping: Mapping[str, object]) -> None:
    """Write a versioned result as JSON, whole or not at all: sorted keys, no NaN, the same bytes for the same result.

    Args:
        path: where to; its folder must exist.
        mapping: JSON-able values with a ``format`` number, so that a later version knows what it reads.

    Raises:
        AftertuneError: the folder is missing or cannot be written, or the disk is full.
        ValueError: there is no ``format``, or a number is not finite.
    """
    if "format" not in mapping:
        raise ValueError("a result on disk needs a format number")
    text = json.dumps(mapping, sort_keys=True, indent=1, allow_nan=False)
    write_whole(path, [f"{text}\n"], encoding_errors="backslashreplace")


def prompt_counts(
    prompts: Iterable[Prompt], dropped: Mapping[str, Mapping[str, int]], overlap: Mapping[str, int]
) -> PromptCounts:
    """Count prompts by set and intent; training files go by their name, and by their folder too where two share one."""
    sets: dict[str, Counter[str]] = {}
    ids: dict[str, list[str]] = {}
    for prompt in prompts:
        sets.setdefault(prompt.set, Counter())[prompt.intent.value] += 1
        ids.setdefault(prompt.task, []).append(prompt.id)
    names = Counter(Path(file).name for file in overlap)
    return PromptCounts(
        count=sum(counts.total() for counts in sets.values()),
        sets=sets,
        dropped=dropped,
        overlap={
            Path(file).name if names[Path(file).name] == 1 else "/".join(Path(file).parts[-2:]): n
            for file, n in overlap.items()
        },
        digests={task: short_id("t", *sorted(of_task)) for task, of_task in ids.items()},
    )


def notes_of(document: ResultDocument, *, warnings_only: bool = False) -> list[str]:
    """Return the notes on prompts, training rows and labels, in lines; or only those on what is amiss."""
    notes = [
        f"{name}: {count:,} prompts left out ({reason})"
        for name, reasons in sorted(document.prompts.dropped.items())
        for reason, count in sorted(reasons.items())
    ]
    overlap = sorted(document.prompts.overlap.items())
    notes += [f"{count:,} evaluation prompts occur in {file}" for file, count in overlap if count]
    free: Sequence[str] = [file for file, count in overlap if not count]
    if free and not warnings_only:
        notes.append(f"no evaluation prompts occur in {listing(free)}")
    notes += document.notes
    if document.labels is not None and not document.labels.applies:
        notes.append(STALE_LABELS)
    elif document.labels is not None and document.labels.adjudicated and not warnings_only:
        notes.append(
            f"{document.labels.adjudicated:,} responses that annotators labelled differently count as they were adjudicated"
        )
    return notes
