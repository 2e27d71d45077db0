"""Averaging in the declared order: responses inside a behavior and task, tasks by weight, then behaviors x seeds.

Every figure becomes a matrix, one row a behavior and one column a training seed, whose mean is the figure; its spread
over rows and columns is what the intervals are built on.

Where every behavior occurs in every task, a row is the behavior's weighted mean over tasks. Where it does not, the
figure is the weighted mean of the tasks' own means (so that a task's weight does not depend on how many behaviors it
shares), and a row holds the behavior's contribution to it: the figure plus the sum over its tasks of
``w_t N / n_t (c_it - g_t)``, scaled to unbiased variances. With tasks of wholly different behaviors this is the
variance of a stratified total (Cochran, Sampling Techniques, 1977, ch. 5); with shared ones it is averaging first.
Contributions are no outcomes: the methods for yes and no serve only an average that is `Average.single`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aftertune.measure.crossed import Matrix, TwoWay, two_way

Integers = NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the chosen prompts fold into behaviors and tasks. A group is one behavior in one task."""

    order: NDArray[np.intp]
    """The chosen prompts, by behavior, then task."""
    starts: NDArray[np.intp]
    """Where in ``order`` each group begins."""
    behavior: NDArray[np.intp]
    """Of each group: 0 .. behaviors - 1."""
    task: NDArray[np.intp]
    """Of each group: 0 .. tasks - 1."""
    weights: Matrix
    """Of each task; they sum to 1."""
    behaviors: int

    @property
    def complete(self) -> bool:
        """Whether every behavior occurs in every task."""
        return len(self.starts) == self.behaviors * len(self.weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """A figure as a matrix, and what went into it."""

    matrix: Matrix
    """Behaviors x training seeds."""
    complete: bool
    """Every behavior occurs in every task of the figure, so that each row is a behavior's own mean."""
    k: float
    """Raw sum of what was averaged."""
    n: int
    """Raw number of responses."""
    behaviors: float
    """How many equally weighted behaviors the figure is worth: fewer than its rows where tasks of unequal size share
    the weight. Kish (1965), Survey Sampling, 11.7: 1 over the sum of the squared shares."""
    responses: float
    """The same of responses; ``n`` where all cells and weights are equal."""
    samples: int
    """Most responses per behavior and seed."""
    unequal: bool
    """The figure is not k / n by construction: cells, weights or tasks per behavior are unequal."""

    @property
    def single(self) -> bool:
        """Whether every row is one response: one task, one prompt, one sample and one training seed."""
        return self.complete and self.matrix.shape[1] == 1 and self.n == len(self.matrix)

    @property
    def two_way(self) -> TwoWay:
        """The figure with its variance over behaviors and training seeds."""
        return two_way(self.matrix, self.behaviors)


def layout(
    behavior: Integers, task: Integers, chosen: NDArray[np.bool_], weights: Mapping[int, float]
) -> Layout | None:
    """Return how the chosen prompts fold, or None when none is chosen.

    Args:
        behavior: code of each prompt's behavior.
        task: code of each prompt's task.
        chosen: which prompts take part.
        weights: by task code; a task that is not named weighs 1.
    """
    where = np.flatnonzero(chosen)
    if not len(where):
        return None
    behaviors, row = np.unique(behavior[where], return_inverse=True)
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
    )


def fold(plan: Layout, sums: Matrix, counts: Matrix) -> Average:
    """Average ``sums / counts`` (prompts x training seeds, the same prompts as the layout's) over behaviors.

    Every chosen prompt must have responses under every seed.
    """
    total = np.add.reduceat(sums[plan.order], plan.starts, axis=0, dtype=np.float64)
    size = np.add.reduceat(counts[plan.order], plan.starts, axis=0, dtype=np.float64)
    means = total / size
    if plan.complete:
        cube = means.reshape(plan.behaviors, len(plan.weights), -1)
        matrix = np.einsum("bts,t->bs", cube, plan.weights)
    else:
        matrix = _contributions(plan, means)
    per_behavior = np.add.reduceat(size, np.flatnonzero(np.diff(plan.behavior, prepend=-1)), axis=0)
    unequal = bool(not plan.complete or np.ptp(size) > 0 or np.ptp(plan.weights) > 1e-12)
    n = int(size.sum())
    return Average(
        matrix=matrix,
        complete=plan.complete,
        k=float(total.sum()),
        n=n,
        behaviors=float(plan.behaviors) if plan.complete else _kish_behaviors(plan),
        responses=_kish_responses(plan, size) if unequal else float(n),
        samples=int(per_behavior.max()),
        unequal=unequal,
    )


def response_shares(plan: Layout, counts: Matrix) -> Matrix:
    """Return what each response of a prompt and seed weighs in the figure (prompts x seeds); 0 for prompts left out.

    Args:
        plan: how the figure folds.
        counts: responses, prompts x training seeds.
    """
    size = np.add.reduceat(counts[plan.order], plan.starts, axis=0, dtype=np.float64)
    lengths = np.diff([*plan.starts.tolist(), len(plan.order)])
    found = np.zeros(counts.shape)
    found[plan.order] = np.repeat(
        _shares(plan)[:, None] / (size * counts.shape[1]), lengths, axis=0
    )
    return found


def _shares(plan: Layout) -> Matrix:
    """Return each group's share of the figure."""
    in_task = np.bincount(plan.task, minlength=len(plan.weights))
    shares: Matrix = (plan.weights / in_task)[plan.task]
    return shares


def _kish_behaviors(plan: Layout) -> float:
    shares = np.bincount(plan.behavior, _shares(plan), minlength=plan.behaviors)
    return float(1 / (shares**2).sum())


def _kish_responses(plan: Layout, size: Matrix) -> float:
    return float(1 / ((_shares(plan)[:, None] / size.shape[1]) ** 2 / size).sum())


def task_scale(plan: Layout) -> Matrix:
    """Return by what a group's mean is multiplied on its way into its behavior's row, for each task."""
    if plan.complete:
        return plan.weights
    n = plan.behaviors
    in_task = np.bincount(plan.task, minlength=len(plan.weights)).astype(np.float64)
    unbiased = np.sqrt(in_task / np.maximum(in_task - 1, 1) * (n - 1) / n)
    scale: Matrix = plan.weights * n / in_task * unbiased
    return scale


def _contributions(plan: Layout, means: Matrix) -> Matrix:
    tasks, n = len(plan.weights), plan.behaviors
    in_task = np.bincount(plan.task, minlength=tasks).astype(np.float64)
    task_means = np.zeros((tasks, means.shape[1]))
    np.add.at(task_means, plan.task, means)
    task_means /= in_task[:, None]
    scale = task_scale(plan)
    matrix = np.tile(plan.weights @ task_means, (n, 1))
    np.add.at(matrix, plan.behavior, scale[plan.task, None] * (means - task_means[plan.task]))
    return matrix
