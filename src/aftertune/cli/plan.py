"""`aftertune plan`: what a study can detect, and what it costs, before anything is asked."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from aftertune.cli.options import JsonOption, OutOption, QuietOption, command_app, screen
from aftertune.cli.plan_gate import (
    GATE_LEGEND,
    UNDECLARED,
    BaseRates,
    gate_lines,
    quantities_of_prompts,
    quantities_of_sizes,
)
from aftertune.core.keys import Key
from aftertune.core.recipe import Recipe, StudyModel
from aftertune.core.records import GenerateJob, Intent, Prompt
from aftertune.core.rounding import percent, points
from aftertune.core.table import NONE, Table
from aftertune.data.prompt_sets import load_sets, without_overlap
from aftertune.data.recipe_rows import with_recipe_rows
from aftertune.data.rows import Row
from aftertune.errors import InputError
from aftertune.estimate import TRAINING_ROWS, Estimate, estimate
from aftertune.generate import calls
from aftertune.measure.gate_power import GatePower, Quantity, World, gate_power
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.power import (
    Assumptions,
    Spread,
    assumed_spread,
    pilot_spreads,
    plateau,
    power,
    smallest_change,
)
from aftertune.measure.results import ConditionResult
from aftertune.models.size import generating_bytes, parameters, shape, training_bytes
from aftertune.report.document import to_plain, write_json
from aftertune.report.progress import Progress, Quiet
from aftertune.report.terminal import Output
from aftertune.report.wording import plural
from aftertune.result import conditions_of, measure_plan, open_finished
from aftertune.score.run import build_scorers
from aftertune.study import cells_of, load_study
from aftertune.study.foreign import foreign_code_notes
from aftertune.train.stage import LongestRows, expand_study, seconds_per_step, steps_of, study_rows
from aftertune.workspace import RUNS, Run, open_run

FORMAT = 4
"""Formats of the JSON. 1: design, assumptions, pilot, spread, conditions, warnings, costs. 2: comparers among the costs,
``calls_at_most`` and ``training_seconds``. 3: all costs have the same fields; ``money`` also for models. 4: ``gate`` of each
condition, ``training rows`` among the costs."""
WANTED = 0.80
"""The power of the smallest detectable change."""
OTHER_SEEDS = (1, 2, 3, 5, 10)
TIMED_ANSWERS = 8
CENT = 0.01
"""The least money that is printed as a number."""
ROWS = 32
"""Answers at a time that the memory is estimated for."""
NO_TOKENS = (0.0, 0.0)
ALPHA = 0.05
"""The level of the two-sided test whose power is planned."""

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
    base_over_refusal: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="Assumed over-refusal of the base.")
    ] = 0.05,
    base_score: Annotated[
        float,
        typer.Option(
            min=0.001, max=0.999, help="Assumed score of the base, of every score with a margin."
        ),
    ] = 0.80,
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
    progress = screen(quiet)
    rates = BaseRates(asr=base_rate, over_refusal=base_over_refusal, score=base_score)
    spread, tokens = None, NO_TOKENS
    if pilot is not None:
        spread, tokens, of_base = _pilot(pilot)
        rates = replace(rates, pilot=of_base)
    designs = {"": Design(behaviors=behaviors, tasks=tasks, samples=samples, seeds=seeds)}
    quantities = quantities_of_sizes(behaviors, tasks, samples, rates, UNDECLARED)
    declared = UNDECLARED
    costs: list[Cost] = []
    if study is not None:
        config = load_study(study)
        folder = out or RUNS / config.name
        for note in foreign_code_notes(config):
            progress.note(f"note: {note}")
        # Nothing is kept, and no prompt is asked unless ``timed``.
        with open_run(config, folder, Quiet(), study.parent, write=False) as run:
            designs, quantities, declared, costs = _study(
                run, rates, tokens, progress if timed else None
            )
    assumed = Assumptions(base_rate=base_rate, rise=rise, seed_sd=seed_sd)
    gates = {
        number: gate_power(
            quantities,
            World(assumed=_with_seeds_of(assumed, spread), seeds=number),
            declared.alpha,
            declared.min_cell,
            WANTED,
        )
        for number in {design.seeds for design in designs.values()}
        if quantities and quantities[0].behaviors > 1
    }
    result = Plan(
        format=FORMAT,
        assumptions=assumed,
        alpha=ALPHA,
        conditions=tuple(
            _condition(name, x, assumed, spread, gates.get(x.seeds)) for name, x in designs.items()
        ),
        costs=tuple(costs),
    )
    lines = [*_power_lines(result), *_cost_lines(costs)]
    Output(soft_wrap=True, highlight=False, markup=False).print("\n".join(lines))
    if json is not None:
        write_json(json, to_plain(result))


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """The sizes that decide what a study can detect."""

    behaviors: int
    tasks: int
    samples: int
    """Responses per behavior, task and training seed."""
    seeds: int


class Source(Enum):
    """The origin of the variances of a plan."""

    ASSUMED = "assumed"
    PILOT = "pilot"
    PILOT_OF_ONE_SEED = "pilot; its one training seed tells nothing of seeds: assumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSpread(Spread):
    """The variances that are planned with."""

    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedsRow:
    """Power and detectable change of a design with one number of training seeds."""

    seeds: int
    power: float
    smallest_change: float
    plateau: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCondition:
    """Power and detectable change of one fine-tune."""

    name: str
    """Empty for a design without a study."""
    design: Design
    spread: PlannedSpread
    rows: tuple[SeedsRow, ...]
    gate: GatePower | None
    """The chances of a verdict of `check`; None without harmful prompts."""
    warning: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of a model, of training rows or of a scorer, as if nothing had been asked yet; None where it is not known."""

    name: str
    kind: str
    served: bool
    calls: int
    calls_at_most: bool
    """Some are about answers that are not there yet, so there may be fewer."""
    tokens_in: int
    tokens_out: int
    tokens_out_at_most: int
    money: float | None
    """At most for a model, about for the others."""
    currency: str
    to_be_trained: bool
    seconds: float | None = None
    """The seconds of answering; for local models alone, with ``--time``."""
    training_seconds: float | None = None
    parameters: int | None = None
    memory_bytes: float | None = None
    """The memory that answering takes, estimated; for local models alone."""
    training_bytes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that `plan` prints, and writes as JSON."""

    format: int
    assumptions: Assumptions
    alpha: float
    conditions: tuple[PlannedCondition, ...]
    costs: tuple[Cost, ...]


def _pilot(
    folder: Path,
) -> tuple[PlannedSpread, tuple[float, float], ConditionResult | None]:
    """Return the mean of the variances that a finished run has, its mean tokens, and the result of its base."""
    with open_finished(folder) as run:
        table, declared = run.table(), run.plan
        measured = run.document.result.settings[0].conditions
    of_base = next((condition for condition in measured if condition.base is None), None)
    by_seeds = [(seeds, spread) for _, seeds, spread in pilot_spreads(table, declared)]
    if not by_seeds:
        raise InputError(
            f"{folder}: has no fine-tune beside its base, so it says nothing about changes"
        )
    seeded = [spread for seeds, spread in by_seeds if seeds > 1]
    spreads = seeded or [spread for _, spread in by_seeds]
    mean = {
        name: sum(getattr(spread, name) for spread in spreads) / len(spreads)
        for name in ("behaviors", "seeds", "both")
    }
    source = Source.PILOT if seeded else Source.PILOT_OF_ONE_SEED
    return PlannedSpread(**mean, source=source), _mean_tokens(table), of_base


def _mean_tokens(table: Table) -> tuple[float, float]:
    """Return the mean tokens of a prompt and of an answer; 0 without an answer."""
    answered = table.columns["finish"] != NONE
    if not answered.any():
        return NO_TOKENS
    prompt, completion = (
        float(table.columns[f"{kind}_tokens"][answered].mean()) for kind in ("prompt", "completion")
    )
    return prompt, completion


def _study(
    run: Run, rates: BaseRates, tokens: tuple[float, float], progress: Progress | None
) -> tuple[dict[str, Design], tuple[Quantity, ...], MeasurePlan, list[Cost]]:
    """Return the design of every fine-tune of a study, the quantities of its gate, its declaration and its costs.

    Args:
        run: the study's, opened to look only.
        rates: of the base.
        tokens: mean tokens of a prompt and of an answer in a pilot; 0 where there is none.
        progress: shows the timing of local models; None where no time is taken.
    """
    models = expand_study(run)
    rows, recipe_rows = study_rows(run, models)
    sets = without_overlap(load_sets(run), with_recipe_rows(run, recipe_rows).rows)
    prompts = sets.prompts
    harmful = [prompt for prompt in prompts if prompt.intent is Intent.HARMFUL]
    behaviors = len({prompt.behavior for prompt in harmful})
    tasks = len({prompt.task for prompt in harmful})
    keys = run.study.decoding
    draws = keys.samples * len(keys.seeds) * keys.replicates
    templates = max(1, round(len(harmful) / max(1, behaviors * tasks)))
    designs = {
        condition.name: Design(
            behaviors=behaviors,
            tasks=tasks,
            samples=templates * draws,
            seeds=len(condition.models),
        )
        for condition in conditions_of(models)
        if condition.base is not None
    }
    asked_prompts, timing = (*prompts, *sets.attacked(prompts)), None
    if progress is not None:
        timing = _Timing(run=replace(run, progress=progress), prompts=asked_prompts, rows=rows)
    declared = measure_plan(run.study, models, "ASR")
    quantities = quantities_of_prompts(prompts, draws, rates, declared)
    costs = list(_costs(run, models, asked_prompts, tokens, timing, rows))
    return designs, quantities, declared, costs


def _condition(
    name: str,
    design: Design,
    assumed: Assumptions,
    pilot: PlannedSpread | None,
    gate: GatePower | None,
) -> PlannedCondition:
    rise, n = assumed.rise, design.behaviors
    if n < 2:
        raise InputError("a design needs two harmful behaviors at least; give more prompts")
    spread = _spread(assumed, design, pilot)
    rows = _seeds_rows(design, spread, rise)
    return PlannedCondition(
        name=name,
        design=design,
        spread=spread,
        rows=rows,
        gate=gate,
        warning=_warning(design, rows, points(rise).lstrip("+")),
    )


@cache
def _seeds_rows(design: Design, spread: PlannedSpread, rise: float) -> tuple[SeedsRow, ...]:
    """Return power and detectable change of a design by training seeds; many fine-tunes of a study share them."""
    rows = []
    for seeds in sorted({*OTHER_SEEDS, design.seeds}):
        own = spread if seeds > 1 else replace(spread, seeds=0.0)
        rows.append(
            SeedsRow(
                seeds=seeds,
                power=power(own, rise, design.behaviors, seeds, ALPHA),
                smallest_change=smallest_change(own, design.behaviors, seeds, WANTED, ALPHA),
                plateau=plateau(own, rise, seeds, ALPHA),
            )
        )
    return tuple(rows)


def _spread(assumed: Assumptions, design: Design, pilot: PlannedSpread | None) -> PlannedSpread:
    if pilot is None:
        spread = assumed_spread(assumed, design.tasks, design.samples, design.samples)
        return PlannedSpread(**asdict(spread), source=Source.ASSUMED)
    if pilot.source is Source.PILOT_OF_ONE_SEED:
        return replace(pilot, seeds=assumed.seed_sd**2)
    return pilot


def _with_seeds_of(assumed: Assumptions, pilot: PlannedSpread | None) -> Assumptions:
    """Return the assumptions with the spread of a pilot's training seeds, where it has several."""
    if pilot is None or pilot.source is not Source.PILOT:
        return assumed
    return replace(assumed, seed_sd=pilot.seeds**0.5)


