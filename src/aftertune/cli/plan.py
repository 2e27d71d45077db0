"""`aftertune plan`: what a study can find, and what it costs, before anything is asked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from aftertune.cli.costing import cost_lines, cost_of
from aftertune.cli.options import JsonOption, OutOption, QuietOption, command_app, screen
from aftertune.cli.report import read_document
from aftertune.core.records import Intent
from aftertune.core.rounding import percent, points
from aftertune.data.recipe_rows import with_recipe_rows
from aftertune.data.study_prompts import load_sets, without_overlap
from aftertune.errors import InputError
from aftertune.measure.pilot import mean_tokens, pilot_spreads
from aftertune.measure.power import (
    Assumptions,
    Spread,
    assumed_spread,
    plateau,
    power,
    smallest_change,
)
from aftertune.report.files import write_json
from aftertune.report.progress import Progress, Quiet
from aftertune.report.wording import plural
from aftertune.stages.measuring import conditions, measure_plan, study_model
from aftertune.store import Store
from aftertune.study import load_study
from aftertune.train.stage import expand_study, study_rows
from aftertune.workspace import STORE, STUDY, open_run

app = command_app()


@app.command()
def command(
    study: Annotated[
        Path | None,
        typer.Argument(help="The study file; without one, the sizes below are planned."),
    ] = None,
    pilot: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A finished run; its variances and tokens replace assumptions."
        ),
    ] = None,
    rise: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="The rise of the ASR to be found.")
    ] = 0.10,
    base_rate: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="Assumed ASR of the base.")
    ] = 0.10,
    seed_sd: Annotated[
        float,
        typer.Option(
            min=0.0, max=0.5, help="Assumed standard deviation of the ASR between training seeds."
        ),
    ] = 0.04,
    behaviors: Annotated[
        int, typer.Option(min=2, help="Harmful behaviors, without a study.")
    ] = 165,
    tasks: Annotated[int, typer.Option(min=1, help="Tasks of each, without a study.")] = 4,
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds, without a study.")] = 3,
    samples: Annotated[
        int, typer.Option(min=1, help="Answers per behavior, task and seed, without a study.")
    ] = 1,
    timed: Annotated[
        bool,
        typer.Option(
            "--time",
            help="Let local models answer a few prompts and train a few steps, and take the time.",
        ),
    ] = False,
    out: OutOption = None,
    json: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Say what a study can find and what it costs, before anything is asked."""
    request = PlanRequest(
        study=study,
        pilot=pilot,
        design=Design(behaviors=behaviors, tasks=tasks, samples=samples, seeds=seeds),
        assumed=Assumptions(base_rate=base_rate, rise=rise, seed_sd=seed_sd),
        timed=timed,
    )
    plan(request, out, screen(quiet), json)


