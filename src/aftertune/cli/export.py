"""`aftertune export`: a finished run as JSON lines, or as logs of another tool."""

import importlib.util
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aftertune.cli.options import command_app
from aftertune.core.files import claim, discard, draft_of, explained, whole_folder
from aftertune.core.records import Score
from aftertune.core.table import Table
from aftertune.data.rows import write_lines
from aftertune.errors import InputError
from aftertune.measure.outcomes import OUTCOMES, decided_verdicts, decisions, outcomes
from aftertune.measure.plan import MeasurePlan
from aftertune.report.document import ModelRecord
from aftertune.report.drawing import write_files
from aftertune.report.export_inspect import DECIDED, Cell, Exported, Row, write_log
from aftertune.report.figures import all_figures
from aftertune.report.terminal import Output
from aftertune.report.wording import plural
from aftertune.result import FinishedRun, consistency_of, open_finished
from aftertune.study import decodings, load_study
from aftertune.workspace import RESULT, STUDY

app = command_app()


@app.command()
def command(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="A file for jsonl; a new or empty folder for inspect and figures.",
        ),
    ],
    to: Annotated[
        Literal["jsonl", "inspect", "figures"],
        typer.Option(
            help="The format: JSON lines, one a response; logs of Inspect; the page's figures as SVG, PDF and PNG."
        ),
    ],
) -> None:
    """Write a finished run: every answer in full for scripts or another tool, or the figures for a paper."""
    export = {"jsonl": export_jsonl, "inspect": export_inspect, "figures": export_figures}
    export[to](run, out)


UNDER = f"{DECIDED}_under_"
"""Before a guard's name: the outcome of what it lets through."""
SHARD = 2000
"""Samples of a log; writing one takes more than twice as long per sample at 10,000 as at 3,000."""


def export_jsonl(folder: Path, out: Path) -> None:
    """Write a finished run into the file ``out``, one JSON object a response; `docs/commands.md` lists the fields.

    The file is there whole or not at all, and takes the place of an older one.

    Raises:
        InputError: the run is not finished, or ``out`` is a folder.
        StoreError: the run's store is missing or broken.
    """
    with open_finished(folder) as run:
        models = {record.name: record for record in run.document.models}
        records = [
            _record(row, models[row.job.model], run.plan.replicates.get(row.job.decoding, 0))
            for row in _rows(run)
        ]
    write_lines(map(json.dumps, records), out)
    _say(
        f"{out}: {plural(len(records), 'response')}; the file holds every answer in full, harmful ones too."
    )


def _record(row: Row, model: ModelRecord, replicate: int) -> dict[str, Any]:
    """Return a response as the plain values of its line; its keys are the same in every line."""
    job, prompt, response = row.job, row.job.prompt, row.job.response
    call = response or job.unfinished
    scores: dict[str, dict[str, Any]] = {
        "verdict": {},
        "reasoning": {},
        "decision": {},
        "score": {},
    }
    for column, score in job.scores.items():
        kind, _, name = column.partition(":")
        if kind == "score":
            scores[kind][name] = score.number
        elif kind in ("verdict", "reasoning"):
            scores[kind][name] = _shown(score)
        elif kind == "decision":
            guard, _, side = name.rpartition(":")
            scores[kind].setdefault(guard, {})[side] = _shown(score)
    coherence = job.scores.get("coherent")
    return {
        "model": job.model,
        "condition": model.condition,
        "training_seed": model.training_seed,
        "prompt_id": prompt.id,
        "behavior": prompt.behavior,
        "pair": prompt.pair,
        "template": prompt.template,
        "task": prompt.task,
        "set": prompt.set,
        "hazard": prompt.hazard,
        "harm_basis": prompt.harm_basis,
        "intent": prompt.intent.value,
        "prompt": prompt.text,
        "system": job.system,
        "decoding": job.decoding,
        "sample": job.sample,
        "replicate": replicate,
        "finish_reason": None if call is None else call.finish_reason.value,
        "text": None if response is None else response.text,
        "reasoning": (call and call.reasoning) or None,
        "coherent": None if coherence is None else coherence.value,
        "incoherence": [] if coherence is None else coherence.label.split(),
        "verdicts": scores["verdict"],
        "reasoning_verdicts": scores["reasoning"],
        "decisions": scores["decision"],
        "scores": scores["score"],
        "outcome": row.outcomes[DECIDED],
        "outcomes_under_guards": {
            name.removeprefix(UNDER): outcome
            for name, outcome in row.outcomes.items()
            if name != DECIDED
        },
    }


def _shown(score: Score) -> dict[str, Any]:
    value = getattr(score.value, "value", score.value)
    return {"value": value, "score": score.number, "label": score.label}


def export_inspect(folder: Path, out: Path) -> None:
    """Write a finished run into the folder ``out`` as Inspect logs: one for each model, system prompt and decoding.

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
    """Yield the jobs of each model, system prompt and decoding with their outcomes, `SHARD` at a time."""
    declared = load_study(run.folder / STUDY, finished=True)
    by_name = {decoding.name: decoding for decoding in decodings(declared.decoding)}
    models = {record.name: record for record in run.document.models}
    counts: dict[tuple[str, str, str], int] = {}
    for key, rows in groupby(
        _rows(run), key=lambda row: (row.job.model, row.job.system, row.job.decoding)
    ):
        model, system, decoding = key
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
                ),
                shard,
            )


def _rows(run: FinishedRun) -> Iterator[Row]:
    """Yield the jobs of a study with the outcomes that the result counts; answers and table have one order."""
    by_name = _outcomes(run.table(), run.plan)
    for place, job in enumerate(run.store.responses(run.study, run.kept.readers)):
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
    """Write the page's figures of the first setting into the folder ``out``, as SVG, PDF and PNG.

    Raises:
        InputError: the run is not finished, ``out`` holds something, or matplotlib is not installed.
        StoreError: the run's store is missing or broken.
    """
    with open_finished(folder) as run:
        document, repeated = run.document, consistency_of(run.table(), run.plan)
    if not document.result.settings:
        raise InputError(f"{folder}: measured nothing, so there are no figures")
    drawings = all_figures(document, repeated)
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
