"""The drift of style: do base and fine-tune say the same thing in other words?

A judge goes by how a response is worded. Fine-tuning changes how a model speaks, and a judge may take that for a change
of what it does. So responses are compared within the same outcome and on the same prompts: refusals of harmful prompts,
compliance with them, and answers to benign prompts. What both arms did is the same there, and what differs is style.

Under the hypothesis that style did not change, the two arms of a behavior may be exchanged. The p-value is the share of
random exchanges (a coin for each behavior) that differ at least as much as what was observed (Fisher's randomisation test;
the observed one counts among them: Phipson and Smyth 2010, Stat Appl Genet Mol Biol 9:39).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aftertune.core.table import NONE, Table
from aftertune.measure import outcomes as oc
from aftertune.measure.intervals import holm
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.results import AnswerKind, StyleChange, StyleDrift, StyleFeature

EXCHANGES = 999
"""Random exchanges behind a p-value, whose smallest value is so 0.001."""
LEAST_BEHAVIORS = 10
"""Behaviors with responses of both arms below which nothing is compared."""
MOST_WORDS = 500
"""Words whose frequency is compared: the most frequent."""
_BATCH = 100
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerStyles:
    """The style of some responses of a table, as columns of equal length."""

    rows: NDArray[np.intp]
    """In the table."""
    length: NDArray[np.int32]
    """Words."""
    script: NDArray[np.int32]
    """Code of the script that most letters are of; NONE without letters."""
    starts: NDArray[np.intp]
    """The places at which the words of each response begin in ``words``; one more than responses."""
    words: NDArray[np.int32]
    """Codes of the words that the responses begin with."""


@dataclass(frozen=True, slots=True)
class _Arm:
    """The responses of one arm to the behaviors that both arms have: a row a behavior, averaged inside it."""

    wording: Values
    """Behaviors x words: the share of each word."""
    length: Values
    log_length: Values
    score: Values
    script: Values
    """Share of the responses that are written in the base's most frequent script."""


