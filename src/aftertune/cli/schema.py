"""`aftertune schema` prints the JSON Schema of study.yaml."""

import json

import typer

from aftertune.cli.options import command_app
from aftertune.study import json_schema

app = command_app()


@app.command("schema")
def command() -> None:
    """Print the JSON Schema of study.yaml, for editors."""
    typer.echo(json.dumps(json_schema(), indent=2))
