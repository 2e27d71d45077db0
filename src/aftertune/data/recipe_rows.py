"""The training rows of fine-tunes that exist already, from the files that the recipe beside their weights names."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from aftertune.core.keys import file_sha256
from aftertune.core.recipe import Trained, TrainingFile
from aftertune.data.bundled.safety import SAFETY_SETS, safety_rows
from aftertune.data.rows import read_rows
from aftertune.errors import InputError
from aftertune.models.reference import RECIPE
from aftertune.workspace import Run, called


def with_recipe_rows(run: Run, trained: Trained) -> Trained:
    """Add the rows of the study's ready-made fine-tunes to those of its own, as far as their recipes name files that are here."""
    ready = [
        model.reference
        for model in trained.models
        if model.recipe is None and model.base is not None
    ]
    return with_rows_of(ready, run.tools.folder, trained)


def with_rows_of(
    references: Iterable[str], folder: Path, trained: Trained, remedy: str = ""
) -> Trained:
    """Add the rows that models were trained on, and a note for each model whose rows are not all here.

    Args:
        references: models with or without a recipe beside the weights.
        folder: the start of relative paths.
        trained: the rows and notes so far.
        remedy: advice for the reader of a note.

    Raises:
        InputError: a recipe cannot be read.
    """
    rows, notes = dict(trained.rows), list(trained.notes)
    files: list[TrainingFile] = []
    for reference in references:
        named = _named(Path(reference))
        gone = [file for file in named if not _is_here(file)]
        files += [file for file in named if file not in gone and file not in files]
        if gone:
            names = ", ".join(dict.fromkeys(Path(file.path).name for file in gone))
            why = f"{names} of its recipe is not here as it was"
        else:
            why = "no recipe beside the weights names its data"
        if gone or not named:
            notes.append(
                f"overlap of prompts and training data was not fully checked for {called(reference)}: {why}{remedy}"
            )
    for file in files:
        added = (
            [safety.row for safety in safety_rows(file.path)]
            if file.path in SAFETY_SETS
            else read_rows(file, folder)
        )
        rows[file.path] = [*rows.get(file.path, ()), *added]
    return replace(trained, rows=rows, notes=tuple(notes))


def read_recipe(folder: Path) -> dict[str, Any]:
    """Return the recipe beside the weights in a folder as it was written; empty without one.

    Raises:
        InputError: the file is no recipe.
    """
    path = folder / RECIPE
    if not path.is_file():
        return {}
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no recipe of ours ({error}); move it away") from error
    if not isinstance(recipe, dict):
        raise InputError(f"{path}: is no recipe of ours (no object); move it away")
    return recipe


def _named(folder: Path) -> list[TrainingFile]:
    recipe = read_recipe(folder)
    try:
        mitigation = recipe.get("mitigation") or {}
        named = [
            *recipe.get("data", []),
            *mitigation.get("safety", []),
            *mitigation.get("replay", []),
        ]
        for file in named:
            TrainingFile(**file)  # refuses keys that are none; the types are looked at below
        return TypeAdapter(list[TrainingFile]).validate_python(named)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder / RECIPE}: is no recipe of ours (its training files are not written as we write them); move it away"
        ) from error


def rows_behind(reference: str) -> str | None:
    """Return the first training file that the recipe beside a model's weights names, if it is here as it was."""
    return next(
        (
            file.path
            for file in _named(Path(reference))
            if Path(file.path).is_file() and _is_here(file)
        ),
        None,
    )


def _is_here(file: TrainingFile) -> bool:
    path = Path(file.path)
    return file.path in SAFETY_SETS or (path.is_file() and file_sha256(path) == file.sha256)
