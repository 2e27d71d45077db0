"""Counts of responses for each setting, model and prompt: everything after this module works on counts.

A count's key (`Tally`) names its source (whose verdicts, scores or labels) and what is counted of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aftertune.core.records import FinishReason, VerdictValue
from aftertune.core.table import BLEU, DIVERGENCE_SCORE, LABELS, NONE, WINS, Table, read_counts
from aftertune.errors import InputError
from aftertune.measure import outcomes as oc
from aftertune.measure.plan import MeasurePlan

DIMENSIONS = ("behavior", "template", "task", "set", "hazard", "harm_basis", "intent")
MOST_LABELS = 20
"""Labels of a judge that are counted by themselves: the most frequent of the study. The rest is `OTHER_LABELS`."""
OTHER_LABELS = "(other labels)"
_LENGTH = tuple(FinishReason).index(FinishReason.LENGTH)
Values = NDArray[np.float64]
Rows = NDArray[np.bool_] | Values


class SourceKind(Enum):
    """The kind of a source."""

    DECIDED = "the verdict that decides"
    """The first judge's verdict, or the panel's."""
    JUDGE = "one judge"
    REASONING = "a judge of the thinking before a response"
    GUARD = "the verdict that decides, behind a guard"
    BLOCK = "a guard alone"
    BYPASS = "judged harmful, and the guard undecided"
    HELD = "judged harmful, and not passed by the guard"
    SCORE = "a scorer's scores"
    INVALID = "the share of a scorer's invalid labels"
    HARM_SCORE = "a judge's harm scores"
    LABEL = "a judge's labels beside its verdicts"
    COMPLIED_HARM = "a judge's harm scores of the harmful responses"
    TOXICITY = "the toxicity of responses"
    TOXIC = "responses from a toxicity's threshold on"
    COMPLIED_TOXICITY = "the toxicity of the harmful responses"
    DIVERGENCE = "the divergence of the first token from the base's"
    CORPUS = "a scorer's counts for a corpus metric"
    PAIR = "two judges"
    VOTES = "all judges"
    """Responses by how many judges call them harmful, and how many do not: ``2:1``."""
    FINISH = "the ways in which answers end"
    STRATUM = "the strata that labels are drawn from"
    GATE_FAIL = "the gate's coding for FAIL"
    GATE_WORST = "the gate's coding for PASS"


class Source(NamedTuple):
    """The verdicts, scores or labels that a count is made of."""

    kind: SourceKind
    name: str = ""
    """The name of the judge, guard or scorer, or of two judges (`pair_name`)."""


class Tally(NamedTuple):
    """The key of a count."""

    source: Source
    value: str
    """An outcome, a stratum, ``n``, ``sum``, or the place in a scorer's counts."""
    label: str = ""
    """The label of a classification, or one of a judge's own."""


DECIDED = Source(SourceKind.DECIDED)
N = Tally(DECIDED, "n")
HARMFUL, OVER_REFUSED = Tally(DECIDED, "harmful"), Tally(DECIDED, "over-refused")
VOTES = Source(SourceKind.VOTES)
ANSWERS, CUT = Tally(Source(SourceKind.FINISH), "n"), Tally(Source(SourceKind.FINISH), "cut")
"""Final answers, and those of them that the token limit cut off."""


def pair_name(first: str, second: str) -> str:
    """Return the name that results give to two judges."""
    return f"{first} | {second}"


def stratum_tally(stratum: oc.Stratum) -> Tally:
    """Return the key of the count of a stratum; counted only where the table has labels."""
    return Tally(Source(SourceKind.STRATUM), stratum.name)


def vote_tally(yes: int, no: int) -> Tally:
    """Return the key of the count of responses that ``yes`` judges call harmful and ``no`` judges do not."""
    return Tally(VOTES, f"{yes}:{no}")


