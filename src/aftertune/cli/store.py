"""`aftertune store`: work on store files."""

from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.options import command_group
from aftertune.errors import InputError
from aftertune.report.terminal import Output
from aftertune.store import Store

app = command_group("Merge the stores of several processes.")


@app.callback()
def group() -> None:
    """Keep the name of the subcommand, which typer drops where there is one alone."""


@app.command("merge")
def merge_command(
    into: Annotated[
        Path, typer.Argument(help="The store that is added to; made if it is not there.")
    ],
    stores: Annotated[list[Path], typer.Argument(help="The stores whose entries are added.")],
) -> None:
    """Add what other stores hold and this one does not. Merging twice does no harm; each store is merged whole or not at all."""
    for path in stores:
        if not path.is_file():
            raise InputError(
                f"{path}: no such store; name the files store.sqlite of the runs or parts"
            )
        if path.resolve() == into.resolve():
            raise InputError(f"{path}: is the store that the others are merged into; leave it out")
        Store.open(path, write=False).close()  # whatever is wrong with it, before INTO is made
    out = Output(soft_wrap=True, markup=False, highlight=False)
    with Store.open(into) as store:
        for path in stores:
            added = store.merge(path)
            out.print(f"{path}: {added:,} new calls answered")
