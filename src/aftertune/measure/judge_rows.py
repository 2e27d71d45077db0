"""Tallies of what judges say beside their verdicts: how harmful a response is, in [0, 1], and labels of their own.

Only responses to harmful prompts count. A score counts as the judge gave it, whatever the response's outcome.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from aftertune.core.records import Intent
from aftertune.core.table import NONE, Table

MOST_LABELS = 20
"""Labels of a judge that are counted by themselves: the most frequent of the study. The rest is `OTHER`."""
OTHER = "(other labels)"
_HARMFUL_INTENT = tuple(Intent).index(Intent.HARMFUL)
Rows = NDArray[np.bool_] | NDArray[np.float64]


def harm_score(judge: str) -> str:
    """Return what a judge's harm scores are called among the scores; no scorer can have this name."""
    return f"harm_score:{judge}"


def labels_of(judge: str) -> str:
    """Return the name of the tallies, and of the table's column, of a judge's labels."""
    return f"verdict_label:{judge}"


def harm_scores(table: Table, judge: str) -> NDArray[np.float64]:
    """Return a judge's harm scores of the responses to harmful prompts; NaN where it gave none."""
    harmful = table.columns["intent"] == _HARMFUL_INTENT
    scores = table.scores.get(harm_score(judge))
    return np.full(len(table), np.nan) if scores is None else np.where(harmful, scores, np.nan)


def judge_rows(table: Table, judge: str) -> Iterator[tuple[tuple[str, str], Rows]]:
    """Yield the tallies of a judge's harm scores and labels; nothing where it gives none."""
    scores = harm_scores(table, judge)
    if not np.isnan(scores).all():
        yield (f"score:{harm_score(judge)}", "n"), ~np.isnan(scores)
        yield (f"score:{harm_score(judge)}", "sum"), scores
    yield from _label_rows(table, labels_of(judge))


def _label_rows(table: Table, column: str) -> Iterator[tuple[tuple[str, str], Rows]]:
    if column not in table.columns:
        return
    codes = np.where(table.columns["intent"] == _HARMFUL_INTENT, table.columns[column], NONE)
    counts = np.bincount(codes[codes != NONE], minlength=len(table.names[column]))
    frequent = [code for code in np.argsort(-counts, kind="stable").tolist() if counts[code]]
    for code in frequent[:MOST_LABELS]:
        yield (column, table.names[column][code]), codes == code
    if rest := frequent[MOST_LABELS:]:
        yield (column, OTHER), np.isin(codes, rest)
