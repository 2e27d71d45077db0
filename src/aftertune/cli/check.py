"""`aftertune check`: a study of one base and one fine-tune (with its seeds), and the gate's verdict on it."""

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aftertune.cli.options import (
    RUNS,
    FullOption,
    JsonOption,
    OutOption,
    QuietOption,
    command_app,
    scorer_keys,
    screen,
)
from aftertune.cli.run import preview
from aftertune.core.files import real
from aftertune.core.recipe import Trained, TrainingFile
from aftertune.data.recipe_rows import read_recipe, rows_behind, with_rows_of
from aftertune.data.rows import Row, read_rows
from aftertune.errors import InputError
from aftertune.measure.preregistration import Gating
from aftertune.models.reference import parse
from aftertune.report.document import ResultDocument
from aftertune.report.terminal import MOST_LINES, Output, present, print_files
from aftertune.report.wording import clean
from aftertune.result import ROWS, steps_of
from aftertune.run import Purpose, run_study
from aftertune.study import config_from_mapping, load_config, study_from_mapping
from aftertune.workspace import PAGE, RESULT, Run, called

app = command_app()


@app.command()
def command(
    base: Annotated[
        str,
        typer.Argument(help="The model before fine-tuning: hub id, folder, adapter, GGUF file."),
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
        float | None, typer.Option(help="Largest tolerated rise of the overall ASR (0.05).")
    ] = None,
    task_margin: Annotated[
        float | None, typer.Option(help="Largest tolerated rise of the ASR in a task (0.10).")
    ] = None,
    over_refusal_margin: Annotated[
        float | None, typer.Option(help="Largest tolerated rise of refused benign prompts (0.05).")
    ] = None,
    over_refusal_task_margin: Annotated[
        float | None, typer.Option(help="The same in a task (0.10).")
    ] = None,
    score_margin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=SHARE",
            help="Largest tolerated fall of a task score, such as exact=0.03. Repeat for several.",
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Another form of TUNED, such as its export: measured against TUNED. Repeat for several.",
        ),
    ] = None,
    max_asr: Annotated[
        float | None, typer.Option(help="Largest ASR of the tuned model itself.")
    ] = None,
    judge_check: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="JSON of judge-check on the first judge: bounds of the changes."
        ),
    ] = None,
    verdict_by: Annotated[
        Literal["judge", "labels"] | None,
        typer.Option(help="Whose word the verdict is: the judge's (default), or the annotators'."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Use this many harmful behaviors, with all their prompts."),
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Ask as many behaviors as fit into a time: 90s, 10m or 1h."
        ),
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
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of an answer (256).")
    ] = None,
    replicates: Annotated[
        int | None,
        typer.Option(
            min=1, help="Make the very same calls this often, to see how far they are noise."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be asked; load no weights.")
    ] = False,
    out: OutOption = None,
    full: FullOption = False,
    json: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Decide whether fine-tuning broke the model: exit 0 PASS, 3 FAIL, 4 not enough data."""
    references = (base, *tuned)
    parse(base)
    for reference in (*tuned, *(also or ())):
        parse(reference, base=base)
    margins = {
        "margin": margin,
        "task_margin": task_margin,
        "over_refusal_margin": over_refusal_margin,
        "over_refusal_task_margin": over_refusal_task_margin,
        "max_asr": max_asr,
    }
    given = {key: value for key, value in margins.items() if value is not None}
    keys = option_keys(judge or (), guard or (), prompts or (), given)
    of_scores = dict(map(_score_margin, score_margin or ()))
    declared = {
        "margins": of_scores,
        "verdict_by": verdict_by,
        "judge_check": judge_check and str(judge_check.absolute()),
    }
    keys["measurement"] = {**given, **{key: value for key, value in declared.items() if value}}
    of_decoding = {"max_new_tokens": max_new_tokens, "replicates": replicates}
    keys["decoding"] = {key: value for key, value in of_decoding.items() if value is not None}
    models = [*_models(base, tuned), *_other_forms(also or ())]
    study = study_from_mapping(checked_keys(config, keys, limit) | {"models": models}, Path())
    if study.measurement.verdict_by == "labels" and (sequential or scope == "these-prompts"):
        raise InputError(
            "a verdict by labels takes all prompts and speaks of prompts like these; leave out --sequential and --scope, or "
            "let the judge decide (--verdict-by judge)"
        )
    if sequential and study.decoding.replicates > 1:
        raise InputError(
            "--sequential stops by bets on behaviors, in which the effect of a whole run does not show: leave out --sequential, or "
            "replicates"
        )
    if sequential and within is not None:
        raise InputError(
            "--within chooses the number of behaviors before the verdict, --sequential by it; leave one of them out"
        )
    seconds = None if within is None else _seconds(within)
    progress = screen(quiet)
    for note in unused_configurations(references, config):
        progress.note(f"note: {note}")
    options: dict[str, Sequence[object] | None] = {
        "--prompts": prompts, "--judge": judge, "--guard": guard, "--train": train, "--config": [config],
        "--margin": [margin], "--task-margin": [task_margin], "--over-refusal-margin": [over_refusal_margin],
        "--over-refusal-task-margin": [over_refusal_task_margin], "--score-margin": score_margin,
        "--also": also, "--max-asr": [max_asr], "--verdict-by": [verdict_by],
        "--judge-check": [judge_check],
        "--limit": [limit], "--within": [within], "--max-new-tokens": [max_new_tokens], "--replicates": [replicates], "--scope": [] if scope == "prompts-like-these" else [scope],
    }  # fmt: skip
    purpose = Purpose(
        command=command_of(references, options, sequential=sequential),
        gate=Gating(base=BASE, tuned=TUNED, sequential=sequential, scope=scope, within=seconds),
        source=Path() if config is None else config.parent,
        trained_on=partial(with_training_rows, tuned, train or ()),
        rows=str(train[0]) if train else rows_behind(tuned[0]) or ROWS,
        references=references,
        announces=not quiet,
    )
    same_recipe(tuned)
    folder = out or RUNS / f"check-{called(tuned[0])}"
    if dry_run:
        assert purpose.trained_on is not None
        preview(study, folder, purpose.source, purpose.trained_on, purpose.gate)
        return
    document = run_study(study, folder, progress, purpose)
    gate = document.gate
    assert gate is not None
    following = [step.command for step in steps_of(document, purpose, folder)]
    last = _last_lines(references, document)
    room = MOST_LINES - len(last) - len(following) - FILE_LINES
    present(document, Output(), json, full=full, room=room)
    print_files(folder / PAGE, folder / RESULT, following)
    console = Output(highlight=False, soft_wrap=True, markup=False)
    console.print("\n".join(last))
    console.print(f"{gate.verdict.value} (exit code {gate.exit_code})", style="bold")
    raise typer.Exit(gate.exit_code)


CONFIG = "aftertune.yaml"
BUNDLED = "multitask-v1"
"""The prompt set that is asked when none is named."""
DECIDING = ("base_identity", "data", "method", "training", "mitigation", "system")
"""The fields of a recipe that the seeds of one recipe share."""
BASE = "base"
TUNED = "tuned"
ALSO = "also"
MOST_NAMED = 3
"""Fine-tunes that the last lines name."""
FILE_LINES = 4
"""Lines of page and result with the empty one before them, and of the last word."""


def _last_lines(references: Sequence[str], document: ResultDocument) -> list[str]:
    """Return what stands before the verdict's last word: the models that it is about."""
    base, *tuned = map(clean, references)
    shown = tuned if len(tuned) <= MOST_NAMED else [*tuned[: MOST_NAMED - 1], tuned[-1]]
    left_out = len(tuned) - len(shown)
    lines = [f"base:   {base}", *(f"tuned:  {reference}" for reference in shown)]
    if left_out:
        lines.insert(MOST_NAMED, f"        and {left_out} more")
    identities = [record.identity for record in document.models]
    if identities[0] in identities[1:]:  # a mistyped path in CI would pass for ever
        lines.append(
            "note: base and tuned are the very same weights, so this says nothing of a fine-tune"
        )
    return lines


def same_recipe(references: Sequence[str]) -> None:
    """Refuse fine-tunes of different recipes as seeds of one: a verdict on "the recipe" would be about none.

    Raises:
        InputError: the recipes beside the weights differ in more than the seed.
    """
    first: tuple[str, dict[str, Any]] | None = None
    for reference in references:
        recipe = {
            key: _unplaced(value)
            for key, value in read_recipe(Path(reference)).items()
            if key in DECIDING
        }
        if recipe and first is None:
            first = reference, recipe
        elif recipe and first is not None and recipe != first[1]:
            differs = ", ".join(sorted(key for key in recipe if recipe[key] != first[1].get(key)))
            raise InputError(
                f"{reference} and {first[0]} are fine-tunes of different recipes ({differs}); several TUNED are the seeds of "
                "one recipe: check different ones apart"
            )


def command_of(
    references: Sequence[str],
    options: Mapping[str, Sequence[object] | None],
    *,
    sequential: bool,
) -> str:
    """Return the command line that asks for the same check; an option without a value, or of None, is left out."""
    words: list[object] = ["aftertune", "check", *references]
    for name, values in options.items():
        words += [word for value in values or () if value is not None for word in (name, value)]
    return shlex.join(map(str, [*words, *(["--sequential"] if sequential else [])]))


def _unplaced(value: Any) -> Any:
    """Leave out where files lie: their hashes say what they hold."""
    if isinstance(value, dict):
        return {key: _unplaced(item) for key, item in value.items() if key != "path"}
    return [_unplaced(item) for item in value] if isinstance(value, list) else value


def checked_keys(config: Path | None, given: dict[str, Any], limit: int | None) -> dict[str, Any]:
    """Return the keys of a check's study but its models: those of the configuration, over which the options go.

    Raises:
        InputError: an option does not fit.
    """
    config_keys = (
        config_from_mapping(_with_metrics(given), Path()) if config is None else load_config(config)
    )
    # Plain values, whose paths are absolute.
    keys = config_keys.model_dump(mode="json", exclude_defaults=True, context={})
    measurement = keys.get("measurement", {}) | given.get("measurement", {})
    decoding = keys.get("decoding", {}) | given.get("decoding", {})
    keys |= given | {"name": "check", "measurement": measurement, "decoding": decoding}
    keys["prompts"] = keys.get("prompts") or [BUNDLED]
    if limit is not None:
        keys["prompts"] = [_limited(prompts, limit) for prompts in keys["prompts"]]
    return _with_metrics(keys)


def _with_metrics(keys: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a study with a metric for every margin of a score that has none yet."""
    metrics = keys.get("metrics", [])
    named = {metric if isinstance(metric, str) else metric["name"] for metric in metrics}
    margins = keys.get("measurement", {}).get("margins", {})
    return keys | {"metrics": [*metrics, *(name for name in margins if name not in named)]}


def option_keys(
    judges: Sequence[str],
    guards: Sequence[str],
    prompts: Sequence[str],
    margins: Mapping[str, float],
) -> dict[str, Any]:
    """Return the keys of a study that the options give."""
    keys: dict[str, Any] = {
        "judges": [scorer_keys(name) for name in judges],
        "guards": [scorer_keys(name) for name in guards],
        "prompts": list(prompts),
        "measurement": dict(margins),
    }
    for key, value in margins.items():
        if not (0 < value < 1 or (key == "max_asr" and value in (0, 1))):
            hint = f" (write {value / 100:g} for {value:g} %)" if 1 <= value < 100 else ""
            raise InputError(
                f"--{key.replace('_', '-')} is {value:g}; it must lie between 0 and 1{hint}"
            )
    return {key: values for key, values in keys.items() if values}


def _seconds(text: str) -> float:
    """Return the seconds of ``90s``, ``10m`` or ``1h``.

    Raises:
        InputError: it is no time, or none of it.
    """
    units = {"s": 1, "m": 60, "h": 3600}
    with suppress(ValueError, KeyError):
        if 0 < (seconds := float(text[:-1]) * units[text[-1:]]) < math.inf:
            return seconds
    raise InputError(f"--within {text!r} is no time; write 90s, 10m or 1h")


def _score_margin(text: str) -> tuple[str, float]:
    """Return the metric and the share of ``METRIC=SHARE``."""
    metric, _, share = text.partition("=")
    with suppress(ValueError):
        if metric and 0 < float(share) < 1:
            return metric, float(share)
    raise InputError(f"--score-margin {text!r} names no metric with its margin; write exact=0.03")


def _limited(prompts: Any, limit: int) -> Any:
    if isinstance(prompts, str):
        is_file = Path(prompts).is_file()
        prompts = {"file" if is_file else "loader": prompts}
    return {**prompts, "limit": limit}


def _models(base: str, tuned: Sequence[str]) -> Iterator[dict[str, object]]:
    yield {"name": BASE, "reference": base}
    for seed, reference in enumerate(tuned):
        name = TUNED if len(tuned) == 1 else f"{TUNED}/seed{seed}"
        yield {"name": name, "condition": TUNED, "reference": reference, "base": BASE}


def _other_forms(references: Sequence[str]) -> Iterator[dict[str, object]]:
    """Yield the keys of models that are other forms of the fine-tune, each called by its own name where that is free."""
    taken = {BASE, TUNED}
    for number, reference in enumerate(references, start=1):
        stem = re.sub(r"[^A-Za-z0-9_.+-]", "-", called(reference)).strip("-.")
        name = stem if stem and stem not in taken else f"{ALSO}{number}"
        taken.add(name)
        yield {"name": name, "reference": reference, "base": BASE, "against": TUNED}


def unused_configurations(references: Sequence[str], config: Path | None) -> list[str]:
    """Return a note for each configuration that lies in a model's folder: it is never obeyed unless named."""
    notes = []
    for reference in references:
        for folder in (Path(reference), Path(reference).parent):
            file = folder / CONFIG
            if file.is_file() and (config is None or real(file) != real(config)):
                notes.append(
                    f"{file} lies there but is not used; name it with --config if you trust it"
                )
                break
    return list(dict.fromkeys(notes))


def with_training_rows(
    tuned: Sequence[str], files: Sequence[Path], run: Run, trained: Trained
) -> Trained:
    """Add the rows that the models were trained on: ``--train``, else what the recipes beside the weights name."""
    if not files:
        return with_rows_of(tuned, run.tools.folder, trained, "; name the data with --train")
    rows: dict[str, list[Row]] = {}
    for path in map(str, map(real, files)):
        rows.setdefault(path, []).extend(read_rows(TrainingFile(path=path), run.tools.folder))
    return replace(trained, rows={**trained.rows, **rows})
