"""`aftertune label`: responses out for annotators, their labels in, and corrected rates beside the judge's."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.options import MOST_SEED, command_group
from aftertune.labels.annotations import import_rows, kept_labels, read_note
from aftertune.labels.draw import DrawRequest, check_draw, draw_sample, keep_sample, read_sample
from aftertune.labels.files import check_name, read_rows, write_rows
from aftertune.measure.judge_error import labels_needed, rogan_gladen
from aftertune.measure.label_draw import Draw
from aftertune.measure.results import LEAST_LABELS, ConditionResult
from aftertune.report.document import read_document
from aftertune.report.gate import verdict_line
from aftertune.report.terminal import Output
from aftertune.report.wording import clean, percent, plural
from aftertune.result import open_finished, renewed_result, write_result
from aftertune.workspace import RESULT

app = command_group(
    "Check the judge against annotators: responses out, blind; labels in; corrected rates beside the judge's."
)


@app.command("export")
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
            metavar="NAME", help="A column of labels for this annotator. Repeat for several."
        ),
    ] = None,
) -> None:
    """Draw responses for annotators to label, blind to model and judge."""
    check_name(out)
    request = DrawRequest(n=n, seed=seed, benign=benign)
    with open_finished(run, write=True) as opened:
        draw, sample, rows = draw_sample(
            opened.store, opened.study, opened.table(), opened.plan, request
        )
        if read_note(opened.store, opened.study) is not None:
            before = read_sample(opened.store, opened.study)
            labels = kept_labels(opened.store, opened.study, before)
            labelled = [number for by_id in labels.values() for number in by_id]
            check_draw(before, sample, labelled, str(run))
        keep_sample(opened.store, opened.study, sample)
        write_rows(out, rows, annotator or ("",))
    say = _printer()
    say(
        f"{out}: {plural(len(rows), 'response')} to label, base and fine-tunes mixed, in random order."
    )
    for line in _draw_lines(draw):
        say(line)
    say(f"Fill in the column label, then: aftertune label import {run} {out}")


@app.command("import")
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
    with open_finished(run, write=True) as opened:
        sample = read_sample(opened.store, opened.study)
        rows = read_rows(file, annotator)
        note = import_rows(opened.store, opened.study, sample, file, rows)
        document = renewed_result(opened)
        write_result(run, opened.store, opened.plan, document)
    say = _printer()
    say(f"{plural(sum(len(row.labels) for row in rows), 'label')} read from {file}.")
    say(
        f"{note.labelled:,} of {note.drawn:,} drawn responses are labelled, by {', '.join(map(clean, note.people))}."
    )
    if document.gate is not None:
        say(verdict_line(document.gate))
    if any(_corrected(condition) for s in document.result.settings for condition in s.conditions):
        say(f"Corrected rates stand beside the judge's: aftertune report {run}")
    else:
        say(
            f"No rate is corrected yet: that takes {LEAST_LABELS} labels of a condition. The report says what each lacks: "
            f"aftertune report {run}"
        )


@app.command("plan")
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
    settings, say = read_document(run / RESULT).result.settings, _printer()
    for setting in settings:
        where = f" ({clean(setting.system)}, {clean(setting.decoding)})" * (len(settings) > 1)
        for condition in setting.conditions:
            if (rate := condition.asr.overall) is None:
                continue
            true = min(max(rogan_gladen(rate.estimate, sensitivity, specificity), 0.01), 0.99)
            needed, alone = labels_needed(true, sensitivity, specificity, half_width)
            say(
                f"{clean(condition.name)}{where}: {max(needed, LEAST_LABELS):,} labels ({alone:,} without the judge), "
                f"at a true rate of about {percent(true)}"
            )
    say(
        f"For ± {100 * half_width:g} points from labels, with a judge of sensitivity {sensitivity:g} and specificity "
        f"{specificity:g}; never fewer than {LEAST_LABELS}. New prompts and training seeds widen the interval further."
    )


def _draw_lines(draw: Draw) -> Iterator[str]:
    """Yield how many responses of each condition were drawn, and how many would be enough."""
    harmless = [(f"{name}, harmless prompts", size, count) for name, size, count in draw.benign]
    for name, size, count in (*draw.groups, *harmless):
        few = f"; below {LEAST_LABELS}, so it will not be corrected" * (count < LEAST_LABELS)
        yield f"  {clean(name)}: {count:,} of {size:,}{few}"
    for option, groups in (("--n", draw.groups), ("--benign", draw.benign)):
        if any(count < LEAST_LABELS <= size for _, size, count in groups):
            least = LEAST_LABELS * len(groups)
            yield f"{option} {least} gives {LEAST_LABELS} of each condition, {option} {2 * least} is better"


def _corrected(condition: ConditionResult) -> bool:
    labels = condition.labels
    rates = (labels.asr.overall, labels.over_refusal.overall) if labels else ()
    return any(rate is not None and rate.estimate is not None for rate in rates)


def _printer() -> Callable[[str], None]:
    """Return a function that prints a line, however long, without markup."""
    return partial(Output(soft_wrap=True).print, markup=False, highlight=False)
