"""`aftertune schema` prints the JSON Schema of study.yaml, or of result.json."""

import json
from typing import Annotated, Literal

import typer

from aftertune.cli.options import command_app
from aftertune.report.result_schema import result_schema
from aftertune.study import json_schema

app = command_app()


@app.command("schema")
def command(
    document: Annotated[
        Literal["study", "result"], typer.Argument(help="study: study.yaml; result: result.json.")
    ] = "study",
) -> None:
    """Print the JSON Schema of study.yaml, for editors, or of result.json, for whoever reads results."""
    schema = json_schema() if document == "study" else result_schema()
    typer.echo(json.dumps(schema, indent=2))
