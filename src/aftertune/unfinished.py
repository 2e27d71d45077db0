"""The state of a run without a result: its models, answers and scores so far, and the command to go on.

A run notes at its beginning which models it is going to have and which command it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aftertune.core.recipe import StudyModel
from aftertune.core.table import NONE, Table
from aftertune.errors import InputError
from aftertune.models.reference import RECIPE
from aftertune.report.document import from_plain, to_plain
from aftertune.report.wording import clean
from aftertune.store import Store
from aftertune.train.train import steps_kept
from aftertune.workspace import MODELS, RESULT, STORE, Run

BEGUN = "begun"
SCORES = ("verdict", "decision", "score")
"""The first parts of the names of columns that hold scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunModel:
    """A model that a run is going to have."""

    name: str
    folder: str | None
    """The name of the folder that training fills; None for a model that exists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The note of a run on its beginning."""

    command: str
    models: tuple[BegunModel, ...]


def note_beginning(run: Run, command: str, models: Sequence[StudyModel]) -> None:
    """Keep the note on a run's beginning in its store."""
    begun = Begun(
        command=command,
        models=tuple(
            BegunModel(name=model.name, folder=Path(model.reference).name if model.recipe else None)
            for model in models
        ),
    )
    run.store.set_meta(run.study.name, BEGUN, to_plain(begun))


def is_unfinished(folder: Path) -> bool:
    """Return whether a folder holds a run that has no result yet."""
    return (folder / STORE).is_file() and not (folder / RESULT).exists()


def state_lines(folder: Path) -> list[str]:
    """Return the state of an unfinished run in lines.

    Raises:
        InputError: the run was stopped before anything was begun.
        StoreError: its store is damaged.
    """
    with Store.open(folder / STORE, write=False) as store:
        study = next(reversed(store.studies()), None)
        if study is None:
            raise InputError(f"{folder}: nothing was begun here; run the study first")
        note = store.get_meta(study, BEGUN)
        begun = None if note is None else from_plain(Begun, note, f"{store.path}: {BEGUN}")
        table = store.table(study, store.scorers(study), attacks=True)
    of_models = {name: _counts(table, name) for name in table.names["model"]}
    models = [] if begun is None else begun.models
    names = list(dict.fromkeys((*(model.name for model in models), *of_models)))
    folders = {model.name: folder / MODELS / model.folder for model in models if model.folder}
    width = max(map(len, (*names, "model")))
    return [
        f"{clean(study)}: not finished",
        *(
            f"  {clean(name):<{width}}  {', '.join(_parts(folders.get(name), of_models.get(name)))}"
            for name in names
        ),
        f"Go on: {'run the same command again' if begun is None else clean(begun.command)}",
    ]


def _parts(folder: Path | None, counts: str | None) -> Iterator[str]:
    """Yield what there is of a model."""
    if folder is not None and not (folder / RECIPE).is_file():
        steps = steps_kept(folder)
        yield f"to be trained ({steps:,} steps are done)" if steps else "to be trained"
    elif folder is not None:
        yield "trained"
    yield counts or "not asked yet"


def _counts(table: Table, model: str) -> str:
    """Return the counts of a model's answers and of their scores."""
    own = table.columns["model"] == table.names["model"].index(model)
    answered = own & (table.columns["finish"] != NONE)
    line = f"{int(answered.sum()):,} of {int(own.sum()):,} answers"
    scored = {
        name.partition(":")[2]: int((answered & (codes != NONE)).sum())
        for name, codes in table.columns.items()
        if name.partition(":")[0] in SCORES
    }
    scored |= {
        name.partition(":")[2]: int((answered & ~np.isnan(values)).sum())
        for name, values in table.scores.items()
        if name.partition(":")[0] in SCORES
    }
    return ", ".join((line, *(f"{count:,} scored by {name}" for name, count in scored.items())))
