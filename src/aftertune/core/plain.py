"""Frozen dataclasses as plain values (those of JSON), and back by their annotations.

A record becomes a mapping in the order of its fields, an enum its value, a tuple a list; nothing is rounded. Reading is
strict: a wrong type, a missing field or an unknown enum value is an error that names the file and the place inside it. A
field with a default may be missing, and a key that names no field is left out, so that files of neighbouring versions open.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from aftertune.errors import InputError

T = TypeVar("T")
NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def to_plain(value: object) -> Any:
    """Return a record, or any value inside one, as mappings, lists, strings, numbers, booleans and None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[T], value: object, source: str) -> T:
    """Return the record that `to_plain` turned into ``value``.

    Args:
        kind: the dataclass; its fields may be numbers, strings, enums, literals, tuples, mappings, unions and dataclasses.
        value: plain values, as `json.loads` gives them.
        source: where they come from (a file's name), for the error.

    Raises:
        InputError: a value has the wrong type or a field is missing: ``FILE: result.settings[0].asr.k: ...``.
    """
    try:
        record: T = _reader(cast("Any", kind))(value, "")
    except _Misfit as error:
        place, problem = error.args
        raise InputError(
            f"{source}: {place}: {problem}" if place else f"{source}: {problem}"
        ) from None
    except RecursionError:
        raise InputError(f"{source}: is nested too deeply") from None
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


class _Misfit(Exception):
    """A value that does not fit its annotation: the place inside the record, and what is wrong."""


_Reader = Callable[[object, str], Any]


@cache
def _reader(kind: Any) -> _Reader:  # noqa: PLR0911 - one return for each form of annotation
    """Return the function that reads values of an annotation; made once for each annotation."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return lambda value, _: value
    if origin in (Union, UnionType):
        return _union(arguments)
    if origin is Literal:
        return _choice({choice: choice for choice in arguments})
    if origin is tuple:
        return _pair(arguments) if arguments[-1] is not ... else _tuple(arguments[0])
    if isinstance(origin or kind, type) and issubclass(origin or kind, Mapping):
        return _mapping(arguments[1] if arguments else Any)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _choice({member.value: member for member in kind})
    if is_dataclass(origin or kind):
        return _record(
            origin or kind, dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=True))
        )
    if kind in NAMES:
        return _number_or_text(kind)
    raise TypeError(f"no reader for {kind}")


def _number_or_text(kind: type) -> _Reader:
    accepted = (int, float) if kind is float else kind

    def read(value: object, place: str) -> Any:
        # True is an int in Python, but no number in JSON.
        if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
            raise _Misfit(place, f"is {_shown(value)}, not {NAMES[kind]}")
        return kind(value)

    return read


def _choice(choices: Mapping[Any, Any]) -> _Reader:
    def read(value: object, place: str) -> Any:
        if not isinstance(value, str | int) or isinstance(value, bool) or value not in choices:
            raise _Misfit(place, f"is {_shown(value)}, not one of {', '.join(map(str, choices))}")
        return choices[value]

    return read


def _union(members: Sequence[Any]) -> _Reader:
    readers = [_reader(member) for member in members if member is not NoneType]

    def read(value: object, place: str) -> Any:
        if value is None and NoneType in members:
            return None
        for reader in readers[:-1]:
            try:
                return reader(value, place)
            except _Misfit:
                continue
        return readers[-1](value, place)

    return read


def _tuple(member: Any) -> _Reader:
    reader = _reader(member)

    def read(value: object, place: str) -> Any:
        return tuple(reader(item, f"{place}[{i}]") for i, item in enumerate(_list(value, place)))

    return read


def _pair(members: Sequence[Any]) -> _Reader:
    readers = [_reader(member) for member in members]

    def read(value: object, place: str) -> Any:
        items = _list(value, place)
        if len(items) != len(readers):
            raise _Misfit(place, f"has {len(items)} values, not {len(readers)}")
        return tuple(
            reader(item, f"{place}[{i}]")
            for i, (reader, item) in enumerate(zip(readers, items, strict=True))
        )

    return read


def _list(value: object, place: str) -> list[object]:
    if not isinstance(value, list):
        raise _Misfit(place, f"is {_shown(value)}, not a list")
    return value


def _mapping(member: Any) -> _Reader:
    reader = _reader(member)

    def read(value: object, place: str) -> Any:
        items = _object(value, place).items()
        return {key: reader(item, f"{place}[{key!r}]") for key, item in items}

    return read


def _record(kind: Any, bound: Mapping[Any, Any]) -> _Reader:
    hints = get_type_hints(kind)
    readers: dict[str, tuple[_Reader, bool]] = {}

    def read(value: object, place: str) -> Any:
        if not readers:  # made at the first value: a record may hold records of its own kind
            for item in fields(kind):
                required = item.default is MISSING and item.default_factory is MISSING
                readers[item.name] = _reader(_bind(hints[item.name], bound)), required
        content, prefix = _object(value, place), f"{place}." if place else ""
        arguments = {}
        for name, (reader, required) in readers.items():
            if name in content:
                arguments[name] = reader(content[name], f"{prefix}{name}")
            elif required:
                raise _Misfit(f"{prefix}{name}", "is missing")
        return kind(**arguments)

    return read


def _bind(hint: Any, bound: Mapping[Any, Any]) -> Any:
    """Return an annotation of a generic record with its type variables put in."""
    if isinstance(hint, TypeVar):
        return bound[hint]
    parameters = getattr(hint, "__parameters__", ())
    return (
        hint[tuple(bound[parameter] for parameter in parameters)] if parameters and bound else hint
    )


def _object(value: object, place: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _Misfit(place, f"is {_shown(value)}, not an object")
    return value


def _shown(value: object) -> str:
    """Return a value for an error: short, and on one line."""
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
