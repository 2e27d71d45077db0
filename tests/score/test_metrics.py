"""The task scores: golden values, and texts that break parsers."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.core.protocols import Tools
from aftertune.core.records import Intent, Sample
from aftertune.core.registry import factories, find
from aftertune.core.table import read_counts
from aftertune.errors import PluginError
from aftertune.score.metrics import longest_common, named_label


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


QUICK, DOG = "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."


@pytest.mark.golden
def test_rouge_l_of_googles_readme():
    """Source: google-research/rouge, README: P 5/8, R 5/9 of these two sentences."""
    assert score("rouge-l", DOG, reference=QUICK) == pytest.approx(
        2 * (5 / 8) * (5 / 9) / (5 / 8 + 5 / 9)
    )


def test_rouge_l_is_of_its_task_and_needs_words():
    assert score("rouge-l", "", reference=QUICK) == 0
    assert score("rouge-l", "Ω", reference="Ω") is None
    assert score("rouge-l", DOG, task="code", reference=QUICK) is None
    assert score("rouge-l", DOG) is None


@given(st.lists(st.sampled_from("ab"), max_size=8), st.lists(st.sampled_from("ab"), max_size=8))
def test_the_longest_common_subsequence_is_that_of_the_plain_recursion(one, other):
    def longest(i, j):
        if not i or not j:
            return 0
        if one[i - 1] == other[j - 1]:
            return longest(i - 1, j - 1) + 1
        return max(longest(i - 1, j), longest(i, j - 1))

    assert longest_common(one, other) == longest(len(one), len(other))


def test_bleu_keeps_counts_and_no_score_of_a_response():
    found = score(
        "bleu", "the cat sat on the hat.", task="translation", reference="the cat sat on the mat."
    )
    assert found.number is None
    assert read_counts(found.label) == ("bleu", [6, 4, 3, 2, 7, 6, 5, 4, 7, 7])
    assert score("bleu", "x", task="text", reference="x") is None
    assert "tok:13a" in find("metric", "bleu")(TOOLS).version
    with pytest.raises(PluginError, match="cannot tokenize by 'klingon'"):
        find("metric", "bleu")(TOOLS, tokenize="klingon")


def test_chrf_keeps_its_signature():
    assert "nrefs:1|case:mixed|eff:yes|nc:6|nw:0" in find("metric", "chrf")(TOOLS).version


@pytest.mark.parametrize(
    ("said", "same"),
    [
        ("def f(a: int) -> int:\n    '''Add one.'''\n    return (a+1)  # so", 1),
        ("```python\ndef f(a):\n    return a + 1\n```", 1),
        ("def f(b):\n    return b + 1", 0),
        ("def f(a):\n    return a + 2", 0),
        ("def f(a) return", 0),
        ("", 0),
    ],
)
def test_code_matches_its_reference_but_for_layout(said, same):
    assert (
        score("reference-match", said, task="code", reference="def f(a):\n    return a + 1") == same
    )


def test_code_without_a_reference_that_parses_has_no_score():
    assert score("reference-match", "x = 1", task="code", reference="no python at all") is None
    assert score("reference-match", "x = 1", task="code") is None
