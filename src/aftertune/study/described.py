"""What the keys of a study file mean, for its JSON Schema: the docstrings under the fields, read when it is asked for.

pydantic can take them itself (``use_attribute_docstrings``), but does so whenever the classes are made, and reading the
source of sixteen classes takes longer than everything else that it does with them.
"""

from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema


class Described(BaseModel):
    """A model whose JSON Schema has the docstring under each field as its description."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Make the schema and add the descriptions."""
        schema = handler(core_schema)
        whole = handler.resolve_ref_schema(schema)
        for name, text in descriptions(cls).items():
            if name in whole.get("properties", {}):
                whole["properties"][name].setdefault("description", text)
        return schema


def descriptions(cls: type) -> dict[str, str]:
    """Return the docstrings under the fields of a class and those that it inherits from."""
    found: dict[str, str] = {}
    for parent in reversed(cls.__mro__):
        if issubclass(parent, Described) and parent is not Described:
            found |= _own(parent)
    return found


def _own(cls: type) -> dict[str, str]:
    import ast
    import inspect
    from textwrap import dedent

    try:
        (tree,) = ast.parse(dedent(inspect.getsource(cls))).body
    except OSError:  # made by a call, not written down
        return {}
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
