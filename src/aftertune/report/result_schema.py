"""The JSON Schemas of result.json and repair.json, made from the records that they are; docs/*.schema.json are their outputs."""

import ast
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter

from aftertune.measure import attack_results, judge_bounds, plan, repair, results
from aftertune.report import document
from aftertune.report.document import CHECKSUM, FORMAT, ResultDocument

MODULES: tuple[ModuleType, ...] = (document, results, attack_results, plan, judge_bounds, repair)
"""The homes of the records that a result is made of."""
Schema = dict[str, Any]
PROPERTIES, REQUIRED, DESCRIPTION, DEFINITIONS = "properties", "required", "description", "$defs"
"""Keywords of JSON Schema."""


def result_schema() -> Schema:
    """Return the JSON Schema (2020-12) of result.json in this version's format.

    Its version is the key ``format`` of the file. Later versions of Aftertune add keys within a format, so that others than
    those named here are allowed; a key that goes, or changes its meaning, makes a new format.
    """
    schema = _schema(ResultDocument, "result", FORMAT)
    schema[PROPERTIES][CHECKSUM] = {
        "type": "string",
        DESCRIPTION: "SHA-256 of all other keys, written as JSON with sorted keys.",
    }
    schema[REQUIRED] = [*schema[REQUIRED], CHECKSUM]
    return schema


def repair_schema() -> Schema:
    """Return the JSON Schema (2020-12) of the repair.json of a repair's run, as `result_schema` does."""
    return _schema(repair.RepairResult, "repair", repair.FORMAT)


def _schema(record: type, name: str, number: int) -> Schema:
    """Return the JSON Schema of a record whose file has the format ``number``, with the docstrings of its fields."""
    schema: Schema = TypeAdapter(record).json_schema()
    definitions: dict[str, Schema] = schema.pop(DEFINITIONS)
    texts = _docstrings()
    for definition_name, definition in [*definitions.items(), (record.__name__, schema)]:
        _describe(definition, texts.get(definition_name.partition("_")[0], {}))
    schema[PROPERTIES] |= {"format": {"const": number, DESCRIPTION: "The version of this schema."}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"aftertune:{name}-{number}",
        "title": f"Aftertune {name}, format {number}",
        **{key: value for key, value in schema.items() if key != "title"},
        DEFINITIONS: dict(sorted(definitions.items())),
    }


def _describe(definition: Schema, texts: dict[str, str]) -> None:
    """Put the docstrings of a record's fields beside their types."""
    if text := texts.get(""):
        definition[DESCRIPTION] = text
    for field, part in definition.get(PROPERTIES, {}).items():
        if text := texts.get(field):
            part[DESCRIPTION] = text


def _docstrings() -> dict[str, dict[str, str]]:
    """Return the docstrings of every record: by the name of a field, inherited ones too, and of the record itself under the empty name."""
    texts: dict[str, dict[str, str]] = {}
    for module in MODULES:
        for node in ast.parse(inspect.getsource(module)).body:
            if not isinstance(node, ast.ClassDef):
                continue
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
            inherited = {
                field: text
                for base in bases
                for field, text in texts.get(base, {}).items()
                if field
            }
            texts[node.name] = inherited | dict(_of_class(node))
    return texts


def _of_class(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    if text := ast.get_docstring(node):
        yield "", " ".join(text.split())
    for field, below in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            yield field.target.id, " ".join(below.value.value.split())