def _warning(design: Design, rows: Sequence[SeedsRow], rise: str) -> str | None:
    """Return why a design cannot detect the rise (in points); None where it can."""
    own = next(row for row in rows if row.seeds == design.seeds)
    if design.seeds == 1:
        return "with one training seed only this checkpoint may be spoken of, not the recipe, however many prompts"
    if own.plateau < WANTED:
        enough = [row.seeds for row in rows if row.plateau >= WANTED and row.seeds > design.seeds]
        more = f"; {enough[0]} seeds could" if enough else ""
        return (
            f"{design.seeds} seeds plateau at {percent(own.plateau)} power for {rise} points: "
            f"no number of prompts brings that to {percent(WANTED)}{more}"
        )
    if own.power < WANTED:
        return (
            f"a change of {rise} points would be found with a probability of {percent(own.power)} only; "
            "more behaviors or seeds would help"
        )
    return None


def _costs(
    run: Run,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    tokens: tuple[float, float],
    timing: "_Timing | None",
    rows: Mapping[str, list[Row]],
) -> Iterator[Cost]:
    """Yield the cost of each model, of a base's answers as training rows, and of each scorer that asks a model.

    Args:
        run: an open run, for its engines; nothing is written.
        models: of the study.
        prompts: those that will be asked.
        tokens: mean tokens of a prompt and of an answer in a pilot; 0 where there is none.
        timing: takes the time of local models; None without ``--time``.
        rows: the training rows of every fine-tune, by its name.
    """
    by_name = {model.name: model for model in models}
    bases = {model.recipe.name: model.recipe.base for model in models if model.recipe is not None}
    longest = LongestRows(run.engines)
    for expected in estimate(run, models, prompts, build_scorers(run), tokens=tokens, kept=False):
        cost = _cost(run, expected)
        if cost.kind == "model" and not cost.served:
            model = by_name[cost.name]
            # A model that is still to be trained has the size and the speed of its base.
            there = by_name[model.base] if cost.to_be_trained and model.base else model
            cost = _with_memory(run, cost, model, there, rows.get(model.name, []), longest)
            if timing is not None:
                cost = timing.timed(cost, model, there)
        elif cost.kind == TRAINING_ROWS and timing is not None:
            cost = timing.of_rows(cost, bases[cost.name])
        yield cost


