"""`aftertune label`: responses out for annotators, their labels in, and corrected rates beside the judge's."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.options import MOST_SEED, command_group
from aftertune.errors import AftertuneError, InputError, Stopped
from aftertune.labels.annotations import import_rows, kept_labels, read_note
from aftertune.labels.draw import (
    DrawRequest,
    Sample,
    check_draw,
    draw_sample,
    drawn_items,
    find_sample,
    keep_sample,
    population,
    read_sample,
    sample_rows,
)
from aftertune.labels.files import check_name, read_rows, write_rows
from aftertune.labels.serve import serving
from aftertune.labels.session import (
    Session,
    adjudication_work,
    alone,
    annotator_work,
    draw_in_use,
    draw_replaced,
    labelled_in_files,
    labels_file,
)
from aftertune.measure.judge_error import labels_needed, rogan_gladen
from aftertune.measure.label_draw import Draw
from aftertune.measure.results import LEAST_LABELS, ConditionResult, StudyResult
from aftertune.report.cells import Sheet
from aftertune.report.corrected import has_labels, labels_sheet
from aftertune.report.document import ResultDocument, read_document
from aftertune.report.gate import verdict_line
from aftertune.report.label_page import Conclusion
from aftertune.report.tables import setting_title
from aftertune.report.terminal import Output, print_sheet
from aftertune.report.wording import clean, percent, plural
from aftertune.result import FinishedRun, open_finished, renewed_result, write_result
from aftertune.workspace import RESULT

DEFAULT_N = 200
DEFAULT_ANNOTATOR = "annotator"

app = command_group(
    "Check the judge against annotators: responses out, blind; labels in; corrected rates beside the judge's."
)


@app.command("export")
def label_export(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Ends in .csv, .jsonl or .ndjson.")
    ],
    n: Annotated[int, typer.Option("--n", min=1, help="How many responses to draw.")] = DEFAULT_N,
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
    with open_finished(run, write=True) as opened:
        draw, sample = _drawn(opened, DrawRequest(n=n, seed=seed, benign=benign))
        rows = sample_rows(drawn_items(opened.store, opened.study, sample))
        write_rows(out, rows, annotator or ("",))
    say = _printer()
    say(
        f"{out}: {plural(len(rows), 'response')} to label, base and fine-tunes mixed, in random order."
    )
    for line in _draw_lines(draw, opened.document):
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
    ] = DEFAULT_ANNOTATOR,
) -> None:
    """Check and keep labels, and measure the run again with them."""
    document, sentences, _ = _imported(run, file, annotator)
    say = _printer()
    for sentence in sentences:
        say(sentence)
    if _any_corrected(document):
        say(f"Corrected rates stand beside the judge's: aftertune report {run}")
    else:
        say(f"{_NOT_YET} The report says what each lacks: aftertune report {run}")


@app.command("serve")
def label_serve(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    annotator: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Who labels (annotator); everybody has a file of their own."
        ),
    ] = None,
    adjudicate: Annotated[
        bool,
        typer.Option("--adjudicate", help="Decide where annotators differ, without their names."),
    ] = False,
    n: Annotated[
        int | None,
        typer.Option(
            "--n", min=1, help="How many responses to draw (those of the last draw; 200)."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=MOST_SEED, help="Seed of the draw (that of the last; 0)."),
    ] = None,
    benign: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How many responses to harmless prompts beside them (as in the last draw; 0).",
        ),
    ] = None,
) -> None:
    """Label on a local page: an answer at a time, blind to model and judge; corrected rates at the end."""
    if adjudicate and (annotator, n, seed, benign) != (None, None, None, None):
        raise InputError(
            "--adjudicate shows what annotators have labelled differently; leave out --annotator, --n, --seed and --benign"
        )
    name = None if adjudicate else DEFAULT_ANNOTATOR if annotator is None else annotator.strip()
    say = _printer()
    read_document(
        run / RESULT
    )  # what is not finished is refused before anything is made in its folder
    path = labels_file(run, name)
    with alone(path), ExitStack() as held:
        with open_finished(run, write=True) as opened:
            sample = _sample(opened, n, seed, benign, say)
            held.enter_context(draw_in_use(run))
            items = drawn_items(opened.store, opened.study, sample)
            kept = kept_labels(opened.store, opened.study, sample)
        if name is None:
            work = adjudication_work(path, items, kept)
        else:
            work = annotator_work(path, name, items, kept)
        if not work.items:
            say("The annotators differ nowhere, so there is nothing to decide between.")
            return
        _serve(run, Session(work), name, say)


def _serve(run: Path, session: Session, annotator: str | None, say: Callable[[str], None]) -> None:
    """Serve a session until its labeller finishes, then measure the run again and show the corrected rates.

    Raises:
        Stopped: Ctrl-C came before.
    """
    with serving(session) as server:
        say(f"{session.done:,} of {session.total:,} answers have a label. Go on in a browser here:")
        say(f"  {server.url}")
        say(
            f"Keys 1 to 5 label, u takes back. Labels are kept at once, in {session.work.path}. Ctrl-C stops."
        )
        try:
            server.finishing.wait()
        except KeyboardInterrupt:
            raise Stopped(
                f"stopped: {session.done:,} of {session.total:,} answers have a label, kept in {session.work.path}; run the same "
                "command to go on"
            ) from None
        try:
            # The file has the labels of one annotator, under the name, or those between annotators.
            document, sentences, differing = _imported(run, session.work.path, annotator or "")
        except AftertuneError as error:
            server.conclude(Conclusion(sentences=(clean(str(error)),), failed=True))
            raise
        sheets = list(_sheets(document.result))
        if not _any_corrected(document):
            sentences = [*sentences, _NOT_YET]
        commands = {shlex.join(["aftertune", "report", str(run)]): "See them beside the judge's:"}
        if differing:
            again = ["aftertune", "label", "serve", str(run), "--adjudicate"]
            commands[shlex.join(again)] = (
                f"Annotators differ on {plural(differing, 'answer')}. Decide between them:"
            )
        server.conclude(Conclusion(sentences=sentences, sheets=sheets, commands=commands))
    for sentence in sentences:
        say(sentence)
    for sheet in sheets:
        print_sheet(sheet, Output())
    for command, purpose in commands.items():
        say(f"{purpose} {command}")


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


def _sheets(result: StudyResult) -> Iterator[Sheet]:
    """Yield the table of corrected rates of each setting that has labels."""
    for setting in result.settings:
        if has_labels(setting):
            sheet = labels_sheet(result, setting)
            named = f"{sheet.title} ({setting_title(setting)})"
            yield replace(sheet, title=named) if len(result.settings) > 1 else sheet


def _drawn(opened: FinishedRun, request: DrawRequest) -> tuple[Draw, Sample]:
    """Draw responses and keep the sample; no response that has a label is lost.

    Raises:
        InputError: the new draw leaves out a response that is labelled, or one that somebody is labelling.
    """
    store, study, folder = opened.store, opened.study, opened.folder
    draw, sample = draw_sample(store, study, opened.table(), opened.plan, request)
    in_files, before = labelled_in_files(folder), find_sample(store, study)
    if in_files or read_note(store, study) is not None:
        last = read_sample(store, study)
        check_draw(last, sample, kept_labels(store, study, last).ids | in_files, str(folder))
    drawn = {item.id for item in sample.items}
    left_out = before is not None and any(item.id not in drawn for item in before.items)
    with draw_replaced(folder) if left_out else nullcontext():
        keep_sample(store, study, sample)
    return draw, sample


def _sample(
    opened: FinishedRun,
    n: int | None,
    seed: int | None,
    benign: int | None,
    say: Callable[[str], None],
) -> Sample:
    """Return the sample of the last draw; draw where there is none, or where another one is wanted."""
    before = find_sample(opened.store, opened.study)
    wanted = (n, seed, benign) != (None, None, None)
    if before is not None and not wanted and before.population == population(opened.table()):
        return before
    last = before or DrawRequest(n=DEFAULT_N)
    request = DrawRequest(
        n=last.n if n is None else n,
        seed=last.seed if seed is None else seed,
        benign=last.benign if benign is None else benign,
    )
    draw, sample = _drawn(opened, request)
    say(f"{plural(len(sample.items), 'response')} drawn, base and fine-tunes mixed.")
    for line in _draw_lines(draw, opened.document):
        say(line)
    return sample


def _imported(run: Path, file: Path, annotator: str) -> tuple[ResultDocument, list[str], int]:
    """Import labels and measure the run again.

    Returns:
        the result; what was read, in sentences; the number of responses on which annotators differ and nobody decided.
    """
    with open_finished(run, write=True) as opened:
        store, study = opened.store, opened.study
        sample = read_sample(store, study)
        rows = read_rows(file, annotator)
        note = import_rows(store, study, sample, file, rows)
        labels = kept_labels(store, study, sample)
        document = renewed_result(opened)
        write_result(run, store, opened.plan, document)
    read = sum(len(row.labels) + (row.adjudicated is not None) for row in rows)
    sentences = [
        f"{plural(read, 'label')} read from {file}.",
        f"{note.labelled:,} of {note.drawn:,} drawn responses are labelled, by {', '.join(map(clean, note.people))}.",
    ]
    if note.adjudicated:
        sentences.append(f"{plural(note.adjudicated, 'response')} decided between annotators.")
    if document.gate is not None:
        sentences.append(verdict_line(document.gate))
    return document, sentences, len(labels.differing().keys() - labels.adjudicated.keys())


def _draw_lines(draw: Draw, document: ResultDocument) -> Iterator[str]:
    """Yield how many responses of each condition were drawn, how many would be enough, and what is never drawn."""
    harmless = [(f"{name}, harmless prompts", size, count) for name, size, count in draw.benign]
    for name, size, count in (*draw.groups, *harmless):
        few = f"; below {LEAST_LABELS}, so it will not be corrected" * (count < LEAST_LABELS)
        yield f"  {clean(name)}: {count:,} of {size:,}{few}"
    for option, groups in (("--n", draw.groups), ("--benign", draw.benign)):
        if any(count < LEAST_LABELS <= size for _, size, count in groups):
            least = LEAST_LABELS * len(groups)
            yield f"{option} {least} gives {LEAST_LABELS} of each condition, {option} {2 * least} is better"
    if document.attacks:
        yield "Responses under attacks are not drawn: labels correct the rates without attack alone."


_NOT_YET = f"No rate is corrected yet: that takes {LEAST_LABELS} labels of a condition."


def _any_corrected(document: ResultDocument) -> bool:
    """Return whether a rate of any condition is corrected by labels."""
    return any(
        _corrected(condition) for s in document.result.settings for condition in s.conditions
    )


def _corrected(condition: ConditionResult) -> bool:
    labels = condition.labels
    rates = (labels.asr.overall, labels.over_refusal.overall) if labels else ()
    return any(rate is not None and rate.estimate is not None for rate in rates)


def _printer() -> Callable[[str], None]:
    """Return a function that prints a line, however long, without markup."""
    return partial(Output(soft_wrap=True).print, markup=False, highlight=False)
