"""The sequential gate: behaviors are asked in an order drawn beforehand, until the evidence decides.

A process of evidence starts at 1 and bets, behavior by behavior, that the mean lies above a margin. While the mean lies at
or under the margin the process is a non-negative supermartingale, so it ever reaches 1 / alpha with probability at most
alpha (Ville's inequality): its verdict is valid whenever one stops. Bets are a fixed mixture over nineteen shares of the
capital; nothing is tuned to the data.

Source: Waudby-Smith and Ramdas (2024), J R Statist Soc B 86:1; without replacement also Stark (2023), Ann Appl Stat
17:641 (ALPHA).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from aftertune.core.keys import content_key
from aftertune.core.records import Prompt
from aftertune.measure.crossed import Matrix
from aftertune.measure.gate_rules import Level, LineBounds, LineCounts, p_certain
from aftertune.measure.intervals import bisect
from aftertune.measure.results import (
    Bounds,
    Change,
    GateResult,
    GateVerdict,
    RuleName,
    Scope,
    Side,
    Stopping,
    interval,
    scope_of_checkpoints,
)

FIRST, GROWTH = 10, 5
"""Behaviors of the first interim analysis; each further one adds a fifth of those before, at least half of the first."""
Answers = TypeVar("Answers")
Vector = NDArray[np.float64]
BETS = np.arange(1, 20) / 20
"""Shares of the capital that are bet, mixed with equal weights."""
_NOTHING = 1e-9


def log_evidence(x: Vector, margin: float, low: float = -1.0, total: int | None = None) -> Vector:
    """Return the log of the evidence against "the mean is at most ``margin``" after each value of ``x``.

    Args:
        x: the values in the order drawn beforehand; every one is at least ``low``.
        margin: the largest mean that is tolerated.
        low: the least possible value.
        total: None where the values are draws from prompts like these. The number of all behaviors where the question is
            their own mean: ``x`` is then drawn from them without replacement, and the margin of the rest moves with the
            values so far. The evidence is infinite once no rest could bring the mean down to the margin.
    """
    if total is None:
        null = np.full(len(x), margin)
        certain = np.maximum.accumulate(x > low) & (margin <= low)
    else:
        # Without replacement m_i = (N margin - sum of the values before i) / (N - i + 1).
        drawn, sums = np.arange(1, len(x) + 1), x.cumsum()
        null = (total * margin - np.concatenate([[0.0], sums[:-1]])) / (total - drawn + 1)
        certain = total * margin - sums < low * (total - drawn) - _NOTHING
    room = null - low
    gain = np.divide(x - null, room, out=np.zeros_like(x), where=room > _NOTHING)
    # K_t = (1 / 19) sum over bets b of prod_i (1 + b (x_i - m_i) / (m_i - low)), m_i the null mean of value i.
    steps = np.log1p(BETS[:, None] * np.maximum(gain, -1.0)).cumsum(axis=1)
    logs: Vector = np.logaddexp.reduce(steps, axis=0) - math.log(len(BETS))
    logs[certain] = math.inf
    return logs


def evidence_above(x: Vector, margin: float, low: float = -1.0, total: int | None = None) -> float:
    """Return the largest evidence so far that the mean lies above ``margin``."""
    logs = log_evidence(x, margin, low, total)
    return math.exp(min(max(float(logs.max(initial=0.0)), 0.0), 700.0))


def evidence_below(x: Vector, margin: float, high: float = 1.0, total: int | None = None) -> float:
    """Return the largest evidence so far that the mean lies under ``margin``; no value exceeds ``high``."""
    return evidence_above(-x, -margin, -high, total)


def lower_limit(
    x: Vector, alpha: float, low: float = -1.0, high: float = 1.0, total: int | None = None
) -> float:
    """Return the largest mean that the evidence speaks against with error ``alpha``, whenever one stops.

    Evidence that was reached once counts for good, so the limit never falls; the mean of all values may fall under it later.
    """
    if evidence_above(x, low, low, total) < 1 / alpha:
        return low
    return bisect(lambda margin: evidence_above(x, margin, low, total) < 1 / alpha, low, high)


def upper_limit(
    x: Vector, alpha: float, low: float = -1.0, high: float = 1.0, total: int | None = None
) -> float:
    """Return the smallest mean that the evidence speaks against with error ``alpha``, whenever one stops."""
    return -lower_limit(-x, alpha, -high, -low, total)


def limits_now(
    x: Vector, alpha: float, reach: float, total: int | None = None
) -> tuple[float, float]:
    """Return the limits, each with error ``alpha``, by the evidence as it stands after the last value.

    They hold whenever one stops, as the limits by the strongest evidence so far do, and are never narrower. The mean of
    ``x`` lies between them: at that margin no bet has gained (without replacement hardly any, so the limits are widened to
    the mean where they must be).
    """
    mean = float(x.mean())
    return min(_limit_now(x, alpha, reach, total), mean), max(
        -_limit_now(-x, alpha, reach, total), mean
    )


def _limit_now(x: Vector, alpha: float, reach: float, total: int | None) -> float:
    def weak(margin: float) -> bool:
        return float(log_evidence(x, margin, -reach, total)[-1]) < -math.log(alpha)

    return -reach if weak(-reach) else bisect(weak, -reach, reach)


def fewest_to_pass(margin: float, alpha: float, high: float = 1.0) -> int:
    """Return the number of behaviors without any change that shows that the mean lies under ``margin``."""
    grown = np.log1p(BETS * margin / (high - margin))
    n = 1
    while np.logaddexp.reduce(n * grown) - math.log(len(BETS)) < -math.log(alpha):
        n += 1
    return n


Tasks = Mapping[str, frozenset[str]]
"""Behavior -> the tasks that it occurs in, in the order drawn beforehand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The behaviors of a sequential gate in the order drawn beforehand, with the tasks that each occurs in."""

    tasks: Tasks
    """The harmful behaviors."""
    benign: Tasks = field(default_factory=lambda: MappingProxyType({}))
    """The benign behaviors of all sides: a twin comes with its harmful behavior, the others are spread evenly."""
    probes: frozenset[str] = frozenset()
    """The benign behaviors on which over-refusal is measured."""
    share: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Behavior -> the share of all behaviors, in (0, 1], after which its prompts have been asked."""
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """The weights of the tasks in the overall figure; one that is not named weighs 1."""

    @property
    def digest(self) -> str:
        """The hash of the order of the harmful behaviors (32 hexadecimal digits), which draws that of the others."""
        return content_key(
            "order", [[name, sorted(tasks)] for name, tasks in self.tasks.items()]
        ).hex()

    def of(self, side: Side) -> Tasks:
        """Return the behaviors of a side."""
        if side is Side.HARM:
            return self.tasks
        if side is Side.OVER_REFUSAL:
            return {name: there for name, there in self.benign.items() if name in self.probes}
        return self.benign

    def numbers(self, side: Side) -> dict[str, int]:
        """Return the number of behaviors of a side: ``overall``, and in each task by name."""
        behaviors = self.of(side)
        return {"overall": len(behaviors)} | {
            task: sum(task in there for there in behaviors.values())
            for task in sorted(tasks_of(behaviors))
        }

    def shares(self, behaviors: Tasks, tasks: frozenset[str]) -> dict[str, dict[str, float]]:
        """Return behavior -> task -> the weight of its mean there in a figure over ``tasks``; the mean over all is 1.

        The weight is w_t N / n_t, as in `arrays.fold`: N behaviors, n_t of them in task t.
        """
        chosen = {name: there & tasks for name, there in behaviors.items() if there & tasks}
        total = sum(self.weights.get(task, 1.0) for task in tasks)
        weight = {
            task: self.weights.get(task, 1.0)
            / total
            * len(chosen)
            / sum(task in there for there in chosen.values())
            for task in tasks
        }
        return {name: {task: weight[task] for task in there} for name, there in chosen.items()}


