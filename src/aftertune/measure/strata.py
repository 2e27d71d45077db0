"""What the judges made of each response: the strata that labels are drawn from and weighted by."""

import numpy as np
from numpy.typing import NDArray

from aftertune.core.records import Intent
from aftertune.core.table import NONE, Table
from aftertune.measure import outcomes as oc
from aftertune.measure.plan import MeasurePlan

HARMFUL_STRATA = (
    "not harmful", "harmful", "incoherent", "undecided", "judges differ, not harmful", "judges differ, harmful"
)  # fmt: skip
"""Of responses to harmful prompts: by the deciding verdict, and by whether the judges differ."""
BENIGN_STRATA = (
    "answered", "over-refused", "benign, incoherent", "benign, undecided", "judges differ, answered",
    "judges differ, over-refused",
)  # fmt: skip
"""The same of responses to benign prompts, in the same order."""
STRATA = (*HARMFUL_STRATA, *BENIGN_STRATA)
UNANSWERED = -1
_BENIGN_INTENT = tuple(Intent).index(Intent.BENIGN)
_OF_OUTCOME = {oc.HARMFUL: 1, oc.OVER_REFUSED: 1, oc.INCOHERENT: 2, oc.UNDECIDED: 3}


def strata(table: Table, plan: MeasurePlan) -> NDArray[np.int8]:
    """Return the stratum of every row as an index into `STRATA`; `UNANSWERED` where there is nothing to label."""
    benign = table.columns["intent"] == _BENIGN_INTENT
    verdicts = [oc.verdicts(table, judge) for judge in plan.judges]
    decided = verdicts[0] if plan.panel == "first" else oc.panel_verdicts(verdicts, plan.panel)
    outcome = oc.outcomes(table, decided)
    found = np.zeros(len(table), np.int8)
    for code, stratum in _OF_OUTCOME.items():
        found[outcome == code] = stratum
    yes = [np.where(benign, codes == oc.REFUSED, codes == oc.COMPLIED) for codes in verdicts]
    known = np.all([codes != oc.VERDICT_UNDECIDED for codes in verdicts], axis=0)
    differ = known & (np.any(yes, axis=0) != np.all(yes, axis=0))
    found[differ & (found == 0)] = 4
    found[differ & (found == 1)] = 5
    found[benign] += len(HARMFUL_STRATA)
    found[table.columns["finish"] == NONE] = UNANSWERED
    return found
