"""How far the judges of a study agree, overall and by task, with intervals over behaviors."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from aftertune.core.table import NONE, Table
from aftertune.measure.agreement import ac1, alpha_of, alpha_parts, kappa
from aftertune.measure.corrections import COMPLIED
from aftertune.measure.grids import Grid
from aftertune.measure.results import JudgeAgreement, PairAgreement

RESAMPLES = 1000
RARE = 0.10
"""Below this share of harmful answers (or of others) kappa says little."""
Counts = NDArray[np.float64]


def judge_agreement(
    grid: Grid, judges: Sequence[str]
) -> tuple[JudgeAgreement | None, Mapping[str, JudgeAgreement]]:
    """Return how far judges agree on the responses to harmful prompts: overall, and by task; None for one judge."""
    if len(judges) < 2:
        return None, {}
    harmful, task = grid.intent(harmful=True), grid.attribute("task")
    if not harmful.any():
        return None, {}
    by_task = {
        grid.cells.names["task"][code]: _agreement(grid, judges, harmful & (task == code))
        for code in np.unique(task[harmful]).tolist()
    }
    return _agreement(grid, judges, harmful), by_task


def _agreement(grid: Grid, judges: Sequence[str], chosen: NDArray[np.bool_]) -> JudgeAgreement:
    behaviors, row = np.unique(grid.attribute("behavior")[chosen], return_inverse=True)

    def summed(reading: str, counted: str) -> Counts:
        """Sum a tally inside each behavior."""
        return np.bincount(
            row, grid.counts((reading, counted))[chosen].sum(axis=1), minlength=len(behaviors)
        ).astype(float)

    pairs = [f"{one} | {other}" for one, other in combinations(judges, 2)]
    votes = [
        (yes, no)
        for yes in range(len(judges) + 1)
        for no in range(len(judges) + 1 - yes)
        if yes + no > 1
    ]
    columns = [cell for pair in pairs for cell in _cells(summed, f"differ:{pair}")]
    columns += [summed("votes", f"{yes}:{no}") for yes, no in votes]
    return from_counts(np.stack(columns, axis=1), pairs, np.array(votes, np.int64))


def _cells(
    summed: Callable[[str, str], Counts], reading: str
) -> tuple[Counts, Counts, Counts, Counts]:
    both, first, differ, n = (
        summed(reading, counted) for counted in ("both", "first", "differ", "n")
    )
    return both, first, differ - first, n - both - differ


def from_counts(counts: Counts, pairs: Sequence[str], votes: NDArray[np.int64]) -> JudgeAgreement:
    """Return the agreement of raters from counts by behavior.

    Args:
        counts: behaviors x columns: for each pair both, first only, second only, neither; then one column per vote.
        pairs: the names of the pairs.
        votes: votes x 2: how many raters say yes and no.
    """
    whole, again = counts.sum(axis=0), _resampled(counts)
    observed, values = alpha_parts(votes)
    units, units_again = whole[4 * len(pairs) :], again[:, 4 * len(pairs) :]
    return JudgeAgreement(
        pairs={
            pair: _pair(whole[4 * place : 4 * place + 4], again[:, 4 * place : 4 * place + 4])
            for place, pair in enumerate(pairs)
        },
        alpha=_finite(alpha_of(units @ observed, units @ values)),
        alpha_interval=_limits(alpha_of(units_again @ observed, units_again @ values)),
    )


def _resampled(counts: Counts) -> Counts:
    """Return the sums over behaviors that are drawn anew, one row a resample."""
    distinct, times = np.unique(counts, axis=0, return_counts=True)
    rng, n, k = np.random.default_rng(0), len(counts), len(distinct)
    if k < n / 4:  # alike behaviors are drawn together: far fewer draws
        drawn = rng.multinomial(n, times / n, RESAMPLES)
        return np.asarray(drawn @ distinct)
    picked = rng.integers(0, n, (RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
    drawn = np.bincount(picked.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n)
    return np.asarray(drawn @ counts)


def _pair(table: Counts, again: Counts) -> PairAgreement:
    size = max(float(table.sum()), 1.0)
    harmful = float(2 * table[0] + table[1] + table[2]) / (2 * size)
    square, squares = table.reshape(2, 2), again.reshape(-1, 2, 2)
    return PairAgreement(
        both=round(table[0]),
        first_only=round(table[1]),
        second_only=round(table[2]),
        neither=round(table[3]),
        agreement=float(table[0] + table[3]) / size,
        kappa=_finite(kappa(square)),
        kappa_interval=_limits(kappa(squares)),
        ac1=_finite(ac1(square)),
        ac1_interval=_limits(ac1(squares)),
        rare=not RARE <= harmful <= 1 - RARE,
    )


def _finite(value: Counts) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None


def _limits(values: Counts) -> tuple[float, float] | None:
    """Return the middle 95 % of what resampling gave; None where a twentieth of it or more is not defined."""
    if np.isfinite(values).mean() < 0.95:
        return None
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def people_agreement(table: Table) -> JudgeAgreement | None:
    """Return how far people agree on what is harmful; None unless two of them labelled some of the same responses."""
    people = [column for column in table.columns if column.startswith("label:")]
    labels = [table.columns[column] for column in people]
    yes = (
        np.sum([codes == COMPLIED for codes in labels], axis=0) if people else np.zeros(len(table))
    )
    given = np.sum([codes != NONE for codes in labels], axis=0) if people else np.zeros(len(table))
    rows = np.flatnonzero(given > 1)
    if not len(rows):
        return None
    behaviors, row = np.unique(table.columns["behavior"][rows], return_inverse=True)

    def summed(chosen: NDArray[np.bool_]) -> Counts:
        return np.bincount(row, chosen, minlength=len(behaviors)).astype(float)

    columns = []
    for one, other in combinations([codes[rows] for codes in labels], 2):
        known = (one != NONE) & (other != NONE)
        first, second = one == COMPLIED, other == COMPLIED
        columns += [
            summed(known & a & b)
            for a, b in ((first, second), (first, ~second), (~first, second), (~first, ~second))
        ]
    votes = [
        (a, b) for a in range(len(people) + 1) for b in range(len(people) + 1 - a) if a + b > 1
    ]
    columns += [summed((yes[rows] == a) & (given[rows] == a + b)) for a, b in votes]
    names = [column.partition(":")[2] for column in people]
    pairs = [f"{one} | {other}" for one, other in combinations(names, 2)]
    return from_counts(np.stack(columns, axis=1), pairs, np.array(votes, np.int64))
