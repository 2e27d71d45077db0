"""`aftertune run`: a study from its file to its report."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aftertune.cli.options import JsonOption, OutOption, QuietOption, command_app, screen
from aftertune.data.recipe_rows import with_recipe_rows
from aftertune.data.study_prompts import load_sets, without_overlap
from aftertune.report.progress import Progress, Quiet
from aftertune.report.terminal import present, print_files
from aftertune.run import Purpose, run_study
from aftertune.score.estimate import estimate
from aftertune.score.run import build_scorers
from aftertune.stages.served import cost_words, under_way, warnings
from aftertune.study import Study, load_study
from aftertune.train.stage import expand_study, study_rows
from aftertune.workspace import PAGE, RESULT, open_run

app = command_app()


@app.command()
def command(
    study: Annotated[Path, typer.Argument(help="The study file.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done; load no weights.")
    ] = False,
    out: OutOption = None,
    json: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Run a study: tune, generate, guard, judge, measure, report. Run again to go on where it stopped."""
    if dry_run:
        preview(study, out)
    else:
        run(study, out, screen(quiet), json)


def run(path: Path, out: Path | None, progress: Progress, json: Path | None) -> None:
    """Run the study in ``path`` and print its result.

    Raises:
        AftertuneError: what is wrong, in one line; everything done so far is kept.
    """
    study = load_study(path)
    folder = out or Path("aftertune-runs") / study.name
    command = shlex.join(["aftertune", "run", str(path), *(["--out", str(out)] if out else [])])
    document = run_study(study, folder, progress, Purpose(command=command, source=path.parent))
    present(document, Console(), json)
    print_files(
        folder / PAGE,
        folder / RESULT,
        (
            shlex.join(["aftertune", "report", str(folder), "--full"]),
            shlex.join(["aftertune", "label", "export", str(folder), "-o", "labels.csv"]),
        ),
    )


def preview(path: Path, out: Path | None) -> None:
    """Print what running the study would do, without loading weights or asking anything.

    Raises:
        AftertuneError: as `run`, for everything that can be known beforehand.
    """
    study = load_study(path)
    folder = out or Path("aftertune-runs") / study.name
    console = Console(soft_wrap=True)
    with open_run(study, folder, Quiet(), path.parent, write=False) as run:
        scorers, sets = build_scorers(run), load_sets(run)
        models = expand_study(run)
        known = study_rows(run, models)[
            1
        ]  # rows, shares and tasks that do not fit are known beforehand
        questions = without_overlap(sets, with_recipe_rows(run, known).rows)
        found = estimate(run, models, questions.prompts, scorers)
        left_out = len(sets.prompts) - len(questions.prompts)
        seen = f", {left_out:,} left out since they occur in training rows" if left_out else ""
        _say(console, study, f"{len(questions.prompts):,} prompts{seen}")
        widest = max(len(each.name) for each in found)
        for each in found:
            state = (
                each.kind
                if each.kind != "model"
                else "to be trained"
                if each.to_be_trained
                else "there"
            )
            count = f"{each.calls:>9,} calls to make{' at most' if each.at_most else ''}{cost_words(run, each)}"
            console.print(
                f"  {each.name:<{max(32, widest)}} {state:<14} {count}",
                markup=False,
                highlight=False,
            )
        if any(each.at_most for each in found):
            console.print(
                "at most: one call about each answer that is not there yet; equal answers to a prompt are read once",
                markup=False,
                highlight=False,
            )
        for warning in (
            *under_way(run),
            *warnings(run.engines.opened),
        ):
            console.print(f"note: {warning}", markup=False, highlight=False)


def _say(console: Console, study: Study, prompts: str) -> None:
    instruments = ", ".join(
        f"{kind} {' '.join(item.name for item in items)}"
        for kind, items in (
            ("judges", study.judges),
            ("guards", study.guards),
            ("metrics", study.metrics),
            ("preferences", study.preferences),
        )
        if items
    )
    console.print(f"{study.name}: {prompts}; {instruments}", markup=False, highlight=False)
