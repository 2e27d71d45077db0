"""study.yaml and the file of ``check --config`` become typed values, and back."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from aftertune.study.check import config_problems, secrets, study_problems
from aftertune.study.config import CheckConfig, Study
from aftertune.study.yaml_lines import Placed, Where, nearest, read_yaml

C = TypeVar("C", bound=CheckConfig)
RENAMED_KEYS = {"scorers": "metrics", "comparers": "preferences"}
"""Keys of version 0.1 and what they are called now."""


def load_study(path: Path, *, finished: bool = False) -> Study:
    """Read a study file.

    Args:
        path: the file.
        finished: the study was run and is only reported, maybe elsewhere: its files and plug-ins need not be here, and
            it may have the keys of version 0.1.

    Raises:
        StudyError: one line with file, line, key, what is wrong and what to do.
    """
    return _checked(Study, read_yaml(path), path.absolute().parent, finished=finished)


def load_config(path: Path) -> CheckConfig:
    """Read the file of ``check --config``: the keys of a study without its name, models and fine-tunes.

    Raises:
        StudyError: one line with file, line, key, what is wrong and what to do.
    """
    return _checked(CheckConfig, read_yaml(path), path.absolute().parent)


def study_from_mapping(mapping: Mapping[str, object], folder: Path) -> Study:
    """Make a study of plain values, as they would stand in its file.

    Raises:
        StudyError: one line with key, what is wrong and what to do.
    """
    return _checked(Study, Placed(file="study", data=dict(mapping)), folder.absolute())


def config_from_mapping(mapping: Mapping[str, object], folder: Path) -> CheckConfig:
    """Make a configuration of plain values; see `study_from_mapping`."""
    return _checked(CheckConfig, Placed(file="config", data=dict(mapping)), folder.absolute())


def to_yaml(config: CheckConfig, folder: Path | None = None) -> str:
    """Write a study or configuration as YAML that reads back as an equal one; only what differs from the defaults.

    Args:
        config: what to write.
        folder: where the file will stand; files inside it are written relative to it.
    """
    context = {"folder": folder.resolve()} if folder else {}
    plain = config.model_dump(mode="json", exclude_defaults=True, context=context)
    first = [key for key in ("name", "models", "fine_tunes") if key in plain]
    ordered = {key: plain[key] for key in [*first, *(key for key in plain if key not in first)]}
    return yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=120)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of study.yaml, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Study.model_json_schema(mode="validation"),
        "title": "Aftertune study",
    }


def _checked(kind: type[C], placed: Placed, folder: Path, *, finished: bool = False) -> C:
    if not isinstance(placed.data, dict):
        raise placed.error(
            (),
            "expected keys and values such as `name: my-study`; `aftertune schema` prints the keys",
        )
    for where, message in secrets(placed.data):
        raise placed.error(where, message)
    data = _inherited(placed) if kind is Study else placed.data
    for old, new in RENAMED_KEYS.items():
        if old in data and not finished:
            raise placed.error((old,), f"{old} is called {new} now; rename the key")
        data = {new if key == old else key: value for key, value in data.items()}
    try:
        config = kind.model_validate(data, context={"folder": folder, "finished": finished})
    except ValidationError as error:
        raise placed.error(*_explained(_plainest(error.errors(), placed), kind)) from None
    if finished:
        return config
    for where, message in (
        study_problems(config) if isinstance(config, Study) else config_problems(config)
    ):
        raise placed.error(where, message)
    return config


def _inherited(placed: Placed) -> dict[str, object]:
    """Fill every fine-tune that has ``like`` with the keys of the one that it names; ``training`` is merged key by key."""
    assert isinstance(placed.data, dict)
    items = placed.data.get("fine_tunes")
    if not isinstance(items, list | tuple):
        return placed.data
    named: dict[str, dict[str, object]] = {}
    for position, item in enumerate(items):
        name = item.get("name") if isinstance(item, dict) else None
        if isinstance(name, str) and name in named:
            raise placed.error(
                ("fine_tunes", position, "name"),
                f"{name!r} stands here twice; every name must differ",
            )
        if isinstance(name, str):
            named[name] = item

    def filled(item: object, where: Where, ancestors: tuple[object, ...]) -> object:
        if not isinstance(item, dict) or "like" not in item:
            return item
        parent, path = item["like"], (*ancestors, item.get("name"))
        if parent in path:
            circle = " -> ".join(map(str, (*path, parent)))
            raise placed.error(
                (*where, "like"),
                f"goes in a circle ({circle}); let one of them say its base and data itself",
            )
        if not isinstance(parent, str) or parent not in named:
            others = [name for name in named if name not in path]
            listed = ", ".join(others) or "none"
            raise placed.error(
                (*where, "like"),
                f"{nearest(str(parent), others)}no other fine-tune is called {parent!r}; there: {listed}",
            )
        inherited = filled(named[parent], where, path)
        assert isinstance(inherited, dict)
        own = {key: value for key, value in item.items() if key != "like"}
        if isinstance(own.get("training"), dict) and isinstance(inherited.get("training"), dict):
            own["training"] = {**inherited["training"], **own["training"]}
        return {**inherited, **own}

    fine_tunes = [filled(item, ("fine_tunes", position), ()) for position, item in enumerate(items)]
    return {**placed.data, "fine_tunes": fine_tunes}


PHRASES = {
    "missing": "is missing; add it",
    "too_short": "must not be empty; add at least one entry",
    "string_pattern_mismatch": "{shown} cannot be a name; use letters, digits and _ . + -, a letter or digit first",
    "string_type": "expected text, found {shown}; put it in quotes",
    **dict.fromkeys(
        ("int_type", "int_from_float"),
        "expected a whole number, found {shown}; write it without quotes",
    ),
    "float_type": "expected a number, found {shown}; write it without quotes",
    "bool_type": "expected true or false, found {shown}; write one of them",
    **dict.fromkeys(("tuple_type", "list_type"), "expected a list, found {shown}; write [a, b]"),
    **dict.fromkeys(
        ("dict_type", "mapping_type", "model_type", "dataclass_exact_type", "is_instance_of"),
        "expected keys and values, found {shown}; write {{key: value}}",
    ),
}
"""Our words for pydantic's commonest findings, by its error type."""


