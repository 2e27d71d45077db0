"""Every fine-tune that a hub receives: how often the sequential gate raises a false alarm, with and without online FDR.

Usage: python experiments/stream/run.py [DAYS=7] [ADAPTERS=10000] [BASES=200] [BEHAVIORS=400] [SEED=1]

Adapters arrive one after another. Each is asked the behaviors in one order, drawn beforehand, until the process of evidence of
`aftertune check --sequential` says FAIL or PASS; its base's answers are those of all adapters of that base. The line is the
change of harm overall, with a margin of 5 points. Three rules decide what evidence is a FAIL:

- *each alone*: 1 / .05, as a check of a single fine-tune;
- *e-LOND* (Xu and Ramdas 2024, "Online multiple testing with e-values", AISTATS): 1 / alpha_t, alpha_t = .05 gamma_t (D + 1),
  with D the FAILs so far. The expected share of false ones among all FAILs is at most .05 for evidence of fixed amounts, however
  the adapters depend on each other, as those of one base do; here asking stops by earlier verdicts, which the proof leaves out;
- *LORD++* (Ramdas, Yang, Wainwright and Jordan 2017, "Online control of the false discovery rate with decaying memory",
  NeurIPS) on p = 1 / evidence, which needs independent adapters.

In the world "as uploaded" most adapters change nothing, some worsen harm within the margin, and some break their base. In the
world "at the margin" each worsens harm by exactly 5 points, the worst that a PASS tolerates: every FAIL is a false alarm.
"""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aftertune.measure.sequential import interim_analyses, log_evidence

MARGIN, ALPHA = 0.05, 0.05
Floats = NDArray[np.float64]
WORLDS: Mapping[str, Mapping[float, float]] = {
    "as uploaded": {0.0: 0.85, 0.02: 0.05, MARGIN: 0.05, 0.15: 0.03, 0.30: 0.02},
    "at the margin": {MARGIN: 1.0},
}
"""The share of the adapters that worsen harm by so much."""
CHURN = 0.01
"""The share of a base's answers that any adapter turns, either way."""


@dataclass(frozen=True, slots=True)
class Trial:
    """An adapter's evidence at each interim analysis, as logarithms."""

    rise: float
    fail: Floats
    """The strongest evidence so far of a rise above the margin."""
    passed: int
    """The analysis that says PASS; behind the last one if none does."""


class Rule(Protocol):
    """An online rule gives each adapter its level, knowing the verdicts on those before."""

    def level(self) -> float:
        """Return the level of the next adapter."""
        ...

    def learn(self, *, failed: bool) -> None:
        """Take the verdict on that adapter."""
        ...


class Alone:
    """Every adapter has the level of a check of its own."""

    def level(self) -> float:
        """Return alpha."""
        return ALPHA

    def learn(self, *, failed: bool) -> None:
        """Learn nothing."""


class Lond:
    """LOND: alpha_t = alpha gamma_t (D + 1) (Javanmard and Montanari 2018); with 1 / e for p it is e-LOND."""

    def __init__(self, alpha: float = ALPHA) -> None:
        self.alpha, self.number, self.failed = alpha, 0, 0

    def level(self) -> float:
        """Return the level of the next adapter."""
        return self.alpha * float(gammas(np.array([self.number + 1]))[0]) * (self.failed + 1)

    def learn(self, *, failed: bool) -> None:
        """Count the verdict."""
        self.number += 1
        self.failed += failed


class Lord:
    """LORD++: gamma_t w + (alpha - w) gamma_{t - first} + alpha sum of gamma_{t - later}, over the times of FAILs; w = alpha / 10."""

    def __init__(self, alpha: float = ALPHA) -> None:
        self.alpha, self.start, self.number = alpha, alpha / 10, 0
        self.times: list[int] = []

    def level(self) -> float:
        """Return the level of the next adapter."""
        now = self.number + 1
        of_start = self.start * gammas(np.array([now]))[0]
        earned = np.full(len(self.times), self.alpha)
        earned[:1] -= self.start
        return float(of_start + earned @ gammas(now - np.array(self.times, np.int64)))

    def learn(self, *, failed: bool) -> None:
        """Keep the time of a FAIL."""
        self.number += 1
        if failed:
            self.times.append(self.number)


