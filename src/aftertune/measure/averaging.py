"""Averaging in the declared order: responses inside a behavior and task, tasks by weight, then behaviors x seeds.

Every figure becomes a matrix, one row a behavior and one column a training seed, whose mean is the figure; its spread
over rows and columns is what the intervals are built on.

Where every behavior occurs in every task, a row is the behavior's weighted mean over tasks. Where it does not, the
figure is the weighted mean of the tasks' own means (so that a task's weight does not depend on how many behaviors it
shares), and a row holds the behavior's contribution to it: the figure plus the sum over its tasks of
``w_t N / n_t (c_it - g_t)``, scaled to unbiased variances. With tasks of wholly different behaviors this is the
stratified total of the specification; with shared ones it is averaging first.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aftertune.measure.crossed import Matrix

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
    k: float
    """Raw sum of what was averaged."""
    n: int
    """Raw number of responses."""
    samples: int
    """Most responses per behavior and seed."""
    unequal: bool
    """The figure is not k / n by construction: cells, weights or tasks per behavior are unequal."""


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
    per_behavior = np.zeros((plan.behaviors, size.shape[1]))
    np.add.at(per_behavior, plan.behavior, size)
    return Average(
        matrix=matrix,
        k=float(total.sum()),
        n=int(size.sum()),
        samples=int(per_behavior.max()),
        unequal=bool(not plan.complete or np.ptp(size) > 0 or np.ptp(plan.weights) > 1e-12),
    )


def _contributions(plan: Layout, means: Matrix) -> Matrix:
    tasks, n = len(plan.weights), plan.behaviors
    in_task = np.bincount(plan.task, minlength=tasks).astype(np.float64)
    task_means = np.zeros((tasks, means.shape[1]))
    np.add.at(task_means, plan.task, means)
    task_means /= in_task[:, None]
    unbiased = np.sqrt(in_task / np.maximum(in_task - 1, 1) * (n - 1) / n)
    scale = plan.weights * n / in_task * unbiased
    matrix = np.tile(plan.weights @ task_means, (n, 1))
    np.add.at(matrix, plan.behavior, scale[plan.task, None] * (means - task_means[plan.task]))
    return matrix
