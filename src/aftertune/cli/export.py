"""`aftertune export`: a finished run as rows, as logs of another tool, or as the text of a summary, a model card or a paper."""

import importlib.util
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, Literal

import typer

from aftertune.cli.options import command_app
from aftertune.core.files import claim, discard, draft_of, explained, whole_folder, write_whole
from aftertune.core.table import Table
from aftertune.data.rows import write_lines
from aftertune.errors import InputError
from aftertune.measure.outcomes import OUTCOMES, decided_verdicts, decisions, outcomes
from aftertune.measure.plan import MeasurePlan
from aftertune.repair.stage import RESULT as REPAIR
from aftertune.repair.stage import read_repair
from aftertune.report.drawing import Drawing, write_files
from aftertune.report.export_inspect import DECIDED, Cell, Exported, Row, write_log
from aftertune.report.figures import all_figures
from aftertune.report.latex import latex_tables
from aftertune.report.markdown import markdown_summary
from aftertune.report.model_card import model_card
from aftertune.report.repair_figures import repair_figures
from aftertune.report.responses import (
    UNDER,
    ResponseRow,
    check_parquet,
    json_lines,
    response_row,
    write_csv,
    write_parquet,
)
from aftertune.report.terminal import Output
from aftertune.report.wording import plural
from aftertune.result import FinishedRun, consistency_of, open_finished, renewed_result, steps_of
from aftertune.study import decodings, load_study
from aftertune.workspace import RESULT, STUDY, called

app = command_app()
Format = Literal["jsonl", "csv", "parquet", "inspect", "figures", "markdown", "latex", "model-card"]


@app.command()
def command(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="A file; for inspect and figures a new or empty folder.",
        ),
    ],
    to: Annotated[
        Format,
        typer.Option(
            help="Responses as jsonl, csv, parquet or logs of Inspect; figures for papers; the result as markdown, latex or model-card."
        ),
    ],
    show_responses: Annotated[
        bool,
        typer.Option(
            "--show-responses",
            help="Write harmful answers too; jsonl, csv and parquet leave them out otherwise.",
        ),
    ] = False,
) -> None:
    """Write a finished run for scripts and other tools, for a pull request, a model card or a paper."""
    export: dict[Format, Callable[[Path, Path], None]] = {
        "inspect": export_inspect,
        "figures": export_figures,
        "markdown": export_markdown,
        "latex": export_latex,
        "model-card": export_model_card,
    }
    if to in export:
        export[to](run, out)
    else:
        export_responses(run, out, to, show=show_responses)


SHARD = 2000
"""Samples of a log; writing one takes more than twice as long per sample at 10,000 as at 3,000."""


def export_responses(folder: Path, out: Path, to: Format = "jsonl", *, show: bool = False) -> None:
    """Write the responses of a finished run into the file ``out``; `docs/commands.md` lists the fields.

    The file is there whole or not at all, and takes the place of an older one.

    Args:
        folder: the run's.
        out: the file.
        to: ``jsonl``, ``csv`` or ``parquet``.
        show: with the answers that a shared page does not show.

    Raises:
        InputError: the run is not finished, ``out`` is a folder, or pyarrow is not installed.
        StoreError: the run's store is missing or broken.
    """
    if to == "parquet":
        check_parquet()
    with open_finished(folder) as run:
        models = {model.name: model for model in run.document.models}
        responses = [
            response_row(
                row,
                models[row.job.model],
                run.plan.replicates.get(row.job.decoding, 0),
                show=show,
            )
            for row in _rows(run)
        ]
        metadata = {
            "study": run.study,
            "plan": run.document.result.plan,
            "rate": run.document.result.name_rate,
            "judges": list(run.plan.judges),
            "panel": run.plan.panel,
        }
    if to == "jsonl":
        write_lines(json_lines(responses), out)
    elif to == "csv":
        write_csv(out, responses)
    else:
        write_parquet(out, responses, metadata)
    _say(f"{out}: {plural(len(responses), 'response')}; {_redaction(responses, show=show)}")


def _redaction(responses: list[ResponseRow], *, show: bool) -> str:
    if show:
        return "the file holds every answer in full, harmful ones too."
    hidden = sum(response.redacted for response in responses)
    return f"{hidden:,} without their texts, which may be harmful (--show-responses writes them)."


def export_markdown(folder: Path, out: Path) -> None:
    """Write the result of a finished run as Markdown for a job's summary or a pull request into the file ``out``."""
    with open_finished(folder) as run:
        document = renewed_result(run)
        text = markdown_summary(document, steps_of(document, run.kept, folder))
    _write_text(out, text)


def export_latex(folder: Path, out: Path) -> None:
    """Write the tables of a finished run as LaTeX with booktabs into the file ``out``."""
    with open_finished(folder) as run:
        text = latex_tables(renewed_result(run))
    _write_text(out, text)


def export_model_card(folder: Path, out: Path) -> None:
    """Write a section for the model card of a fine-tune, with the hub's metadata, into the file ``out``."""
    with open_finished(folder) as run:
        tuned = run.kept.references[1:]
        text = model_card(
            renewed_result(run), run.kept.command, called(tuned[0]) if tuned else None
        )
    _write_text(out, text)


