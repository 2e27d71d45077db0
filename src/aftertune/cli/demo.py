"""`aftertune demo`: the whole thing on the embedded model."""

import shutil
from pathlib import Path

from aftertune.cli.options import (
    BaseSeedOption,
    FullOption,
    JsonOption,
    OutOption,
    QuietOption,
    command_app,
    screen,
)
from aftertune.cli.organism import ASSUMPTIONS, base_sentence, write_shown
from aftertune.organism.write import demo_study
from aftertune.report.terminal import Output, present, print_files, print_sentences
from aftertune.run import Purpose, run_study
from aftertune.study import study_from_mapping
from aftertune.workspace import PAGE, RESULT, RUNS, make_folder

app = command_app()


@app.command()
def command(
    out: OutOption = None,
    seed: BaseSeedOption = None,
    full: FullOption = False,
    json: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show it on the embedded model: harmless fine-tuning breaks refusals, and a multitask safety mix mends them."""
    folder, progress = out or RUNS / "demo", screen(quiet)
    make_folder(folder)
    written = write_shown(folder / "organism", seed, progress)
    study = study_from_mapping(demo_study(written.folder), folder)
    purpose = Purpose(
        command="aftertune demo" if seed is None else f"aftertune demo --seed {seed}",
        assumptions=(*ASSUMPTIONS, base_sentence(written)),
        source=written.folder,
        rows=str(_shown(written.folder) / "data" / "code.jsonl"),
    )
    document = run_study(study, folder, progress, purpose)
    console = Output(highlight=False)
    present(document, console, json, full=full)
    if full:
        console.print()
        print_sentences(ASSUMPTIONS, console)
    print_files(folder / PAGE, folder / RESULT)
    _next(written.folder)


def _next(organism: Path) -> None:
    """Name the three commands to try next, with paths that are there."""
    here = _shown(organism)
    console = Output(soft_wrap=True, highlight=False)
    activate = "" if shutil.which("aftertune") else " (after `source .venv/bin/activate`)"
    console.print(f"\nTry next{activate}:", markup=False)
    for line in (
        f"aftertune mix {here}/data/code.jsonl --safety {here}/data/safety_multitask.jsonl --share 0.15 -o mixed.jsonl",
        f"aftertune tune {here}/base mixed.jsonl -o my-tune --method full --epochs 3 --learning-rate 6e-4 --batch-size 16",
        f"aftertune check {here}/base my-tune --config {here}/aftertune.yaml",
    ):
        console.print(f"  {line}", markup=False)


def _shown(folder: Path) -> Path:
    """Return a folder as it is typed from here."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
