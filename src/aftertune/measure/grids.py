"""The prompts that the models of a comparison share, with their counts as prompts x training seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from aftertune.measure.averaging import Layout, layout
from aftertune.measure.cells import BENIGN_INTENT, HARMFUL_INTENT, Cells, Tally
from aftertune.measure.crossed import Matrix
from aftertune.measure.results import Breakdown

T = TypeVar("T")
DIMENSION_FIELDS = {
    "task": "by_task",
    "set": "by_set",
    "harm_basis": "by_harm_basis",
    "hazard": "by_hazard",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """One arm of a comparison: some models and the prompts that all of them, and the other arm, were asked."""

    cells: Cells
    rows: NDArray[np.intp]
    """Prompts x models: the cell of each."""
    prompts: NDArray[np.int64]
    weights: Mapping[int, float]
    """Of the tasks, by code."""
    layouts: dict[tuple[str, int, bytes], Layout | None] = field(default_factory=dict)
    """Foldings already worked out; shared by the arms of a comparison."""
    tallied: dict[Tally, Matrix] = field(default_factory=dict, init=False, repr=False)
    """Tallies already looked up."""

    @property
    def seeds(self) -> int:
        """The number of models."""
        return int(self.rows.shape[1])

    def counts(self, tally: Tally) -> Matrix:
        """Return a tally as prompts x models; zeros where nothing of the kind was counted."""
        if tally not in self.tallied:
            column = self.cells.tallies.get(tally)
            found = (
                np.zeros(self.rows.shape)
                if column is None
                else column[self.rows].astype(np.float64)
            )
            found.setflags(write=False)
            self.tallied[tally] = found
        return self.tallied[tally]

    def attribute(self, dimension: str) -> NDArray[np.int32]:
        """Return the code of a dimension for each prompt."""
        return self.cells.attributes[dimension][self.prompts]

    def choose(self, dimension: str, code: int, among: NDArray[np.bool_]) -> Layout | None:
        """Return the folding of the prompts with a code (``overall``: all) among the given ones."""
        key = (dimension, code, among.tobytes())
        if key not in self.layouts:
            chosen = (
                among if dimension == "overall" else among & (self.attribute(dimension) == code)
            )
            self.layouts[key] = layout(
                self.attribute("behavior"), self.attribute("task"), chosen, self.weights
            )
        return self.layouts[key]

    def intent(self, *, harmful: bool) -> NDArray[np.bool_]:
        """Return which prompts are harmful, or which are benign."""
        chosen: NDArray[np.bool_] = self.attribute("intent") == (
            HARMFUL_INTENT if harmful else BENIGN_INTENT
        )
        return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """A fine-tune and its base on the same prompts."""

    tuned: Grid
    base: Grid


def grid(
    cells: Cells, setting: int, models: Sequence[int], weights: Mapping[int, float]
) -> Grid | None:
    """Return the prompts that all ``models`` were asked under a setting; None if there are none."""
    slices = [cells.slice_of(setting, model) for model in models]
    prompts = _shared([cells.prompts[part] for part in slices])
    if not len(prompts):
        return None
    return Grid(cells=cells, rows=_rows(cells, slices, prompts), prompts=prompts, weights=weights)


def arms(
    cells: Cells,
    setting: int,
    tuned: Sequence[int],
    base: Sequence[int],
    weights: Mapping[int, float],
) -> Arms | None:
    """Return both arms on the prompts that all their models were asked; None if there are none."""
    joint = grid(cells, setting, [*tuned, *base], weights)
    if joint is None:
        return None
    split = len(tuned)
    parts = (joint.rows[:, :split], joint.rows[:, split:])
    one, other = (
        Grid(cells=cells, rows=rows, prompts=joint.prompts, weights=weights, layouts=joint.layouts)
        for rows in parts
    )
    return Arms(tuned=one, base=other)


def _shared(lists: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    if all(np.array_equal(lists[0], other) for other in lists[1:]):
        return lists[0]
    return reduce(lambda one, other: np.intersect1d(one, other, assume_unique=True), lists)


def _rows(cells: Cells, slices: Sequence[slice], prompts: NDArray[np.int64]) -> NDArray[np.intp]:
    columns = [part.start + np.searchsorted(cells.prompts[part], prompts) for part in slices]
    return np.stack(columns, axis=1)


def breakdown(
    grid: Grid,
    among: NDArray[np.bool_],
    figure: Callable[[Layout], T],
    dimensions: Sequence[str] = ("task", "set", "harm_basis"),
) -> Breakdown[T]:
    """Return a figure overall and along ``dimensions``, for the prompts ``among``; names in the order of their codes."""
    parts: dict[str, dict[str, T]] = {}
    for dimension in dimensions:
        found: dict[str, T] = {}
        for code in np.unique(grid.attribute(dimension)[among]).tolist():
            part = grid.choose(dimension, code, among)
            if part is not None:
                found[grid.cells.names[dimension][code]] = figure(part)
        parts[DIMENSION_FIELDS[dimension]] = found
    whole = grid.choose("overall", 0, among)
    return Breakdown(overall=None if whole is None else figure(whole), **parts)
