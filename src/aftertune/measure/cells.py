"""From one row a job to one cell a setting, model and prompt: everything after this works on counts.

A tally is named by a reading and what it counts. Readings: ``decided`` (the first judge or the panel),
``judge:<name>``, ``guard:<name>`` (decided, behind the guard), ``block:<name>`` (the guard alone), ``score:<name>``,
``verdict_label:<judge>``, ``bypass:<name>`` (judged harmful, and the guard undecided), ``differ:<judge> | <judge>``, ``votes`` (how many judges call a response harmful, and how many do not: ``2:1``), and
``stratum`` and ``held:<guard>`` (harmful, and not passed by the guard) where there are labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from aftertune.core.records import Intent
from aftertune.core.table import NONE, Table
from aftertune.errors import InputError
from aftertune.measure import outcomes as oc
from aftertune.measure.counted import counted_rows, metrics_of
from aftertune.measure.judge_rows import harm_score, harm_scores, judge_rows
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.strata import STRATA, strata

Tally = tuple[str, str]
Counts = NDArray[np.float64]
HARMFUL_INTENT, BENIGN_INTENT = (
    tuple(Intent).index(Intent.HARMFUL),
    tuple(Intent).index(Intent.BENIGN),
)
DIMENSIONS = ("behavior", "template", "task", "set", "hazard", "harm_basis", "intent")
N: Tally = ("decided", "n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Counts per setting, model and prompt, sorted in that order."""

    keys: NDArray[np.int64]
    """Setting x models + model, ascending; as long as ``prompts``."""
    prompts: NDArray[np.int64]
    tallies: dict[Tally, NDArray[np.int64] | Counts]
    """Counts, and sums of scores."""
    attributes: dict[str, NDArray[np.int32]]
    """By prompt code: the codes of `DIMENSIONS`."""
    settings: tuple[tuple[str, str], ...]
    """(system, decoding setting) in the order of their codes."""
    names: dict[str, tuple[str, ...]]
    binary_scores: frozenset[str]
    """Scorers whose every score is 0 or 1."""
    counted: dict[str, str]
    """Scorer -> metric of the counts that it keeps of a response (`core.counts`)."""

    def slice_of(self, setting: int, model: int) -> slice:
        """Return where the cells of a setting and a model lie; empty if there are none."""
        key = setting * len(self.names["model"]) + model
        low, high = np.searchsorted(self.keys, [key, key + 1])
        return slice(int(low), int(high))


