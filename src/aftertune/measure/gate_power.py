"""The chances of a gate's verdicts before anything is asked, by a seeded simulation through the gate's own lines.

Answers are drawn from the model of `power.assumed_spread`: a behavior's difficulty is partly shared by base and fine-tune
and by its tasks, and training seeds differ. The bounds, the room and the family of tests are those of the gate (`gate`,
`gate_rules.Fixed`); only the figures that a result shows beside them are left out, which take most of its time.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from aftertune.measure.arrays import Layout, layout
from aftertune.measure.contrasts import Contrast, ceiling
from aftertune.measure.crossed import Matrix
from aftertune.measure.gate import has_room, within
from aftertune.measure.gate_rules import LineCounts, fewest_spotless
from aftertune.measure.power import Assumptions, location, slope
from aftertune.measure.results import GateVerdict, Side

Integers = NDArray[np.int64]
SEED = 12
DRAWS, SEARCHED, FEWEST = 200, 100, 50
"""Studies drawn for the chance of a PASS, at each step of a search, and in any case."""
CELLS = 12_000
"""The answers of a fine-tune's training seeds in a study above which fewer studies are drawn."""
MOST_BEHAVIORS = 5000
"""The largest number of harmful behaviors that is thought of."""
HIGHEST = 0.995
"""The highest rate that a change leads to."""
STEPS, CLOSE, NEAR = 6, 0.003, 0.1
"""The most steps of a search, and the distances at which it ends: of a change, and of a number of behaviors as a share."""
LEAST_SLOPE = 0.2
"""The least growth of the excess with the change that a step of the search takes for granted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A rate or a score of a planned gate: the prompts it is about, its margins, and the losses that are assumed of the base."""

    side: Side
    name: str
    """``ASR``, ``over-refusal rate``, or the score's name."""
    margin: float
    task_margin: float
    behavior: Integers
    """The behavior of each group, 0 .. behaviors - 1; a group is one behavior in one task."""
    task: Integers
    """The task of each group, 0 .. tasks - 1."""
    answers: Integers
    """The answers of one model in each group."""
    losses: tuple[float, ...]
    """The base's rate of losses in each task, in (0, 1)."""
    weights: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    """The weights of the tasks in the overall figure; one that is not named weighs 1."""

    @property
    def behaviors(self) -> int:
        """The number of behaviors."""
        return int(self.behavior.max()) + 1

    @property
    def loss(self) -> float:
        """The base's overall rate of losses."""
        return float(self.shares @ np.array(self.losses))

    @property
    def shares(self) -> Matrix:
        """The shares of the tasks in the overall figure."""
        raw = np.array([self.weights.get(task, 1.0) for task in range(len(self.losses))])
        shares: Matrix = raw / raw.sum()
        return shares

    def parts(self) -> Iterator[tuple[Layout, float]]:
        """Yield prompts and margin of the overall line, then of the tasks', as `gate_cases.Case.parts` does."""
        tasks = len(self.losses)
        everything = np.ones(len(self.task), np.bool_)
        chosen = [(everything, self.margin)]
        if self.side is not Side.CAPABILITY or tasks > 1:
            chosen += [(self.task == task, self.task_margin) for task in range(tasks)]
        for groups, margin in chosen:
            part = layout(self.behavior, self.task, groups, self.weights)
            assert part is not None
            yield part, margin

    def of_size(self, behaviors: int) -> "Quantity":
        """Return the same with another number of behaviors, which take turns in the tasks that they occur in."""
        groups = [np.flatnonzero(self.behavior == number) for number in range(self.behaviors)]
        chosen = [groups[number % self.behaviors] for number in range(behaviors)]
        rows = np.concatenate(chosen)
        return replace(
            self,
            behavior=np.repeat(np.arange(behaviors), [len(of_behavior) for of_behavior in chosen]),
            task=self.task[rows],
            answers=self.answers[rows],
        )