def votes_of(raters: int) -> list[tuple[int, int]]:
    """Return all numbers of raters that may say yes and no of a response, two of them at least."""
    return [
        (yes, no) for yes in range(raters + 1) for no in range(raters + 1 - yes) if yes + no > 1
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counts per setting, model and prompt, sorted in that order."""

    keys: NDArray[np.int64]
    """Setting x models + model, ascending; as long as ``prompts``."""
    prompts: NDArray[np.int64]
    tallies: dict[Tally, Values]
    """Counts, and sums of scores."""
    attributes: dict[str, NDArray[np.int32]]
    """By prompt code: the codes of `DIMENSIONS`, and ``cluster``, which a behavior shares with its benign twins."""
    settings: tuple[tuple[str, str], ...]
    """(system, decoding setting) in the order of their codes."""
    names: dict[str, tuple[str, ...]]
    binary: frozenset[Source]
    """Scores whose every value is 0 or 1."""
    metrics: dict[str, str]
    """Scorer -> corpus metric of the counts that it keeps of a response (`core.table`)."""
    deterministic: frozenset[str] = frozenset()
    """Models whose replicates are one call."""
    runs: tuple["Counts", ...] = ()
    """The counts of each replicate by itself; empty where there is one alone, or where one lacks a prompt."""

    def slice_of(self, setting: int, model: int) -> slice:
        """Return the slice of a setting and a model; empty if there are none."""
        key = setting * len(self.names["model"]) + model
        low, high = np.searchsorted(self.keys, [key, key + 1])
        return slice(int(low), int(high))


def count(table: Table, plan: MeasurePlan) -> Counts:
    """Count the table's rows per setting, model and prompt.

    Raises:
        InputError: a judge, guard or scorer of the plan is not in the table, or the table is empty.
    """
    if not len(table):
        raise InputError(
            "the table has no rows, so there is nothing to measure; run the study first"
        )
    setting, settings = oc.setting_codes(table, plan)
    models, prompts = len(table.names["model"]), len(table.names["prompt"])
    key = (setting * models + table.columns["model"]) * prompts + table.columns["prompt"]
    keys, place_of_row = np.unique(key, return_inverse=True)
    attributes = {name: np.full(prompts, NONE, np.int32) for name in DIMENSIONS}
    for name, codes in attributes.items():
        codes[table.columns["prompt"]] = table.columns[name]
    attributes["cluster"] = _clusters(table, attributes["behavior"])
    replicate = oc.replicates(table, plan)
    chosen = [np.flatnonzero(replicate == number) for number in range(int(replicate.max()) + 1)]
    tallies: dict[Tally, Values] = {}
    of_runs: list[dict[Tally, Values]] = [{} for _ in chosen]
    binary: set[Source] = set()
    for tally, rows in _tallied_rows(table, plan):
        # sums of scores; of rows that count, their number
        values = np.nan_to_num(rows)
        for run, rows_of_run in zip(of_runs, chosen, strict=True):
            sums = np.bincount(place_of_row[rows_of_run], values[rows_of_run], minlength=len(keys))
            run[tally] = sums.astype(np.float64)
        tallies[tally] = np.sum([run[tally] for run in of_runs], axis=0)
        if tally.value == "sum" and np.isin(rows[~np.isnan(rows)], (0, 1)).all():
            binary.add(tally.source)
    counts = Counts(
        keys=keys // prompts,
        prompts=keys % prompts,
        tallies=tallies,
        attributes=attributes,
        settings=settings,
        names=dict(table.names),
        binary=frozenset(binary),
        metrics=_metrics(table, (*plan.metrics, *plan.preferences)),
        deterministic=plan.deterministic,
    )
    if len(of_runs) == 1 or not all(run[N].all() for run in of_runs):
        return counts
    return replace(counts, runs=tuple(replace(counts, tallies=run) for run in of_runs))


def _clusters(table: Table, behavior: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return a code for each prompt code that a behavior and its benign twins share: of the pair's name, else of the behavior's."""
    pair = np.full(len(behavior), NONE, np.int32)
    pair[table.columns["prompt"]] = table.columns["pair"]
    codes = {name: code for code, name in enumerate(table.names["behavior"])}
    of_pair = [codes.setdefault(name, len(codes)) for name in table.names["pair"]]
    # the last place serves NONE, which is -1
    return np.where(pair == NONE, behavior, np.array([*of_pair, NONE], np.int32)[pair])


def _tallied_rows(table: Table, plan: MeasurePlan) -> Iterator[tuple[Tally, Rows]]:
    """Yield every tally with the rows that it counts, or the values that it sums."""
    yield N, np.ones(len(table), np.bool_)
    yield ANSWERS, table.columns["finish"] != NONE
    yield CUT, table.columns["finish"] == _LENGTH
    decided = oc.decided_verdicts(table, plan)
    without = oc.outcomes(table, decided)
    by_judge = [oc.outcomes(table, oc.verdicts(table, judge)) for judge in plan.judges]
    yield from _outcome_rows(DECIDED, without)
    for judge, codes in zip(plan.judges, by_judge, strict=True):
        yield from _outcome_rows(Source(SourceKind.JUDGE, judge), codes)
        if judge not in plan.distances:
            yield from _harm_rows(table, judge, without)
        yield from _judge_label_rows(table, judge)
    for judge in plan.reasoning_judges:
        yield from _reasoning_rows(table, judge)
    labelled = any(column.startswith("label:") for column in table.columns)
    for guard in plan.guards:
        yield from _guard_rows(table, guard, decided, without, labelled=labelled)
    for scorer in (*plan.metrics, *plan.preferences):
        yield from _score_rows(Source(SourceKind.SCORE, scorer), _scores(table, scorer))
        yield from _corpus_rows(table, scorer)
    yield from _toxicity_rows(table, plan, without)
    moved = table.scores.get(f"score:{DIVERGENCE_SCORE}")
    if moved is not None and not np.isnan(moved).all():
        yield from _score_rows(Source(SourceKind.DIVERGENCE), moved)
    harmful = table.columns["intent"] == oc.HARMFUL_INTENT
    for first, second in combinations(range(len(plan.judges)), 2):
        name = pair_name(plan.judges[first], plan.judges[second])
        yield from _pair_rows(
            Source(SourceKind.PAIR, name), by_judge[first], by_judge[second], harmful
        )
    if len(plan.judges) > 1:
        yield from _vote_rows(by_judge, harmful)
    if labelled:
        codes = oc.strata(table, plan)
        yield from ((stratum_tally(stratum), codes == stratum) for stratum in oc.Stratum)


def _outcome_rows(source: Source, codes: oc.Codes) -> Iterator[tuple[Tally, Rows]]:
    for code in (oc.HARMFUL, oc.OVER_REFUSED, oc.INCOHERENT, oc.UNDECIDED):
        yield Tally(source, oc.OUTCOMES[code].value), codes == code


def _reasoning_rows(table: Table, judge: str) -> Iterator[tuple[Tally, Rows]]:
    """Yield the responses whose thinking a judge calls harmful, and those on whose thinking it did not decide.

    A response without thinking is neither.
    """
    column = f"reasoning:{judge}"
    if column not in table.columns:
        raise InputError(
            f"no verdicts of {judge!r} on the reasoning are in the table; run the judge, or leave it out"
        )
    verdicts, source = table.columns[column], Source(SourceKind.REASONING, judge)
    verdict = list(VerdictValue).index
    yield Tally(source, "harmful"), verdicts == verdict(VerdictValue.COMPLIED)
    yield Tally(source, "undecided"), verdicts == verdict(VerdictValue.UNDECIDED)
    yield Tally(source, "incoherent"), np.zeros(len(table), np.bool_)
    yield Tally(source, "present"), verdicts != NONE


def _guard_rows(
    table: Table, guard: str, decided: oc.Codes, without: oc.Codes, *, labelled: bool
) -> Iterator[tuple[Tally, Rows]]:
    decision, unanswered = oc.decisions(table, guard), table.columns["finish"] == NONE
    behind, harmful = oc.outcomes(table, decided, decision), without == oc.HARMFUL
    block = Source(SourceKind.BLOCK, guard)
    yield from _outcome_rows(Source(SourceKind.GUARD, guard), behind)
    yield Tally(Source(SourceKind.BYPASS, guard), "undecided"), harmful & (behind == oc.UNDECIDED)
    yield Tally(block, "blocked"), (decision == oc.BLOCK) & ~unanswered
    yield Tally(block, "undecided"), (decision == oc.GUARD_UNDECIDED) | unanswered
    if labelled:
        yield Tally(Source(SourceKind.HELD, guard), "harmful"), harmful & (behind != oc.HARMFUL)


def _score_rows(source: Source, scores: Values) -> Iterator[tuple[Tally, Rows]]:
    """Yield number and sum of scores; nothing of harm scores where a judge gives none."""
    of_judge = source.kind in (SourceKind.HARM_SCORE, SourceKind.COMPLIED_HARM)
    if of_judge and np.isnan(scores).all():
        return
    yield Tally(source, "n"), ~np.isnan(scores)
    yield Tally(source, "sum"), scores


def _harm_rows(table: Table, judge: str, outcomes: oc.Codes) -> Iterator[tuple[Tally, Rows]]:
    """Yield a judge's harm scores of the responses to harmful prompts, and those of the harmful responses."""
    scores = _harm_scores(table, judge)
    complied = np.where(outcomes == oc.HARMFUL, scores, np.nan)
    yield from _score_rows(Source(SourceKind.HARM_SCORE, judge), scores)
    yield from _score_rows(Source(SourceKind.COMPLIED_HARM, judge), complied)


def _toxicity_rows(
    table: Table, plan: MeasurePlan, outcomes: oc.Codes
) -> Iterator[tuple[Tally, Rows]]:
    """Yield the toxicity of responses, how many reach the threshold, and both of the harmful responses.

    A response without a toxicity is undecided: it might reach the threshold.
    """
    harmful = outcomes == oc.HARMFUL
    for name, threshold in plan.toxicity.items():
        scores, cut = _scores(table, name), table.columns.get(f"score_label:{name}")
        source, above = Source(SourceKind.TOXICITY, name), Source(SourceKind.TOXIC, name)
        complied, toxic = Source(SourceKind.COMPLIED_TOXICITY, name), scores >= threshold
        yield from _score_rows(source, scores)
        if cut is not None:
            yield Tally(source, "cut"), cut != NONE
        yield Tally(above, "toxic"), toxic
        yield Tally(above, "undecided"), np.isnan(scores)
        yield from _score_rows(complied, np.where(harmful, scores, np.nan))
        yield Tally(complied, "toxic"), harmful & toxic


def _pair_rows(
    source: Source, first: oc.Codes, second: oc.Codes, harmful: NDArray[np.bool_]
) -> Iterator[tuple[Tally, Rows]]:
    """Yield the responses to harmful prompts that two judges decided: all, differing, harmful to both, to the first."""
    both = (first != oc.UNDECIDED) & (second != oc.UNDECIDED) & harmful
    yes, other = first == oc.HARMFUL, second == oc.HARMFUL
    yield Tally(source, "n"), both
    yield Tally(source, "differ"), both & (first != second)
    yield Tally(source, "both"), both & yes & other
    yield Tally(source, "first"), both & yes & ~other


def _vote_rows(
    by_judge: Sequence[oc.Codes], harmful: NDArray[np.bool_]
) -> Iterator[tuple[Tally, Rows]]:
    """Yield the responses to harmful prompts on which two judges or more came to an outcome, by their votes."""
    yes = np.sum([codes == oc.HARMFUL for codes in by_judge], axis=0, dtype=np.int8)
    no = np.sum(
        [(codes != oc.HARMFUL) & (codes != oc.UNDECIDED) for codes in by_judge],
        axis=0,
        dtype=np.int8,
    )
    for ayes, noes in votes_of(len(by_judge)):
        yield vote_tally(ayes, noes), harmful & (yes == ayes) & (no == noes)


def _harm_scores(table: Table, judge: str) -> Values:
    """Return a judge's harm scores of the responses to harmful prompts, whatever their outcome; NaN where it gave none."""
    harmful = table.columns["intent"] == oc.HARMFUL_INTENT
    scores = table.scores.get(f"harm_score:{judge}")
    return np.full(len(table), np.nan) if scores is None else np.where(harmful, scores, np.nan)


def _judge_label_rows(table: Table, judge: str) -> Iterator[tuple[Tally, Rows]]:
    """Yield a judge's labels of the responses to harmful prompts, the most frequent first."""
    column, source = f"verdict_label:{judge}", Source(SourceKind.LABEL, judge)
    if column not in table.columns:
        return
    codes = np.where(table.columns["intent"] == oc.HARMFUL_INTENT, table.columns[column], NONE)
    sizes = np.bincount(codes[codes != NONE], minlength=len(table.names[column]))
    frequent = [code for code in np.argsort(-sizes, kind="stable").tolist() if sizes[code]]
    for code in frequent[:MOST_LABELS]:
        yield Tally(source, "label", table.names[column][code]), codes == code
    if rest := frequent[MOST_LABELS:]:
        yield Tally(source, "label", OTHER_LABELS), np.isin(codes, rest)


def _scores(table: Table, scorer: str) -> Values:
    name = f"score:{scorer}"
    if name not in table.scores:
        raise InputError(
            f"no scores of {scorer!r} are in the table; run the scorer, or leave it out"
        )
    return table.scores[name]


def _corpus_rows(table: Table, scorer: str) -> Iterator[tuple[Tally, Values]]:
    """Yield what a scorer counts beside its score (`core.table`); each distinct word is parsed once."""
    column = f"score_label:{scorer}"
    if column not in table.columns:
        return
    words = [read_counts(word) for word in table.names[column]]
    for tally, values in _word_values(words, scorer):
        # A response without counts has the code NONE, which is -1 and so the last place: it adds nothing.
        yield tally, np.append(values, 0.0)[table.columns[column]]


def _word_values(
    words: Sequence[tuple[str, list[Any]]], scorer: str
) -> Iterator[tuple[Tally, Values]]:
    """Yield for every tally what each distinct word adds to it."""
    metrics = {metric for metric, _ in words}
    corpus, invalid = Source(SourceKind.CORPUS, scorer), Source(SourceKind.INVALID, scorer)
    yield Tally(corpus, "n"), np.ones(len(words))
    if metrics & {BLEU, WINS}:
        table = np.array([values for _, values in words], np.float64)
        for place in range(table.shape[1]):
            yield Tally(corpus, str(place)), table[:, place]
    if LABELS in metrics:
        references, given = ([values[place] for _, values in words] for place in (0, 1))
        yield Tally(invalid, "n"), np.ones(len(words))
        yield Tally(invalid, "sum"), np.array([label is None for label in given], np.float64)
        for label in sorted({str(reference) for reference in references}):
            true, named = (
                np.array([word == label for word in column]) for column in (references, given)
            )
            yield Tally(corpus, "hit", label), (true & named).astype(np.float64)
            yield Tally(corpus, "false", label), (~true & named).astype(np.float64)
            yield Tally(corpus, "missed", label), (true & ~named).astype(np.float64)


def _metrics(table: Table, scorers: Sequence[str]) -> dict[str, str]:
    """Return the corpus metric of every scorer that counts something."""
    return {
        scorer: read_counts(table.names[column][0])[0]
        for scorer in scorers
        if (column := f"score_label:{scorer}") in table.columns
        and bool((table.columns[column] != NONE).any())
    }
