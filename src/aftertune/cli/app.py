"""The command line finds the command that was named and turns expected failures into one line.

A command's file loads when the command is named, so that ``--help`` is instant.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from aftertune import __version__
from aftertune.core.files import full_disk
from aftertune.errors import AftertuneError, OptionError, PluginError, Stopped

if TYPE_CHECKING:
    from typer._click import Command, HelpFormatter

STOPPED = "stopped; run the same command to go on"
FREE_SPACE = "free some space and run the same command to go on"
INTERRUPTED = 130
"""The code with which typer leaves when Ctrl-C comes outside of a command."""
PARSER_ERROR: Any = typer.BadParameter.__base__
"""The base of all errors of typer's parser, which typer itself does not export."""
NO_ARGUMENTS = "NoArgsIsHelpError"
"""The class of that among them by which typer prints the help of a command without arguments."""

COMMANDS = {
    "demo": "Show the whole job on the embedded model.",
    "check": "Decide whether fine-tuning broke a model (the gate).",
    "repair": "Mend a finished fine-tune in its weights, and prove it.",
    "run": "Run a study: tune, generate, score, measure, report.",
    "plan": "Estimate what a study can find and what it costs.",
    "tune": "Fine-tune a model on this machine.",
    "tune-hosted": "Have a provider fine-tune a model.",
    "mix": "Mix safety rows into a training file.",
    "data": "List, show, check and compare prompt sets and training files.",
    "report": "Print the result of a finished run again, and write its page.",
    "compare": "Compare results of several runs, paired where they share prompts.",
    "export": "Write a finished run for scripts, other tools, a model card or a paper.",
    "label": "Have annotators label responses, and correct the rates.",
    "judge-check": "Measure a judge on labelled answers.",
    "store": "Merge the stores of several processes.",
    "consistency": "Show how reproducible the figures of a run are.",
    "organism": "Write the embedded model as ordinary files.",
    "schema": "Print the JSON Schema of study.yaml or result.json.",
}
"""Every command in the order of the help, with one line of help; `aftertune.cli.<name>` holds it."""


@contextmanager
def _parser_errors() -> Iterator[None]:
    """Turn what the parser of the command line refuses into our error, which is a line like others."""
    try:
        yield
    except PARSER_ERROR as error:
        if type(error).__name__ == NO_ARGUMENTS:
            raise  # it prints the help
        more = "" if error.ctx is None else f"; {error.ctx.command_path} --help lists the options"
        raise OptionError(f"{error.format_message().rstrip('.')}{more}") from error


class Commands(TyperGroup):
    """The group of all commands, each of which loads when it is named."""

    def list_commands(self, _ctx: typer.Context) -> list[str]:  # type: ignore[override]  # typer's own context
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, _ctx: typer.Context, cmd_name: str) -> "Command | None":  # type: ignore[override]
        """Return the command called ``cmd_name``; None where there is none."""
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, _ctx: typer.Context, formatter: "HelpFormatter") -> None:  # type: ignore[override]
        """Write the commands' lines of help without loading the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def make_context(self, *given: Any, **more: Any) -> Any:
        """Return the context of a command line, whose options before a command are read.

        Raises:
            OptionError: the parser of the command line refuses one of them.
        """
        with _parser_errors():
            return super().make_context(*given, **more)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Run the command that was named; Ctrl-C stops it as any other stop.

        Raises:
            Stopped: Ctrl-C, which typer itself would leave with `INTERRUPTED`.
            OptionError: the parser of the command line refuses an option, an argument or a value.
            PluginError: foreign code asked for the end of the program, which no command does.
        """
        try:
            with _parser_errors():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stopped(STOPPED) from None
        except SystemExit as error:
            raise PluginError(
                f"code that is not Aftertune's ended the program (SystemExit {error.code}): a plug-in, or code of a checkpoint; "
                "it must raise an error instead"
            ) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="What fine-tuning did to a model's safety, task by task, how sure you can be, and how to mend it.",
    epilog="Exit codes: 0 done, 1 error, 2 bad command line, 3 FAIL (check, repair, data check), 4 not enough data (check, repair), 5 stopped: run again to go on.",
)


def load_command(name: str) -> "Command":
    """Return one of `COMMANDS` as typer runs it; its file is loaded."""
    module = import_module(f"aftertune.cli.{name.replace('-', '_')}")
    command = typer.main.get_command(module.app)
    command.name = name
    return command


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aftertune {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that come before a command."""


def main() -> None:
    """Run the command line; turn every expected failure into one line and its exit code."""
    # Waiting threads that spin make small models several times slower as soon as anything else runs on the machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except SystemExit as left:
        if left.code == INTERRUPTED:
            _fail(STOPPED, Stopped.exit_code)
        raise
    except AftertuneError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        # A full disk or a folder that may not be written is the machine's fault, not the program's.
        place = error.filename2 or error.filename  # of a renaming, the new name
        what = f"{place}: {error.strerror}" if place else str(error)
        remedy = (
            "mend that and run the same command to go on"
            if full_disk(error) is None
            else FREE_SPACE
        )
        _fail(f"{what}; {remedy}", AftertuneError.exit_code)
    except KeyboardInterrupt:
        _fail(STOPPED, Stopped.exit_code)
    except Exception as error:
        if (full := full_disk(error)) is None:
            raise
        _fail(f"{full.strerror}: {FREE_SPACE}", AftertuneError.exit_code)


def _fail(message: str, code: int) -> None:
    from aftertune.report.wording import clean

    line = clean(" ".join(message.split()))
    sys.stderr.write(f"aftertune: {line}\n")
    raise SystemExit(code)
