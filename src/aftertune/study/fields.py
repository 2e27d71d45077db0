"""The types of a study file's fields: paths, names, shares, and short forms that become whole ones while they are read."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    SerializationInfo,
    StringConstraints,
    ValidationInfo,
)

from aftertune.errors import InputError

DATA_SUFFIXES = (
    ".jsonl",
    ".ndjson",
    ".json",
    ".csv",
    ".tsv",
    ".txt",
    ".gz",
    ".parquet",
    ".yaml",
    ".yml",
)

PRESET_RULES = MappingProxyType({"first-tokens": "first_tokens", "self-answers": "self_answers"})
"""The presets that are a training rule alone which ``true`` and ``false`` can switch, and the rule's key."""


def _local(text: str, info: ValidationInfo) -> Path:
    """Return the path that a text names, relative to the study's folder.

    Raises:
        ValueError: the text holds half of a surrogate pair: no path does, and a message with it could not be printed.
    """
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{text!r} holds half of a character, which no path does; write it anew")
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / Path(text).expanduser()


def _finished(info: ValidationInfo) -> bool:
    return bool((info.context or {}).get("finished"))


def _existing(text: str, info: ValidationInfo) -> str:
    """Return the absolute path of a file that must be there."""
    path = _local(text, info)
    if not _finished(info) and not (_is_there(path, info) and path.is_file()):
        raise ValueError(f"no such file: {text}; paths are relative to the study's folder")
    return str(path.resolve())


def _is_there(path: Path, info: ValidationInfo) -> bool:
    """Return whether a path leads to something.

    Raises:
        ValueError: the system cannot even look: the path is too long, or its folder is closed.
    """
    try:
        return path.exists()
    except OSError as error:
        if _finished(info):
            return False
        raise ValueError(f"it cannot be looked up ({error.strerror}); give another path") from error


def _existing_or_named(text: str, info: ValidationInfo) -> str:
    """Return the absolute path of what is there, or the text as it is: a hub id or the address of an endpoint."""
    path = _local(text, info)
    if _is_there(path, info):
        return str(path.resolve())
    if text.startswith((".", "/", "~")) or text.endswith(DATA_SUFFIXES):
        if _finished(info):
            return str(path.resolve())
        raise ValueError(
            f"no such file or folder: {text}; paths are relative to the study's folder"
        )
    return text


def is_attack_file(entry: str) -> bool:
    """Return whether an entry of ``attacks`` names a file of wrappers and not an attack that ships."""
    return "/" in entry or "\\" in entry or entry.endswith(DATA_SUFFIXES)


def _attack(entry: str, info: ValidationInfo) -> str:
    """Return the name of an attack, or the absolute path of a file of wrappers, which must be there."""
    return _existing(entry, info) if is_attack_file(entry) else entry


def _shown(path: str, info: SerializationInfo) -> str:
    """Return a path as a file in the folder of the context would write it."""
    folder: Path | None = (info.context or {}).get("folder")
    if folder is None or not Path(path).is_absolute() or not Path(path).is_relative_to(folder):
        return path
    return f"./{Path(path).relative_to(folder).as_posix()}"


def listed(value: object) -> object:
    """Accept one item where several may stand."""
    return (
        (value,)
        if isinstance(value, str | dict)
        else tuple(value)
        if isinstance(value, list)
        else value
    )


def as_tuple(value: object) -> object:
    """Read a YAML list as the tuple that a frozen value holds."""
    return tuple(value) if isinstance(value, list) else value


def keyed(key: str, value: object) -> object:
    """Read a string as the value of a key, the short form of ``{key: string}``."""
    return {key: value} if isinstance(value, str) else value


def mitigation_form(value: object) -> object:
    """Read ``multitask`` as ``{preset: multitask}``, and ``none`` as no mitigation, which undoes what ``like`` brings."""
    return None if value == "none" else keyed("preset", value)


def rule_form(value: object, info: ValidationInfo) -> object:
    """Read ``true`` as the defaults of a training rule's keys, and ``false`` as no rule.

    Raises:
        ValueError: ``false`` stands beside the preset that is this rule alone.
    """
    if not isinstance(value, bool):
        return value
    preset = str(info.data.get("preset"))
    if not value and PRESET_RULES.get(preset) == info.field_name and not _finished(info):
        raise ValueError(
            f"false cannot stand beside the preset {preset}, which is this rule alone; leave the preset out, or write mitigation: none"
        )
    return {} if value else None


def batch_form(value: object) -> object:
    """Read ``true`` as every endpoint, ``false`` as none, and one pattern where several may stand."""
    return (("*",) if value else ()) if isinstance(value, bool) else listed(value)


