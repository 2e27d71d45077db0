"""`aftertune repair`: a finished fine-tune mended in its weights, by a strength that is chosen on some behaviors and proven on others."""

import shlex
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from aftertune.checking import (
    check_sets,
    checked_keys,
    option_keys,
    unused_configurations,
    with_training_rows,
)
from aftertune.cli.options import (
    JsonOption,
    JudgeOption,
    MaxNewTokensOption,
    PromptsOption,
    QuietOption,
    TrainOption,
    command_app,
    screen,
)
from aftertune.errors import InputError, OptionError
from aftertune.measure.repair import OwnScore, RepairResult
from aftertune.models.reference import parse
from aftertune.repair.data_free import SAFETY_PROMPT
from aftertune.repair.methods import METHODS, Method
from aftertune.repair.stage import RESULT, Own, RepairRequest, repair
from aftertune.report.document import to_plain, write_json
from aftertune.report.terminal import Output, print_repair
from aftertune.study.fields import prompts_form
from aftertune.workspace import RUNS, called

app = command_app()


@app.command()
def command(
    base: Annotated[
        str, typer.Argument(help="The model before fine-tuning: hub id or checkpoint folder.")
    ],
    tuned: Annotated[
        list[str],
        typer.Argument(
            help="The fine-tune: checkpoint or LoRA adapter; several are training seeds."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Where the mended model goes."),
    ] = None,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "scaling",
    strength: Annotated[
        str, typer.Option(help="auto (chosen by the rule), sweep (only shown), or a number.")
    ] = "auto",
    unaligned: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The pretrained model before its alignment."),
    ] = None,
    train: TrainOption = None,
    own_task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SET", help="Held-out rows of the fine-tune's own task: a prompt file or a set."
        ),
    ] = None,
    own_score: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC[=SHARE]",
            help="Their score, and its largest tolerated fall against the fine-tune (0.05).",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prompts, judges and measurement, as in study.yaml."),
    ] = None,
    prompts: PromptsOption = None,
    judge: JudgeOption = None,
    limit: Annotated[
        int | None,
        typer.Option(min=3, help="Use this many harmful behaviors, with all their prompts."),
    ] = None,
    max_new_tokens: MaxNewTokensOption = None,
    run: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the run is kept (prompts, stores, pages)."),
    ] = None,
    json: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Mend a fine-tune in its weights, and prove it: exit 0 PASS, 3 FAIL, 4 not enough data."""
    chosen = METHODS.get(method)
    if chosen is None:
        raise OptionError(f"--method {method}: use one of {', '.join(METHODS)}")
    strengths, only_sweep = _strengths(chosen, strength)
    own = _own(own_task or (), own_score)
    if strength == "auto" and own is None:
        raise InputError(
            "--strength auto keeps 90 % of what the fine-tune gained on its own task, so it needs rows and a score of it: "
            "--own-task rows.jsonl --own-score exact; or give a number, or --strength sweep"
        )
    if out is not None and not chosen.writes:
        raise InputError(
            f"--method {method} writes no weights but recommends a prompt; leave out --out"
        )
    if out is None and chosen.writes and not only_sweep:
        raise InputError(
            "name the folder of the mended model with --out, or choose --strength sweep"
        )
    parse(base)
    for reference in tuned:
        parse(reference, base=base)
    keys = _study_keys(config, own_task or (), prompts or (), judge or (), limit, max_new_tokens)
    progress = screen(quiet)
    for note in unused_configurations((base, *tuned), config):
        progress.note(f"note: {note}")
    folder = run or RUNS / f"repair-{called(tuned[0])}"
    options: dict[str, Sequence[object] | None] = {
        "--out": [out], "--method": [method], "--strength": [strength], "--unaligned": [unaligned],
        "--train": train, "--own-task": own_task, "--own-score": [own_score], "--config": [config], "--prompts": prompts,
        "--judge": judge, "--limit": [limit], "--max-new-tokens": [max_new_tokens], "--run": [run],
    }  # fmt: skip
    request = RepairRequest(
        base=base,
        tuned=tuple(tuned),
        out=out,
        method=chosen,
        strengths=strengths,
        only_sweep=only_sweep,
        unaligned=unaligned,
        own=own,
        keys=keys,
        trained_on=partial(with_training_rows, tuned, train or ()),
        folder=folder,
        source=Path() if config is None else config.parent,
        command=_command((base, *tuned), options),
    )
    result = repair(request, progress)
    _print(result, request, json)
    raise typer.Exit(result.exit_code)


def _print(result: RepairResult, request: RepairRequest, json: Path | None) -> None:
    print_repair(result, Output())
    console = Output(soft_wrap=True, highlight=False)
    lines = [f"Run:    {request.folder / RESULT}"]
    if request.out is not None and all(model.is_result for model in result.repaired):
        lines.insert(0, f"Model:  {request.out}")
    elif not request.method.writes:
        lines.insert(0, f"Prompt: {SAFETY_PROMPT}")
    elif result.verdict is not None:
        lines.insert(0, "Model:  none was written")
    console.print("\n".join(lines), markup=False)
    if json is not None:
        write_json(json, to_plain(result))
    if result.verdict is not None:
        console.print(f"{result.verdict.value} (exit code {result.exit_code})", style="bold")


def _strengths(method: Method, text: str) -> tuple[tuple[float, ...], bool]:
    """Return the strengths to try, gentlest first, and whether they are only shown.

    Raises:
        OptionError: the text is no strength of the method.
    """
    if text in {"auto", "sweep"}:
        return method.sweep, text == "sweep"
    try:
        number = float(text)
    except ValueError:
        raise OptionError(f"--strength {text}: use auto, sweep or a number") from None
    method.check_strength(number)
    return (number,), False


def _own(sets: Sequence[str], score: str | None) -> Own | None:
    """Return the own task that the options declare; None without one.

    Raises:
        InputError: a set without its score, or the other way round.
        OptionError: the score's margin is no share.
    """
    if not sets and score is None:
        return None
    if not sets or score is None:
        missing = "--own-score (its score, such as exact)" if sets else "--own-task (its rows)"
        raise InputError(f"the own task needs both its rows and its score; add {missing}")
    metric, given, share = score.partition("=")
    margin = MARGIN
    if given:
        with suppress(ValueError):
            margin = float(share)
    if not metric or not 0 < margin < 1 or (given and not share):
        raise OptionError(
            f"--own-score {score!r} names no score with a margin between 0 and 1; write exact or exact=0.05"
        )
    return Own(score=OwnScore(metric=metric, sets=tuple(map(_set_name, sets))), margin=margin)


MARGIN = 0.05
"""Largest tolerated fall of the own-task score, where none is given."""


def _set_name(named: str) -> str:
    """Return the name of a set: a file's is that of the file."""
    return Path(named).name.split(".")[0] if Path(named).is_file() else named


