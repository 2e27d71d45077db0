"""The noise of a figure whose very same calls are made several times (replicates), on the very same prompts.

A greedy answer differs from run to run on a GPU and on a server. Two things are told apart, by the two-way layout of
behaviors x replicates:

- *Single answers* turn by themselves. The replicates of a behavior are averaged in its row, so that what is left of this
  noise is in the spread over behaviors already. It is reported, and no interval over prompts has it added a second time.
- *A run as a whole* may lie higher or lower than another one (a server's other batches, another kernel). That moves all
  prompts together and shows in no spread over behaviors. It is what the means of the replicates differ by beyond the first
  kind, and it is added to the variance of a change, with as many degrees of freedom as replicates less one.

An interval that speaks of these very prompts has no other width than both of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aftertune.measure.arrays import Arms, Average, Grid
from aftertune.measure.contrasts import Contrast, ceiling
from aftertune.measure.crossed import Matrix, chance_share, quantiles, two_way
from aftertune.measure.results import Bounds, Noise

TURNED = 2
"""Answers that are taken to have turned beside those that did: z^2 / 2, so that few turns, or none, are not no noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunVariance:
    """The variance that noise gives one run's figure on these very prompts."""

    replicates: int
    """R, the number of runs."""
    means: float
    """The variance of the runs' figures as they are: MSR / n."""
    single: float
    """D, the part of it that single answers explain: MSI / n."""
    unseen: float
    """The variance of `TURNED` answers more."""
    turned: float
    """Share of the behaviors whose value is not the same in every run."""

    @property
    def run(self) -> float:
        """tau^2 = max(0, MSR - MSI) / n, the variance of a whole run; 0 where single answers explain how the means differ."""
        return max(0.0, self.means - self.single)

    def added(self, alpha: float) -> float:
        """Return what the effect of the run adds to the squared half width of an interval over prompts: t_{R-1}^2 tau^2 / R."""
        return self._student(alpha) * self.run / self.replicates

    def half_width(self, alpha: float) -> float:
        """Return the half width of the interval of the mean over the runs, on these prompts.

        It is the root of z^2 (D + unseen) / R + t_{R-1}^2 max(0, MSR - c MSI) / (n R). Few runs often look alike by chance,
        so two and three of them have less than MSI taken off (c: `crossed.chance_share`, as for a limit to be kept).
        """
        z = quantiles(alpha, 1.0)[0]
        share = chance_share(self.replicates, cautious=True)
        beyond_chance = max(0.0, self.means - share * self.single)
        squared = z * z * (self.single + self.unseen) + self._student(alpha) * beyond_chance
        return math.sqrt(squared / self.replicates)

    def _student(self, alpha: float) -> float:
        return quantiles(alpha, self.replicates - 1.0)[1] ** 2

    @property
    def noise(self) -> Noise:
        """The noise as a result."""
        return Noise(
            replicates=self.replicates,
            floor=self.half_width(0.05),
            one_run=quantiles(0.05, 1.0)[0] * math.sqrt(self.single + self.unseen + self.run),
            run_sd=math.sqrt(self.run),
            turned=self.turned,
        )


def run_variance(x: Matrix, step: float) -> RunVariance | None:
    """Return the noise in behaviors x replicates; None for a single behavior or replicate.

    MSR and MSI are the mean squares of runs and of the interaction in the two-way layout. `TURNED` answers more are taken
    to have turned, each of which adds step^2 / R to a behavior's variance (Agresti and Coull 1998, Am Stat 52:119, do so
    for a proportion). Simulated: tests/measure/test_measure_noise.py.

    Args:
        x: a figure's rows in every run; their mean is the figure.
        step: what one answer that turns changes in a row; 0 where none can.
    """
    n, replicates = x.shape
    if n == 1 or replicates == 1:
        return None
    squares = two_way(x)
    return RunVariance(
        replicates=replicates,
        means=squares.ms_seeds / n,
        single=squares.ms_interaction / n,
        unseen=TURNED * step * step / (replicates * n * n),
        turned=float((np.ptp(x, axis=1) > 0).mean()),
    )


