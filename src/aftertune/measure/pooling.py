"""The settings of a study (system prompts x decodings) taken together: the counts of the prompts that all of them share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from aftertune.measure.arrays import Arms, Grid, Layout, grid, task_scale
from aftertune.measure.counts import Counts, N, Tally
from aftertune.measure.crossed import Matrix
from aftertune.measure.plan import Condition

SYSTEM, DECODING = 0, 1
"""Places of the two factors in the name of a setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled(Grid):
    """The prompts that all models were asked under every setting, with counts over all settings or some of them."""

    levels: tuple[tuple[tuple[str, str], NDArray[np.intp]], ...]
    """(system prompt, decoding), and prompts x models: the row of each in the counted."""

    def counts(self, tally: Tally) -> Matrix:
        """Return a tally as prompts x models, summed over the settings."""
        summed: Matrix = self.counts_by_level(tally).sum(axis=0)
        return summed

    def counts_by_level(self, tally: Tally) -> Matrix:
        """Return a tally as settings x prompts x models; zeros where nothing of the kind was counted."""
        column = self.counted.tallies.get(tally)
        if column is None:
            return np.zeros((len(self.levels), *self.rows.shape))
        return np.stack([column[rows] for _, rows in self.levels]).astype(np.float64)

    def at(self, factor: int, name: str) -> "Pooled":
        """Return the part with one level of a factor, `SYSTEM` or `DECODING`."""
        return self._with([level for level in self.levels if level[0][factor] == name])

    def of_models(self, columns: slice) -> "Pooled":
        """Return the part with some of the models."""
        return self._with([(names, rows[:, columns]) for names, rows in self.levels])

    def _with(self, levels: Sequence[tuple[tuple[str, str], NDArray[np.intp]]]) -> "Pooled":
        return Pooled(
            counted=self.counted,
            rows=levels[0][1],
            prompts=self.prompts,
            weights=self.weights,
            layouts=self.layouts,
            levels=tuple(levels),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledCondition:
    """A condition with its counts, and those of its base on the same prompts."""

    condition: Condition
    own: Pooled
    base: Pooled | None
    """None for a base."""

    @property
    def arms(self) -> Arms | None:
        """Fine-tune and base; None for a base."""
        return None if self.base is None else Arms(tuned=self.own, base=self.base)


def pool(counted: Counts, models: Sequence[int], weights: Mapping[int, float]) -> Pooled | None:
    """Return the prompts that all ``models`` were asked under every setting in which all of them occur; None without any."""
    grids = [
        (names, shared)
        for place, names in enumerate(counted.settings)
        if (shared := grid(counted, place, models, weights)) is not None
    ]
    if not grids:
        return None
    prompts = reduce(np.intersect1d, [shared.prompts for _, shared in grids])
    if not len(prompts):
        return None
    levels = tuple(
        (names, shared.rows[np.searchsorted(shared.prompts, prompts)]) for names, shared in grids
    )
    return Pooled(
        counted=counted, rows=levels[0][1], prompts=prompts, weights=weights, levels=levels
    )


def decoding_noise(pooled: Pooled, part: Layout, hit: Tally) -> Matrix | None:
    """Return the variance that decoding again gives each cell mean (behaviors x training seeds).

    From the repeats of a prompt under one setting and training seed; None where one of them was asked once, so that
    nothing is known.
    """
    of_runs = []
    for n, hits in _repeats(pooled, part, hit):
        if (n < 2).any():
            return None
        p = hits / n
        # A cell mean is sum(hits) / sum(n). Each of its binomials has the unbiased variance n p (1 - p) n / (n - 1).
        variance = np.add.reduceat((n * n / (n - 1) * p * (1 - p)).sum(axis=0), part.starts, axis=0)
        size = np.add.reduceat(n.sum(axis=0), part.starts, axis=0)
        noise = np.zeros((part.behaviors, pooled.seeds))
        scale = task_scale(part)[part.task, None] ** 2
        np.add.at(noise, part.behavior, scale * variance / size**2)
        of_runs.append(noise)
    mean: Matrix = np.mean(of_runs, axis=0)
    return mean


def decoding_flips(pooled: Pooled, part: Layout, hit: Tally) -> float | None:
    """Return the probability that two answers of one model to a prompt differ; None where one of them was asked once."""
    of_runs = []
    for n, hits in _repeats(pooled, part, hit):
        if (n < 2).any():
            return None
        p = hits / n
        # Two of the n answers of a cell differ with probability 2 n / (n - 1) p (1 - p), without bias.
        of_runs.append(float((2 * n / (n - 1) * p * (1 - p)).mean()))
    return float(np.mean(of_runs))


def _repeats(pooled: Pooled, part: Layout, hit: Tally) -> Iterator[tuple[Matrix, Matrix]]:
    """Yield answers and hits, settings x prompts x models, among which repeats of a prompt are draws of their own.

    The replicates of a draw are no further draws: where a replicate has several, each replicate stands by itself.
    """
    runs = pooled.runs
    several = runs and (runs[0].counts_by_level(N)[:, part.order] > 1).all()
    for repeated in runs if several else (pooled,):
        n, hits = (repeated.counts_by_level(tally)[:, part.order] for tally in (N, hit))
        yield n, hits