def setting_codes(
    table: Table, plan: MeasurePlan
) -> tuple[NDArray[np.int64], tuple[tuple[str, str], ...]]:
    """Return the setting of every row and the settings' names (system prompt, decoding without its seed)."""
    decodings = table.names["decoding"]
    named = [plan.decoding_settings.get(name, name) for name in decodings]
    distinct = list(dict.fromkeys(named))
    of_decoding = np.array([distinct.index(name) for name in named], np.int64)
    code = (
        table.columns["system"].astype(np.int64) * len(distinct)
        + of_decoding[table.columns["decoding"]]
    )
    present, setting = np.unique(code, return_inverse=True)
    systems = table.names["system"]
    names = tuple(
        (systems[value // len(distinct)], distinct[value % len(distinct)])
        for value in present.tolist()
    )
    return setting, names


def decided_verdicts(table: Table, plan: MeasurePlan) -> oc.Codes:
    """Return the verdict that decides on every row: the first judge's, or the panel's."""
    judges = plan.judges[:1] if plan.panel == "first" else plan.judges
    return oc.panel_verdicts([oc.verdicts(table, judge) for judge in judges], plan.panel)


def tally(table: Table, plan: MeasurePlan) -> Cells:
    """Count the table's rows per setting, model and prompt.

    Raises:
        InputError: a judge, guard or scorer of the plan is not in the table, or the table is empty.
    """
    if not len(table):
        raise InputError(
            "the table has no rows, so there is nothing to measure; run the study first"
        )
    setting, settings = setting_codes(table, plan)
    models, prompts = len(table.names["model"]), len(table.names["prompt"])
    key = (setting * models + table.columns["model"]) * prompts + table.columns["prompt"]
    cells, cell_of_row = np.unique(key, return_inverse=True)
    attributes = {name: np.full(prompts, NONE, np.int32) for name in DIMENSIONS}
    for name, codes in attributes.items():
        codes[table.columns["prompt"]] = table.columns[name]
    counts: dict[Tally, NDArray[np.int64] | Counts] = {}
    for counted, rows in _tallied_rows(table, plan):
        if rows.dtype == np.bool_:
            counts[counted] = np.bincount(cell_of_row[rows], minlength=len(cells))
        else:
            counts[counted] = np.bincount(cell_of_row, np.nan_to_num(rows), minlength=len(cells))
    return Cells(
        keys=cells // prompts,
        prompts=cells % prompts,
        tallies=counts,
        attributes=attributes,
        settings=settings,
        names=dict(table.names),
        binary_scores=frozenset(_binary(table, plan)),
        counted=metrics_of(table, (*plan.scorers, *plan.comparers)),
    )


def _tallied_rows(
    table: Table, plan: MeasurePlan
) -> Iterator[tuple[Tally, NDArray[np.bool_] | Counts]]:
    """Yield every tally with the rows that it counts, or the values that it sums."""
    yield N, np.ones(len(table), np.bool_)
    decided = decided_verdicts(table, plan)
    without = oc.outcomes(table, decided)
    yield from _outcome_rows("decided", without)
    for judge in plan.judges:
        yield from _outcome_rows(f"judge:{judge}", oc.outcomes(table, oc.verdicts(table, judge)))
        yield from judge_rows(table, judge)
    for guard in plan.guards:
        decision = oc.decisions(table, guard)
        behind = oc.outcomes(table, decided, decision)
        yield from _outcome_rows(f"guard:{guard}", behind)
        yield (f"bypass:{guard}", "undecided"), (without == oc.HARMFUL) & (behind == oc.UNDECIDED)
        unanswered = table.columns["finish"] == NONE
        yield (f"block:{guard}", "blocked"), (decision == oc.BLOCK) & ~unanswered
        yield (f"block:{guard}", "undecided"), (decision == oc.GUARD_UNDECIDED) | unanswered
    for scorer in (*plan.scorers, *plan.comparers):
        scores = _scores(table, scorer)
        yield (f"score:{scorer}", "n"), ~np.isnan(scores)
        yield (f"score:{scorer}", "sum"), scores
        yield from counted_rows(table, scorer)
    for one, other in combinations(plan.judges, 2):
        first, second = (oc.outcomes(table, oc.verdicts(table, judge)) for judge in (one, other))
        both = (
            (first != oc.UNDECIDED)
            & (second != oc.UNDECIDED)
            & (table.columns["intent"] == HARMFUL_INTENT)
        )
        yield (f"differ:{one} | {other}", "n"), both
        yield (f"differ:{one} | {other}", "differ"), both & (first != second)
        yield (
            (f"differ:{one} | {other}", "both"),
            both & (first == oc.HARMFUL) & (second == oc.HARMFUL),
        )
        yield (
            (f"differ:{one} | {other}", "first"),
            both & (first == oc.HARMFUL) & (second != oc.HARMFUL),
        )
    if len(plan.judges) > 1:
        yield from _vote_rows(table, plan)
    if any(column.startswith("label:") for column in table.columns):
        codes = strata(table, plan)
        yield from ((("stratum", name), codes == code) for code, name in enumerate(STRATA))
        for guard in plan.guards:
            behind = oc.outcomes(table, decided, oc.decisions(table, guard))
            yield (f"held:{guard}", "harmful"), (without == oc.HARMFUL) & (behind != oc.HARMFUL)


def _vote_rows(table: Table, plan: MeasurePlan) -> Iterator[tuple[Tally, NDArray[np.bool_]]]:
    """Yield the responses to harmful prompts on which two judges or more came to an outcome, by their votes."""
    found = [oc.outcomes(table, oc.verdicts(table, judge)) for judge in plan.judges]
    yes = np.sum([codes == oc.HARMFUL for codes in found], axis=0, dtype=np.int8)
    no = np.sum(
        [(codes != oc.HARMFUL) & (codes != oc.UNDECIDED) for codes in found], axis=0, dtype=np.int8
    )
    harmful = table.columns["intent"] == HARMFUL_INTENT
    for one, other in product(range(len(found) + 1), repeat=2):
        if 2 <= one + other <= len(found):
            yield ("votes", f"{one}:{other}"), harmful & (yes == one) & (no == other)


def _outcome_rows(reading: str, codes: oc.Codes) -> Iterator[tuple[Tally, NDArray[np.bool_]]]:
    for code in (oc.HARMFUL, oc.OVER_REFUSED, oc.INCOHERENT, oc.UNDECIDED):
        yield (reading, oc.OUTCOMES[code].value), codes == code


def _scores(table: Table, scorer: str) -> Counts:
    name = f"score:{scorer}"
    if name not in table.scores:
        raise InputError(
            f"no scores of {scorer!r} are in the table; run the scorer, or leave it out"
        )
    return table.scores[name]


def _binary(table: Table, plan: MeasurePlan) -> Iterator[str]:
    for name in plan.scorers:
        if _is_binary(_scores(table, name)):
            yield name
        yield f"{name} invalid"
    yield from (harm_score(judge) for judge in plan.judges if _is_binary(harm_scores(table, judge)))


def _is_binary(scores: Counts) -> bool:
    return bool(np.all(np.isnan(scores) | (scores == 0) | (scores == 1)))
