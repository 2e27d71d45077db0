"""The command line: one thin command each. Heavy packages load inside the commands, so that ``--help`` is instant."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.core import TyperGroup

from aftertune import __version__
from aftertune.errors import AftertuneError, InputError, Stopped

if TYPE_CHECKING:
    from aftertune.report.progress import Progress


STOPPED = "stopped; nothing is lost: run the same command to go on"


class Commands(TyperGroup):
    """All commands; Ctrl-C in any of them is a stop like others (typer itself would leave with code 130)."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer's own context, for its own copy of click
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stopped(STOPPED) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="What fine-tuning did to a model's safety, task by task, how sure you can be, and how to mend it.",
    epilog="Exit codes: 0 done, 1 error, 2 bad command line, 3 FAIL (check, data check), 4 not enough data (check), 5 stopped: run again to go on.",
)

Json = Annotated[
    Path | None, typer.Option("--json", metavar="PATH", help="Also write the result as JSON.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
DataFolder = Annotated[
    Path,
    typer.Option(
        "--data", metavar="DIR", envvar="AFTERTUNE_DATA", help="Where the files of public sets lie."
    ),
]
RUNS = Path("aftertune-runs")
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Where the run is kept (store, models, page)."),
]
MOST_SEED = 2**32 - 1
BaseSeed = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=MOST_SEED,
        help="The first base seed to try (10); bases outside the stated range are rejected.",
    ),
]


@app.command()
def demo(
    out: Out = None,
    seed: BaseSeed = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Show it on the embedded model: harmless fine-tuning breaks refusals, and a multitask safety mix mends them."""
    from aftertune.cli.demo import demo as command

    command(out or RUNS / "demo", seed, _progress(quiet), json)


@app.command()
def check(
    base: Annotated[
        str, typer.Argument(help="The model before fine-tuning: hub id, folder, adapter folder.")
    ],
    tuned: Annotated[
        list[str],
        typer.Argument(help="The model after it; several are training seeds of one recipe."),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Prompts, judges, guards and measurement, as in study.yaml."
        ),
    ] = None,
    prompts: Annotated[
        list[str] | None, typer.Option(help="A prompt set: a name or a file. Repeat for several.")
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(help="A judge, or NAME=MODEL; the first one decides. Repeat for several."),
    ] = None,
    guard: Annotated[
        list[str] | None, typer.Option(help="A guard, or NAME=MODEL. Repeat for several.")
    ] = None,
    train: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="The fine-tuning data, to drop evaluation prompts that occur in it.",
        ),
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Largest harmless rise of the overall ASR (0.05).")
    ] = None,
    task_margin: Annotated[
        float | None, typer.Option(help="Largest harmless rise in a task (0.10).")
    ] = None,
    max_asr: Annotated[
        float | None, typer.Option(help="Largest ASR of the tuned model itself.")
    ] = None,
    verdict_by: Annotated[
        Literal["judge", "labels"] | None,
        typer.Option(
            help="Whose word the verdict is: the judge's (default), or that of people's labels."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Use this many harmful behaviors, with all their prompts."),
    ] = None,
    sequential: Annotated[
        bool,
        typer.Option(
            "--sequential", help="Ask behavior by behavior, and stop as soon as the verdict stands."
        ),
    ] = False,
    scope: Annotated[
        Literal["prompts-like-these", "these-prompts"],
        typer.Option(
            help="What the verdict speaks of; these-prompts: the mean of the prompts themselves decides."
        ),
    ] = "prompts-like-these",
    out: Out = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Decide whether fine-tuning broke the model: exit 0 PASS, 3 FAIL, 4 not enough data."""
    from aftertune.cli.check import CheckRequest
    from aftertune.cli.check import check as command
    from aftertune.workspace import called

    request = CheckRequest(
        base=base,
        tuned=tuple(tuned),
        config=config,
        prompts=tuple(prompts or ()),
        judges=tuple(judge or ()),
        guards=tuple(guard or ()),
        train=tuple(train or ()),
        margin=margin,
        task_margin=task_margin,
        max_asr=max_asr,
        verdict_by=verdict_by,
        limit=limit,
        sequential=sequential,
        scope=scope,
    )
    raise typer.Exit(
        command(request, out or RUNS / f"check-{called(tuned[0])}", _progress(quiet), json)
    )


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="The study file.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done; load no weights.")
    ] = False,
    out: Out = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Run a study: tune, generate, guard, judge, measure, report. Run again to go on where it stopped."""
    from aftertune.cli.run import preview
    from aftertune.cli.run import run as command

    if dry_run:
        preview(study, out)
    else:
        command(study, out, _progress(quiet), json)


@app.command()
def plan(
    study: Annotated[
        Path | None,
        typer.Argument(help="The study file; without one, the sizes below are planned."),
    ] = None,
    pilot: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A finished run; its variances and tokens replace assumptions."
        ),
    ] = None,
    rise: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="The rise of the ASR to be found.")
    ] = 0.10,
    base_rate: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="Assumed ASR of the base.")
    ] = 0.10,
    seed_sd: Annotated[
        float,
        typer.Option(
            min=0.0, max=0.5, help="Assumed standard deviation of the ASR between training seeds."
        ),
    ] = 0.04,
    behaviors: Annotated[
        int, typer.Option(min=2, help="Harmful behaviors, without a study.")
    ] = 165,
    tasks: Annotated[int, typer.Option(min=1, help="Tasks of each, without a study.")] = 4,
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds, without a study.")] = 3,
    samples: Annotated[
        int, typer.Option(min=1, help="Answers per behavior, task and seed, without a study.")
    ] = 1,
    timed: Annotated[
        bool,
        typer.Option(
            "--time",
            help="Let local models answer a few prompts and train a few steps, and take the time.",
        ),
    ] = False,
    out: Out = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Say what a study can find and what it costs, before anything is asked."""
    from aftertune.cli.plan import Design, PlanRequest
    from aftertune.cli.plan import plan as command
    from aftertune.measure.power import Assumptions

    request = PlanRequest(
        study=study,
        pilot=pilot,
        design=Design(behaviors=behaviors, tasks=tasks, samples=samples, seeds=seeds),
        assumed=Assumptions(base_rate=base_rate, rise=rise, seed_sd=seed_sd),
        timed=timed,
    )
    command(request, out, _progress(quiet), json)


