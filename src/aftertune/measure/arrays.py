"""Figures as arrays: prompts x training seeds, and behaviors x training seeds.

A grid holds the prompts that all models of a comparison share, with their counts. A fold averages in the declared order:
responses inside a behavior and task, tasks by weight; its matrix has one row a behavior and one column a training seed,
its mean is the figure, and its spread over rows and columns is what the intervals are built on.

Where every behavior occurs in every task, a row is the behavior's weighted mean over tasks. Where it does not, the
figure is the weighted mean of the tasks' own means (so that a task's weight does not depend on how many behaviors it
shares), and a row holds the behavior's contribution to it: the figure plus the sum over its tasks of
``w_t N / n_t (c_it - g_t)``, scaled to unbiased variances. With tasks of wholly different behaviors this is the
variance of a stratified total (Cochran, Sampling Techniques, 1977, ch. 5); with shared ones it is averaging first.
Contributions are no outcomes: the methods for yes and no serve only an average that is `Average.single`.

Behaviors are independent, but a benign twin and its harmful behavior share a subject and a wording. Where a figure
holds both intents, the rows of a cluster are put together to one: the figure plus ``C / N`` times the sum of its rows'
deviations from it (N behaviors in C clusters). The figure stays what it is, and its variance is the cluster-robust one
with the factor C / (C - 1) (Cameron and Miller 2015, J Human Resources 50:317, CR1).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from aftertune.core.table import Table
from aftertune.errors import InputError
from aftertune.measure.counts import Counts, N, Source, Tally
from aftertune.measure.crossed import Matrix, TwoWay, two_way
from aftertune.measure.outcomes import BENIGN_INTENT, HARMFUL_INTENT
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.results import Breakdown

Integers = NDArray[np.int32] | NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The folding of chosen prompts into behaviors and tasks. A group is one behavior in one task."""

    order: NDArray[np.intp]
    """The chosen prompts, by behavior, then task."""
    starts: NDArray[np.intp]
    """The position in ``order`` at which each group begins."""
    behavior: NDArray[np.intp]
    """The behavior of each group: 0 .. behaviors - 1."""
    task: NDArray[np.intp]
    """The task of each group: 0 .. tasks - 1."""
    weights: Matrix
    """The weight of each task; they sum to 1."""
    behaviors: int
    clusters: NDArray[np.intp] | None = None
    """The cluster of each behavior: 0 .. clusters - 1; None where every behavior is independent of all others."""

    @property
    def complete(self) -> bool:
        """True where every behavior occurs in every task."""
        return len(self.starts) == self.behaviors * len(self.weights)

    @property
    def independent(self) -> int:
        """The number of behaviors that are independent of each other; of clusters, where there are some."""
        return self.behaviors if self.clusters is None else int(self.clusters.max()) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """A figure as a matrix, and what went into it."""

    matrix: Matrix
    """Behaviors (or clusters of them) x training seeds."""
    complete: bool
    """Every behavior occurs in every task of the figure and is independent, so that each row is a behavior's own mean."""
    k: float
    """Raw sum of what was averaged."""
    n: int
    """Raw number of responses."""
    behaviors: float
    """The number of equally weighted behaviors that the figure is worth: fewer than its rows where tasks of unequal size share
    the weight. Kish (1965), Survey Sampling, 11.7: 1 over the sum of the squared shares."""
    responses: float
    """The same of responses; ``n`` where all cells and weights are equal."""
    samples: int
    """Most responses per behavior and seed."""
    unequal: bool
    """The figure is not k / n by construction: cells, weights or tasks per behavior are unequal."""

    @property
    def single(self) -> bool:
        """True where every row is one response: one task, one prompt, one sample and one training seed."""
        return self.complete and self.matrix.shape[1] == 1 and self.n == len(self.matrix)

    @property
    def two_way(self) -> TwoWay:
        """The figure with its variance over behaviors and training seeds."""
        return two_way(self.matrix, self.behaviors)