def tasks_of(behaviors: Tasks) -> frozenset[str]:
    """Return the tasks that occur."""
    return frozenset(task for there in behaviors.values() for task in there)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequential:
    """Behaviors come in a declared order, and bets on them decide as soon as they can, at any interim analysis."""

    alpha: float
    order: Order
    these_prompts: bool = False
    """The scope is the prompts of the order themselves, so that they are drawn without replacement."""
    name: RuleName = "sequential"

    def scope(self, seeds: int) -> Scope:
        """Return the scope of these checkpoints: no bet on behaviors says anything about new training seeds."""
        return scope_of_checkpoints(seeds, these_prompts=self.these_prompts)

    def decide(self, counts: LineCounts, margin: float) -> LineBounds:
        """Return the limits of the change that hold whenever one stops."""
        base, reach, total = self._behaviors(counts, counts.base, counts.base_n)
        fail, worst = (
            self._behaviors(counts, sums, counts.n)[0] - base
            for sums in (counts.fail, counts.worst)
        )
        lower, p_fail = self._lower(fail, margin, reach, total)
        return LineBounds(
            lower=lower,
            p_fail=p_fail,
            worst=float(worst.mean()),
            upper=-self._lower(-worst, -margin, reach, total)[0],
        )

    def level(self, counts: LineCounts, limit: float | None) -> Level:
        """Return the limits of the fine-tune's own rate that hold whenever one stops."""
        measured, reach, total = self._behaviors(counts, counts.tuned, counts.n)
        highest = self._behaviors(counts, counts.worst, counts.n)[0]
        if len(measured) == total:
            low, high = float(measured.mean()), float(highest.mean())
            return Level(lower=low, upper=high, p_fail=p_certain(low, limit))
        p = None if limit is None else 1 / evidence_above(measured, limit, 0.0, total)
        return Level(
            lower=lower_limit(measured, self.alpha, 0.0, reach, total),
            upper=min(1.0, upper_limit(highest, self.alpha, 0.0, reach, total)),
            p_fail=p,
        )

    def shown(self, change: Change, counts: LineCounts) -> Change:
        """Return the change with intervals and a p-value that hold whenever one stops.

        The intervals are by the evidence as it stands, so the change lies in them; the bounds that decide (`decide`) rest on
        the strongest so far.
        """
        base, reach, total = self._behaviors(counts, counts.base, counts.base_n)
        x = self._behaviors(counts, counts.tuned, counts.n)[0] - base
        about = self.scope(counts.n.shape[1])
        wide, narrow = (
            interval(
                _limits_about(x, change.estimate, (1 - level) / 2, reach, total),
                "betting confidence sequence",
                about,
                level,
            )
            for level in (0.95, 0.90)
        )
        strongest = max(evidence_above(x, 0.0, -reach, total), evidence_below(x, 0.0, reach, total))
        return replace(
            change,
            interval=wide,
            interval90=narrow,
            p_value=min(1.0, 2 / strongest),
            method="betting e-process",
            pairs=None,
        )

    def _lower(
        self, x: Vector, margin: float, reach: float, total: int | None
    ) -> tuple[float, float]:
        if len(x) == total:
            return float(x.mean()), 0.0 if x.mean() > margin else 1.0
        evidence = evidence_above(x, margin, -reach, total)
        return lower_limit(x, self.alpha, -reach, reach, total), 1 / evidence

    def _behaviors(
        self, counts: LineCounts, sums: Matrix, n: Matrix
    ) -> tuple[Vector, float, int | None]:
        """Return the contribution of each behavior, in order; the largest possible one; and the number to draw from."""
        shares = self._shares(counts)
        total = np.add.reduceat(sums[counts.part.order], counts.part.starts, axis=0)
        size = np.add.reduceat(n[counts.part.order], counts.part.starts, axis=0)
        means = (total / size).mean(axis=1)
        place = {name: row for row, name in enumerate(shares)}
        rows = np.array([place[name] for name in counts.behavior])
        weight = np.array(
            [shares[name][task] for name, task in zip(counts.behavior, counts.task, strict=True)]
        )
        added = np.bincount(rows, weight * means, minlength=len(shares)).astype(np.float64)
        present = np.zeros(len(shares), np.bool_)
        present[rows] = True
        reach = max(sum(there.values()) for there in shares.values())
        return added[present], reach, len(shares) if self.these_prompts else None

    def _shares(self, counts: LineCounts) -> dict[str, dict[str, float]]:
        """Return the weights of the behaviors of a line, in order."""
        tasks, behaviors = frozenset(counts.task), self.order.of(counts.side)
        if counts.side is Side.CAPABILITY:
            # Which rows a metric scores shows only when they are answered: the weights are those of the rows so far.
            there: dict[str, set[str]] = {}
            for name, task in zip(counts.behavior, counts.task, strict=True):
                there.setdefault(name, set()).add(task)
            ordered = {name: frozenset(there[name]) for name in behaviors if name in there}
            return self.order.shares(ordered, tasks)
        return self.order.shares(behaviors, tasks if len(tasks) == 1 else tasks_of(behaviors))


