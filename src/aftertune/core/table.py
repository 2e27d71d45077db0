"""The table that `measure` works on: integer columns, one row a job, no object per response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
      ``system``, ``decoding`` (settings and decoding seed together)
    - ``intent``: 0 harmful, 1 benign (order of `core.records.Intent`)
    - ``sample``: the sample number itself
    - ``finish``: order of `core.records.FinishReason`; NONE where there is no final answer (so never ``thinking``)
    - ``prompt_tokens``, ``completion_tokens``: counts; NONE without an answer
    - ``coherent``: 1, 0, or NONE where it was not read
    - ``verdict:<judge>``: order of `core.records.VerdictValue`; NONE where there is no reading (counts as undecided)
    - ``decision:<guard>:prompt``, ``decision:<guard>:response``: order of `DecisionValue`; NONE likewise

    - ``said:<scorer>``: what it counted beside its score (`core.counts`); NONE, or no such column, where it counted nothing
    - ``verdict_label:<judge>``: the free label beside its verdict; NONE where it gave none, no such column where it never did
    - ``label:<person>``: order of `LabelValue`; NONE where this person labelled nothing (most rows)

    Float columns (float64, NaN where absent): ``score:<scorer>``, ``harm_score:<judge>``, and ``drawn:<person>``: the
    probability with which the labelled response was drawn.
    """

    columns: Mapping[str, NDArray[np.int32]]
    scores: Mapping[str, NDArray[np.float64]]
    names: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        """Return the number of jobs."""
        return len(self.columns["model"])
