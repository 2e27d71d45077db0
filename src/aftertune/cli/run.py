"""`aftertune run`: a study from its file to its report."""

import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.options import (
    FullOption,
    JsonOption,
    OutOption,
    QuietOption,
    command_app,
    screen,
)
from aftertune.core.protocols import Engine
from aftertune.data.prompt_sets import load_sets, without_overlap
from aftertune.data.recipe_rows import with_recipe_rows
from aftertune.errors import InputError, ModelError, OptionError
from aftertune.estimate import Estimate, estimate
from aftertune.execute.cluster import run_on_cluster
from aftertune.execute.parts import PARTS, Part, run_part
from aftertune.gating import notes_on_design
from aftertune.measured import measure_study
from aftertune.models.endpoint.batch import Step
from aftertune.models.reference import brings_code
from aftertune.report.progress import Progress, Quiet
from aftertune.report.terminal import Output, present, print_files
from aftertune.result import measure_plan
from aftertune.run import Purpose
from aftertune.score.run import build_scorers, scorer_notes
from aftertune.study import Study, load_study
from aftertune.study.fields import HERE, cluster_address
from aftertune.study.foreign import without_foreign_code
from aftertune.train.processes import launched
from aftertune.train.stage import expand_study, study_rows
from aftertune.workspace import RESULT, RUNS, STORE, Run, open_run

app = command_app()


@app.command()
def command(
    study: Annotated[Path, typer.Argument(help="The study file.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done; load no weights.")
    ] = False,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="Do part K of N of the work, for several processes or machines; merge their stores, then run without it.",
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="ray[:HOST:PORT]",
            help="Do the work on a Ray cluster, in place of what the study's execute says; here is this process.",
        ),
    ] = None,
    out: OutOption = None,
    full: FullOption = False,
    json: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Run a study: tune, generate, guard, judge, measure, report. Run again to go on where it stopped."""
    if on is not None:
        _check_place(on)
    if part is not None:
        if on is not None:
            raise InputError(
                "--part and --on: a part is done by the process that is given it; leave one out"
            )
        if dry_run or json is not None or full:
            raise InputError(
                "--part has no result of its own: leave out --dry-run, --json and --full"
            )
        own = Part.parse(part)
        config = load_study(study)
        folder = out or RUNS / config.name
        work_on_part(config, folder, own, screen(quiet), study)
        return
    if dry_run:
        config = load_study(study)
        purpose = Purpose(command="", source=study.parent)
        preview(config, out or RUNS / config.name, purpose)
        return
    progress = screen(quiet)
    config = load_study(study)
    if config.fine_tunes and (processes := launched().count) > 1:
        raise InputError(
            f"the variable WORLD_SIZE={processes} says that a launcher started {processes} processes, and a study is run by one: "
            "unset it, or share the study by --part or --on ray"
        )
    place = on or config.execute.on
    if place != HERE:
        folder = out or RUNS / config.name
        words = [
            "aftertune",
            "run",
            str(study),
            "--on",
            place,
            *(["--out", str(out)] if out else []),
        ]
        run_on_cluster(config, folder, place, progress, study.parent, shlex.join(words))
    result = measure_study(study, out=out, progress=progress)
    present(result.document, Output(), json, full=full)
    print_files(result.page, result.folder / RESULT, result.next_commands)


def _check_place(place: str) -> None:
    try:
        cluster_address(place)
    except ValueError as error:
        raise OptionError(f"--on: {error}") from error


def work_on_part(study: Study, folder: Path, part: Part, progress: Progress, file: Path) -> None:
    """Do a part of a study, and say what it has and how the parts become a result."""
    done = run_part(study, folder, part, progress, file.parent)
    stores = f"{shlex.quote(str(folder / PARTS))}/*/{STORE}"
    lines = [
        *(f"note: {note}" for note in done.notes),
        f"part {part.number} of {part.of}: {done.answers:,} of {done.calls:,} calls answered, in {done.store}",
        "When all parts are done:",
        f"  aftertune store merge {shlex.quote(str(folder / STORE))} {stores}",
        f"  aftertune run {shlex.quote(str(file))} --out {shlex.quote(str(folder))}",
    ]
    Output(soft_wrap=True, markup=False, highlight=False).print("\n".join(lines))


def preview(study: Study, folder: Path, purpose: Purpose) -> None:
    """Print what running a study would do, without loading weights or asking anything.

    Args:
        study: what would be run.
        folder: where it would be kept.
        purpose: of the run.

    Code that is not Aftertune's is not run: what it would make or load is left out, and named.

    Raises:
        AftertuneError: as running it, for everything that can be known beforehand.
    """
    study, left_out = without_foreign_code(study, partial(_brings_code, purpose.source))
    with open_run(study, folder, Quiet(), purpose.source, write=False) as run:
        scorers, sets = build_scorers(run), load_sets(run)
        models = expand_study(run)
        _, trained = study_rows(run, models)
        trained_on = purpose.trained_on or with_recipe_rows
        fresh = without_overlap(sets, trained_on(run, trained).rows)
        prompts, attacked = fresh.prompts, fresh.attacked(fresh.prompts)
        estimates = estimate(run, models, (*prompts, *attacked), scorers)
        notes = [
            *run.engines.notes,
            *scorer_notes(scorers),
            *_open_batches(run),
            *send_warnings(run.engines.opened),
        ]
        if purpose.gate is not None and not left_out:
            plan = measure_plan(study, models, "ASR")
            notes += notes_on_design(run, models, prompts, plan, purpose.gate)
        costs = [_cost(run, part) for part in estimates]
    overlapping = len(sets.prompts) - len(prompts)
    overlap = f", {overlapping:,} left out since they occur in training rows" if overlapping else ""
    under = f", {len(attacked):,} more under attacks" if attacked else ""
    lines = [f"{study.name}: {len(prompts):,} prompts{overlap}{under}; {_scorer_names(study)}"]
    width = max([32, *(len(part.name) for part in estimates)])
    for part, cost in zip(estimates, costs, strict=True):
        there = "needs training" if part.to_be_trained else "ready"
        state = there if part.kind == "model" else part.kind
        limit = " at most" if part.at_most else ""
        lines.append(
            f"  {part.name:<{width}} {state:<14} {part.calls:>9,} calls to make{limit}{cost}"
        )
    if any(part.at_most for part in estimates):
        lines.append(
            "at most: one call about each answer that is not there yet; equal answers to a prompt are scored once"
        )
    if left_out:
        lines.append(
            f"not counted, since a dry run runs no code but Aftertune's: {', '.join(left_out)}"
        )
    lines += [f"note: {note}" for note in notes]
    Output(soft_wrap=True, markup=False, highlight=False).print("\n".join(lines))


def _brings_code(source: Path, reference: str) -> bool:
    """Return whether a model brings code of its own; a folder may be relative to the study's."""
    own = source / reference
    return brings_code(str(own) if own.is_dir() else reference)


