"""The table that `measure` works on: integer columns, one row a job, no object per response."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aftertune.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NONE = -1
"""The code of an absent value in every integer column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Jobs of a study as integer columns of equal length, and the names that the integers stand for.

    Columns of every table, int32, codes into ``names[column]`` unless said otherwise:

    - ``model``, ``prompt``, ``behavior``, ``pair``, ``template``, ``task``, ``set``, ``hazard``, ``harm_basis``,
      ``system``, ``decoding`` (settings and decoding seed together); ``attack`` in a table that has attacked prompts
    - ``intent``: 0 harmful, 1 benign (order of `core.records.Intent`)
    - ``sample``: the sample number itself
    - ``finish``: order of `core.records.FinishReason`; NONE where there is no final answer (so never ``thinking``)
    - ``prompt_tokens``, ``completion_tokens``: counts; NONE without an answer
    - ``coherent``: 1, 0, or NONE where it was not read
    - ``verdict:<judge>``: order of `core.records.VerdictValue`; NONE where there is no reading (counts as undecided)
    - ``decision:<guard>:prompt``, ``decision:<guard>:response``: order of `DecisionValue`; NONE likewise

    - ``reasoning:<judge>``: order of `VerdictValue`; NONE where the answer has no thinking block, or it has no reading
    - ``score_label:<scorer>``: what it counted beside its score (`core.table`); NONE, or no such column, where it counted nothing
    - ``verdict_label:<judge>``: the free label beside its verdict; NONE where it gave none, no such column where it never did
    - ``label:<person>``: order of `LabelValue`; NONE where this person labelled nothing (most rows)
    - ``adjudicated``: order of `LabelValue`, the label that counts where annotators differ; NONE elsewhere, no such column
      where nobody decided between them

    Float columns (float64, NaN where absent): ``score:<scorer>``, ``harm_score:<judge>``, and ``drawn:<person>``: the
    probability with which the labelled response was drawn.
    """

    columns: Mapping[str, NDArray[np.int32]]
    scores: Mapping[str, NDArray[np.float64]]
    names: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        """Return the number of jobs."""
        return len(self.columns["model"])


ADJUDICATED = "adjudicated"
"""The column of the labels that count where annotators differ."""
DIVERGENCE_SCORE = "first-token-kl"
"""The name, among scores, of the divergence of a fine-tune's first token from its base's (nats)."""

# The counts of a metric in a response
#
# Corpus BLEU and macro-F1 are no means of scores. A metric hands over the *counts* of each response as one short word,
# ``bleu [3, 1, 0, 0, 6, 5, 4, 3, 6, 7]`` or ``labels ["bad", null]``; few words differ, so they are stored once each.

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
