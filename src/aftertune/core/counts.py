"""The counts of a metric in a response, kept beside its score, so that a corpus metric can be put together from many.

Corpus BLEU and macro-F1 are no means of scores. A metric hands over the *counts* of each response as one short word,
``bleu [3, 1, 0, 0, 6, 5, 4, 3, 6, 7]`` or ``labels ["bad", null]``; few words differ, so they are stored once each.
"""

import json
from typing import Any

from aftertune.errors import InputError

BLEU, LABELS, WINS = "bleu", "labels", "wins"
"""Matches of 1- to 4-grams, all of the response's, and the lengths of response and reference; the right label and the
one given (null: none that is valid); least and largest share of a comparison's orders that are won, and whether one of
them is undecided."""


def counted(metric: str, values: list[Any]) -> str:
    """Return counts as a word."""
    return f"{metric} {json.dumps(values)}"


def read_counts(word: str) -> tuple[str, list[Any]]:
    """Return the metric and the counts that `counted` made a word of.

    Raises:
        InputError: some other word.
    """
    metric, _, values = word.partition(" ")
    try:
        counts = json.loads(values)
    except ValueError as error:
        raise InputError(
            f"a metric counted {word[:60]!r}; counts are a metric and a JSON list"
        ) from error
    if metric not in (BLEU, LABELS, WINS) or not isinstance(counts, list):
        raise InputError(f"a metric counted {word[:60]!r}; known metrics: {BLEU}, {LABELS}, {WINS}")
    return metric, counts
