"""Golden values of the text scores, from where sacrebleu and its ports publish them."""

from pathlib import Path

import pytest

from aftertune.core.protocols import Tools
from aftertune.core.records import Sample
from aftertune.score.metrics import chrf, rouge_l

pytestmark = pytest.mark.golden


def scored(scorer, answer, reference, task):
    sample = Sample(task=task, prompt="do it", response=answer, reference=reference)
    return scorer(Tools(open_model=lambda *_, **__: None, folder=Path())).score(sample).number


# sacrebleu's sentence chrF as its documentation and the tests of the port fastchrf give it.
@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The cat sat on the hat.", "The cat sat on the mat.", 79.6537),
        ("The cat sat on the mat.", "The fat cat sat on the mat.", 74.6319),
    ],
)
def test_chrf(answer, reference, expected):
    assert 100 * scored(chrf, answer, reference, "translation") == pytest.approx(expected, abs=6e-5)


# The example of the README of Google's rouge_score: five of nine and of eight words, F1 2 * 5 / 17.
def test_rouge_l():
    reference, answer = (
        "The quick brown fox jumps over the lazy dog",
        "The quick brown dog jumps on the log.",
    )
    assert scored(rouge_l, answer, reference, "text") == pytest.approx(0.5882, abs=6e-5)


# The example of sacrebleu's README: three outputs, two references each; BLEU and chrF of sacrebleu 2.6.0.
def test_the_corpus_of_the_readme():
    from sacrebleu import corpus_bleu, corpus_chrf

    outputs = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
    references = [
        ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
        ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
    ]
    assert corpus_bleu(outputs, references).score == pytest.approx(48.5308, abs=6e-5)
    assert corpus_chrf(outputs, references).score == pytest.approx(59.7275, abs=6e-5)