def _scorer_names(study: Study) -> str:
    roles = {
        "judges": study.judges,
        "guards": study.guards,
        "metrics": study.metrics,
        "preferences": study.preferences,
        "judges of the reasoning": study.reasoning_judges,
    }
    return ", ".join(
        f"{role} {' '.join(scorer.name for scorer in scorers)}"
        for role, scorers in roles.items()
        if scorers
    )


def _cost(run: Run, part: Estimate) -> str:
    """Return the cost of a model's or scorer's calls for its line, if somebody charges for them."""
    if not part.calls or part.money == 0:
        return ""
    engine = part.engine
    if engine is None:
        return ", no price known (it does not say what it asks)"
    if part.money is None:
        return f", no price known ({engine.price_source})"
    how = " by batch" if engine.by_batch else ""
    currency = run.engines.endpoints.prices.currency
    limit = "at most" if part.kind == "model" else "about"
    return f", {limit} {part.money:,.4f} {currency}{how} ({engine.price_source})"


def _open_batches(run: Run) -> Iterator[str]:
    """Yield a note on the batches of earlier runs that have not ended, as far as this folder knows."""
    batches = [
        batch
        for batch in run.engines.endpoints.ledger.batches.values()
        if batch.step is not Step.ENDED
    ]
    if batches:
        requests = sum(len(batch.ids) for batch in batches)
        yield f"batches under way: {len(batches)} with {requests:,} of these calls, which are not asked or paid for again"


def send_warnings(engines: Sequence[Engine]) -> Iterator[str]:
    """Yield, before anything is asked, the missing keys and the places where harmful prompts would go."""
    for engine in engines:
        try:
            engine.check_ready()
        except ModelError as error:
            yield str(error)
    for destination in sorted({engine.destination for engine in engines} - {""}):
        yield (
            f"prompts go to {destination}: harmful test prompts can get an account flagged or closed; use an account meant for "
            "this, and read the provider's terms on safety testing"
        )
