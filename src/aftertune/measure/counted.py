"""Tallies of what scorers count in a response beside its score (`core.counts`): each distinct word is read once."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aftertune.core.counts import BLEU, LABELS, WINS, read_counts
from aftertune.core.table import NONE, Table

Quantity = tuple[str, str]
"""A tally: ``said:<scorer>`` and what it sums."""


def said(table: Table, scorer: str) -> str | None:
    """Return the name of the column of a scorer's counts; None where it counts nothing."""
    name = f"said:{scorer}"
    return name if name in table.columns else None


def counted_rows(
    table: Table, scorer: str
) -> Iterator[tuple[tuple[str, str], NDArray[np.float64]]]:
    """Yield the tallies of a scorer's counts with the values that they sum, each distinct word read once."""
    if (name := said(table, scorer)) is None:
        return
    words = [read_counts(word) for word in table.names[name]]
    codes = table.columns[name]
    for quantity, values in _values(words, scorer):
        yield (
            quantity,
            np.append(values, 0.0)[codes],
        )  # NONE is the last: a response without counts adds nothing


def _values(
    words: Sequence[tuple[str, list[Any]]], scorer: str
) -> Iterator[tuple[Quantity, NDArray[np.float64]]]:
    """Yield by quantity what each distinct word adds to it."""
    metrics = {metric for metric, _ in words}
    group = f"said:{scorer}"
    yield (group, "n"), np.ones(len(words))
    if metrics & {BLEU, WINS}:
        table = np.array([values for _, values in words], np.float64)
        for place in range(table.shape[1]):
            yield (group, str(place)), table[:, place]
    if LABELS in metrics:
        right, given = ([values[place] for _, values in words] for place in (0, 1))
        invalid = np.array([label is None for label in given], np.float64)
        yield (f"score:{scorer} invalid", "n"), np.ones(len(words))
        yield (f"score:{scorer} invalid", "sum"), invalid
        for label in sorted({str(label) for label in right}):
            true, named = (np.array([one == label for one in labels]) for labels in (right, given))
            for kind, chosen in (
                ("hit", true & named),
                ("false", ~true & named),
                ("missed", true & ~named),
            ):
                yield (group, f"{kind} {label}"), chosen.astype(np.float64)


def metrics_of(table: Table, scorers: Sequence[str]) -> dict[str, str]:
    """Return the metric of every scorer that counts something."""
    named = {scorer: name for scorer in scorers if (name := said(table, scorer)) is not None}
    return {
        scorer: read_counts(table.names[name][0])[0]
        for scorer, name in named.items()
        if bool((table.columns[name] != NONE).any())
    }