def layout(
    behavior: Integers,
    task: Integers,
    chosen: NDArray[np.bool_],
    weights: Mapping[int, float],
    cluster: Integers | None = None,
) -> Layout | None:
    """Return the folding of the chosen prompts, or None when none is chosen.

    Args:
        behavior: code of each prompt's behavior.
        task: code of each prompt's task.
        chosen: which prompts take part.
        weights: by task code; a task that is not named weighs 1.
        cluster: code of each prompt's cluster, the same for all prompts of a behavior; None where behaviors are independent.
    """
    where = np.flatnonzero(chosen)
    if not len(where):
        return None
    behaviors, first, row = np.unique(behavior[where], return_index=True, return_inverse=True)
    clusters = None if cluster is None else np.unique(cluster[where][first], return_inverse=True)[1]
    if clusters is not None and clusters.max() + 1 == len(behaviors):
        clusters = None
    tasks, column = np.unique(task[where], return_inverse=True)
    group = row * len(tasks) + column
    order = np.argsort(group, kind="stable")
    groups, starts = np.unique(group[order], return_index=True)
    raw = np.array([weights.get(code, 1.0) for code in tasks.tolist()])
    return Layout(
        order=where[order],
        starts=starts,
        behavior=groups // len(tasks),
        task=groups % len(tasks),
        weights=raw / raw.sum(),
        behaviors=len(behaviors),
        clusters=clusters,
    )


def fold(layout: Layout, sums: Matrix, counts: Matrix) -> Average:
    """Average ``sums / counts`` over behaviors.

    Args:
        layout: the folding of the prompts.
        sums: prompts x training seeds, the same prompts as the layout's.
        counts: responses of each; every chosen prompt must have some under every seed.
    """
    total = np.add.reduceat(sums[layout.order], layout.starts, axis=0, dtype=np.float64)
    size = np.add.reduceat(counts[layout.order], layout.starts, axis=0, dtype=np.float64)
    means = total / size
    if layout.complete:
        # x_is = sum_t w_t m_its: behaviors x tasks x seeds, the tasks folded by their weights.
        cube = means.reshape(layout.behaviors, len(layout.weights), -1)
        matrix = np.einsum("bts,t->bs", cube, layout.weights)
    else:
        matrix = _contributions(layout, means)
    per_behavior = np.add.reduceat(
        size, np.flatnonzero(np.diff(layout.behavior, prepend=-1)), axis=0
    )
    unequal = bool(not layout.complete or np.ptp(size) > 0 or np.ptp(layout.weights) > 1e-12)
    n, shares = int(size.sum()), _shares(layout)
    of_behaviors = np.bincount(layout.behavior, shares)
    if layout.clusters is not None:
        matrix = _clustered(layout.clusters, matrix)
        of_behaviors = np.bincount(layout.clusters, of_behaviors)
    return Average(
        matrix=matrix,
        complete=layout.complete and layout.clusters is None,
        k=float(total.sum()),
        n=n,
        # Kish (1965), Survey Sampling, 11.7: 1 / sum of squared shares; with equal shares the number of behaviors.
        behaviors=float(layout.behaviors)
        if layout.complete and layout.clusters is None
        else float(1 / (of_behaviors**2).sum()),
        # The same of responses: a group's share is spread evenly over its ``size`` responses under each seed.
        responses=float(1 / ((shares[:, None] / size.shape[1]) ** 2 / size).sum())
        if unequal
        else float(n),
        samples=int(per_behavior.max()),
        unequal=unequal,
    )


def response_shares(layout: Layout, counts: Matrix) -> Matrix:
    """Return what each response of a prompt and seed weighs in the figure (prompts x seeds); 0 for prompts left out.

    Args:
        layout: how the figure folds.
        counts: responses, prompts x training seeds.
    """
    size = np.add.reduceat(counts[layout.order], layout.starts, axis=0, dtype=np.float64)
    lengths = np.diff([*layout.starts.tolist(), len(layout.order)])
    shares = np.zeros(counts.shape)
    shares[layout.order] = np.repeat(
        _shares(layout)[:, None] / (size * counts.shape[1]), lengths, axis=0
    )
    return shares


def _shares(layout: Layout) -> Matrix:
    """Return each group's share of the figure: w_t / n_t, where n_t behaviors occur in task t."""
    in_task = np.bincount(layout.task, minlength=len(layout.weights))
    return (layout.weights / in_task)[layout.task]


def task_scale(layout: Layout) -> Matrix:
    """Return for each task the factor of a group's mean in its behavior's row.

    With tasks of unequal behaviors it is w_t N / n_t, times sqrt(n_t / (n_t - 1) (N - 1) / N): the variance over N rows
    is divided by N - 1, that of a task by n_t - 1 (Cochran 1977, 5.3: the variance of a stratified mean).
    """
    if layout.complete:
        return layout.weights
    n = layout.behaviors
    in_task = np.bincount(layout.task, minlength=len(layout.weights)).astype(np.float64)
    unbiased = np.sqrt(in_task / np.maximum(in_task - 1, 1) * (n - 1) / n)
    return layout.weights * n / in_task * unbiased


