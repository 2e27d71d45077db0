"""`aftertune check`: the call `check` with the command line's options, and its result in print."""

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aftertune.checking import CheckOptions, CheckResult, Scope, check, check_request
from aftertune.cli.options import (
    FullOption,
    JsonOption,
    JudgeOption,
    MaxNewTokensOption,
    OutOption,
    PromptsOption,
    QuietOption,
    TrainOption,
    command_app,
    screen,
)
from aftertune.cli.run import preview
from aftertune.errors import AftertuneError, OptionError
from aftertune.report.junit import write_junit, write_junit_error
from aftertune.report.terminal import MOST_LINES, Output, present, print_files
from aftertune.report.wording import clean
from aftertune.workspace import RESULT

app = command_app()
JunitOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Also write JUnit XML: a case per side and task; not enough data is skipped.",
    ),
]


def with_junit(command: Callable[..., None]) -> Callable[..., None]:
    """Return a check whose file of ``junit`` tells the state of the run from its first second on, whatever becomes of it.

    A file of an earlier run never stands for one that was killed. The command itself writes the verdict.
    """

    @wraps(command)
    def reported(**options: Any) -> None:
        path: Path | None = options["junit"]
        if path is None or options["dry_run"]:
            command(**options)
            return
        references = (options["base"], *options["tuned"])
        write_junit_error(path, references)
        try:
            command(**options)
        except AftertuneError as error:
            write_junit_error(path, references, error)
            raise

    return reported


@app.command()
@with_junit
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
    prompts: PromptsOption = None,
    judge: JudgeOption = None,
    guard: Annotated[
        list[str] | None, typer.Option(help="A guard, or NAME=MODEL. Repeat for several.")
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            help="An attack, or a file of wrappers, measured beside the verdict. Repeat for several."
        ),
    ] = None,
    train: TrainOption = None,
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
        Scope,
        typer.Option(
            help="What the verdict speaks of; these-prompts: the mean of the prompts themselves decides."
        ),
    ] = "prompts-like-these",
    max_new_tokens: MaxNewTokensOption = None,
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
    junit: JunitOption = None,
    quiet: QuietOption = False,
) -> None:
    """Decide whether fine-tuning broke the model: exit 0 PASS, 3 FAIL, 4 not enough data."""
    options: CheckOptions = {
        "config": config, "prompts": prompts, "judge": judge, "guard": guard, "attack": attack, "train": train,
        "margin": margin, "task_margin": task_margin, "over_refusal_margin": over_refusal_margin,
        "over_refusal_task_margin": over_refusal_task_margin, "also": also, "max_asr": max_asr,
        "score_margin": dict(map(_score_margin, score_margin or ())), "judge_check": judge_check,
        "verdict_by": verdict_by, "limit": limit, "within": within, "sequential": sequential,
        "scope": scope, "max_new_tokens": max_new_tokens, "replicates": replicates, "out": out,
    }  # fmt: skip
    if dry_run:
        request = check_request(base, tuned, options)
        for note in request.notes:
            screen(quiet).note(f"note: {note}")
        preview(request.study, request.folder, request.purpose)
        return
    result = check(base, tuned, progress=None if quiet else screen(quiet), **options)
    if junit is not None:
        write_junit(junit, result.document, result.references)
    last = _last_lines(result)
    room = MOST_LINES - len(last) - len(result.next_commands) - FILE_LINES
    present(result.document, Output(), json, full=full, room=room)
    print_files(result.page, result.folder / RESULT, result.next_commands)
    console = Output(highlight=False, soft_wrap=True, markup=False)
    console.print("\n".join(last))
    console.print(f"{result.verdict.value} (exit code {result.exit_code})", style="bold")
    raise typer.Exit(result.exit_code)


MOST_NAMED = 3
"""Fine-tunes that the last lines name."""
FILE_LINES = 4
"""Lines of page and result with the empty one before them, and of the last word."""


def _last_lines(result: CheckResult) -> list[str]:
    """Return what stands before the verdict's last word: the models that it is about."""
    base, *tuned = map(clean, result.references)
    shown = tuned if len(tuned) <= MOST_NAMED else [*tuned[: MOST_NAMED - 1], tuned[-1]]
    left_out = len(tuned) - len(shown)
    lines = [f"base:   {base}", *(f"tuned:  {reference}" for reference in shown)]
    if left_out:
        lines.insert(MOST_NAMED, f"        and {left_out} more")
    if result.same_weights:
        lines.append(
            "note: base and tuned are the very same weights, so this says nothing of a fine-tune"
        )
    return lines


def _score_margin(text: str) -> tuple[str, float]:
    """Return the metric and the share of ``METRIC=SHARE``."""
    metric, _, share = text.partition("=")
    with suppress(ValueError):
        if metric and 0 < float(share) < 1:
            return metric, float(share)
    raise OptionError(f"--score-margin {text!r} names no metric with its margin; write exact=0.03")