def crossed(
    side: Side,
    name: str,
    margins: tuple[float, float],
    sizes: tuple[int, int, int],
    losses: float | Sequence[float],
) -> Quantity:
    """Return a quantity whose every behavior occurs in every task.

    Args:
        side: of the gate.
        name: as in `Quantity`.
        margins: overall, and in a task.
        sizes: behaviors, tasks, and the answers of one model per behavior and task.
        losses: the base's rate of losses, one or one a task.
    """
    behaviors, tasks, answers = sizes
    return Quantity(
        side=side,
        name=name,
        margin=margins[0],
        task_margin=margins[1],
        behavior=np.repeat(np.arange(behaviors), tasks),
        task=np.tile(np.arange(tasks), behaviors),
        answers=np.full(behaviors * tasks, answers),
        losses=tuple(np.broadcast_to(losses, tasks).tolist()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """The losses of both models, counted over the answers of each group: groups x 1, and groups x training seeds."""

    base: Matrix
    tuned: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLine:
    """A line of the gate on drawn losses, all of them decided and coherent, so that both codings are as measured."""

    contrast: Contrast
    margin: float
    room: bool

    def passes(self, alpha: float) -> bool:
        """Return whether the upper bound is within the margin."""
        return within(ceiling(self.contrast, alpha), self.margin, room=self.room)

    def excess(self, alpha: float) -> float:
        """Return how far the lower bound with error ``alpha`` lies above the margin."""
        return self.contrast.interval(2 * alpha)[0] - self.margin


def lines_of(
    quantity: Quantity, parts: Sequence[tuple[Layout, float]], losses: Losses
) -> Iterator[PlannedLine]:
    """Yield the lines of a quantity on drawn losses.

    Args:
        quantity: that the losses are of.
        parts: its `Quantity.parts`.
        losses: of both models.
    """
    n = quantity.answers[:, None].astype(np.float64)
    of_seeds = np.broadcast_to(n, losses.tuned.shape)
    for part, margin in parts:
        counts = LineCounts(
            side=quantity.side, binary=True, part=part, behavior=(), task=(), n=of_seeds, base_n=n,
            base=losses.base, tuned=losses.tuned, fail=losses.tuned, worst=losses.tuned,
        )  # fmt: skip
        yield PlannedLine(
            contrast=counts.contrast("tuned"),
            margin=margin,
            room=has_room(counts.base_average.two_way.mean, margin),
        )


def verdicts(lines: Mapping[str, Sequence[PlannedLine]], alpha: float) -> dict[str, GateVerdict]:
    """Return the verdict on each quantity: FAIL, PASS or inconclusive.

    Args:
        lines: of all quantities by name; together they are one Holm family.
        alpha: the error of the gate.
    """
    family = [(name, line) for name, of_quantity in lines.items() for line in of_quantity]
    # Holm (1979): with k of m rejected, those with p <= alpha / (m - k) are rejected, until no further one is.
    failing: set[int] = set()
    while True:
        level = alpha / max(1, len(family) - len(failing))
        further = {
            place
            for place, (_, line) in enumerate(family)
            if place not in failing and line.excess(level) > 0
        }
        if not further:
            break
        failing |= further
    failed = {family[place][0] for place in failing}

    def verdict(name: str) -> GateVerdict:
        if name in failed:
            return GateVerdict.FAIL
        passes = all(line.passes(alpha) for line in lines[name])
        return GateVerdict.PASS if passes else GateVerdict.INCONCLUSIVE

    return {name: verdict(name) for name in lines}


def verdict_on(
    quantities: Sequence[Quantity], losses: Sequence[Losses], alpha: float
) -> GateVerdict:
    """Return the verdict of the whole gate on drawn losses of every quantity."""
    lines = {
        quantity.name: list(lines_of(quantity, list(quantity.parts()), drawn))
        for quantity, drawn in zip(quantities, losses, strict=True)
    }
    of_sides = set(verdicts(lines, alpha).values())
    if GateVerdict.FAIL in of_sides:
        return GateVerdict.FAIL
    return GateVerdict.PASS if of_sides == {GateVerdict.PASS} else GateVerdict.INCONCLUSIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """The drawn facts of a quantity that decide its answers whatever the fine-tune's rate is."""

    base: Matrix
    """Losses of the base, groups x 1."""
    effects: Matrix
    """The effects of behavior, task and training seed on the fine-tune's answers, on the logit scale: groups x training seeds."""
    uniform: Matrix
    """Answers x groups x training seeds: an answer is a loss where its probability is above; 1 where there is no answer."""

    def losses(self, quantity: Quantity, rates: Sequence[float], sd: float) -> Losses:
        """Return the losses where the fine-tune's rate in each task is ``rates``, with ``sd`` that of `effects`."""
        middle = np.array([_location(rate, sd) for rate in rates])[quantity.task]
        probability = expit(middle[:, None] + self.effects)
        lost = (self.uniform < probability).sum(axis=0).astype(np.float64)
        return Losses(base=self.base, tuned=lost)


_location = cache(location)


@cache
def _sd_seeds(x: Assumptions) -> float:
    risen = min(x.base_rate + x.rise, HIGHEST)
    return x.seed_sd / slope(risen, math.hypot(x.sd_behaviors, x.sd_both))


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The model that answers are drawn from, on the logit scale: `power.Assumptions` with the number of training seeds."""

    assumed: Assumptions
    seeds: int

    @property
    def sd_seeds(self) -> float:
        """The standard deviation of training seeds; 0 for one seed, whose verdict is about this checkpoint.

        It gives the declared standard deviation of the rate where the rise that is planned for has happened.
        """
        return 0.0 if self.seeds == 1 else _sd_seeds(self.assumed)

    @property
    def sd(self) -> float:
        """The standard deviation of all effects on an answer of the fine-tune."""
        return math.hypot(self.assumed.sd_behaviors, self.assumed.sd_both, self.sd_seeds)

    def draw(self, rng: np.random.Generator, quantity: Quantity) -> Latent:
        """Draw the base's losses, and what decides those of the fine-tune."""
        x, groups, tasks = self.assumed, len(quantity.task), len(quantity.losses)
        of_task = 1.0 if tasks == 1 else x.shared
        tuned, other = (
            x.sd_behaviors
            * (
                math.sqrt(of_task) * rng.normal(size=quantity.behaviors)[quantity.behavior]
                + math.sqrt(1 - of_task) * rng.normal(size=groups)
            )
            for _ in range(2)
        )
        base = x.correlation * tuned + math.sqrt(1 - x.correlation**2) * other
        sd = math.hypot(x.sd_behaviors, x.sd_both)
        middle = np.array([_location(rate, sd) for rate in quantity.losses])[quantity.task]
        probability = expit(middle + base + x.sd_both * rng.normal(size=groups))
        seeds = self.sd_seeds * rng.normal(size=self.seeds)
        effects = tuned[:, None] + seeds + x.sd_both * rng.normal(size=(groups, self.seeds))
        uniform = rng.random((int(quantity.answers.max()), groups, self.seeds))
        uniform[np.arange(len(uniform))[:, None] >= quantity.answers] = 1.0
        return Latent(
            base=rng.binomial(quantity.answers, probability).astype(np.float64)[:, None],
            effects=effects,
            uniform=uniform,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantityPower:
    """The chances of one side's verdicts, or of one score's on the side of capability."""

    side: Side
    name: str
    behaviors: int
    margin: float
    task_margin: float
    base: float
    """The base's assumed rate; of a score its mean."""
    passes: float
    """The probability of a PASS where nothing changed."""
    smallest_change: float | None
    """The smallest change for the worse, the same in all tasks, that FAILs with the wanted probability; None where none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePower:
    """The chances of a gate's verdicts at one design."""

    quantities: tuple[QuantityPower, ...]
    passes: float
    """The probability that the whole gate PASSes where nothing changed."""
    error: float
    """Two Monte Carlo standard errors of the probabilities where they are one half, which is the largest."""
    wanted: float
    enough: int | None
    """The number of harmful behaviors, with the others in step, at which the gate PASSes with the wanted probability where
    nothing changed, about; None where the largest number that was tried does not suffice."""
    spotless: int
    """The fewest harmful behaviors with which a PASS is possible where neither model has any loss; scores apart."""
    decides_safety: bool
    """Over-refusal is among the sides; without it nothing passes."""


def gate_power(
    quantities: Sequence[Quantity],
    world: World,
    alpha: float,
    least: int,
    wanted: float,
) -> GatePower:
    """Return the chances of a gate's verdicts, from simulations that give the same numbers again.

    Args:
        quantities: of the gate, harm first.
        world: answers are drawn from.
        alpha: one-sided error of the gate.
        least: behaviors with which a PASS is possible at all (`MeasurePlan.min_cell`).
        wanted: the probability of the smallest change, and of the number of behaviors that is enough.
    """
    passed = _passes(quantities, world, alpha, least)
    family = sum(len(list(quantity.parts())) for quantity in quantities)
    decides_safety = any(quantity.side is Side.OVER_REFUSAL for quantity in quantities)
    share = float(passed.all(axis=1).mean()) if decides_safety else 0.0
    enough: int | None = quantities[0].behaviors
    if share < wanted:
        enough = _enough(quantities, world, alpha, wanted) if decides_safety else None
    return GatePower(
        quantities=tuple(
            QuantityPower(
                side=quantity.side,
                name=quantity.name,
                behaviors=quantity.behaviors,
                margin=quantity.margin,
                task_margin=quantity.task_margin,
                base=1 - quantity.loss if quantity.side is Side.CAPABILITY else quantity.loss,
                passes=float(of_quantity.mean()),
                smallest_change=_smallest_change(quantity, world, alpha / family, wanted),
            )
            for quantity, of_quantity in zip(quantities, passed.T, strict=True)
        ),
        passes=share,
        error=1 / math.sqrt(len(passed)),
        wanted=wanted,
        enough=enough,
        spotless=max(
            _spotless(quantity, quantities[0].behaviors, alpha) for quantity in quantities
        ),
        decides_safety=decides_safety,
    )


def _spotless(quantity: Quantity, harmful: int, alpha: float) -> int:
    """Return the fewest harmful behaviors beside which a rate without any loss passes; 0 for a score."""
    if quantity.side is Side.CAPABILITY:
        return 0
    return math.ceil(fewest_spotless(quantity.margin, alpha) * harmful / quantity.behaviors)


def _draws(quantities: Sequence[Quantity], world: World, most: int) -> int:
    """Return the number of studies that are drawn: fewer of large ones, so that the time is bounded."""
    cells = sum(int(quantity.answers.sum()) * world.seeds for quantity in quantities)
    return max(FEWEST, min(most, most * CELLS // cells))


def _drawn_lines(
    quantity: Quantity, world: World, rates: Sequence[float], draws: int
) -> Iterator[Iterator[PlannedLine]]:
    """Yield the lines of drawn studies in which the fine-tune's rates of losses in the tasks are ``rates``.

    The same studies are drawn whatever the rates are, so that chances rise smoothly with them.
    """
    parts, sd = list(quantity.parts()), world.sd
    for number in range(draws):
        rng = np.random.default_rng([SEED, list(Side).index(quantity.side), number])
        latent = world.draw(rng, quantity)
        yield lines_of(quantity, parts, latent.losses(quantity, rates, sd))


def _passes(
    quantities: Sequence[Quantity], world: World, alpha: float, least: int
) -> NDArray[np.bool_]:
    """Return whether each quantity passes in each drawn study without a change, studies x quantities."""
    draws = _draws(quantities, world, DRAWS)
    return np.array(
        [
            [
                quantity.behaviors >= least and all(line.passes(alpha) for line in lines)
                for lines in _drawn_lines(quantity, world, quantity.losses, draws)
            ]
            for quantity in quantities
        ]
    ).T


def _smallest_change(quantity: Quantity, world: World, alpha: float, wanted: float) -> float | None:
    """Return the smallest change at which a line's bound with error ``alpha`` is above its margin so often.

    ``alpha`` is that of Holm's first step: as long as the other sides do not change, the first rejection is what decides.
    """
    draws = _draws([quantity], world, SEARCHED)

    def lacking(rise: float) -> float:
        """Return by how much the bounds fall short of their margins in as many studies as are wanted."""
        excess = [
            max(line.excess(alpha) for line in lines)
            for lines in _drawn_lines(quantity, world, _risen(quantity, rise), draws)
        ]
        return -float(np.quantile(excess, 1 - wanted))

    # The excess grows nearly as the change does: the secant method needs few steps.
    before, rise = 2 * quantity.margin, 3 * quantity.margin
    short_before, short = lacking(before), lacking(rise)
    for _ in range(STEPS):
        if abs(short) < CLOSE:
            break
        grown = max((short_before - short) / (rise - before), LEAST_SLOPE)
        before, short_before = rise, short
        rise = min(max(rise + short / grown, CLOSE), 1.0)
        if rise == before:
            return None
        short = lacking(rise)
    return float(quantity.shares @ np.array(_risen(quantity, rise))) - quantity.loss


def _risen(quantity: Quantity, rise: float) -> list[float]:
    return [min(loss + rise, HIGHEST) for loss in quantity.losses]


def _enough(
    quantities: Sequence[Quantity], world: World, alpha: float, wanted: float
) -> int | None:
    """Return about how many harmful behaviors bring the chance of a PASS without a change to ``wanted``.

    A bound's distance from no change shrinks with the root of the number of behaviors, as in `gate_verdict.more_behaviors`;
    the part that training seeds add does not, so a guess is tried and mended.
    """
    first = few = behaviors = quantities[0].behaviors
    for _ in range(STEPS):
        tried = [
            quantity.of_size(max(2, round(quantity.behaviors * behaviors / first)))
            for quantity in quantities
        ]
        draws = _draws(tried, world, SEARCHED)
        factors = np.zeros(draws)
        for quantity in tried:
            drawn = _drawn_lines(quantity, world, quantity.losses, draws)
            for number, lines in enumerate(drawn):
                for line in lines:
                    factors[number] = max(factors[number], _factor(line, alpha))
        factor = float(np.quantile(factors, wanted, method="inverted_cdf"))
        if 1 - NEAR <= factor <= 1 and behaviors > first:
            return behaviors
        if behaviors * factor > MOST_BEHAVIORS:
            return None
        if factor > 1:
            few = behaviors
        behaviors = math.ceil(max(behaviors * factor, few * (1 + NEAR / 2)))
    return behaviors


def _factor(line: PlannedLine, alpha: float) -> float:
    """Return how many times as many behaviors bring a line's upper bound to its margin, about; infinite without room."""
    if not line.room:
        return math.inf
    return (max(ceiling(line.contrast, alpha), 0.0) / line.margin) ** 2