def _contributions(layout: Layout, means: Matrix) -> Matrix:
    """Return the rows g + sum over a behavior's tasks of scale_t (m_it - g_t), whose mean is the figure g = sum w_t g_t."""
    tasks, n = len(layout.weights), layout.behaviors
    in_task = np.bincount(layout.task, minlength=tasks).astype(np.float64)
    task_means = np.zeros((tasks, means.shape[1]))
    np.add.at(task_means, layout.task, means)
    task_means /= in_task[:, None]
    scale = task_scale(layout)
    matrix = np.tile(layout.weights @ task_means, (n, 1))
    np.add.at(matrix, layout.behavior, scale[layout.task, None] * (means - task_means[layout.task]))
    return matrix


def _clustered(clusters: NDArray[np.intp], matrix: Matrix) -> Matrix:
    """Return a row for each cluster, g + C / N times the sum over its behaviors of (x_i - g); their mean is g, that of all x_i."""
    mean = matrix.mean(axis=0)
    sums = np.zeros((int(clusters.max()) + 1, matrix.shape[1]))
    np.add.at(sums, clusters, matrix - mean)
    return np.asarray(mean + len(sums) / len(matrix) * sums, np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """One arm of a comparison: its models, and the prompts that all models of both arms were asked."""

    counted: Counts
    rows: NDArray[np.intp]
    """Prompts x models: the place of each in the counts."""
    prompts: NDArray[np.int64]
    weights: Mapping[int, float]
    """The weights of the tasks, by code."""
    layouts: dict[tuple[str, int, bytes], Layout | None] = field(default_factory=dict)
    """Foldings that were computed before; shared by the arms of a comparison."""
    twins_apart: bool = True
    """A benign twin is independent of its harmful behavior; False for figures that hold both."""
    tallied: dict[Tally, Matrix] = field(default_factory=dict, init=False, repr=False)
    """Tallies that were looked up before."""

    @property
    def seeds(self) -> int:
        """The number of models."""
        return int(self.rows.shape[1])

    @property
    def runs(self) -> tuple[Self, ...]:
        """The same grid with the counts of each replicate by itself; empty without several."""
        return tuple(replace(self, counted=run) for run in self.counted.runs)

    def with_twins(self) -> Self:
        """Return the same grid for figures over both intents: a behavior and its benign twins are one cluster."""
        return replace(self, layouts={}, twins_apart=False)

    @property
    def deterministic(self) -> bool:
        """True where every model's replicates are one call."""
        models = set((self.counted.keys % len(self.counted.names["model"]))[self.rows[0]].tolist())
        names = {self.counted.names["model"][code] for code in models}
        return names <= self.counted.deterministic

    def counts(self, tally: Tally) -> Matrix:
        """Return a tally as prompts x models; zeros where nothing of the kind was counted."""
        if tally not in self.tallied:
            column = self.counted.tallies.get(tally)
            matrix = (
                np.zeros(self.rows.shape)
                if column is None
                else column[self.rows].astype(np.float64)
            )
            matrix.setflags(write=False)
            self.tallied[tally] = matrix
        return self.tallied[tally]

    def attribute(self, dimension: str) -> NDArray[np.int32]:
        """Return the code of a dimension for each prompt."""
        return self.counted.attributes[dimension][self.prompts]

    def choose(self, dimension: str, code: int, among: NDArray[np.bool_]) -> Layout | None:
        """Return the folding of the prompts with a code (``overall``: all) among the given ones."""
        key = (dimension, code, among.tobytes())
        if key not in self.layouts:
            chosen = (
                among if dimension == "overall" else among & (self.attribute(dimension) == code)
            )
            self.layouts[key] = layout(
                self.attribute("behavior"),
                self.attribute("task"),
                chosen,
                self.weights,
                None if self.twins_apart else self.attribute("cluster"),
            )
        return self.layouts[key]

    def overall(self, *, harmful: bool) -> Layout | None:
        """Return the folding of all harmful prompts, or of all benign ones; None without such."""
        return self.choose("overall", 0, self.intent(harmful=harmful))

    def scored(self, source: Source, *, harmful: bool) -> NDArray[np.bool_]:
        """Return the prompts of an intent on which every model has a count ``n`` of a source."""
        counted = (self.counts(Tally(source, "n")) > 0).all(axis=1)
        return np.logical_and(self.intent(harmful=harmful), counted)

    def fold(self, part: Layout, hits: Tally, n: Tally = N) -> "Average":
        """Return the average of a tally over a part of the prompts."""
        return fold(part, self.counts(hits), self.counts(n))

    def total(self, part: Layout, tally: Tally) -> int:
        """Return the raw sum of a tally over a part of the prompts."""
        return round(float(self.counts(tally)[part.order].sum()))

    def intent(self, *, harmful: bool) -> NDArray[np.bool_]:
        """Return a mask of the harmful prompts, or of the benign ones."""
        return np.equal(self.attribute("intent"), HARMFUL_INTENT if harmful else BENIGN_INTENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """A fine-tune and its base on the same prompts."""

    tuned: Grid
    base: Grid

    def with_twins(self) -> Self:
        """Return the same arms for figures over both intents: a behavior and its benign twins are one cluster."""
        tuned = self.tuned.with_twins()
        return replace(
            self, tuned=tuned, base=replace(self.base.with_twins(), layouts=tuned.layouts)
        )


def grid(
    counted: Counts, setting: int, models: Sequence[int], weights: Mapping[int, float]
) -> Grid | None:
    """Return the prompts that all ``models`` were asked under a setting; None if there are none."""
    slices = [counted.slice_of(setting, model) for model in models]
    prompts = reduce(np.intersect1d, [counted.prompts[part] for part in slices])
    if not len(prompts):
        return None
    columns = [part.start + np.searchsorted(counted.prompts[part], prompts) for part in slices]
    return Grid(counted=counted, rows=np.stack(columns, axis=1), prompts=prompts, weights=weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A system prompt with a decoding setting: its models may be compared with one another."""

    counted: Counts
    code: int
    weights: Mapping[int, float]
    """The weights of the tasks, by code."""

    def grid(self, models: Sequence[str]) -> Grid | None:
        """Return the prompts that all models were asked; None if there are none."""
        return grid(self.counted, self.code, self.codes(models), self.weights)

    def arms(self, tuned: Sequence[str], base: Sequence[str]) -> Arms | None:
        """Return two arms on the prompts that all models of both were asked; None if there are none."""
        joint = self.grid([*tuned, *base])
        if joint is None:
            return None
        tuned_grid, base_grid = (
            # The foldings of the prompts (`Grid.layouts`) are shared by both arms.
            replace(joint, rows=rows)
            for rows in np.split(joint.rows, [len(tuned)], axis=1)
        )
        return Arms(tuned=tuned_grid, base=base_grid)

    def prompts(self, models: Sequence[str]) -> NDArray[np.int64]:
        """Return the prompts that any of the models was asked, ascending."""
        counted = self.counted
        parts = [counted.prompts[counted.slice_of(self.code, code)] for code in self.codes(models)]
        return np.unique(np.concatenate(parts))

    def codes(self, models: Sequence[str]) -> list[int]:
        """Return the models' codes in the counts."""
        return [self.counted.names["model"].index(model) for model in models]


def model_codes(counted: Counts, condition: Condition) -> list[int]:
    """Return the codes of a condition's models.

    Raises:
        InputError: a model is not in the table.
    """
    names = counted.names["model"]
    for model in condition.models:
        if model not in names:
            raise InputError(
                f"condition {condition.name!r}: model {model!r} has no rows in the table"
            )
    return [names.index(model) for model in condition.models]


def task_weights(table: Table, plan: MeasurePlan) -> Mapping[int, float]:
    """Return the declared weight of each task by its code; empty when all weigh the same.

    Raises:
        InputError: weights are declared, but not for every task in the table.
    """
    if plan.task_weights is None:
        return {}
    present = np.unique(table.columns["task"]).tolist()
    missing = [
        table.names["task"][code]
        for code in present
        if table.names["task"][code] not in plan.task_weights
    ]
    if missing:
        raise InputError(
            f"task_weights name no weight for {', '.join(missing)}; weigh every task, or none"
        )
    return {code: plan.task_weights[table.names["task"][code]] for code in present}


def breakdown(
    grid: Grid,
    among: NDArray[np.bool_],
    figure: Callable[[Layout], T | None],
    dimensions: Sequence[str] = ("task", "set", "harm_basis"),
) -> Breakdown[T]:
    """Return a figure overall and along ``dimensions``, for the prompts ``among``.

    Names stand in the order of their codes; a name for which ``figure`` gives None is absent.
    """
    fields: dict[str, dict[str, T]] = {}
    for dimension in dimensions:
        fields[f"by_{dimension}"] = {
            grid.counted.names[dimension][code]: value
            for code in np.unique(grid.attribute(dimension)[among]).tolist()
            if (part := grid.choose(dimension, code, among)) is not None
            and (value := figure(part)) is not None
        }
    whole = grid.choose("overall", 0, among)
    return Breakdown(overall=None if whole is None else figure(whole), **fields)