def _cost(run: Run, calls_of: Estimate) -> Cost:
    return Cost(
        name=calls_of.name,
        kind=calls_of.kind,
        served=calls_of.engine is not None and calls_of.engine.remote,
        calls=calls_of.calls,
        calls_at_most=calls_of.at_most,
        tokens_in=round(calls_of.tokens_in),
        tokens_out=round(calls_of.tokens_out),
        tokens_out_at_most=calls_of.tokens_out_at_most,
        money=calls_of.money,
        currency=run.engines.endpoints.prices.currency,
        to_be_trained=calls_of.to_be_trained,
    )


def _with_memory(
    run: Run,
    cost: Cost,
    model: StudyModel,
    there: StudyModel,
    rows: Sequence[Row],
    longest: LongestRows,
) -> Cost:
    base = run.base_of(there)
    count, placement = parameters(there.reference, base), run.engines.placement
    if count is None:
        return cost
    tokens = round(cost.tokens_in / max(1, cost.calls) + run.study.decoding.limit)
    dtype = str(run.open(there).identity.get("dtype", placement.dtype))
    sizes, device = shape(there.reference, base), placement.device
    training = None
    if model.recipe is not None:
        training = training_bytes(
            count, sizes, model.recipe, str(model.recipe.base_identity.get("dtype", dtype)),
            longest=longest.of(model.recipe, rows), device=device,
        )  # fmt: skip
    return replace(
        cost,
        parameters=count,
        memory_bytes=generating_bytes(count, sizes, dtype, tokens=tokens, rows=ROWS, device=device),
        training_bytes=training,
    )


