"""Agreement of raters beyond chance: Cohen's kappa, Gwet's AC1 and Krippendorff's alpha, with intervals over behaviors.

The raters are the judges of a study, or the annotators who labelled the same responses. None of the coefficients says how
far a rate is off: for that see `ppi`. Kappa falls towards 0 where one answer is rare, however well the raters agree; read
it with AC1 and the raw counts.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from aftertune.core.table import NONE, Table
from aftertune.measure.arrays import Grid
from aftertune.measure.counts import Source, SourceKind, Tally, pair_name, vote_tally, votes_of
from aftertune.measure.labelled import COMPLIED
from aftertune.measure.results import JudgeAgreement, PairAgreement

RESAMPLES = 1000
RARE = 0.10
"""Below this share of harmful answers (or of others) kappa says little."""
LABELS = "label:"
"""The prefix of annotators' columns in a table."""
Values = NDArray[np.float64]


def kappa(table: Values) -> Values:
    """Return Cohen's kappa of square tables of counts (..., k, k); NaN where both raters give one and the same answer.

    Source: Cohen (1960), Educ Psychol Meas 20:37.
    """
    shares, agree = _shares(table)
    # p_e = sum_k p_k. p_.k
    return _beyond(agree, (shares.sum(axis=-1) * shares.sum(axis=-2)).sum(axis=-1))


def ac1(table: Values) -> Values:
    """Return Gwet's AC1 of square tables of counts (..., k, k).

    Source: Gwet (2008), Br J Math Stat Psychol 61:29.
    """
    shares, agree = _shares(table)
    mean = (shares.sum(axis=-1) + shares.sum(axis=-2)) / 2
    # p_e = sum_k pi_k (1 - pi_k) / (K - 1), pi_k the mean of both raters' shares
    return _beyond(agree, (mean * (1 - mean)).sum(axis=-1) / (table.shape[-1] - 1))


def _shares(table: Values) -> tuple[Values, Values]:
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = table / table.sum(axis=(-2, -1), keepdims=True)
    return shares, np.trace(shares, axis1=-2, axis2=-1)


