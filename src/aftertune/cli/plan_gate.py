"""The part of `aftertune plan` about the verdict of `check`: the chances of PASS and FAIL on every side of the gate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from aftertune.core.records import Intent, Prompt
from aftertune.core.rounding import percent, points
from aftertune.measure.gate_power import GatePower, Quantity, QuantityPower, crossed
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.results import Breakdown, ConditionResult, Rate, Score, Side

UNDECLARED = MeasurePlan(
    conditions=(Condition(name="base", models=("base",)),), judges=("undeclared",)
)
"""The declaration that a design without a study is planned with: its margins are the default ones."""
CERTAIN = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRates:
    """The rates of the base that a verdict is planned with: assumed, or those of a finished run."""

    asr: float
    over_refusal: float
    score: float
    """The mean of every declared score."""
    pilot: ConditionResult | None = None
    """The base of a finished run, whose rates in the tasks replace the assumed ones."""

    def loss(self, side: Side, metric: str, task: str) -> float:
        """Return the base's rate of losses on a side in a task, strictly between 0 and 1."""
        assumed = {
            Side.HARM: self.asr,
            Side.OVER_REFUSAL: self.over_refusal,
            Side.CAPABILITY: 1 - self.score,
        }[side]
        figure = None if self.pilot is None else _of_task(_figures(self.pilot, side, metric), task)
        if figure is None:
            return assumed
        loss = 1 - figure.estimate if side is Side.CAPABILITY else figure.estimate
        # None of n is not none at all: half a loss more, or less, than was seen.
        least = 0.5 / (figure.n + 1)
        return min(max(loss, least), 1 - least)


def _figures(
    base: ConditionResult, side: Side, metric: str
) -> Breakdown[Rate] | Breakdown[Score] | None:
    if side is Side.CAPABILITY:
        return base.capability.get(metric)
    return base.asr if side is Side.HARM else base.over_refusal


def _of_task(figures: Breakdown[Rate] | Breakdown[Score] | None, task: str) -> Rate | Score | None:
    return None if figures is None else figures.by_task.get(task, figures.overall)


def quantities_of_sizes(
    behaviors: int, tasks: int, answers: int, rates: BaseRates, plan: MeasurePlan
) -> tuple[Quantity, ...]:
    """Return the gate's quantities of a design whose every behavior has a benign twin and occurs in every task."""
    sizes = behaviors, tasks, answers
    harm, refusal = (
        (plan.margin, plan.task_margin),
        (plan.over_refusal_margin, plan.over_refusal_task_margin),
    )
    return (
        crossed(Side.HARM, plan.name_rate, harm, sizes, rates.asr),
        crossed(Side.OVER_REFUSAL, "over-refusal rate", refusal, sizes, rates.over_refusal),
    )


def quantities_of_prompts(
    prompts: Sequence[Prompt], draws: int, rates: BaseRates, plan: MeasurePlan
) -> tuple[Quantity, ...]:
    """Return the gate's quantities of a study.

    Args:
        prompts: of the study.
        draws: answers of a model to a prompt.
        rates: of the base.
        plan: declares the margins, and the benign sets that measure over-refusal.
    """
    harmful = [prompt for prompt in prompts if prompt.intent is Intent.HARMFUL]
    benign = [prompt for prompt in prompts if prompt.intent is Intent.BENIGN]
    sets = {prompt.set for prompt in harmful} | set(plan.over_refusal_sets)
    probes = [prompt for prompt in benign if prompt.set in sets]
    scored = [prompt for prompt in benign if prompt.reference is not None] or benign
    margins = (
        (Side.HARM, plan.name_rate, plan.margin, plan.task_margin, harmful),
        (
            Side.OVER_REFUSAL,
            "over-refusal rate",
            plan.over_refusal_margin,
            plan.over_refusal_task_margin,
            probes,
        ),
        *(
            (Side.CAPABILITY, name, margin, margin, scored)
            for name, margin in plan.score_margins.items()
        ),
    )
    return tuple(
        _quantity(side, name, (margin, task_margin), chosen, draws, rates, plan)
        for side, name, margin, task_margin, chosen in margins
        if chosen
    )


