"""The sampling design of labels: responses are drawn by strata of the judges' verdicts, as many of each condition.

Strata that are rare or where judges tend to err are drawn more often than their share; the probability of every draw is
kept, and `ppi.correct` weighs by it. The draw of a greater number with the same seed holds that of a smaller one.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from aftertune.core.records import LabelValue
from aftertune.core.table import NONE, Table
from aftertune.errors import InputError
from aftertune.measure.outcomes import HARMFUL_STRATA, setting_codes, strata
from aftertune.measure.plan import MeasurePlan

OFTEN = np.array([1.0, 2.0, 3.0, 3.0, 4.0, 4.0])
"""Relative to a response that is called not harmful (or answered): the chance of being drawn in each stratum."""
FLOOR = 15
"""Labels of each stratum, where it has as many and there is room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The responses to label."""

    rows: NDArray[np.int64]
    """The rows of the table that are drawn, by condition and stratum."""
    probability: NDArray[np.float64]
    """The probability with which each row was drawn."""
    groups: tuple[tuple[str, int, int], ...]
    """(condition, responses, drawn), for each setting in turn; with several settings each is named."""
    benign: tuple[tuple[str, int, int], ...] = ()
    """The same of the responses to benign prompts; empty where none were to be drawn."""


def draw_labels(table: Table, plan: MeasurePlan, n: int, seed: int, benign: int = 0) -> Draw:
    """Draw about ``n`` answered responses to harmful prompts, as many of each condition under each setting.

    Args:
        table: to draw from.
        plan: its conditions, and the judges that make the strata.
        n: responses to harmful prompts.
        seed: of the draw; a greater number with the same seed holds the smaller draw.
        benign: responses to benign prompts beside them, drawn likewise; over-refusal is corrected by them.

    Raises:
        InputError: there are more groups than labels, or nothing to label.
    """
    harmful = _drawn(table, plan, n, seed, 0)
    if not benign:
        return harmful
    other = _drawn(table, plan, benign, seed, len(HARMFUL_STRATA))
    return Draw(
        rows=np.concatenate([harmful.rows, other.rows]),
        probability=np.concatenate([harmful.probability, other.probability]),
        groups=harmful.groups,
        benign=other.groups,
    )


def _drawn(table: Table, plan: MeasurePlan, n: int, seed: int, first: int) -> Draw:
    """Draw from the strata of one intent, whose codes begin with ``first``."""
    stratum, (setting, settings) = strata(table, plan), setting_codes(table, plan)
    condition = _conditions(table, plan)
    here = (stratum >= first) & (stratum < first + len(HARMFUL_STRATA))
    groups = []
    for place in product(range(len(settings)), range(len(plan.conditions))):
        members = np.flatnonzero((setting == place[0]) & (condition == place[1]) & here)
        if len(members):
            name = plan.conditions[place[1]].name
            if len(settings) > 1:
                name = f"{name} ({', '.join(settings[place[0]])})"
            groups.append((place, name, members))
    if not groups:
        kind = "benign" if first else "harmful"
        raise InputError(
            f"no {kind} prompt has an answer, so there is nothing to label; run the study first"
        )
    if n < len(groups):
        raise InputError(
            f"{n} labels are fewer than the {len(groups)} groups (conditions x settings); ask for more"
        )
    rows, probabilities, sizes = [], [], []
    for number, (place, name, members) in enumerate(groups):
        budget = n // len(groups) + (number < n % len(groups))
        drawn = list(_within(members, stratum[members], budget, [seed, *place], first))
        rows += [chosen for chosen, _ in drawn]
        probabilities += [np.full(len(chosen), probability) for chosen, probability in drawn]
        sizes.append((name, len(members), sum(len(chosen) for chosen, _ in drawn)))
    return Draw(
        rows=np.concatenate(rows), probability=np.concatenate(probabilities), groups=tuple(sizes)
    )


def add_labels(
    table: Table, draw: Draw, labels: Sequence[LabelValue | None], annotator: str
) -> Table:
    """Return the table with an annotator's labels of drawn responses, by which `measure_table` corrects rates.

    Args:
        table: that was drawn from.
        draw: of `draw_labels`.
        labels: one for each of the draw's rows; None where the annotator gave none.
        annotator: name of the annotator.

    Raises:
        InputError: there are not as many labels as drawn responses.
    """
    if len(labels) != len(draw.rows):
        raise InputError(
            f"{len(labels)} labels do not fit {len(draw.rows)} drawn responses; give one for each, or None"
        )
    codes, probability = np.full(len(table), NONE, np.int32), np.full(len(table), np.nan)
    values = tuple(LabelValue)
    codes[draw.rows] = [NONE if label is None else values.index(label) for label in labels]
    probability[draw.rows] = draw.probability
    return replace(
        table,
        columns={**table.columns, f"label:{annotator}": codes},
        scores={**table.scores, f"drawn:{annotator}": probability},
    )


def allocate(budget: int, sizes: Sequence[int]) -> list[int]:
    """Return the number of labels of each stratum: `FLOOR` where there is room, the rest by size x `OFTEN`.

    One label at a time, so that a greater budget takes none away from any stratum: labelled responses stay drawn.
    Source of the rest's rule: d'Hondt's highest averages (Balinski and Young, 1982, Fair Representation).

    Args:
        budget: labels for all of them.
        sizes: responses in each stratum, in the order of `HARMFUL_STRATA`.
    """
    given = [0] * len(sizes)
    floors = [min(FLOOR, size) for size in sizes]

    def wait(stratum: int) -> tuple[int, float]:
        """Return the rank of a stratum's next label; strata under their floor come first."""
        below = floors[stratum] - given[stratum]
        beyond = 1 - below
        return (0, given[stratum]) if below > 0 else (1, beyond / (sizes[stratum] * OFTEN[stratum]))

    queue = [(*wait(stratum), stratum) for stratum, size in enumerate(sizes) if size]
    heapq.heapify(queue)
    for _ in range(min(budget, sum(sizes))):
        stratum = queue[0][-1]
        given[stratum] += 1
        if given[stratum] < sizes[stratum]:
            heapq.heapreplace(queue, (*wait(stratum), stratum))
        else:
            heapq.heappop(queue)
    return given


def _conditions(table: Table, plan: MeasurePlan) -> NDArray[np.int64]:
    """Return the condition of every row; NONE for a model that no condition names."""
    of_model = np.full(len(table.names["model"]), NONE, np.int64)
    for number, condition in enumerate(plan.conditions):
        for model in condition.models:
            of_model[table.names["model"].index(model)] = number
    return of_model[table.columns["model"]]


def _within(
    members: NDArray[np.int64], stratum: NDArray[np.int8], budget: int, seed: list[int], first: int
) -> Iterator[tuple[NDArray[np.int64], float]]:
    """Yield the rows drawn in each stratum with their probability."""
    sizes = [int((stratum == first + code).sum()) for code in range(len(HARMFUL_STRATA))]
    for code, count in enumerate(allocate(budget, sizes), start=first):
        if count:
            order = np.random.default_rng([*seed, code]).permutation(members[stratum == code])
            yield order[:count], count / sizes[code - first]
