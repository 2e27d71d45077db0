"""How far raters agree beyond chance: Cohen's kappa, Gwet's AC1 and Krippendorff's alpha.

None of them says how far a rate is off: for that see `ppi`. Kappa falls towards 0 where one answer is rare, however well
the raters agree; read it with AC1 and the raw counts.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]
Values = NDArray[np.float64]
Level = Literal["nominal", "ordinal", "interval", "ratio"]
"""What may be said of two values: that they differ; which is more; by how much; by what share."""


def kappa(table: Table) -> Values:
    """Return Cohen's kappa of square tables of counts (..., k, k); NaN where both raters know one and the same answer.

    Source: Cohen (1960), Educ Psychol Meas 20:37.
    """
    shares, agree = _shares(table)
    chance = (shares.sum(axis=-1) * shares.sum(axis=-2)).sum(axis=-1)
    return _beyond(agree, chance)


def ac1(table: Table) -> Values:
    """Return Gwet's AC1 of square tables of counts (..., k, k).

    Source: Gwet (2008), Br J Math Stat Psychol 61:29.
    """
    shares, agree = _shares(table)
    mean = (shares.sum(axis=-1) + shares.sum(axis=-2)) / 2
    return _beyond(agree, (mean * (1 - mean)).sum(axis=-1) / (table.shape[-1] - 1))


def alpha(
    ratings: NDArray[np.int64], level: Level = "nominal", values: Sequence[float] | None = None
) -> float:
    """Return Krippendorff's alpha: of verdicts and labels (nominal), or of scores on a scale.

    Args:
        ratings: units x values: how many raters gave this value; units with fewer than two ratings say nothing.
        level: how far apart two values are; nominal values are all equally far.
        values: what the columns stand for, in ascending order (interval and ratio scales); None for 1, 2, 3, ...

    Source: Krippendorff (2011), Computing Krippendorff's alpha-reliability.
    """
    observed, counts = alpha_parts(ratings)
    if level == "nominal":
        return float(alpha_of(observed.sum(), counts.sum(axis=0)))
    totals, size = counts.sum(axis=0), counts.sum(axis=1)
    apart = _apart(
        totals,
        level,
        np.arange(1.0, len(totals) + 1) if values is None else np.asarray(values, float),
    )
    within = np.einsum("uc,ck,uk->u", counts, apart, counts) / np.maximum(size - 1, 1)
    between = totals @ apart @ totals / max(totals.sum() - 1, 1)
    return float(1 - within.sum() / between) if between > 0 else float("nan")


def _apart(totals: Values, level: Level, values: Values) -> Table:
    """Return the squared differences of all pairs of values (Krippendorff 2011, section E)."""
    if level == "ordinal":
        middle = np.cumsum(totals) - totals / 2
        between: Table = np.subtract.outer(middle, middle) ** 2
        return between
    difference = np.subtract.outer(values, values)
    if level == "ratio":
        sums = np.add.outer(values, values)
        difference = np.divide(difference, sums, out=np.zeros_like(difference), where=sums != 0)
    squared: Table = difference**2
    return squared


def alpha_parts(ratings: NDArray[np.int64]) -> tuple[Values, Values]:
    """Return what each unit adds to alpha: its observed disagreement, and its counts of values (units x values)."""
    size = ratings.sum(axis=1)
    paired = size > 1
    within = (ratings * (size[:, None] - ratings)).sum(axis=1) / np.maximum(size - 1, 1)
    return np.where(paired, within, 0.0), np.where(paired[:, None], ratings, 0).astype(np.float64)


def alpha_of(observed: NDArray[np.float64] | float, values: Values) -> Values:
    """Return alpha from sums of `alpha_parts`: disagreement (...), counts of values (..., k); NaN where all agree on one value."""
    n = values.sum(axis=-1)
    expected = (values * (n[..., None] - values)).sum(axis=-1) / np.maximum(n - 1, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Values = np.where(expected > 0, 1 - np.asarray(observed) / expected, np.nan)
    return found


def _shares(table: Table) -> tuple[Table, Values]:
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = table / table.sum(axis=(-2, -1), keepdims=True)
    return shares, np.trace(shares, axis1=-2, axis2=-1)


def _beyond(agree: Values, chance: Values) -> Values:
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Values = np.where(chance < 1 - 1e-12, (agree - chance) / (1 - chance), np.nan)
    return found