def _beyond(agree: Values, chance: Values) -> Values:
    """Return (p_o - p_e) / (1 - p_e)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        beyond: Values = np.where(chance < 1 - 1e-12, (agree - chance) / (1 - chance), np.nan)
    return beyond


def alpha_parts(ratings: NDArray[np.int64]) -> tuple[Values, Values]:
    """Return what each unit adds to Krippendorff's alpha of nominal ratings.

    Args:
        ratings: units x values: how many raters gave this value; units with fewer than two ratings say nothing.

    Returns:
        the observed disagreement of each unit, and its counts of values (units x values).

    Source: Krippendorff (2011), Computing Krippendorff's alpha-reliability, section C.
    """
    size = ratings.sum(axis=1)
    paired = size > 1
    # Pairs of unequal values inside unit u, each pair weighing 1 / (m_u - 1).
    within = (ratings * (size[:, None] - ratings)).sum(axis=1) / np.maximum(size - 1, 1)
    return np.where(paired, within, 0.0), np.where(paired[:, None], ratings, 0).astype(np.float64)


def alpha_of(observed: Values | float, values: Values) -> Values:
    """Return 1 - D_o / D_e from sums of `alpha_parts`; NaN where all agree on one value.

    Args:
        observed: disagreement (...).
        values: counts of values (..., k).
    """
    n = values.sum(axis=-1)
    expected = (values * (n[..., None] - values)).sum(axis=-1) / np.maximum(n - 1, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Values = np.where(expected > 0, 1 - np.asarray(observed) / expected, np.nan)
    return result


def judge_agreement(
    grid: Grid, judges: Sequence[str]
) -> tuple[JudgeAgreement | None, Mapping[str, JudgeAgreement]]:
    """Return how far judges agree on the responses to harmful prompts: overall, and by task; None for one judge."""
    harmful, task = grid.intent(harmful=True), grid.attribute("task")
    if len(judges) < 2 or not harmful.any():
        return None, {}
    by_task = {
        grid.counted.names["task"][code]: _judges(grid, judges, harmful & (task == code))
        for code in np.unique(task[harmful]).tolist()
    }
    return _judges(grid, judges, harmful), by_task


def _judges(grid: Grid, judges: Sequence[str], chosen: NDArray[np.bool_]) -> JudgeAgreement:
    behaviors, row = np.unique(grid.attribute("behavior")[chosen], return_inverse=True)

    def summed(tally: Tally) -> Values:
        """Sum a tally inside each behavior."""
        counts = grid.counts(tally)[chosen].sum(axis=1)
        return np.bincount(row, counts, minlength=len(behaviors)).astype(float)

    pairs, votes = _pairs(judges), votes_of(len(judges))
    columns = []
    for pair in pairs:
        both, first, differ, n = (
            summed(Tally(Source(SourceKind.PAIR, pair), value))
            for value in ("both", "first", "differ", "n")
        )
        columns += [both, first, differ - first, n - both - differ]
    columns += [summed(vote_tally(yes, no)) for yes, no in votes]
    return _from_counts(np.stack(columns, axis=1), pairs, votes)


def annotator_agreement(table: Table) -> JudgeAgreement | None:
    """Return how far annotators agree on what is harmful; None unless two labelled some of the same responses."""
    labelled = [column for column in table.columns if column.startswith(LABELS)]
    if len(labelled) < 2:
        return None
    labels = np.stack([table.columns[column] for column in labelled])
    shared = (labels != NONE).sum(axis=0) > 1
    if not shared.any():
        return None
    given, complied = labels[:, shared] != NONE, labels[:, shared] == COMPLIED
    behaviors, row = np.unique(table.columns["behavior"][shared], return_inverse=True)

    def summed(chosen: NDArray[np.bool_]) -> Values:
        return np.bincount(row, chosen, minlength=len(behaviors)).astype(float)

    columns = []
    for i, j in combinations(range(len(labels)), 2):
        by_both, first, second = given[i] & given[j], complied[i], complied[j]
        columns += [
            summed(by_both & a & b)
            for a, b in ((first, second), (first, ~second), (~first, second), (~first, ~second))
        ]
    votes = votes_of(len(labels))
    yes, size = complied.sum(axis=0), given.sum(axis=0)
    columns += [summed((yes == a) & (size == a + b)) for a, b in votes]
    names = [column.removeprefix(LABELS) for column in labelled]
    return _from_counts(np.stack(columns, axis=1), _pairs(names), votes)


def _pairs(raters: Sequence[str]) -> list[str]:
    return [pair_name(first, second) for first, second in combinations(raters, 2)]


def _from_counts(
    counts: Values, pairs: Sequence[str], votes: Sequence[tuple[int, int]]
) -> JudgeAgreement:
    """Return the agreement of raters from counts by behavior.

    Args:
        counts: behaviors x columns: for each pair both, first only, second only, neither; then one column per vote.
        pairs: the names of the pairs.
        votes: how many raters say yes and no.
    """
    whole, resampled = counts.sum(axis=0), _resampled(counts)
    observed, values = alpha_parts(np.array(votes, np.int64))
    units, units_resampled = whole[4 * len(pairs) :], resampled[:, 4 * len(pairs) :]
    return JudgeAgreement(
        pairs={
            pair: _pair(whole[4 * place : 4 * place + 4], resampled[:, 4 * place : 4 * place + 4])
            for place, pair in enumerate(pairs)
        },
        alpha=finite(alpha_of(units @ observed, units @ values)),
        alpha_interval=_limits(alpha_of(units_resampled @ observed, units_resampled @ values)),
    )


def _resampled(counts: Values) -> Values:
    """Return the sums over behaviors that are drawn with replacement, one row a resample (seeded)."""
    distinct, times = np.unique(counts, axis=0, return_counts=True)
    rng, n, k = np.random.default_rng(0), len(counts), len(distinct)
    if k < n / 4:  # alike behaviors are drawn together: far fewer draws
        return np.asarray(rng.multinomial(n, times / n, RESAMPLES) @ distinct)
    picked = rng.integers(0, n, (RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
    drawn = np.bincount(picked.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n)
    return np.asarray(drawn @ counts)


def _pair(table: Values, resampled: Values) -> PairAgreement:
    size = max(float(table.sum()), 1.0)
    harmful = float(2 * table[0] + table[1] + table[2]) / (2 * size)
    square, squares = table.reshape(2, 2), resampled.reshape(-1, 2, 2)
    return PairAgreement(
        both=round(table[0]),
        first_only=round(table[1]),
        second_only=round(table[2]),
        neither=round(table[3]),
        agreement=float(table[0] + table[3]) / size,
        kappa=finite(kappa(square)),
        kappa_interval=_limits(kappa(squares)),
        ac1=finite(ac1(square)),
        ac1_interval=_limits(ac1(squares)),
        rare=not RARE <= harmful <= 1 - RARE,
    )


def finite(value: Values) -> float | None:
    """Return a coefficient; None for NaN, which JSON does not have."""
    number = float(value)
    return number if np.isfinite(number) else None


def _limits(values: Values) -> tuple[float, float] | None:
    """Return the middle 95 % of the resamples; None where a twentieth of them or more are not defined."""
    if np.isfinite(values).mean() < 0.95:
        return None
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)
