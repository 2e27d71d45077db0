"""How far the judges of a study agree, overall and by task, with intervals over behaviors."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from aftertune.measure.agreement import ac1, alpha_of, alpha_parts, kappa
from aftertune.measure.grids import Grid
from aftertune.measure.label_results import JudgeAgreement, PairAgreement

RESAMPLES = 1000
RARE = 0.10
"""Below this share of harmful answers (or of others) kappa says little."""
Counts = NDArray[np.float64]


def judge_agreement(grid: Grid, judges: Sequence[str]) -> tuple[JudgeAgreement | None, Mapping[str, JudgeAgreement]]:
    """Return how far judges agree on the responses to harmful prompts: overall, and by task; None for one judge."""
    if len(judges) < 2:
        return None, {}
    harmful, task = grid.intent(harmful=True), grid.attribute("task")
    by_task = {
        grid.cells.names["task"][code]: _agreement(grid, judges, harmful & (task == code))
        for code in np.unique(task[harmful]).tolist()
    }
    return _agreement(grid, judges, harmful), by_task


def _agreement(grid: Grid, judges: Sequence[str], chosen: NDArray[np.bool_]) -> JudgeAgreement:
    behaviors, row = np.unique(grid.attribute("behavior")[chosen], return_inverse=True)
    n = len(behaviors)
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(np.float64) if n else None

    def summed(tally: tuple[str, str]) -> Counts:
        """Sum a tally inside each behavior."""
        return np.bincount(row, grid.counts(tally)[chosen].sum(axis=1), minlength=n).astype(np.float64)

    pairs = {
        f"{one} | {other}": _pair(summed, f"differ:{one} | {other}", drawn) for one, other in combinations(judges, 2)
    }
    votes = [(yes, no) for yes in range(len(judges) + 1) for no in range(len(judges) + 1 - yes) if yes + no > 1]
    units = np.stack([summed(("votes", f"{yes}:{no}")) for yes, no in votes], axis=1)
    observed, values = alpha_parts(np.array(votes, np.int64))
    found = alpha_of(units.sum(axis=0) @ observed, units.sum(axis=0) @ values)
    again = None if drawn is None else alpha_of(drawn @ units @ observed, drawn @ units @ values)
    return JudgeAgreement(pairs=pairs, alpha=_finite(found), alpha_interval=_limits(again))


def _pair(summed: Callable[[tuple[str, str]], Counts], reading: str, drawn: Counts | None) -> PairAgreement:
    both, first, differ, n = (summed((reading, counted)) for counted in ("both", "first", "differ", "n"))
    cells = np.stack([both, first, differ - first, n - both - differ], axis=1)
    table = cells.sum(axis=0)
    again = None if drawn is None else (drawn @ cells).reshape(-1, 2, 2)
    whole = table.reshape(2, 2)
    size = max(float(table.sum()), 1.0)
    harmful = float(2 * table[0] + table[1] + table[2]) / (2 * size)
    return PairAgreement(
        both=round(table[0]),
        first_only=round(table[1]),
        second_only=round(table[2]),
        neither=round(table[3]),
        agreement=float(table[0] + table[3]) / size,
        kappa=_finite(kappa(whole)),
        kappa_interval=None if again is None else _limits(kappa(again)),
        ac1=_finite(ac1(whole)),
        ac1_interval=None if again is None else _limits(ac1(again)),
        rare=not RARE <= harmful <= 1 - RARE,
    )


def _finite(value: Counts) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None


def _limits(values: Counts | None) -> tuple[float, float] | None:
    """Return the middle 95 % of what resampling gave; None where most of it is not defined."""
    if values is None or np.isfinite(values).mean() < 0.95:
        return None
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)
