"""How much of a fine-tune's rise a mitigation undoes: a ratio of noisy numbers, so its interval is the bootstrap's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from aftertune.measure.averaging import fold
from aftertune.measure.bootstrap import pigeonhole, rise_undone
from aftertune.measure.cells import Cells, N, Tally
from aftertune.measure.grids import grid
from aftertune.measure.results import Undone


def undone(
    cells: Cells,
    setting: int,
    models: Sequence[Sequence[int]],
    weights: Mapping[int, float],
    hit: Tally,
) -> Undone | None:
    """Return the share of the overall rise that is undone; None without a rise, or without shared harmful prompts.

    Args:
        cells: of the study.
        setting: whose.
        models: codes of the base's model, the fine-tune's and the mitigated one's.
        weights: of tasks, by code.
        hit: what counts as harmful.
    """
    joint = grid(cells, setting, [code for arm in models for code in arm], weights)
    part = None if joint is None else joint.choose("overall", 0, joint.intent(harmful=True))
    if joint is None or part is None:
        return None
    ends = np.cumsum([0, *map(len, models)]).tolist()
    matrices = []
    for start, end in pairwise(ends):
        arm = replace(joint, rows=joint.rows[:, start:end])
        matrices.append(fold(part, arm.counts(hit), arm.counts(N)).matrix)
    base, tuned, _ = (float(matrix.mean()) for matrix in matrices)
    if tuned <= base:
        return None
    found = pigeonhole(
        [np.stack([matrix, np.ones(matrix.shape)], axis=2) for matrix in matrices], rise_undone
    )
    low, high = (end if math.isfinite(end) else None for end in found.interval)
    return Undone(estimate=found.estimate, low=low, high=high, behaviors=part.behaviors)