Rows = Callable[[Arms], Matrix]
"""Returns the rows of a figure of both arms (behaviors x training seeds); its mean is the figure."""


def change_noise(arms: Arms, whole: Average, rows: Rows) -> RunVariance | None:
    """Return the noise of a figure of two arms; None without replicates.

    Args:
        arms: both arms.
        whole: an average of the arm in which one answer weighs most: the base's.
        rows: the figure.
    """
    fixed = arms.tuned.deterministic and arms.base.deterministic
    runs = (
        Arms(tuned=tuned, base=base)
        for tuned, base in zip(arms.tuned.runs, arms.base.runs, strict=True)
    )
    return noise_of([rows(run).mean(axis=1) for run in runs], whole, fixed=fixed)


def rate_noise(grid: Grid, whole: Average, rows: Callable[[Grid], Matrix]) -> RunVariance | None:
    """Return the noise of a figure of one arm; None without replicates."""
    means = [rows(run).mean(axis=1) for run in grid.runs]
    return noise_of(means, whole, fixed=grid.deterministic)


def noise_of(means: Sequence[Matrix], whole: Average, *, fixed: bool) -> RunVariance | None:
    """Return the noise in the rows of a figure, run by run (each over the behaviors); None without replicates.

    Args:
        means: the rows of each run.
        whole: an average of the arm in which one answer weighs most.
        fixed: the replicates of all models are one call, so that no answer can turn.
    """
    if not means:
        return None
    answers = whole.n / (len(whole.matrix) * len(means))
    return run_variance(np.stack(means, axis=1), 0.0 if fixed else 1 / answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class WithRuns:
    """A contrast with the effect of the run added to its variance: each side is the root of the sum of both squares."""

    contrast: Contrast
    runs: RunVariance

    @property
    def method(self) -> str:
        """The name of its intervals."""
        return f"{self.contrast.method}, run effect added"

    @property
    def estimate(self) -> float:
        """The difference."""
        return self.contrast.estimate

    def interval(self, alpha: float) -> Bounds:
        """Return the two-sided 1 - ``alpha`` interval."""
        return wider(self.contrast.interval(alpha), self.estimate, self.runs.added(alpha))

    def ceiling(self, alpha: float) -> float:
        """Return the upper end of the interval with limits that rise with the hits (`contrasts.ceiling`)."""
        limits = self.estimate, ceiling(self.contrast, alpha / 2)
        return wider(limits, self.estimate, self.runs.added(alpha))[1]


def wider(limits: Bounds, estimate: float, added: float) -> Bounds:
    """Return limits about an estimate with a part added to the square of each side."""
    low, high = limits
    return (
        estimate - math.sqrt((estimate - low) ** 2 + added),
        estimate + math.sqrt((high - estimate) ** 2 + added),
    )


def wider_rate(
    limits: Bounds, estimate: float, runs: RunVariance | None, alpha: float = 0.05
) -> Bounds:
    """Return the limits of a rate with the effect of the run added, if there is one."""
    if runs is None or not runs.run:
        return limits
    low, high = wider(limits, estimate, runs.added(alpha))
    return max(0.0, low), min(1.0, high)


def with_runs(contrast: Contrast, runs: RunVariance | None) -> Contrast:
    """Return a contrast with the effect of the run added, if there is one."""
    return contrast if runs is None or not runs.run else WithRuns(contrast=contrast, runs=runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnThesePrompts:
    """A figure on these very prompts: noise is the whole interval."""

    estimate: float
    runs: RunVariance
    method: str = "noise between replicates"

    def interval(self, alpha: float) -> Bounds:
        """Return the two-sided 1 - ``alpha`` interval."""
        half = self.runs.half_width(alpha)
        return self.estimate - half, self.estimate + half
