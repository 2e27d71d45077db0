"""`aftertune data`."""

from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.options import DataOption, JsonOption, command_group

app = command_group(
    "Look at data before using it: prompt sets, training files, and what two of them share."
)


@app.command("list")
def data_list(folder: DataOption = Path(), json: JsonOption = None) -> None:
    """List every prompt set and data set that has a loader, and which of them lie here."""
    from aftertune.cli.data_list import list_sets

    list_sets(folder, json)


@app.command("show")
def data_show(
    name: Annotated[
        str, typer.Argument(help="A set of `data list`, a file of prompts, or a training file.")
    ],
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The set's file; looked for in --data otherwise."),
    ] = None,
    folder: DataOption = Path(),
    json: JsonOption = None,
) -> None:
    """Show what a set holds: counts, lengths, hazards by task, duplicates, licence, and a few rows, shortened."""
    from aftertune.cli.data_show import show_set

    show_set(name, file, folder, json)


@app.command("check")
def data_check(
    file: Annotated[Path, typer.Argument(help="A training file: JSONL, JSON, CSV, Parquet.")],
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="MAP", help="For CSV: prompt=COLUMN,completion=COLUMN[,input=COLUMN]."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Count tokens as this model does: hub id or folder; estimated otherwise."
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tokens per row; longer rows are cut (the model's context, else 1024)."
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Find what is wrong with a training file, row by row: exit 0 fit for training, 3 not."""
    from aftertune.cli.data_check import CheckedFile, check_file

    raise typer.Exit(
        check_file(
            CheckedFile(path=file, columns=columns, model=model, max_length=max_length), json
        )
    )


@app.command("overlap")
def data_overlap(
    a: Annotated[
        str, typer.Argument(metavar="A", help="What is asked: a set, SET=FILE, or a file.")
    ],
    b: Annotated[
        str, typer.Argument(metavar="B", help="Where it may stand: a set, SET=FILE, or a file.")
    ],
    columns: Annotated[
        str | None,
        typer.Option(metavar="MAP", help="For files in no known format, as `tune --columns`."),
    ] = None,
    folder: DataOption = Path(),
    json: JsonOption = None,
) -> None:
    """Count what of A stands in B, verbatim, as a payload or inside longer lines, and name it."""
    from aftertune.cli.data_overlap import overlap

    overlap(a, b, columns, folder, json)
