"""`aftertune report`: the result of a finished run once more, and its page; no model is opened."""

from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.options import FullOption, JsonOption, command_app
from aftertune.errors import Stopped
from aftertune.report.document import write_document
from aftertune.report.terminal import Output, present, print_files
from aftertune.result import open_finished, renewed_result, write_report
from aftertune.unfinished import is_unfinished, state_lines
from aftertune.workspace import PAGE, RESULT

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
    full: FullOption = False,
    json: JsonOption = None,
) -> None:
    """Print the result of a finished run again, and write its page; of an unfinished one, what there is."""
    if is_unfinished(folder):
        Output(soft_wrap=True, markup=False, highlight=False).print("\n".join(state_lines(folder)))
        raise typer.Exit(Stopped.exit_code)
    page = html or folder / PAGE
    with open_finished(folder) as run:
        document = renewed_result(run)
        if document is not run.document:
            write_document(folder / RESULT, document)
        write_report(page, run.store, run.plan, document, show_responses=show_responses)
    present(document, Output(), json, full=full)
    print_files(page, folder / RESULT)
