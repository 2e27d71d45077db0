"""`aftertune report`: the result of a finished run once more, and its page; no model is opened."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from aftertune.cli.options import JsonOption, command_app
from aftertune.errors import InputError
from aftertune.labels.measuring import finished_plan, with_labels
from aftertune.results.page import write_study_page
from aftertune.results.presenting import FORMAT, present, print_files
from aftertune.store import Store
from aftertune.workspace import RESULT, STORE

app = command_app()


@app.command()
def command(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
    html: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the page here.")] = None,
    show_responses: Annotated[
        bool,
        typer.Option(
            "--show-responses", help="Show harmful answers too; they are redacted otherwise."
        ),
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Print every table and sentence that the page has.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Print the result of a finished run again, and write its page."""
    report(folder, html, json, show_responses=show_responses, full=full)


def report(
    folder: Path,
    page: Path | None,
    json_path: Path | None,
    *,
    show_responses: bool,
    full: bool = False,
) -> None:
    """Print the result in ``folder``, with every table if ``full``, and write its page.

    Raises:
        InputError: the run is not finished, or another version wrote it.
        StoreError: its store is missing or broken.
    """
    told = read_document(folder)
    with Store.open(folder / STORE, write=False) as store:
        told = with_labels(folder, store, told)
        plan = finished_plan(folder, store, told)
        written = write_study_page(
            folder, store, plan, told, path=page, show_responses=show_responses
        )
    present(told, Console(), json_path, full=full)
    print_files(folder, written)


def read_document(folder: Path) -> Mapping[str, Any]:
    """Return the result document of a finished run.

    Raises:
        InputError: the run is not finished, or another version wrote it.
    """
    path = folder / RESULT
    if not path.is_file():
        raise InputError(
            f"{folder}: no finished run here ({RESULT} is missing); run the study first, or check the path"
        )
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path}: is not JSON ({error}); run the study again to write it anew"
        ) from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise InputError(
            f"{path}: was written by another version; run the study again to write it anew"
        )
    return told
