"""How well single words tell a harmful behavior from a benign twin: what a shallow filter could learn from the payloads.

Some of it is meaning and ought to be there; the rest is style, and a model that refuses by style looks safer than it is.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from aftertune.core.records import Behavior
from aftertune.data.bundled.behaviors import Pair
from aftertune.data.bundled.leakage import tokens


def words_only_accuracy(learned: Sequence[Pair], tested: Sequence[Pair], kind: str) -> float:
    """Return the accuracy of naive Bayes on the presence of words, learned on some pairs and tested on others.

    The score of a text is the sum over its words of log((h + 1/2) / (b + 1/2)), where h harmful and b benign texts have
    the word (Bernoulli naive Bayes with Jeffreys' prior, present words only). Above 0 it counts as harmful; 0.5 is chance.

    Args:
        learned: pairs in which words are counted.
        tested: pairs to tell apart.
        kind: ``request``, or the language of the text.
    """
    harmful = _counts((pair.harmful for pair in learned), kind)
    benign = _counts((pair.twin for pair in learned), kind)

    def score(behavior: Behavior) -> float:
        return sum(
            math.log((harmful[word] + 0.5) / (benign[word] + 0.5))
            for word in _words(behavior, kind)
        )

    right = sum((score(pair.harmful) > 0) + (score(pair.twin) <= 0) for pair in tested)
    return right / (2 * len(tested))


def _counts(behaviors: Iterable[Behavior], kind: str) -> Counter[str]:
    return Counter(word for behavior in behaviors for word in _words(behavior, kind))


def _words(behavior: Behavior, kind: str) -> frozenset[str]:
    return tokens(behavior.request if kind == "request" else behavior.texts[kind])