def switch_form(value: object) -> object:
    """Read ``on`` and ``off``, which YAML takes for true and false, as the words that they are."""
    return ("on" if value else "off") if isinstance(value, bool) else value


def scorer_form(value: object) -> object:
    """Read ``rules`` as ``{name: rules, use: rules}``; ``package.module:factory`` is called by its factory's name."""
    if isinstance(value, str):
        return {"name": value.rpartition(":")[2], "use": value}
    return (
        {**value, "use": value["name"]}
        if isinstance(value, dict) and "use" not in value and "name" in value
        else value
    )


def prompts_form(value: object) -> object:
    """Read a string as a file if it looks like one, else as the name of a loader."""
    if isinstance(value, str):
        is_file = ("/" in value or value.endswith(DATA_SUFFIXES)) and ":" not in value
        value = {"file": value} if is_file else {"loader": value}
    if isinstance(value, dict) and "set" not in value:
        source = value.get("file", value.get("loader"))
        if isinstance(source, str):
            stem = Path(source).name.split(".")[0] if "file" in value else source.rpartition(":")[2]
            return {**value, "set": stem}
    return value


AttackEntry = Annotated[
    str, StringConstraints(min_length=1), AfterValidator(_attack), PlainSerializer(_shown)
]
LocalFile = Annotated[str, AfterValidator(_existing), PlainSerializer(_shown)]
Reference = Annotated[
    str,
    StringConstraints(min_length=1),
    AfterValidator(_existing_or_named),
    PlainSerializer(_shown),
]
LONGEST_NAME = 100
"""Characters: names become names of files, which seeds, keys and suffixes make longer (255 bytes at most)."""
_DEVICES = {
    "aux",
    "con",
    "nul",
    "prn",
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}
"""Names that Windows keeps for devices, whatever follows a dot."""


def _portable(name: str, info: ValidationInfo) -> str:
    """Return a name that can be a file's everywhere; a finished study keeps the names that it has."""
    if _finished(info):
        return name
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"a name of {len(name)} characters cannot be a file's; use {LONGEST_NAME} at most"
        )
    for part in name.split("/"):
        if part.partition(".")[0].lower() in _DEVICES or not part.rstrip("."):
            raise ValueError(
                f"{name!r} cannot be a name of files on every system; choose another one"
            )
        if part.endswith("."):
            raise ValueError(
                f"{name!r} ends in a dot, which Windows drops from names of files; leave it out"
            )
    return name


Name = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+\-]*$"), AfterValidator(_portable)
]
"""Letters, digits and ``_ . + -``: safe in file names, columns and tables."""
ModelName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+/\-]*$"), AfterValidator(_portable)
]
HERE, RAY = "here", "ray"


def cluster_address(place: str) -> str | None:
    """Return the address in ``ray:HOST:PORT``; None in ``here``, and in ``ray``, for the cluster that Ray knows of or else this machine.

    Raises:
        ValueError: the text names no place where a study can run.
    """
    kind, colon, address = place.partition(":")
    host, _, port = address.rpartition(":")
    address_is_whole = bool(host) and "/" not in host and port.isdecimal()
    if place != HERE and (kind != RAY or (colon and not address_is_whole)):
        raise ValueError(
            f"{place!r} is no place to run a study; write here, ray (the cluster of this machine, or this machine alone) or ray:HOST:PORT"
        )
    return address or None


def _place(place: str) -> str:
    cluster_address(place)
    return place


def _gpus(number: float) -> float:
    if number > 1 and not number.is_integer():
        raise ValueError(
            f"{number:g} GPUs cannot be given; write a whole number, or a share below 1"
        )
    return number


Place = Annotated[str, AfterValidator(_place)]
Gpus = Annotated[float, Field(ge=0), AfterValidator(_gpus)]
Share = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed as large as the generators of NumPy take; larger ones would fail at the first draw."""
Options = Annotated[Mapping[str, Any], Field(default_factory=lambda: MappingProxyType({}))]


def scorer_keys(named: str) -> str | dict[str, Any]:
    """Return ``NAME=MODEL`` as a scorer's keys in a study; a model's folder is looked for from here, wherever the configuration lies.

    Raises:
        InputError: one of the two is missing.
    """
    use, asks, model = named.partition("=")
    if not asks:
        return named
    if not use or not model:
        raise InputError(
            f"{named!r} names no {'model' if use else 'judge or guard'}; write NAME=MODEL"
        )
    folder = Path(model).expanduser()
    reference = str(folder.absolute()) if folder.is_dir() else model
    return {"name": use.rpartition(":")[2], "use": use, "options": {"model": reference}}
