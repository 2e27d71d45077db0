"""`aftertune label`: responses out for people to label, their labels in, and corrected rates beside the judge's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aftertune.cli.options import MOST_SEED, command_group
from aftertune.cli.report import read_document
from aftertune.core.ids import content_key
from aftertune.core.records import LabelValue, Score
from aftertune.errors import DataError, InputError
from aftertune.labels.files import Row, check_name, read_rows, write_rows
from aftertune.labels.measuring import finished_plan, measure_again
from aftertune.labels.question import question
from aftertune.labels.sample import (
    LABELS,
    Sample,
    drawn_answers,
    item_of,
    keep_sample,
    kept_labels,
    population,
    read_sample,
)
from aftertune.measure.judge_error import labels_needed, rogan_gladen
from aftertune.measure.label_draw import Draw, draw_labels
from aftertune.measure.results import LEAST_LABELS
from aftertune.report.gate import verdict_line
from aftertune.report.wording import clean, percent, plural
from aftertune.results.page import kept_readers
from aftertune.store import Scored, Store, StoredJob
from aftertune.workspace import STORE

app = command_group(
    "Check the judge against people: responses out, blind; labels in; corrected rates beside the judge's."
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
            metavar="NAME", help="A column of labels for this person. Repeat for several."
        ),
    ] = None,
) -> None:
    """Draw responses for people to label, blind to model and judge."""
    export(run, out, Wanted(n=n, seed=seed, benign=benign), people=annotator or ())


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
    import_labels(run, file, annotator)


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
    plan_labels(run, half_width, (sensitivity, specificity))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What shall be drawn for people to label."""

    n: int
    """Responses to harmful prompts."""
    seed: int = 0
    benign: int = 0
    """Responses to benign prompts beside them."""


def export(folder: Path, out: Path, wanted: Wanted, *, people: Sequence[str]) -> None:
    """Draw responses of a finished run and write them to ``out`` for people to label, blind.

    Raises:
        InputError: the run is not finished, there are labels that the draw does not hold, or ``out`` has another ending
            than ``.csv`` or ``.jsonl``.
        AftertuneError: ``out`` cannot be written.
    """
    check_name(out)
    told = read_document(folder)
    study, seed = told["study"], wanted.seed
    with Store.open(folder / STORE) as store:
        plan = finished_plan(folder, store, told)
        table = store.table(study, kept_readers(store, study))
        labelled = store.get_meta(study, LABELS)
        here = population(table)
        if labelled is not None and (labelled["seed"], labelled["population"]) != (seed, here):
            raise InputError(
                f"{folder}: has labels of the draw with seed {labelled['seed']}; draw more of them with "
                f"--seed {labelled['seed']} and a greater --n, from the same responses"
            )
        draw = draw_labels(table, plan, wanted.n, seed, wanted.benign)
        drawn = list(drawn_answers(store, study, table, draw, store.prompts(study)))
        items = sorted(
            ((item_of(answer, probability, seed), answer) for answer, probability in drawn),
            key=lambda pair: pair[0].id,
        )
        rows = [_row(item.id, answer) for item, answer in items]
        chosen = Sample(
            seed=seed,
            n=wanted.n,
            population=here,
            items=tuple(item for item, _ in items),
            benign=wanted.benign,
        )
        if labelled is not None:
            _check_kept(folder, store, study, chosen)
        keep_sample(store, study, chosen)
        write_rows(out, rows, people or ("",))
    _say(
        f"{out}: {plural(len(rows), 'response')} to label, base and fine-tunes mixed, in random order."
    )
    _say_drawn(draw)
    _say(f"Fill in the column label, then: aftertune label import {folder} {out}")


def _row(number: str, answer: StoredJob) -> dict[str, str]:
    return {
        "id": number,
        "task": answer.prompt.task,
        "question": question(answer.prompt.task, answer.prompt.intent),
        "prompt": answer.prompt.text,
        "response": "" if answer.response is None else answer.response.text,
    }


def _say_drawn(draw: Draw) -> None:
    harmless = [(f"{name}, harmless prompts", size, count) for name, size, count in draw.benign]
    for name, size, count in (*draw.groups, *harmless):
        few = (
            "" if count >= LEAST_LABELS else f"; below {LEAST_LABELS}, so it will not be corrected"
        )
        _say(f"  {clean(name)}: {count:,} of {size:,}{few}")
    for option, groups in (("--n", draw.groups), ("--benign", draw.benign)):
        if any(count < LEAST_LABELS <= size for _, size, count in groups):
            _say(
                f"{option} {LEAST_LABELS * len(groups)} gives {LEAST_LABELS} of each condition, {option} {2 * LEAST_LABELS * len(groups)} is better"
            )


def _check_kept(folder: Path, store: Store, study: str, chosen: Sample) -> None:
    """See that a draw holds every response that people labelled: what it left out would count no more.

    Raises:
        InputError: it does not: fewer are drawn, or judges were added since and the draw is another one.
    """
    before = read_sample(store, study)
    kept = {item.id for item in chosen.items}
    lost = {
        number for given in kept_labels(store, study, before).values() for number in given
    } - kept
    if lost:
        raise InputError(
            f"{folder}: the draw leaves out {plural(len(lost), 'response')} that people labelled; ask for more with --n "
            f"(the last draw had {before.n}{_and_benign(before)}, by the judges of that time)"
        )


