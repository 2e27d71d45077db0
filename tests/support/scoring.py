"""Scorers without a store: every question about some samples is asked, and the replies are scored."""

from itertools import groupby

from aftertune.models.asking import replies_of
from aftertune.score.run import ask_calls, call_key, keyed, unanswered


def answers(scorer, samples):
    """Return the answer under the key of each sample's call; nothing for a sample that needs none."""
    given = {}
    for _, same in groupby(samples, key=lambda sample: sample.side):
        by_key = keyed(scorer, same)
        if calls := unanswered(None, scorer, by_key):
            given.update(ask_calls(scorer, calls, by_key))
    return given


def scores(scorer, samples):
    """Return the score of each sample."""
    samples = list(samples)
    given = answers(scorer, samples)
    return [score_of(scorer, sample, given) for sample in samples]


def score_of(scorer, sample, given):
    """Return the score of a sample by the answers of `answers`."""
    answer = given.get(call_key(scorer, sample))
    return scorer.score(sample, () if answer is None else replies_of(answer))
