"""Turns the records of a public data set into behaviors: payload, intent, hazard by the source's label, reference."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from aftertune.core.ids import short_id
from aftertune.core.records import Behavior, Intent
from aftertune.data.files import Record, text_of
from aftertune.data.public import SKIP, PublicSet
from aftertune.data.public_source import Entry
from aftertune.errors import DataError

Found: TypeAlias = tuple[int, Behavior, str | None]
"""Original row number, behavior, reference."""

OTHER_ROWS, UNLABELLED = "other rows of the file", "without a label"


def read_behaviors(
    known: PublicSet, entries: Iterable[Entry], left_out: Counter[str]
) -> Iterator[Found]:
    """Yield the rows of a set as behaviors; ``left_out`` counts the others by reason.

    Raises:
        DataError: a column is missing, a value is no text, a label or intent is not in the table.
    """
    for position, entry in enumerate(entries):
        if not all(
            cell(entry.record, column, entry.where).casefold() == value
            for column, value in known.where.items()
        ):
            left_out[OTHER_ROWS] += 1
            continue
        intent = _intent(known, entry)
        if intent is None:
            left_out[UNLABELLED] += 1
            continue
        number = (
            int(cell(entry.record, known.row_number, entry.where)) if known.blocks else position
        )
        reference = entry.reference if entry.reference is not None else _reference(known, entry)
        yield number, _behavior(known, entry, intent), reference


def _behavior(known: PublicSet, entry: Entry, intent: Intent) -> Behavior:
    payload = _payload(known, entry)
    labels = _labels(known, entry)
    hazard = _hazard(known, labels, entry.where)
    return Behavior(
        id=short_id("b", known.name, payload),
        intent=intent,
        hazard=hazard if intent is Intent.HARMFUL or hazard == "cse" else "none",
        source=known.name,
        source_label="; ".join(labels),
        request=payload,
        texts={known.language: payload},
    )


def _payload(known: PublicSet, entry: Entry) -> str:
    payload = cell(entry.record, known.payload, entry.where).strip()
    if known.first_turn:
        payload = payload.removeprefix("Human:").partition("\n\nAssistant:")[0].strip()
    more = cell(entry.record, known.more, entry.where).strip() if known.more else ""
    return f"{payload}\n\n{more}" if more else payload


def _labels(known: PublicSet, entry: Entry) -> list[str]:
    """Return the source's categories of a row; of a record of yes and no, the names of what is yes."""
    if not known.label:
        return [entry.stem] if entry.stem and known.kind != "tasks" else []
    value = _value(entry.record, known.label, entry.where)
    if isinstance(value, Mapping):
        return [str(name) for name, yes in value.items() if yes] or [""]
    return [_text(entry.record, known.label, entry.where)]


def _hazard(known: PublicSet, labels: list[str], where: str) -> str:
    if not known.hazards:
        return known.hazard
    given = [label.strip().casefold() for label in labels]
    for name, label in zip(given, labels, strict=True):
        if name not in known.hazards:
            raise DataError(
                f"{where}, {known.label or 'file name'}: {known.name} has no category {label!r} that is mapped to a "
                f"hazard; known: {', '.join(filter(None, known.hazards))}"
            )
    return next(hazard for name, hazard in known.hazards.items() if name in given)


def _intent(known: PublicSet, entry: Entry) -> Intent | None:
    if known.intent is not None:
        return known.intent
    value = cell(entry.record, known.intent_column, entry.where)
    if value not in known.intents:
        expected = ", ".join(filter(None, known.intents))
        raise DataError(
            f"{entry.where}, {known.intent_column!r}: {value!r}; expected one of {expected}"
        )
    return None if known.intents[value] == SKIP else Intent(known.intents[value])


def _reference(known: PublicSet, entry: Entry) -> str | None:
    if not known.reference:
        return None
    value = _value(entry.record, known.reference, entry.where)
    text = (
        str(value[0])
        if isinstance(value, list) and value
        else cell(entry.record, known.reference, entry.where)
    )
    if known.answers and text not in known.answers:
        expected = ", ".join(known.answers)
        raise DataError(f"{entry.where}, {known.reference!r}: {text!r}; expected one of {expected}")
    return known.answers.get(text, text) or None


def cell(record: Record, column: str, where: str) -> str:
    """Return what stands in a column as text: ``a|b`` is the first that is not empty, a list is joined by spaces.

    Raises:
        DataError: none of the columns is there (unless the name ends in ``?``), or the value is no text.
    """
    present = [name for name in column.removesuffix("?").split("|") if _has(record, name)]
    if not present and not column.endswith("?"):
        wanted = " or ".join(repr(name) for name in column.split("|"))
        raise DataError(
            f"{where}: no column {wanted}; it has {', '.join(map(repr, record)) or 'none'}"
        )
    return next(filter(None, (_text(record, name, where) for name in present)), "")


def _has(record: Record, name: str) -> bool:
    outer, _, inner = name.partition(".")
    if name in record or not inner:
        return name in record
    return isinstance(record.get(outer), Mapping) and inner in record[outer]


def _value(record: Record, column: str, where: str) -> Any:
    for name in column.removesuffix("?").split("|"):
        if _has(record, name):
            outer, _, inner = name.partition(".")
            return record[name] if name in record else record[outer][inner]
    raise DataError(
        f"{where}: no column {column!r}; it has {', '.join(map(repr, record)) or 'none'}"
    )


def _text(record: Record, name: str, where: str) -> str:
    value = _value(record, name, where)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " ".join(part.strip() for part in value)
    return text_of({name: value}, name, where)
