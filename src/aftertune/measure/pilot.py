"""What a finished run says about the spread of changes, for planning the next one."""

from collections.abc import Iterator

from aftertune.core.table import NONE, Table
from aftertune.measure.averaging import fold
from aftertune.measure.cells import N, tally
from aftertune.measure.grids import arms
from aftertune.measure.measure import ASR, model_codes, task_weights
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.power import Spread, pilot_spread


def pilot_spreads(table: Table, plan: MeasurePlan) -> Iterator[tuple[str, int, Spread]]:
    """Yield for each fine-tune its name, its training seeds, and the variances of its overall change of the ASR.

    Raises:
        InputError: the plan names what is not in the table.
    """
    cells = tally(table, plan)
    weights = task_weights(table, plan)
    for condition in plan.conditions:
        if condition.base is None:
            continue
        base = model_codes(cells, plan.condition(condition.base))
        both = arms(cells, 0, model_codes(cells, condition), base, weights)
        part = (
            None
            if both is None
            else both.tuned.choose("overall", 0, both.tuned.intent(harmful=True))
        )
        if both is not None and part is not None and part.behaviors > 1:
            tuned, was = (
                fold(part, arm.counts(ASR.hit), arm.counts(N)) for arm in (both.tuned, both.base)
            )
            yield condition.name, len(condition.models), pilot_spread(tuned.matrix - was.matrix)


def mean_tokens(table: Table) -> tuple[float, float]:
    """Return how many tokens a prompt and an answer had on average; 0 without an answer."""
    answered = table.columns["finish"] != NONE
    if not answered.any():
        return 0.0, 0.0
    prompt, completion = (
        table.columns[f"{kind}_tokens"][answered].mean() for kind in ("prompt", "completion")
    )
    return float(prompt), float(completion)
