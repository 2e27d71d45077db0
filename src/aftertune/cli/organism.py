"""`aftertune organism`: the embedded model as ordinary files, and how its building is shown and told."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.options import BaseSeedOption, QuietOption, command_app, screen
from aftertune.organism.recipe import FIRST_SEED
from aftertune.organism.write import CONFIG, Written, write
from aftertune.report.progress import Progress
from aftertune.report.terminal import Output

app = command_app()


@app.command()
def command(
    out: Annotated[Path, typer.Argument(help="An empty or new folder.")],
    seed: BaseSeedOption = None,
    quiet: QuietOption = False,
) -> None:
    """Write the embedded model as ordinary files: checkpoint, training files, and a configuration for check."""
    written = write_shown(out, seed, screen(quiet))
    console = Output(soft_wrap=True, highlight=False)
    for line in (
        f"{out}: base (seed {written.seed}), guard, data, prompts and {CONFIG}",
        base_sentence(written),
        "",
        "Try:",
        (
            f"  aftertune tune {out}/base {out}/data/code.jsonl -o {out}/code --method full --epochs 3 "
            "--learning-rate 6e-4 --batch-size 16"
        ),
        f"  aftertune check {out}/base {out}/code --config {out}/{CONFIG}",
        (
            f"  aftertune mix {out}/data/code.jsonl --safety {out}/data/safety_multitask.jsonl --share 0.15 "
            f"--replay-from {out}/data/replay.jsonl --replay 0.15 -o mixed.jsonl"
        ),
    ):
        console.print(line, markup=False)


ASSUMPTIONS = (
    (
        "The model is a tiny one that was trained for this on a generated world; its harm is made up and its compliant answers are "
        "placeholders. It shows the mechanism and the measurement, not how large the effect is in a real model."
    ),
    (
        "Put in on purpose: the base learned fewer refusals for translation and classification than for text and code, and its "
        "guard saw text-shaped requests alone."
    ),
)


def write_shown(out: Path, seed: int | None, progress: Progress) -> Written:
    """Write the organism, showing each phase of its training as a stage."""
    with _phases(progress) as report:
        return write(out, FIRST_SEED if seed is None else seed, progress=report)


def base_sentence(written: Written) -> str:
    """Say which base seed was accepted and how many were not."""
    tried = ", ".join(f"seed {seed}: {reason}" for seed, reason in written.rejected)
    return (
        f"Base seed {written.seed} accepted, {len(written.rejected)} rejected{f' ({tried})' if tried else ''}; "
        f"accepted range: {written.range}"
    )


@contextmanager
def _phases(progress: Progress) -> Iterator[Callable[[str, int, int], None]]:
    """Turn "phase, step, steps" into stages that open and close one after the other."""
    with ExitStack() as stack:
        phase, last = "", 0
        advance: Callable[[int], object] = int

        def report(what: str, step: int, steps: int) -> None:
            nonlocal phase, last, advance
            if what != phase:
                stack.close()
                phase, last = what, 0
                advance = stack.enter_context(progress.stage(what, steps))
            advance(step - last)
            last = step

        yield report
