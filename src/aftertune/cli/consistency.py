"""`aftertune consistency`: how well the figures of a finished run would come out again; no model is opened."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aftertune.cli.options import JsonOption, command_app
from aftertune.cli.report import read_document
from aftertune.labels.measuring import finished_plan
from aftertune.labels.sample import labelled_table
from aftertune.measure.consistency import consistency as measure_consistency
from aftertune.report.consistency import print_consistency
from aftertune.report.files import write_json
from aftertune.results.page import kept_readers
from aftertune.store import Store
from aftertune.workspace import STORE

app = command_app()


@app.command()
def command(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
    json: JsonOption = None,
) -> None:
    """Say how well the figures of a finished run would come out again in another lab, and what they depend on."""
    consistency(folder, json)


def consistency(folder: Path, json: Path | None) -> None:
    """Print the consistency of the study in ``folder``.

    Raises:
        InputError: the run is not finished, or another version wrote it.
        StoreError: its store is missing or broken.
    """
    document = read_document(folder)
    study = document["study"]
    with Store.open(folder / STORE, write=False) as store:
        plan = finished_plan(folder, store, document)
        table, _, _ = labelled_table(store, study, kept_readers(store, study))
        result = measure_consistency(table, plan)
    if json is not None:
        write_json(json, result.to_json())
    print_consistency(result, Console())
