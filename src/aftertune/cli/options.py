"""The options that several commands share, and how a command becomes a typer application."""

from pathlib import Path
from typing import Annotated

import typer

from aftertune.report.progress import Progress, Screen
from aftertune.report.progress import Quiet as NoProgress

HELP = {"help_option_names": ["-h", "--help"]}

JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="PATH", help="Also write the result as JSON.")
]
FullOption = Annotated[
    bool, typer.Option("--full", help="Print every table and sentence that the page has.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar="AFTERTUNE_DATA",
        help="Where the files of public sets lie.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Where the run is kept (store, models, page)."),
]
PromptsOption = Annotated[
    list[str] | None, typer.Option(help="A prompt set: a name or a file. Repeat for several.")
]
JudgeOption = Annotated[
    list[str] | None,
    typer.Option(help="A judge, or NAME=MODEL; the first one decides. Repeat for several."),
]
TrainOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="The fine-tuning data, to drop evaluation prompts that occur in it."
    ),
]
MaxNewTokensOption = Annotated[
    int | None, typer.Option(min=1, help="Most tokens of an answer (256).")
]
MOST_SEED = 2**32 - 1
BaseSeedOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=MOST_SEED,
        help="The first base seed to try (10); bases outside the stated range are rejected.",
    ),
]


def command_app() -> typer.Typer:
    """Return an application for one command; `aftertune.cli.app` gives it its name."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=HELP,
    )


def command_group(help_text: str) -> typer.Typer:
    """Return an application for a command that has subcommands."""
    group = command_app()
    group.info.no_args_is_help = True
    group.info.help = help_text
    return group


def screen(quiet: bool) -> Progress:
    """Return what shows progress: the terminal, or nothing."""
    return NoProgress() if quiet else Screen()