@dataclass(slots=True, kw_only=True)
class _Timing:
    """Takes the time of a little of the work, once for all models that do the same."""

    run: Run
    prompts: Sequence[Prompt]
    rows: Mapping[str, list[Row]]
    """The training rows of every fine-tune, by its name."""
    _speeds: dict[str, float] = field(default_factory=dict)
    """Reference -> answers per second."""
    _steps: dict[Key, float] = field(default_factory=dict)
    """Recipe without its seed -> seconds per optimisation step."""
    _counted: set[Key] = field(default_factory=set)
    """Trainings that are counted already: the epochs of a fine-tune are one training."""

    def timed(self, cost: Cost, model: StudyModel, there: StudyModel) -> Cost:
        """Return a cost with the time of answering, and of the training that is still to be done."""
        if there.reference not in self._speeds:
            self._speeds[there.reference] = self._answers_per_second(there)
        training = None
        if cost.to_be_trained and model.recipe is not None:
            training = self._training(model.recipe, self.rows[model.name])
        seconds = cost.calls / self._speeds[there.reference]
        return replace(cost, seconds=seconds, training_seconds=training)

    def of_rows(self, cost: Cost, base: str) -> Cost:
        """Return the cost of a base's answers to training rows with their time, longer as their token limit is longer."""
        tokens_per_second = self._speeds[base] * self.run.study.decoding.limit
        return replace(cost, seconds=cost.tokens_out_at_most / tokens_per_second)

    def _answers_per_second(self, model: StudyModel) -> float:
        """Return the speed of a model on prompts of all lengths; loading is not counted."""
        by_length = sorted(self.prompts, key=lambda prompt: len(prompt.text))
        chosen = by_length[:: max(1, len(by_length) // TIMED_ANSWERS)][:TIMED_ANSWERS]
        engine, study = self.run.open(model), self.run.study
        every_call = calls(engine, cells_of(study, model.name), chosen, study.systems)
        jobs: list[GenerateJob] = [job for _, _, job in every_call][: len(chosen)]
        # The first answer, of one token, loads the weights.
        first = [replace(x, decoding=replace(x.decoding, max_new_tokens=1)) for x in jobs[:1]]
        list(engine.generate(first))
        began = time.monotonic()
        with self.run.progress.stage(f"timing {model.name}", len(jobs)) as advance:
            for _ in engine.generate(jobs):
                advance(1)
        return len(jobs) / max(time.monotonic() - began, 1e-9)

    def _training(self, recipe: Recipe, rows: Sequence[Row]) -> float:
        whole = replace(recipe, epoch=None)
        if recipe.epoch is not None or whole.key in self._counted:
            return 0.0
        self._counted.add(whole.key)
        any_seed = replace(whole, seed=0, start=None).key
        if any_seed not in self._steps:
            with self.run.progress.stage(f"timing the training of {recipe.name}", 1) as advance:
                self._steps[any_seed] = seconds_per_step(recipe, rows, self.run.engines)
                advance(1)
        return steps_of(recipe, len(rows)) * self._steps[any_seed]


def _power_lines(result: Plan) -> Iterator[str]:
    """Yield what can be detected: a table for all fine-tunes of one design, what it means, and warnings."""
    rise = points(result.assumptions.rise)
    groups: dict[tuple[Design, PlannedSpread], list[PlannedCondition]] = {}
    for condition in result.conditions:
        groups.setdefault((condition.design, condition.spread), []).append(condition)
    named = [
        (", ".join(condition.name for condition in group), group[0]) for group in groups.values()
    ]
    for names, condition in named:
        design = condition.design
        yield (
            f"{names or 'design'}: {design.behaviors} harmful behaviors in {design.tasks} tasks, "
            f"{plural(design.samples, 'answer')} each, training seeds: {design.seeds}"
        )
        yield f"  {'training':>8}  {'chance to show':>15}  {'the same with any':>17}  {'smallest rise shown':>19}"
        yield (
            f"  {'seeds':>8}  {rise + ' points':>15}  {'number of prompts':>17}  "
            f"{'in ' + percent(WANTED).replace('.0', '') + ' of studies':>19}"
        )
        for row in condition.rows:
            mark = "*" if row.seeds == design.seeds else " "
            smallest = f"{points(row.smallest_change).lstrip('+')} points"
            smallest = "none" if row.smallest_change > 1 else smallest
            yield f"{mark} {row.seeds:>8}  {percent(row.power):>15}  {percent(row.plateau):>17}  {smallest:>19}"
        yield f"  variances: {condition.spread.source.value}"
        if condition.gate is not None:
            yield from gate_lines(condition.gate, design.seeds)
    yield (
        f"*: this design. Shown: the overall change of the ASR differs from 0 by a two-sided test at {result.alpha:g}; the chance of that is "
        "its power. One seed may have more than two: it speaks of this checkpoint alone."
    )
    if any(condition.gate is not None for condition in result.conditions):
        yield GATE_LEGEND
    if any(condition.spread.source is not Source.PILOT for condition in result.conditions):
        yield (
            f"Assumed: base ASR {percent(result.assumptions.base_rate)}, a standard deviation of "
            f"{100 * result.assumptions.seed_sd:g} points between training seeds. These decide; a pilot of 3 seeds "
            "(--pilot FOLDER) replaces them."
        )
    for names, condition in named:
        if condition.warning is not None:
            yield f"WARNING: {names}{': ' if names else ''}{condition.warning}"


def _cost_lines(costs: Sequence[Cost]) -> Iterator[str]:
    """Yield a line a model and an instrument, and what the columns mean."""
    if not costs:
        return
    yield ""
    labels = [
        f"{cost.name}: {cost.kind}" if cost.kind == TRAINING_ROWS else cost.name for cost in costs
    ]
    width = max(22, *map(len, labels))
    yield f"{'':<{width}} {'calls':>10} {'tokens in':>10} {'out':>10} {'money':>12} {'time':>8} {'memory':>8}"
    for label, cost in zip(labels, costs, strict=True):
        training = cost.training_bytes if cost.to_be_trained else None
        memory = max(cost.memory_bytes or 0.0, training or 0.0)
        count = f"{'<=' if cost.calls_at_most else ''}{cost.calls:,}"
        out = f"{cost.tokens_out:,}" if cost.tokens_out else "-"
        yield (
            f"{label:<{width}} {count:>10} {cost.tokens_in:>10,} {out:>10} {_money(cost):>12} "
            f"{_time(cost):>8} {_gib(memory):>8}"
        )
    yield (
        "Calls: <= where equal answers are read once. Tokens of answers: as many as may be, or as the pilot's had. Money: at most for "
        f"models, about for the others. Time: with --time, of local models. Memory: for {ROWS} answers at a time, or for training."
    )


def _money(cost: Cost) -> str:
    if cost.money is None:
        return "unknown"
    if 0 < cost.money < CENT:
        return f"< {CENT} {cost.currency}"
    return f"{cost.money:,.2f} {cost.currency}" if cost.money else "-"


def _time(cost: Cost) -> str:
    if cost.seconds is None:
        return "?" if cost.served and cost.kind == "model" else "-"
    seconds = cost.seconds + (cost.training_seconds or 0.0)
    if seconds < 1:
        return "< 1 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _gib(size: float) -> str:
    if size >= 2**30 / 20:
        return f"{size / 2**30:.1f} GiB"
    return f"{size / 2**20:.0f} MiB" if size else "-"