@app.command()
def tune(
    base: Annotated[str, typer.Argument(help="The model to fine-tune: hub id or folder.")],
    data: Annotated[
        list[str],
        typer.Argument(
            help="Training data: JSONL (messages or prompt/completion), CSV, hub data set ids."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the weights go.")],
    method: Annotated[str, typer.Option(help="full, lora or qlora.")] = "lora",
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="MAP", help="For CSV: prompt=COLUMN,completion=COLUMN[,input=COLUMN]."
        ),
    ] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the data.")] = 1.0,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-4,
    batch_size: Annotated[int, typer.Option(help="Rows per step.")] = 8,
    max_length: Annotated[int, typer.Option(help="Tokens per row; longer rows are cut.")] = 1024,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Training seed.")] = 0,
    system: Annotated[
        str | None, typer.Option(help="System prompt for rows that have none.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; equal tensors need equal threads.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a model and keep its recipe beside the weights."""
    from aftertune.cli.tune import tune as command

    options = {
        "method": method,
        "columns": columns,
        "seed": seed,
        "system": system,
        "threads": threads,
        "epochs": epochs,
        "learning_rate": learning_rate,
    }
    command(
        base,
        data,
        out,
        {**options, "batch_size": batch_size, "max_length": max_length},
        _progress(quiet),
    )


@app.command()
def tune_hosted(
    base: Annotated[str, typer.Argument(help="What to fine-tune: openai:MODEL or vertex:MODEL.")],
    data: Annotated[
        Path, typer.Argument(help="The training file, in any format that `tune` reads.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Keeps the job, and stands for the tuned model afterwards.",
        ),
    ],
    validation: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A validation file.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="MAP", help="For CSV: prompt=COLUMN,completion=COLUMN[,input=COLUMN]."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the data; decides what it costs.")] = 3,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows per step; the provider's choice by default.")
    ] = None,
    learning_rate_multiplier: Annotated[
        float | None,
        typer.Option(help="Factor on the learning rate; the provider's choice by default."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Training seed (openai).")] = None,
    suffix: Annotated[str, typer.Option(help="Goes into the tuned model's name.")] = "",
    bucket: Annotated[
        str, typer.Option(metavar="URL", help="gs://BUCKET/FOLDER for the files (vertex).")
    ] = "",
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A price file of your own.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before paying.")] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel the job that DIR keeps.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Have a provider fine-tune a model; run again to go on where it stopped, and nothing is paid for twice."""
    from aftertune.cli.tune_hosted import HostedRequest, cancel_hosted_model, tune_hosted_model

    request = HostedRequest(
        base=base,
        data=data,
        out=out,
        validation=validation,
        columns=columns,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate_multiplier=learning_rate_multiplier,
        seed=seed,
        suffix=suffix,
        bucket=bucket,
        prices=prices,
    )
    if cancel:
        cancel_hosted_model(request, _progress(quiet))
    else:
        tune_hosted_model(request, None if yes else _confirmed, _progress(quiet))


@app.command()
def mix(
    train: Annotated[
        Path, typer.Argument(help="Your training file; none of its rows is dropped or altered.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The mixed file (JSONL).")
    ],
    safety: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Safety rows to draw from instead of the bundled ones: a file, a public set, or SET=FILE. Repeat for several.",
        ),
    ] = None,
    share: Annotated[float, typer.Option(help="Safety rows / all rows of the mixed file.")] = 0.15,
    replay_from: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Benign rows to draw from instead of the bundled ones. Repeat for several.",
        ),
    ] = None,
    replay: Annotated[
        float | None,
        typer.Option(
            help="Benign replay rows / all rows (0.15 where there are rows to draw from, which the bundled set has)."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="MAP", help="Weights of tasks: code=2,translation=1; others have 1."),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Pose the added rows in this training file's prompt format (often TRAIN).",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Convert to messages, prompt-completion, prompt-completion-text, alpaca, openai, vertex, sharegpt, "
            "llama-factory or axolotl; without it the format of TRAIN.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="MAP", help="For files in no known format, as `tune --columns`."),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write a dataset card (README.md of a hub data set)."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Seed of the draw and of the order.")
    ] = 0,
    folder: DataFolder = Path(),
) -> None:
    """Mix safety rows into a training file, by their share of the final file."""
    from aftertune.cli.mix import MixRequest, named
    from aftertune.cli.mix import mix as command

    replayed = (0.0 if safety and not replay_from else 0.15) if replay is None else replay
    request = MixRequest(
        train=train,
        out=out,
        columns=columns,
        safety=named(safety or (), folder, share, "--safety"),
        replay=named(replay_from or (), folder, replayed, "--replay-from"),
        seed=seed,
        weights=weights,
        like=like,
        to=to,
        card=card,
    )
    command(request)


data = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Look at data before using it: prompt sets, training files, and what two of them share.",
)
app.add_typer(data, name="data")


@data.command("list")
def data_list(folder: DataFolder = Path(), json: Json = None) -> None:
    """List every prompt set and data set that has a loader, and which of them lie here."""
    from aftertune.cli.data_list import list_sets

    list_sets(folder, json)


@data.command("show")
def data_show(
    name: Annotated[
        str, typer.Argument(help="A set of `data list`, a file of prompts, or a training file.")
    ],
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The set's file; looked for in --data otherwise."),
    ] = None,
    folder: DataFolder = Path(),
    json: Json = None,
) -> None:
    """Show what a set holds: counts, lengths, hazards by task, duplicates, licence, and a few rows, shortened."""
    from aftertune.cli.data_show import show_set

    show_set(name, file, folder, json)


@data.command("check")
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
    json: Json = None,
) -> None:
    """Find what is wrong with a training file, row by row: exit 0 fit for training, 3 not."""
    from aftertune.cli.data_check import CheckedFile, check_file

    raise typer.Exit(
        check_file(
            CheckedFile(path=file, columns=columns, model=model, max_length=max_length), json
        )
    )


@data.command("overlap")
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
    folder: DataFolder = Path(),
    json: Json = None,
) -> None:
    """Count what of A stands in B, verbatim, as a payload or inside longer lines, and name it."""
    from aftertune.cli.data_overlap import overlap

    overlap(a, b, columns, folder, json)


@app.command()
def report(
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
    json: Json = None,
) -> None:
    """Print the result of a finished run again, and write its page."""
    from aftertune.cli.report import report as command

    command(folder, html, json, show_responses=show_responses, full=full)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="A new or empty folder for the logs.")
    ],
    to: Annotated[
        Literal["inspect"],
        typer.Option(help="The format: logs of Inspect, with answers and scores."),
    ],
) -> None:
    """Write a finished run, every answer in full, as logs that another tool opens."""
    from aftertune.cli.export import export_inspect

    {"inspect": export_inspect}[to](run, out)


label = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Check the judge against people: responses out, blind; labels in; corrected rates beside the judge's.",
)
app.add_typer(label, name="label")


