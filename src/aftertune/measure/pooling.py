"""Several settings (system prompts, temperatures) of the same prompts and models taken together, cell by cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from aftertune.measure.averaging import Layout, task_scale
from aftertune.measure.cells import Cells, N, Tally
from aftertune.measure.crossed import Matrix
from aftertune.measure.grids import Grid, grid
from aftertune.measure.results import Jsonable


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled(Grid):
    """The prompts that all models were asked under every setting, with counts over all of them or some."""

    levels: tuple[tuple[tuple[str, str], NDArray[np.intp]], ...]
    """(system, decoding) -> prompts x models: the cell of each."""

    def counts(self, tally: Tally) -> Matrix:
        """Return a tally as prompts x models, summed over the settings."""
        summed: Matrix = self.counts_by_level(tally).sum(axis=0)
        return summed

    def counts_by_level(self, tally: Tally) -> Matrix:
        """Return a tally as settings x prompts x models; zeros where nothing of the kind was counted."""
        column = self.cells.tallies.get(tally)
        if column is None:
            return np.zeros((len(self.levels), *self.rows.shape))
        return np.stack([column[rows] for _, rows in self.levels]).astype(np.float64)

    def at(self, place: int, name: str) -> "Pooled":
        """Return the part with one level of a factor: ``place`` 0 is the system prompt, 1 the decoding."""
        return self._with([level for level in self.levels if level[0][place] == name])

    def of_models(self, columns: slice) -> "Pooled":
        """Return the part with some of the models."""
        levels = tuple((names, rows[:, columns]) for names, rows in self.levels)
        return self._with(levels)

    def _with(self, levels: Sequence[tuple[tuple[str, str], NDArray[np.intp]]]) -> "Pooled":
        return Pooled(
            cells=self.cells,
            rows=levels[0][1],
            prompts=self.prompts,
            weights=self.weights,
            layouts=self.layouts,
            levels=tuple(levels),
        )


def pool(cells: Cells, models: Sequence[int], weights: Mapping[int, float]) -> Pooled | None:
    """Return what all ``models`` were asked under every setting that all of them were asked under; None if nothing."""
    found = [
        (names, grid(cells, place, models, weights)) for place, names in enumerate(cells.settings)
    ]
    grids = [(names, each) for names, each in found if each is not None]
    if not grids:
        return None
    prompts = reduce(np.intersect1d, [each.prompts for _, each in grids])
    if not len(prompts):
        return None
    levels = tuple(
        (names, each.rows[np.searchsorted(each.prompts, prompts)]) for names, each in grids
    )
    return Pooled(cells=cells, rows=levels[0][1], prompts=prompts, weights=weights, levels=levels)


def decoding_noise(pooled: Pooled, part: Layout, hit: Tally) -> Matrix | None:
    """Return the variance that decoding anew gives each cell of the folded matrix (behaviors x training seeds).

    From the repeats inside a prompt, setting and seed; None where one of them was asked once, so that nothing is known.
    """
    n, hits = (pooled.counts_by_level(tally)[:, part.order] for tally in (N, hit))
    if (n < 2).any():
        return None
    share = hits / n
    of_sum = np.add.reduceat(
        (n * n / (n - 1) * share * (1 - share)).sum(axis=0), part.starts, axis=0
    )
    size = np.add.reduceat(n.sum(axis=0), part.starts, axis=0)
    noise = np.zeros((part.behaviors, pooled.seeds))
    np.add.at(noise, part.behavior, task_scale(part)[part.task, None] ** 2 * of_sum / size**2)
    return noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips(Jsonable):
    """How often single answers change, over prompts, settings and training seeds."""

    decoding: float | None
    """Probability that two decodings of one model differ; None where each prompt was asked once."""
    seed: float | None
    """Probability that two training seeds differ on a prompt; None for one seed."""
    any: float
    """Share of prompts that were answered harmfully by some run and not by all."""


def flips(pooled: Pooled, part: Layout, hit: Tally) -> Flips:
    """Return the flip rates of the prompts of a layout."""
    n, hits = (pooled.counts_by_level(tally)[:, part.order] for tally in (N, hit))
    share, seeds = hits / n, pooled.seeds
    decoding = None if (n < 2).any() else float((2 * n / (n - 1) * share * (1 - share)).mean())
    total, squares = share.sum(axis=2), (share**2).sum(axis=2)
    pairs = (seeds - 1) * total - (total**2 - squares)
    whole, of = hits.sum(axis=(0, 2)), n.sum(axis=(0, 2))
    return Flips(
        decoding=decoding,
        seed=float(pairs.mean() / (seeds * (seeds - 1) / 2)) if seeds > 1 else None,
        any=float(((whole > 0) & (whole < of)).mean()),
    )