def _set_of(entry: object) -> object:
    """Return the name of the set of an entry of ``prompts``, in its short form or its whole one."""
    whole = prompts_form(entry)
    return whole["set"] if isinstance(whole, dict) else None


def _study_keys(
    config: Path | None,
    own_task: Sequence[str],
    prompts: Sequence[str],
    judges: Sequence[str],
    limit: int | None,
    max_new_tokens: int | None,
) -> dict[str, Any]:
    """Return the keys of a study but its models and name, with the own-task sets among its prompts.

    Raises:
        InputError: an option does not fit.
    """
    given = option_keys(judges, (), prompts, {})
    if max_new_tokens is not None:
        given["decoding"] = {"max_new_tokens": max_new_tokens}
    keys = checked_keys(config, given, limit)
    named = {_set_of(entry) for entry in keys["prompts"]}
    check_sets("--own-task", [own for own in own_task if not _is_set(own, named)])
    keys["prompts"] += [
        {"set": _set_name(own), "file": str(Path(own).absolute())} if Path(own).is_file() else own
        for own in own_task
        if not _is_set(own, named)
    ]
    return keys


def _is_set(own: str, named: AbstractSet[object]) -> bool:
    """Return whether an own task is one of the sets that are asked anyway."""
    return _set_name(own) in named


def _command(references: Sequence[str], options: Mapping[str, Sequence[object] | None]) -> str:
    words: list[object] = ["aftertune", "repair", *references]
    for name, values in options.items():
        words += [word for value in values or () if value is not None for word in (name, value)]
    return shlex.join(map(str, words))