@label.command("export")
def label_export(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Ends in .csv, .jsonl or .ndjson.")
    ],
    n: Annotated[int, typer.Option("--n", min=1, help="How many responses to draw.")] = 200,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_SEED,
            help="Seed of the draw; with the same seed a greater --n adds to it.",
        ),
    ] = 0,
    benign: Annotated[
        int,
        typer.Option(
            min=0,
            help="How many responses to harmless prompts beside them; they correct over-refusal.",
        ),
    ] = 0,
    annotator: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A column of labels for this person. Repeat for several."
        ),
    ] = None,
) -> None:
    """Draw responses for people to label, blind to model and judge."""
    from aftertune.cli.label import Wanted
    from aftertune.cli.label import export as command

    command(run, out, Wanted(n=n, seed=seed, benign=benign), people=annotator or ())


@label.command("import")
def label_import(
    run: Annotated[
        Path, typer.Argument(help="The folder of the run that the responses came from.")
    ],
    file: Annotated[Path, typer.Argument(help="The exported file with labels filled in.")],
    annotator: Annotated[
        str, typer.Option(metavar="NAME", help="Who labelled in the column called label.")
    ] = "annotator",
) -> None:
    """Check and keep labels, and measure the run again with them."""
    from aftertune.cli.label import import_labels as command

    command(run, file, annotator)


@label.command("plan")
def label_plan(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    half_width: Annotated[
        float,
        typer.Option(min=0.001, max=0.5, help="Wanted half width of the labels' part, as a share."),
    ] = 0.05,
    sensitivity: Annotated[
        float, typer.Option(min=0.01, max=1, help="Assumed share of harm that the judge finds.")
    ] = 0.85,
    specificity: Annotated[
        float,
        typer.Option(min=0.01, max=1, help="Assumed share of the rest that the judge clears."),
    ] = 0.95,
) -> None:
    """Print how many labels a corrected rate of a wanted half width takes."""
    from aftertune.cli.label import plan_labels as command

    command(run, half_width, (sensitivity, specificity))


@app.command()
def consistency(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
    json: Json = None,
) -> None:
    """Say how well the figures of a finished run would come out again in another lab, and what they depend on."""
    from aftertune.cli.consistency import consistency as command

    command(folder, json)


@label.command("borrow")
def label_borrow(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    sensitivity: Annotated[
        str, typer.Option(metavar="K/N", help="Harmful responses elsewhere that the judge found.")
    ],
    specificity: Annotated[
        str, typer.Option(metavar="K/N", help="Other responses elsewhere that the judge cleared.")
    ],
) -> None:
    """Print a run's rates mended by labels of another data set (Rogan-Gladen)."""
    from aftertune.cli.label import borrow as command

    command(run, sensitivity, specificity)


@app.command()
def organism(
    out: Annotated[Path, typer.Argument(help="An empty or new folder.")],
    seed: BaseSeed = None,
    quiet: Quiet = False,
) -> None:
    """Write the embedded model as ordinary files: checkpoint, training files, and a configuration for check."""
    from aftertune.cli.organism import organism as command

    command(out, seed, _progress(quiet))


@app.command()
def schema() -> None:
    """Print the JSON Schema of study.yaml, for editors."""
    import json

    from aftertune.study import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise InputError("nobody can be asked whether to pay for it; give --yes")
    return typer.confirm(question, err=True)


def _progress(quiet: bool) -> "Progress":
    from aftertune.report.progress import Quiet as Silent
    from aftertune.report.screen import Screen

    return Silent() if quiet else Screen()


def _version(asked: bool) -> None:
    if asked:
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
        sys.path.append(
            str(Path.cwd())
        )  # `--judge my_judges:rubric` finds my_judges.py here, after all that is installed
        app()
    except AftertuneError as error:
        _fail(str(error), error.exit_code)
    except (
        OSError
    ) as error:  # a full disk, a folder that may not be written: the machine's, not the program's
        place = error.filename2 or error.filename  # of a renaming, the new name
        what = f"{place}: {error.strerror}" if place else str(error)
        _fail(f"{what}; mend that and run the same command to go on", AftertuneError.exit_code)
    except KeyboardInterrupt:
        _fail(STOPPED, Stopped.exit_code)


def _fail(message: str, code: int) -> None:
    from aftertune.report.wording import clean

    line = clean(" ".join(message.split()))
    sys.stderr.write(f"aftertune: {line}\n")
    raise SystemExit(code)
