"""The loop over scorers, where a plug-in is at fault; the loop itself runs in the tests of studies."""

import pytest

from aftertune.core.protocols import Scorer
from aftertune.core.records import (
    Intent,
    Message,
    PreferenceValue,
    Prompt,
    Question,
    Role,
    Sample,
    Score,
)
from aftertune.errors import PluginError
from aftertune.score.run import Item, _score_items, _Scoring, ask_calls, keyed, share_won

FIRST, SECOND, TIE, UNDECIDED = PreferenceValue
PROMPT = Prompt(behavior="b", template="t", task="text", intent=Intent.BENIGN, text="p", set="s")
SAMPLE = Sample(prompt="p", response="r")


class Asks(Scorer):
    role = Role.JUDGE
    version = "1"

    def __init__(self, identity):
        self.identity = identity

    def questions(self, sample):
        return [Question(messages=(Message(role="user", content=sample.response),))]


def test_a_scorer_that_asks_needs_an_identity_and_an_engine():
    scoring = _Scoring(name="mine", scorer=Asks(None), side="response", version=1)
    item = Item(prompt=PROMPT, key=b"k", samples=(SAMPLE,))
    with pytest.raises(PluginError, match="judge mine asks questions and has no identity"):
        _score_items(None, scoring, [item])
    scorer = Asks({"judge": "mine"})
    with pytest.raises(PluginError, match="has no engine"):
        ask_calls(scorer, [], keyed(scorer, [SAMPLE]))


@pytest.mark.parametrize(
    ("orders", "share", "label"),
    [
        ((), 0.5, "wins [0.5, 0.5, 0]"),
        ((FIRST, SECOND), 1.0, "wins [1.0, 1.0, 0]"),
        ((SECOND, FIRST), 0.0, "wins [0.0, 0.0, 0]"),
        ((FIRST, FIRST), 0.5, "wins [0.5, 0.5, 0]"),
        ((TIE, SECOND), 0.75, "wins [0.75, 0.75, 0]"),
        ((FIRST, UNDECIDED), 0.75, "wins [0.5, 1.0, 1]"),
        ((UNDECIDED, UNDECIDED), 0.5, "wins [0.0, 1.0, 1]"),
    ],
)
def test_the_share_that_the_fine_tune_won(orders, share, label):
    """The fine-tune stands first in the first order and second in the second."""
    assert share_won([Score(value=value) for value in orders]) == Score(number=share, label=label)
