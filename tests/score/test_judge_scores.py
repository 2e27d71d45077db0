"""The task scores: golden values, and texts that break parsers."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.core.counts import read_counts
from aftertune.core.protocols import Tools
from aftertune.core.records import Intent, Sample
from aftertune.core.registry import factories, find
from aftertune.score.metrics import named_label


def no_model(reference):
    raise AssertionError(reference)


TOOLS = Tools(open_model=no_model, folder=Path())
TONE = ("bearish", "bullish", "neutral")


def score(name, response, *, task="text", reference=None, labels=(), **options):
    sample = Sample(
        behavior="b",
        task=task,
        intent=Intent.BENIGN,
        prompt="p",
        response=response,
        reference=reference,
        labels=labels,
    )
    scored = find("metric", name)(TOOLS, **options).score(sample)
    return scored if scored.label else scored.number


def test_the_registry_knows_the_metrics():
    assert set(factories("metric")) >= {"chrf", "exact", "labels", "parses"}


def test_chrf_is_sacrebleus():
    from sacrebleu import sentence_chrf

    answer, reference = "Un homme marche.", "Un homme court."
    assert score("chrf", reference, task="translation", reference=reference) == 1.0
    expected = sentence_chrf(answer, [reference]).score / 100
    assert score("chrf", answer, task="translation", reference=reference) == pytest.approx(expected)
    assert score("chrf", answer, task="text", reference=reference) is None
    assert score("chrf", answer, task="translation") is None


@pytest.mark.parametrize(
    ("response", "label"),
    [
        ("neutral", "neutral"),
        ("Neutral.", "neutral"),
        ("The tweet is BULLISH!", "bullish"),
        ("bullish, not bearish", "bullish"),
        ("It is not bearish but bullish", None),
        ("bullishness", None),
        ("I'm sorry, I can't.", None),
        ("", None),
    ],
)
def test_labels_are_found_as_words(response, label):
    assert named_label(response, TONE) == label


def test_single_letter_labels_are_no_articles():
    assert named_label("a dog and B", ("A", "B")) == "B"


def test_label_accuracy_counts_an_invalid_label_as_wrong():
    found = {
        said: score("labels", said, reference="bullish", labels=TONE)
        for said in ("bullish", "bearish", "no idea")
    }
    assert [scored.number for scored in found.values()] == [1, 0, 0]
    assert [read_counts(scored.label) for scored in found.values()] == [
        ("labels", ["bullish", "bullish"]), ("labels", ["bullish", "bearish"]), ("labels", ["bullish", None]),
    ]  # fmt: skip
    assert score("labels", "bullish", labels=TONE) is None
    assert score("labels", "bullish", reference="bullish") is None


def test_exact_match_ignores_case_and_edges():
    assert score("exact", " The  answer. ", reference="the answer") == 1
    assert score("exact", "the answers", reference="the answer") == 0
    assert score("exact", "the answer") is None


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("x = 1", 1),
        ("Here:\n```python\ndef f():\n    return 1\n```\nDone.", 1),
        ("```\nfor x in y:\n```", 0),
        ("```python\nx = 1", 1),
        ("```javascript\nlet x = 1\n```", None),
        ("def f(:", 0),
        ("neutral", 0),
        ("'a text'\n42", 0),
        ("print(42)", 1),
        ("", 0),
        ("x = '\\d'", 1),
        ("x\x00", 0),
        ("(" * 100_000, 0),
    ],
)
def test_parse_rate(response, expected):
    assert score("parses", response, task="code") == expected
    assert score("parses", response, task="text") is None


@given(st.text())
def test_no_text_breaks_a_scorer(text):
    score("labels", text, reference="bullish", labels=TONE)
    score("exact", text, reference=text)
    score("parses", text, task="code")
