"""`aftertune schema` prints the JSON Schema of study.yaml, of result.json, or of repair.json."""

import json
from typing import Annotated, Literal

import typer

from aftertune.cli.options import command_app
from aftertune.report.result_schema import repair_schema, result_schema
from aftertune.study import json_schema

app = command_app()
SCHEMAS = {"study": json_schema, "result": result_schema, "repair": repair_schema}


@app.command("schema")
def command(
    document: Annotated[
        Literal["study", "result", "repair"],
        typer.Argument(help="study: study.yaml; result: result.json; repair: repair.json."),
    ] = "study",
) -> None:
    """Print the JSON Schema of study.yaml, for editors, or of result.json or repair.json, for whoever reads results."""
    typer.echo(json.dumps(SCHEMAS[document](), indent=2))
