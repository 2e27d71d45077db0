"""The recipe beside the weights: what a folder was made of, and whether it is finished."""

import dataclasses
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from aftertune.core.recipe import Recipe
from aftertune.errors import ModelError
from aftertune.models.adapter import RECIPE
from aftertune.models.reference import read_json

FORMAT = 1
"""1: the recipe's fields, its key, what became of the rows, package versions."""
_PACKAGES = ("aftertune", "torch", "transformers", "peft", "trl", "accelerate")


def write_recipe(folder: Path, recipe: Recipe, rows: Mapping[str, object], threads: int) -> None:
    """Write ``recipe.json``: the recipe, its key, what became of the rows, and the versions that trained it."""
    record = {
        "format": FORMAT,
        "key": recipe.key.hex(),
        **_fields(recipe),
        "rows": dict(rows),
        "threads": threads,
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }
    (folder / RECIPE).write_text(
        json.dumps(record, indent=2, default=_plain) + "\n", encoding="utf-8"
    )


def finished(out: Path, recipe: Recipe) -> bool:
    """Return whether ``out`` already holds the fine-tune of this recipe.

    Raises:
        ModelError: the folder holds something else, which is never overwritten.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / RECIPE).is_file():
        raise ModelError(
            f"{out}: the folder holds something that is no fine-tune of ours; give another folder"
        )
    if read_json(str(out), out / RECIPE).get("key") != recipe.key.hex():
        raise ModelError(
            f"{out}: the folder holds the fine-tune of another recipe; delete it or give another folder"
        )
    return True


def check_rows(out: Path, recipe: Recipe, sha256: str) -> None:
    """See that a finished fine-tune was trained on these rows.

    A recipe's key names files by the hash of their bytes, but a hub data set by its name alone: it may have changed since.

    Raises:
        ModelError: it was trained on other rows.
    """
    rows = read_json(str(out), out / RECIPE).get("rows")
    recorded = str(rows.get("sha256")) if isinstance(rows, dict) else "none"
    if recorded != sha256:
        sources = (
            ", ".join(Path(file.path).name if file.sha256 else file.path for file in recipe.data)
            or "its data"
        )
        raise ModelError(
            f"{out}: was trained on other rows ({RECIPE}: {recorded[:12]}…) than {sources} gives now ({sha256[:12]}…); "
            "delete the folder to train again, or bring the old rows back"
        )


def _fields(value: object) -> dict[str, object]:
    assert dataclasses.is_dataclass(value)
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else _fields(value)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