def _and_benign(before: Sample) -> str:
    return f" and --benign {before.benign}" if before.benign else ""


def import_labels(folder: Path, path: Path, person: str) -> None:
    """Check the labels in ``path``, keep them, and measure the run again with them.

    Raises:
        DataError: an id that was not exported, one that comes twice, a label that is none; nothing is kept then.
        InputError: nothing was exported, or nothing is labelled.
    """
    told = read_document(folder)
    study = told["study"]
    with Store.open(folder / STORE) as store:
        sample = read_sample(store, study)
        rows = read_rows(path, person)
        check_rows(path, rows, sample)
        labels = kept_labels(store, study, sample)
        for row in rows:
            for name, value in row.labels.items():
                labels.setdefault(name, {})[row.id] = value
        if not labels:
            raise InputError(f"{path}: no row has a label; fill in the column label first")
        readers = [
            _keep(store, study, sample, name, given) for name, given in sorted(labels.items())
        ]
        labelled = {number for given in labels.values() for number in given}
        note = {
            "readers": readers,
            "people": sorted(labels),
            "drawn": len(sample.items),
            "labelled": len(labelled),
            "seed": sample.seed,
            "population": sample.population,
            "version": content_key(
                "labels", [[name, sorted(labels[name].items())] for name in sorted(labels)]
            ).hex(),
        }
        store.set_meta(study, LABELS, note)
        told = measure_again(folder, store, told)
    _say(f"{plural(sum(len(row.labels) for row in rows), 'label')} read from {path}.")
    _say(
        f"{len(labelled):,} of {len(sample.items):,} drawn responses are labelled, by {', '.join(map(clean, sorted(labels)))}."
    )
    if told["gate"] is not None:
        _say(verdict_line(told["gate"]))
    _say(f"Corrected rates stand beside the judge's: aftertune report {folder}")


def check_rows(path: Path, rows: Sequence[Row], sample: Sample) -> None:
    """Refuse rows that were not exported, or come twice.

    Raises:
        DataError: it names the line.
    """
    known = {item.id for item in sample.items}
    first: dict[str, int] = {}
    for row in rows:
        if row.id not in known:
            raise DataError(
                f"{path}, line {row.line}: the id {clean(row.id)!r} is not of the last export (seed {sample.seed}, "
                f"{plural(len(known), 'response')}); import the file that it wrote, or export again with the --n, --benign "
                "and --seed of this one"
            )
        if row.id in first:
            raise DataError(
                f"{path}, line {row.line}: {row.id} stands in line {first[row.id]} too; keep one of them"
            )
        first[row.id] = row.line


def _keep(
    store: Store, study: str, sample: Sample, person: str, labels: Mapping[str, LabelValue]
) -> int:
    """Keep one person's labels as scores, under a version of their own: another import takes nothing away."""
    items = [item for item in sample.items if item.id in labels]
    stated = [[item.id, labels[item.id].value, item.probability] for item in items]
    version = store.add_scorer("person", person, content_key("labels", stated).hex())
    prompts = {prompt.id: prompt for prompt in store.prompts(study)}
    store.add_scores(
        version,
        (
            Scored(
                prompt=prompts[item.prompt],
                key=bytes.fromhex(item.key),
                score=Score(value=labels[item.id], number=item.probability),
            )
            for item in items
        ),
    )
    return version


def plan_labels(folder: Path, half_width: float, errors: tuple[float, float]) -> None:
    """Print how many labels each condition of a finished run needs for a wanted half width.

    Args:
        folder: the run's.
        half_width: of the part of the interval that labels make, as a share.
        errors: the judge's assumed sensitivity and specificity.
    """
    told = read_document(folder)
    console = Console(soft_wrap=True)
    several = len(told["result"]["settings"]) > 1
    for setting in told["result"]["settings"]:
        for condition in setting["conditions"]:
            if (rate := condition["asr"]["overall"]) is None:
                continue
            true = min(max(rogan_gladen(rate["estimate"], *errors), 0.01), 0.99)
            needed, alone = labels_needed(true, *errors, half_width)
            where = (
                f" ({clean(setting['system'])}, {clean(setting['decoding'])})" if several else ""
            )
            line = (
                f"{clean(condition['name'])}{where}: {max(needed, LEAST_LABELS):,} labels ({alone:,} without the judge), "
                f"at a true rate of about {percent(true)}"
            )
            console.print(line, markup=False, highlight=False)
    _say(
        f"For ± {100 * half_width:g} points from labels, with a judge of sensitivity {errors[0]:g} and specificity "
        f"{errors[1]:g}; never fewer than {LEAST_LABELS}. New prompts and training seeds widen the interval further."
    )


def _say(line: str) -> None:
    Console(soft_wrap=True).print(line, markup=False, highlight=False)
