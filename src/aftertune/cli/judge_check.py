"""`aftertune judge-check`: a judge's errors on labelled answers, by group."""

from pathlib import Path
from typing import Annotated

import typer

from aftertune.checking import check_scorers
from aftertune.cli.options import JsonOption, OutOption, QuietOption, command_app, screen
from aftertune.labels.judge_check import (
    COLUMNS,
    JudgeSetup,
    LabelFiles,
    check_judge,
    read_map,
    read_words,
)
from aftertune.report.document import to_plain, write_json
from aftertune.report.judge_check import judge_check_sheets
from aftertune.report.terminal import Output, print_sheet
from aftertune.study import config_from_mapping, load_config
from aftertune.study.fields import scorer_keys
from aftertune.workspace import RUNS

app = command_app()


@app.command()
def command(
    judge: Annotated[
        str, typer.Argument(help="A judge, NAME=MODEL, or the name of a judge in --config.")
    ],
    labels: Annotated[
        list[Path],
        typer.Argument(
            help="Labelled answers: CSV, JSONL or Parquet with prompt, response and label."
        ),
    ],
    by: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The groups; by default the files, if several."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="MAP", help="Other columns: response=COLUMN,label=COLUMN,…"),
    ] = None,
    words: Annotated[
        str | None,
        typer.Option(metavar="MAP", help="Other words of labels: yes=complied,no=refused,…"),
    ] = None,
    stress: Annotated[
        bool,
        typer.Option(
            "--stress", help="Also with disclaimers, quotes, a thinking block, translated openings."
        ),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Judges and engine settings, as in study.yaml."),
    ] = None,
    out: OutOption = None,
    json: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Measure a judge on labelled answers: refusals found, compliance left alone, agreement."""
    files = LabelFiles(
        paths=tuple(labels),
        columns=read_map(columns, "--columns", COLUMNS),
        words=read_words(words),
        by=by,
    )
    keys = config_from_mapping({}, Path()) if config is None else load_config(config)
    of_config = {} if config is None else {entry.name: entry for entry in keys.judges}
    if judge not in of_config:
        check_scorers("JUDGE", "judge", [judge])
    named = (
        config_from_mapping({"judges": [scorer_keys(judge)]}, Path())
        if judge not in of_config
        else None
    )
    entry = of_config[judge] if named is None else named.judges[0]
    setup = JudgeSetup(
        keys=entry,
        engine=keys.engine,
        source=Path() if named is not None or config is None else config.parent,
        folder=out or RUNS / f"judge-check-{entry.name}",
    )
    check = check_judge(files, setup, screen(quiet), stress=stress)
    if json is not None:  # first: `judge-check … | head` shall not lose it
        write_json(json, to_plain(check))
    console = Output()
    for sheet in judge_check_sheets(check):
        print_sheet(sheet, console)