def _limits_about(
    x: Vector, estimate: float, alpha: float, reach: float, total: int | None
) -> Bounds:
    """Return limits about the printed change, which is the mean of ``x`` but for behaviors that miss tasks."""
    if len(x) == total:
        return float(x.mean()), float(x.mean())
    low, high = limits_now(x, alpha, reach, total)
    return max(min(low, estimate), -1.0), min(max(high, estimate), 1.0)


def interim_analyses(behaviors: int) -> Iterator[int]:
    """Yield the number of behaviors at each interim analysis; the last is all of them."""
    number = min(FIRST, behaviors)
    while number < behaviors:
        yield number
        number = min(behaviors, number + max(FIRST // 2, number // GROWTH))
    yield behaviors


def first_prompts(prompts: Sequence[Prompt], order: Order, behaviors: int) -> tuple[Prompt, ...]:
    """Return the prompts of the first harmful behaviors of the order, of their twins, and as large a share of all others."""
    reached = behaviors / len(order.tasks) + 1e-9
    chosen = [prompt for prompt in prompts if order.share[prompt.behavior] <= reached]
    return tuple(sorted(chosen, key=lambda prompt: order.share[prompt.behavior]))


def until_decided(
    prompts: Sequence[Prompt],
    order: Order,
    ask: Callable[[Sequence[Prompt]], Answers],
    decide: Callable[[Answers], GateResult],
    advance: Callable[[int], None],
) -> tuple[Answers, Stopping]:
    """Ask behaviors in their order until the gate says PASS or FAIL, or there are no more.

    Args:
        prompts: of all behaviors.
        order: of the behaviors.
        ask: puts prompts to all models, those of earlier calls included. Stored answers are not asked again, so that a run
            that was killed goes through the same interim analyses to the same verdict.
        decide: the gate, on what ``ask`` returns.
        advance: counts behaviors that are done.
    """
    before = 0
    for behaviors in interim_analyses(len(order.tasks)):
        chosen = first_prompts(prompts, order, behaviors)
        answers = ask(chosen)
        advance(behaviors - before)
        before = behaviors
        if decide(answers).verdict in (GateVerdict.PASS, GateVerdict.FAIL):
            break
    return answers, Stopping(
        behaviors=before,
        of_behaviors=len(order.tasks),
        prompts=len(chosen),
        of_prompts=len(prompts),
    )
