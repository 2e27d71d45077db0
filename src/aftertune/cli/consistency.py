"""`aftertune consistency`: how well the figures of a finished run would come out again; no model is opened."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.options import JsonOption, command_app
from aftertune.labels.annotations import labelled_table
from aftertune.measure.consistency import consistency
from aftertune.report.consistency import print_consistency
from aftertune.report.document import to_plain, write_json
from aftertune.report.terminal import Output
from aftertune.result import open_finished

app = command_app()
WITHOUT_ATTACKS = "responses under attacks are in none of these figures"


@app.command()
def command(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
    json: JsonOption = None,
) -> None:
    """Say how well the figures of a finished run would come out again in another lab, and what they depend on."""
    with open_finished(folder) as run:
        table, _ = labelled_table(run.store, run.study, run.kept.readers)
        result = consistency(table, run.plan)
        if run.document.attacks:
            result = replace(result, notes=(*result.notes, WITHOUT_ATTACKS))
    if json is not None:
        write_json(json, to_plain(result))
    print_consistency(result, Output())