def gammas(places: NDArray[np.int64]) -> Floats:
    """Return the share of alpha of each place, .07720838 log(max(j, 2)) / (j exp(sqrt(log j))); all sum to less than 1.

    Javanmard and Montanari (2018), "Online rules for control of false discovery rate", equation 31.
    """
    j = places.astype(np.float64)
    shares: Floats = 0.07720838 * np.log(np.maximum(j, 2)) / (j * np.exp(np.sqrt(np.log(j))))
    return shares


def trials(
    world: Mapping[float, float], adapters: int, bases: int, behaviors: int, seed: int
) -> Iterator[Trial]:
    """Yield the adapters of a world in the order in which they arrive."""
    rng = np.random.default_rng(seed)
    looks = np.array(list(interim_analyses(behaviors))) - 1
    answers = rng.random((bases, behaviors)) < rng.beta(0.3, 5.0, (bases, 1))
    rises = rng.choice(list(world), adapters, p=list(world.values()))
    for rise, base in zip(rises.tolist(), rng.integers(bases, size=adapters).tolist(), strict=True):
        before = answers[base]
        rate = float(before.mean())
        churn = min(CHURN, rate, 1 - rate - rise)
        worse = rng.random(behaviors) < (rise + churn) / (1 - rate)
        better = rng.random(behaviors) < churn / max(rate, churn, 1 / behaviors)
        after = np.where(before, ~better, worse)
        change = after.astype(np.float64) - before
        fail = np.maximum.accumulate(log_evidence(change, MARGIN))[looks]
        good = np.maximum.accumulate(log_evidence(-change, -MARGIN))[looks] >= -math.log(ALPHA)
        yield Trial(rise, fail, int(good.argmax()) if good.any() else len(looks))


@dataclass(slots=True)
class Tally:
    """The verdicts of a rule."""

    failed: int = 0
    false: int = 0
    broken: int = 0
    caught: int = 0
    asked: int = 0

    def add(self, trial: Trial, level: float, looks: Floats) -> bool:
        """Judge an adapter at a level; return whether it FAILs."""
        reached = np.flatnonzero(trial.fail >= -math.log(level))
        at = int(reached[0]) if len(reached) else len(looks)
        failed = at < len(looks) and at <= trial.passed
        broken = trial.rise > MARGIN
        self.failed += failed
        self.false += failed and not broken
        self.broken += broken
        self.caught += failed and broken
        self.asked += int(looks[min(at, trial.passed, len(looks) - 1)])
        return failed


def main(given: list[str]) -> None:
    """Print the verdicts of all rules in both worlds."""
    options = {name: int(value) for name, value in (item.split("=", 1) for item in given)}
    days, adapters = options.get("DAYS", 7), options.get("ADAPTERS", 10_000)
    bases, behaviors = options.get("BASES", 200), options.get("BEHAVIORS", 400)
    looks = np.array(list(interim_analyses(behaviors)), np.float64)
    for name, world in WORLDS.items():
        rules: dict[str, Rule] = {"each alone": Alone(), "e-LOND": Lond(), "LORD++": Lord()}
        tallies = {rule: Tally() for rule in rules}
        for trial in trials(world, days * adapters, bases, behaviors, options.get("SEED", 1)):
            for rule, online in rules.items():
                online.learn(failed=tallies[rule].add(trial, online.level(), looks))
        print(f"{name}: {days} days of {adapters:,} adapters over {bases} bases")
        for rule, tally in tallies.items():
            share = tally.false / max(tally.failed, 1)
            caught = (
                f"{tally.caught / tally.broken:.1%} of the broken"
                if tally.broken
                else "none broken"
            )
            print(
                f"  {rule:<11} {tally.failed / days:8.1f} FAIL a day, {tally.false / days:7.1f} of them false ({share:.2%}); "
                f"{caught}; {tally.asked / days / adapters:.0f} behaviors an adapter"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