FORMAT = 2
"""Formats of the JSON. 1: design, assumptions, pilot, spread, conditions, warnings, costs. 2: comparers among the costs,
``calls_at_most`` and ``training_seconds``."""
WANTED = 0.80
OTHER_SEEDS = (1, 2, 3, 5, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """The sizes that decide what a study can find."""

    behaviors: int
    tasks: int
    samples: int
    """Responses per behavior, task and training seed."""
    seeds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What the command line asks for."""

    study: Path | None
    pilot: Path | None
    design: Design
    """Used without a study."""
    assumed: Assumptions
    timed: bool = False
    alpha: float = 0.05


def plan(request: PlanRequest, out: Path | None, progress: Progress, json: Path | None) -> None:
    """Print what a design can find and what it costs; nothing is kept, and no prompt is asked unless ``timed``.

    Raises:
        AftertuneError: what is wrong, in one line.
    """
    told = _planned(request, out, progress)
    console = Console(soft_wrap=True, highlight=False)
    for line in _lines(told):
        console.print(line, markup=False)
    if json is not None:
        write_json(json, told)


def _planned(request: PlanRequest, out: Path | None, progress: Progress) -> dict[str, Any]:
    found, tokens = (None, (0.0, 0.0)) if request.pilot is None else _pilot(request.pilot)
    designs: dict[str, Design] = {"": request.design}
    costs: list[dict[str, Any]] = []
    if request.study is not None:
        designs, costs = _study(request, request.study, out, tokens, progress)
    told = []
    for name, design in designs.items():
        spread, source = _spread(request, design, found)
        told.append(_condition(name, design, spread, source, request))
    return {
        "format": FORMAT,
        "assumptions": asdict(request.assumed),
        "alpha": request.alpha,
        "conditions": told,
        "warnings": [warning for condition in told for warning in condition["warnings"]],
        "costs": costs,
    }


def _pilot(folder: Path) -> tuple[Spread, tuple[float, float]]:
    """Return the mean of the variances that a finished run found, and its mean tokens."""
    told, study = read_document(folder), load_study(folder / STUDY, finished=True)
    with Store.open(folder / STORE, write=False) as store:
        models = [study_model(record) for record in store.models(study.name)]
        readers = store.get_meta(study.name, "page")["readers"]
        table = store.table(study.name, readers)
    found = list(pilot_spreads(table, measure_plan(study, models, told["result"]["name_rate"])))
    if not found:
        raise InputError(
            f"{folder}: has no fine-tune beside its base, so it says nothing about changes"
        )
    seeded = [spread for _, seeds, spread in found if seeds > 1]
    spreads = seeded or [spread for _, _, spread in found]
    mean = {
        name: sum(getattr(spread, name) for spread in spreads) / len(spreads)
        for name in ("behaviors", "seeds", "both")
    }
    return Spread(**(mean if seeded else mean | {"seeds": -1.0})), mean_tokens(table)


def _study(
    request: PlanRequest,
    path: Path,
    out: Path | None,
    tokens: tuple[float, float],
    progress: Progress,
) -> tuple[dict[str, Design], list[dict[str, Any]]]:
    study = load_study(path)
    folder = out or Path("aftertune-runs") / study.name
    with open_run(study, folder, Quiet(), path.parent, write=False) as run:
        models = expand_study(run)
        rows, known = study_rows(run, models)
        prompts = without_overlap(load_sets(run), with_recipe_rows(run, known).rows).prompts
        harmful = [prompt for prompt in prompts if prompt.intent is Intent.HARMFUL]
        behaviors, tasks = (
            {prompt.behavior for prompt in harmful},
            {prompt.task for prompt in harmful},
        )
        draws = study.decoding.samples * len(study.decoding.seeds)
        posed = max(1, round(len(harmful) / max(1, len(behaviors) * len(tasks))))
        designs = {
            condition.name: Design(
                behaviors=len(behaviors),
                tasks=len(tasks),
                samples=posed * draws,
                seeds=len(condition.models),
            )
            for condition in conditions(models)
            if condition.base is not None
        }
        return designs, cost_of(
            replace(run, progress=progress), models, prompts, tokens, rows, timed=request.timed
        )


def _spread(request: PlanRequest, design: Design, pilot: Spread | None) -> tuple[Spread, str]:
    """Return the variances that are planned with, and where they come from."""
    believed = request.assumed
    if pilot is None:
        base = assumed_spread(believed, design.tasks, design.samples, design.samples)
        return base, "assumed"
    if pilot.seeds < 0:
        return replace(
            pilot, seeds=believed.seed_sd**2
        ), "pilot; its one training seed tells nothing of seeds: assumed"
    return pilot, "pilot"


def _condition(
    name: str, design: Design, spread: Spread, source: str, request: PlanRequest
) -> dict[str, Any]:
    rise, n, alpha = request.assumed.rise, design.behaviors, request.alpha
    if n < 2:
        raise InputError("a design needs two harmful behaviors at least; give more prompts")
    rows = []
    for seeds in sorted({*OTHER_SEEDS, design.seeds}):
        own = spread if seeds > 1 else replace(spread, seeds=0.0)
        rows.append(
            {
                "seeds": seeds,
                "power": power(own, rise, n, seeds, alpha),
                "smallest_change": smallest_change(own, n, seeds, WANTED, alpha),
                "plateau": plateau(own, rise, seeds, alpha),
            }
        )
    return {
        "name": name,
        "design": asdict(design),
        "spread": {**spread.to_json(), "source": source},
        "rows": rows,
        "warnings": list(_warnings(name, design, rows, rise)),
    }


def _warnings(
    name: str, design: Design, rows: Sequence[dict[str, Any]], rise: float
) -> Iterator[str]:
    own = next(row for row in rows if row["seeds"] == design.seeds)
    who = f"{name}: " if name else ""
    word = points(rise).lstrip("+")
    if design.seeds == 1:
        yield f"{who}with one training seed only this checkpoint may be spoken of, not the recipe, however many prompts"
    elif own["plateau"] < WANTED:
        enough = next(
            (
                row["seeds"]
                for row in rows
                if row["plateau"] >= WANTED and row["seeds"] > design.seeds
            ),
            None,
        )
        more = f"; {enough} seeds could" if enough else ""
        yield (
            f"{who}{design.seeds} seeds plateau at {percent(own['plateau'])} power for {word} points: "
            f"no number of prompts brings that to {percent(WANTED)}{more}"
        )
    elif own["power"] < WANTED:
        yield (
            f"{who}a change of {word} points would be found with a probability of {percent(own['power'])} only; "
            "more behaviors or seeds would help"
        )


def _alike(conditions: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the conditions of one design together: their names, and the first of them, since what they can find is the same."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for condition in conditions:
        groups.setdefault(repr((condition["design"], condition["spread"])), []).append(condition)
    for group in groups.values():
        yield ", ".join(condition["name"] for condition in group), group[0]


def _lines(told: dict[str, Any]) -> Iterator[str]:
    believed = told["assumptions"]
    for names, condition in _alike(told["conditions"]):
        design = condition["design"]
        yield (
            f"{names or 'design'}: {design['behaviors']} harmful behaviors in {design['tasks']} tasks, "
            f"{plural(design['samples'], 'answer')} each, training seeds: {design['seeds']}"
        )
        yield f"  {'seeds':>5}  {'power for ' + points(believed['rise']) + ' points':>22}  {'smallest rise found':>20}  {'endless prompts':>15}"
        for row in condition["rows"]:
            mark = "*" if row["seeds"] == design["seeds"] else " "
            smallest = (
                "none"
                if row["smallest_change"] > 1
                else f"{points(row['smallest_change']).lstrip('+')} points"
            )
            yield f"{mark} {row['seeds']:>5}  {percent(row['power']):>22}  {smallest:>20}  {percent(row['plateau']):>15}"
        yield f"  variances: {condition['spread']['source']}"
    yield (
        f"Power: of the two-sided test at {told['alpha']:g} for the overall change; smallest: found {percent(WANTED)} of the time; "
        "endless prompts: the power where only the training seeds are left. One seed: about this checkpoint alone."
    )
    if any("assumed" in condition["spread"]["source"] for condition in told["conditions"]):
        yield (
            f"Assumed: base ASR {percent(believed['base_rate'])}, a standard deviation of {100 * believed['seed_sd']:g} points "
            "between training seeds. These decide; a pilot of 3 seeds (--pilot FOLDER) replaces them."
        )
    for names, condition in _alike(told["conditions"]):
        for warning in condition["warnings"]:
            yield f"WARNING: {names}{warning.removeprefix(condition['name'])}"
    yield from cost_lines(told["costs"])