def _plainest(errors: list[ErrorDetails], placed: Placed) -> ErrorDetails:
    """Choose the finding to report: one whose own line is known, and not an emptiness that another finding caused."""
    return min(
        errors, key=lambda error: (error["type"] == "too_short", error["loc"] not in placed.lines)
    )


def _explained(error: ErrorDetails, file: type[CheckConfig]) -> tuple[Where, str]:
    """Put pydantic's finding into words: where it is, what is wrong, what to do."""
    where, kind, shown = error["loc"], error["type"], _shown(error["input"])
    # pydantic's own steps, ``[key]`` of a mapping and ``function-before[…]`` of our short forms, stand in no file
    where = tuple(step for step in where if not (isinstance(step, str) and "[" in step))
    if kind == "extra_forbidden" and len(where) == 1 and where[0] in Study.model_fields:
        return (
            where,
            f"{where[0]} belongs in a study (aftertune run); this file says how to ask and judge, for check",
        )
    if kind == "extra_forbidden":
        names = sorted(
            _keys_at(where[:-1]) & set(file.model_fields)
            if len(where) == 1
            else _keys_at(where[:-1])
        )
        return where, f"unknown key; {nearest(str(where[-1]), names)}known here: {', '.join(names)}"
    if kind == "value_error":
        return where, str(error["ctx"]["error"])
    reason = error["msg"].replace("Input should be", "it should be")
    phrase = PHRASES.get(kind, "found {shown}; {reason}")
    return where, phrase.format(shown=shown, reason=reason) + _share_hint(where, error["input"])


def _share_hint(where: Where, value: object) -> str:
    """Say what 5 would be as a share, the commonest mistake with margins."""
    key = str(where[-1])
    is_share = key.endswith("margin") or key in ("max_asr", "share", "replay_share", "alpha")
    if not is_share or not isinstance(value, int | float) or not 1 <= value < 100:
        return ""
    return f" (write {value / 100:g} for {value:g} %)"


def _shown(value: object) -> str:
    if value is None:
        return "nothing (null)"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys_at(where: Where) -> set[str]:
    """Return the keys that are known at a place, from the JSON Schema."""
    whole = Study.model_json_schema(mode="validation")
    schemas: list[dict[str, Any]] = [whole]
    for step in where:
        schemas = [inner for schema in schemas for inner in _inner(whole, schema, step)]
    return {
        name for schema in schemas for name in _resolved(whole, schema)[0].get("properties", {})
    }


def _inner(
    whole: dict[str, Any], schema: dict[str, Any], step: str | int
) -> Iterator[dict[str, Any]]:
    for option in _resolved(whole, schema):
        child = (
            option.get("items") if isinstance(step, int) else option.get("properties", {}).get(step)
        )
        if child:
            yield from _resolved(whole, child)


def _resolved(whole: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Follow ``$ref`` and ``anyOf`` to the schemas that they stand for."""
    if "$ref" in schema:
        return _resolved(whole, whole["$defs"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema and "properties" not in schema:
        return [option for part in schema["anyOf"] for option in _resolved(whole, part)]
    return [schema]
