"""`aftertune store`: work on store files."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from aftertune.cli.options import command_group
from aftertune.errors import InputError
from aftertune.report.terminal import Output
from aftertune.store import Store
from aftertune.store.recover import Recovery, recover

app = command_group("Merge the stores of several processes; recover a damaged store.")


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


@app.command("recover")
def recover_command(
    file: Annotated[Path, typer.Argument(help="The damaged store; it is only read.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new store; must not be there yet.")],
) -> None:
    """Write what is good in a damaged store to a new one, and count what is kept and lost."""
    recovery = recover(file, out)
    screen = Output(soft_wrap=True, markup=False, highlight=False)
    for line in _damage_lines(recovery):
        screen.print(f"{file}: {line}")
    table = Table("", *("kept", "lost"), box=None, pad_edge=False)
    for name in ("answers", "prompts", "labels"):
        tally = getattr(recovery, name)
        table.add_row(name, f"{tally.kept:,}", f"{tally.lost:,}")
    screen.print(table)
    for line in _remarks(recovery):
        screen.print(line)
    screen.print(
        f"{out} is written. Put it in the place of {file}, without {file.name}-wal and {file.name}-shm, and run the study again: "
        "that asks only what is lost, and makes plan and scores again."
    )


def _damage_lines(recovery: Recovery) -> list[str]:
    """Return a line for each sort of damage that was seen."""
    counts = (
        (recovery.missing_pages, "pages are missing at its end"),
        (recovery.lost_frames, "pages of the last commits are lost with its write-ahead log"),
        (recovery.broken_pages, f"pages of {recovery.pages:,} cannot be read"),
        (recovery.broken_rows, "rows on other pages cannot be read"),
        (recovery.changed, "answers were changed after they were written"),
    )
    lines = [f"{count:,} {words}" for count, words in counts if count]
    return lines or ([] if recovery.damaged else ["no damage was seen"])


def _remarks(recovery: Recovery) -> list[str]:
    """Return what the counts alone do not say."""
    lines = []
    if recovery.unchecked:
        lines.append(
            f"{recovery.unchecked:,} answers are older than checksums: a letter of theirs that changed cannot be seen."
        )
    if recovery.labels.kept:
        lines.append("Labels have no checksums: look at a few of them.")
    if recovery.missing_pages or recovery.broken_pages or recovery.lost_frames:
        lines.append("More may be lost than is counted: of what lay there alone, nothing is known.")
    return lines