def _quantity(
    side: Side,
    name: str,
    margins: tuple[float, float],
    prompts: Sequence[Prompt],
    draws: int,
    rates: BaseRates,
    plan: MeasurePlan,
) -> Quantity:
    behavior = np.unique([prompt.behavior for prompt in prompts], return_inverse=True)[1]
    tasks, task = np.unique([prompt.task for prompt in prompts], return_inverse=True)
    groups, prompts_of_group = np.unique(behavior * len(tasks) + task, return_counts=True)
    weights = plan.task_weights or {}
    return Quantity(
        side=side,
        name=name,
        margin=margins[0],
        task_margin=margins[1],
        behavior=groups // len(tasks),
        task=groups % len(tasks),
        answers=prompts_of_group * draws,
        losses=tuple(rates.loss(side, name, name_of_task) for name_of_task in tasks.tolist()),
        weights={
            place: weights[name_of_task]
            for place, name_of_task in enumerate(tasks.tolist())
            if name_of_task in weights
        },
    )


def gate_lines(power: GatePower, seeds: int) -> Iterator[str]:
    """Yield the chances of a verdict: a row for each side, and what they mean.

    Args:
        power: of one design.
        seeds: its training seeds.
    """
    wanted = f"{100 * power.wanted:.0f} % FAIL"
    yield (
        f"  {'verdict of check':<16} {'':>9} {'base':>7} {'points allowed':>17} {'PASS if':>9} {'change with':>13}"
    )
    yield (
        f"  {'on':<16} {'behaviors':>9} {'rate':>7} {'overall':>7} {'in a task':>9} {'unchanged':>9} {wanted:>13}"
    )
    for quantity in power.quantities:
        margin, task_margin = (
            points(x).removeprefix("+") for x in (quantity.margin, quantity.task_margin)
        )
        yield (
            f"  {_name(quantity):<16} {quantity.behaviors:>9,} {percent(quantity.base):>7} {margin:>7} {task_margin:>9} "
            f"{_chance(quantity.passes):>9} {_smallest(quantity):>13}"
        )
    yield f"  {'all sides':<16} {'':>9} {'':>7} {'':>7} {'':>9} {_chance(power.passes):>9}"
    yield f"  {_meaning(power, seeds)}"


def _name(quantity: QuantityPower) -> str:
    return quantity.name if quantity.side is Side.CAPABILITY else quantity.side.value


def _chance(share: float) -> str:
    """Return a simulated probability; none or all of some hundred studies is not never or always."""
    if share < CERTAIN:
        return "<1 %"
    return ">99 %" if share > 1 - CERTAIN else f"{100 * share:.0f} %"


def _smallest(quantity: QuantityPower) -> str:
    if quantity.smallest_change is None:
        return "none"
    sign = -1 if quantity.side is Side.CAPABILITY else 1
    return f"{100 * sign * quantity.smallest_change:+.0f} points"


def _meaning(power: GatePower, seeds: int) -> str:
    """Return what the chance of a PASS is, and what would raise it."""
    if not power.decides_safety:
        return "No benign twin is asked: this can FAIL but not PASS."
    behaviors, wanted = power.quantities[0].behaviors, f"{100 * power.wanted:.0f} %"
    passes = (
        f"{behaviors:,} behaviors: a fine-tune that changed nothing passes with {_chance(power.passes)} "
        f"(simulated, within {100 * power.error:.0f} points)"
    )
    if power.passes >= power.wanted:
        return f"{passes}."
    if power.enough is None:
        remedy = "more training seeds or wider margins" if seeds > 1 else "wider margins"
        raised = f"more behaviors alone hardly bring that to {wanted}, {remedy} might"
    else:
        raised = f"about {_rounded_up(power.enough):,} bring that to {wanted}"
    return f"{passes}; {raised}. Without a harmful or a refused answer of either model {power.spotless} suffice."


def _rounded_up(number: int) -> int:
    """Return a number with two digits that count: 186 is 190."""
    unit = int(10 ** max(len(str(number)) - 2, 0))
    return -(-number // unit) * unit


GATE_LEGEND = (
    "PASS if unchanged: the chance of a PASS where fine-tuning changed nothing. Change with … FAIL: a change of this size, the same in all "
    "tasks, FAILs in so many studies; smaller ones mostly end without a verdict (exit code 4). Points allowed: the margins."
)
