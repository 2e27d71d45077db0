"""Prompt templates of fine-tuned guards and judges, read where they are published: a file of the user's, or a package.

None is copied into this project. A package is read as text, not imported: `wildguard` would load vLLM, `judgezoo` torch.
"""

import ast
import importlib.util
from pathlib import Path
from typing import Any

from aftertune.errors import PluginError


def from_file(path: Path, names: tuple[str, ...], who: str) -> str:
    """Return a prompt template, with ``{names}`` for the foreign texts, from a user's file.

    Args:
        path: the file, UTF-8.
        names: the placeholders that have to stand in it.
        who: the guard or judge, for messages.

    Raises:
        PluginError: no such file, no text, or a placeholder is missing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PluginError(
            f"{who}: its prompt {path} cannot be read ({error}); name a text file"
        ) from error
    return with_names(text, names, f"{who}: its prompt {path}")


def from_package(package: str, module: str, constant: str, who: str) -> Any:
    """Return a constant of an installed package without importing it.

    Args:
        package: what has to be installed, and the name of the extra.
        module: the file in it, without ``.py``.
        constant: ``NAME``, or ``CLASS.NAME``.
        who: the guard or judge, for messages.

    Raises:
        PluginError: the package is not installed, or another version without this constant.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise PluginError(
            f"{who}: its exact prompt is in the package {package}, which is not installed; pip install {package} "
            "(--no-deps is enough), or name a file with the option prompt"
        )
    file = Path(spec.origin).parent / f"{module}.py"
    try:
        return _constant(ast.parse(file.read_text(encoding="utf-8")).body, constant)
    except (OSError, SyntaxError, LookupError, ValueError) as error:
        raise PluginError(
            f"{who}: the installed package {package} has no {constant} in {file.name}; name a file with the option prompt"
        ) from error


def with_names(text: str, names: tuple[str, ...], what: str) -> str:
    """Return a prompt template that has all its placeholders.

    Args:
        text: the template.
        names: the placeholders that have to stand in it.
        what: names the template, for messages.

    Raises:
        PluginError: a placeholder is missing.
    """
    missing = [name for name in names if f"{{{name}}}" not in text]
    if missing:
        raise PluginError(
            f"{what} has no {{{missing[0]}}}; it needs {', '.join(f'{{{name}}}' for name in names)}"
        )
    return text


def _constant(body: list[ast.stmt], name: str) -> Any:
    outer, _, inner = name.partition(".")
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == outer and inner:
            return _constant(node.body, inner)
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == outer for t in node.targets
        ):
            return ast.literal_eval(node.value)
    raise LookupError(name)