def _write_text(out: Path, text: str) -> None:
    write_whole(out, [text], encoding_errors="backslashreplace")
    _say(f"{out}: {plural(text.count(chr(10)), 'line')}.")


def export_inspect(folder: Path, out: Path) -> None:
    """Write a finished run into the folder ``out`` as Inspect logs: one for each model, system prompt, decoding and attack.

    The folder is there whole or not at all. The logs hold every answer in full.

    Raises:
        InputError: the run is not finished, ``out`` holds something already, or inspect-ai is missing.
        StoreError: the run's store is missing or broken.
    """
    if importlib.util.find_spec("inspect_ai") is None:
        raise InputError("export --to inspect needs inspect-ai; pip install 'aftertune[inspect]'")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: holds something already; name a new or empty folder with --out")
    out = out.absolute()
    draft = draft_of(out)
    with open_finished(folder) as run:
        whole = _empty(draft)
        exported = Exported(
            study=run.study,
            name_rate=run.document.result.name_rate,
            judges=run.plan.judges,
            panel=run.plan.panel,
            guards=run.plan.guards,
            created=datetime.fromtimestamp((folder / RESULT).stat().st_mtime, UTC).isoformat(
                timespec="seconds"
            ),
        )
        logs, samples = 0, 0
        for cell, rows in _shards(run):
            write_log(whole, cell, rows, exported)
            logs, samples = logs + 1, samples + len(rows)
    if out.exists():
        out.rmdir()
    whole.replace(out)
    discard(draft)
    _say(
        f"{out}: {plural(logs, 'log')} with {plural(samples, 'sample')}; they hold every answer in full, harmful ones too."
    )
    _say(f"Look at them: inspect view --log-dir {out}")


def _empty(draft: Path) -> Path:
    """Return the folder in a draft where the logs are written, without those of an export that was stopped."""
    claim(draft, "export")
    whole = draft / "whole"
    whole.mkdir(exist_ok=True)
    for left in whole.iterdir():
        left.unlink()
    return whole


def _shards(run: FinishedRun) -> Iterator[tuple[Cell, list[Row]]]:
    """Yield the jobs of each model, system prompt, decoding and attack with their outcomes, `SHARD` at a time."""
    declared = load_study(run.folder / STUDY, finished=True)
    by_name = {decoding.name: decoding for decoding in decodings(declared.decoding)}
    models = {record.name: record for record in run.document.models}
    counts: dict[tuple[str, str, str, str], int] = {}
    for key, rows in groupby(
        _rows(run),
        key=lambda row: (row.job.model, row.job.system, row.job.decoding, row.job.prompt.attack),
    ):
        model, system, decoding, attack = key
        while shard := list(islice(rows, SHARD)):
            counts[key] = counts.get(key, 0) + 1
            yield (
                Cell(
                    model=models[model],
                    system=system,
                    system_text=declared.systems.get(system),
                    decoding=by_name[decoding],
                    decoding_name=decoding,
                    shard=counts[key],
                    attack=attack,
                ),
                shard,
            )


def _rows(run: FinishedRun) -> Iterator[Row]:
    """Yield the jobs of a study with the outcomes that the result counts; answers and table have one order."""
    by_name = _outcomes(run.whole_table(), run.plan)
    jobs = run.store.responses(run.study, run.kept.readers, attacks=True)
    for place, job in enumerate(jobs):
        yield Row(job=job, outcomes={name: words[place] for name, words in by_name.items()})


def _outcomes(table: Table, plan: MeasurePlan) -> dict[str, list[str]]:
    """Return the outcome of every row in words, as the models answered and as each guard would let them."""
    verdict = decided_verdicts(table, plan)
    codes = {DECIDED: outcomes(table, verdict)}
    codes |= {
        f"{UNDER}{guard}": outcomes(table, verdict, decisions(table, guard))
        for guard in plan.guards
    }
    return {
        name: [OUTCOMES[code].value for code in by_row.tolist()] for name, by_row in codes.items()
    }


def _say(line: str) -> None:
    Output(soft_wrap=True).print(line, markup=False, highlight=False)


def export_figures(folder: Path, out: Path) -> None:
    """Write the figures of a run or a repair into the folder ``out``, as SVG, PDF and PNG; of a run the page's, of its first setting.

    Raises:
        InputError: the run is not finished, ``out`` holds something, or matplotlib is not installed.
        StoreError: the run's store is missing or broken.
    """
    drawings = _repair_figures(folder) if (folder / REPAIR).is_file() else _run_figures(folder)
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} holds something; name a new or empty folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        if out.is_dir():
            out.rmdir()
        with whole_folder(out) as draft:
            written = write_files(drawings, draft)
    except OSError as error:
        raise explained(out, error) from error
    _say(f"{out}: {plural(len(drawings), 'figure')} in {plural(len(written), 'file')}.")


def _run_figures(folder: Path) -> list[Drawing]:
    with open_finished(folder) as run:
        document, repeated = run.document, consistency_of(run.table(), run.plan)
    if not document.result.settings:
        raise InputError(f"{folder}: measured nothing, so there are no figures")
    return all_figures(document, repeated)


def _repair_figures(folder: Path) -> list[Drawing]:
    drawings = repair_figures(read_repair(folder))
    if not drawings:
        raise InputError(
            f"{folder}: a single strength without a proof has no figure; repair with --strength sweep or auto"
        )
    return drawings