class Styles:
    """The styles of a table's responses, ready for comparisons."""

    def __init__(self, table: Table, plan: MeasurePlan, styles: AnswerStyles) -> None:
        """Take the outcome of every response by the verdict that decides."""
        rows = styles.rows
        verdicts = oc.decided_verdicts(table, plan)
        outcome = oc.outcomes(table, verdicts)[rows]
        refused = verdicts[rows] == oc.REFUSED
        self._styles = styles
        self._kinds = {
            AnswerKind.REFUSALS: (outcome == oc.SAFE) & refused,
            AnswerKind.COMPLIANCE: outcome == oc.HARMFUL,
            AnswerKind.BENIGN: outcome == oc.ANSWERED,
        }
        self._columns = {
            name: table.columns[name][rows] for name in ("model", "prompt", "behavior")
        }
        self._setting = oc.setting_codes(table, plan)[0][rows]
        scores = table.scores.get(f"harm_score:{plan.judges[0]}")
        self._score = np.full(len(rows), np.nan) if scores is None else scores[rows]

    def drift(self, setting: int, tuned: Sequence[int], base: Sequence[int]) -> StyleDrift | None:
        """Compare two arms, given by their models' codes; None where no kind of response has enough behaviors in both."""
        changes = []
        for kind, of_kind in self._kinds.items():
            here = of_kind & (self._setting == setting)
            arms = [here & np.isin(self._columns["model"], models) for models in (tuned, base)]
            shared = np.intersect1d(*(self._columns["prompt"][arm] for arm in arms))
            places = [
                np.flatnonzero(arm & np.isin(self._columns["prompt"], shared)) for arm in arms
            ]
            behaviors = np.unique(self._columns["behavior"][places[0]])
            if len(behaviors) >= LEAST_BEHAVIORS:
                changes += list(self._changes(kind, behaviors, places))
        if not changes:
            return None
        adjusted = holm([change.p_value for change in changes])
        return StyleDrift(
            changes=tuple(_adjusted(change, p) for change, p in zip(changes, adjusted, strict=True))
        )

    def _changes(
        self, kind: AnswerKind, behaviors: NDArray[np.int32], places: Sequence[NDArray[np.intp]]
    ) -> Iterator[StyleChange]:
        """Yield the change of each feature that the responses have."""
        vocabulary = self._vocabulary(places)
        script = self._main_script(places[1])
        tuned, base = (self._arm(behaviors, at, vocabulary, script) for at in places)
        n = len(behaviors)
        distance, by_chance, p = wording_distance(tuned.wording, base.wording)
        yield StyleChange(
            kind=kind, feature=StyleFeature.WORDING, behaviors=n, base=by_chance, tuned=distance, p_value=p
        )  # fmt: skip
        for feature, x, y, means in (
            (StyleFeature.LENGTH, tuned.log_length, base.log_length, (base.length, tuned.length)),
            (StyleFeature.SCORE, tuned.score, base.score, (base.score, tuned.score)),
            (StyleFeature.SCRIPT, tuned.script, base.script, (base.script, tuned.script)),
        ):
            if not np.isnan(x - y).any():
                p = exchange_p(x - y)
                before, after = (float(mean.mean()) for mean in means)
                yield StyleChange(
                    kind=kind, feature=feature, behaviors=n, base=before, tuned=after, p_value=p
                )

    def _words(self, at: NDArray[np.intp]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """Return the words of some responses, and the place in ``at`` of the response that each of them is of."""
        starts = self._styles.starts
        lengths = starts[at + 1] - starts[at]
        owner = np.repeat(np.arange(len(at)), lengths)
        ends = np.cumsum(lengths)
        inside = np.arange(len(owner)) - np.repeat(ends - lengths, lengths)
        return self._styles.words[starts[at][owner] + inside], owner

    def _vocabulary(self, places: Sequence[NDArray[np.intp]]) -> NDArray[np.int32]:
        words, counts = np.unique(
            np.concatenate([self._words(at)[0] for at in places]), return_counts=True
        )
        return np.sort(words[np.argsort(-counts, kind="stable")[:MOST_WORDS]])

    def _main_script(self, at: NDArray[np.intp]) -> int:
        scripts = self._styles.script[at]
        written = scripts[scripts != NONE]
        return int(np.bincount(written).argmax()) if len(written) else NONE

    def _arm(
        self,
        behaviors: NDArray[np.int32],
        at: NDArray[np.intp],
        vocabulary: NDArray[np.int32],
        script: int,
    ) -> _Arm:
        row = np.searchsorted(behaviors, self._columns["behavior"][at])
        size = np.bincount(row, minlength=len(behaviors)).astype(np.float64)

        def mean(values: Values) -> Values:
            return np.bincount(row, values, minlength=len(behaviors)) / size

        words, owner = self._words(at)
        column = np.searchsorted(vocabulary, words)
        kept = np.isin(words, vocabulary)
        wording = np.zeros((len(behaviors), len(vocabulary)))
        np.add.at(wording, (row[owner[kept]], column[kept]), 1.0)
        length = self._styles.length[at].astype(np.float64)
        return _Arm(
            wording=wording / np.maximum(wording.sum(axis=1, keepdims=True), 1.0),
            length=mean(length),
            log_length=mean(np.log1p(length)),
            score=mean(self._score[at]),
            script=mean((self._styles.script[at] == script).astype(np.float64)),
        )


def _adjusted(change: StyleChange, p: float) -> StyleChange:
    return StyleChange(
        kind=change.kind,
        feature=change.feature,
        behaviors=change.behaviors,
        base=change.base,
        tuned=change.tuned,
        p_value=change.p_value,
        p_adjusted=p,
    )


def _coins(behaviors: int) -> Iterator[Values]:
    """Yield the random exchanges, a batch at a time: +1 leaves the arms of a behavior, -1 exchanges them (seeded)."""
    rng = np.random.default_rng(0)
    for start in range(0, EXCHANGES, _BATCH):
        size = min(_BATCH, EXCHANGES - start)
        coins: Values = rng.integers(0, 2, (size, behaviors)).astype(np.float64)
        yield 2 * coins - 1


def exchange_p(differences: Values) -> float:
    """Return the two-sided p-value of a mean difference between the arms.

    Args:
        differences: fine-tune minus base, one a behavior.
    """
    observed = abs(float(differences.sum()))
    least = observed - 1e-9 * max(observed, 1.0)  # the order of a sum must not decide
    extreme = sum(
        int((np.abs(coins @ differences) >= least).sum()) for coins in _coins(len(differences))
    )
    return (1 + extreme) / (1 + EXCHANGES)


def wording_distance(tuned: Values, base: Values) -> tuple[float, float, float]:
    """Return how far the words of two arms differ: 0 for the same frequencies, 1 for no word in common.

    d = 1/2 sum over words of |mean_b t_bw - mean_b u_bw|, the total variation distance of the mean frequencies.

    Args:
        tuned: behaviors x words, the share t of each word.
        base: the same, u.

    Returns:
        the distance; the mean distance after random exchanges, which is what chance alone gives; and the p-value.
    """
    differences, n = tuned - base, len(tuned)
    observed = float(np.abs(differences.sum(axis=0)).sum()) / (2 * n)
    exchanged = np.concatenate(
        [np.abs(coins @ differences).sum(axis=1) / (2 * n) for coins in _coins(n)]
    )
    extreme = int((exchanged >= observed - 1e-9).sum())
    return observed, float(exchanged.mean()), (1 + extreme) / (1 + EXCHANGES)
