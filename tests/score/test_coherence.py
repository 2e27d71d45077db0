"""The coherence detectors against a naive reference, golden cases and their speed."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.core.records import Intent, Sample
from aftertune.score.coherence import DEFAULT, Coherence, Thresholds, tail_loop, tokens

ENGLISH = (
    "The committee discussed the annual budget of the library and found that more money was needed."
)
FRENCH = "Le comité a discuté du budget annuel de la bibliothèque et a trouvé qu'il fallait plus d'argent."
SPANISH = "El comité discutió el presupuesto anual de la biblioteca y encontró que se necesitaba más dinero."


LANGUAGE = Thresholds(language=True)


def flags(
    response, *, task="text", language=None, labels=(), prompt="Say something.", thresholds=DEFAULT
):
    sample = Sample(
        behavior="b",
        task=task,
        intent=Intent.BENIGN,
        prompt=prompt,
        response=response,
        labels=labels,
        language=language,
    )
    score = Coherence(thresholds).score(sample)
    fired = tuple(score.label.split())
    assert score.value is not bool(fired)
    return fired


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("", ("empty",)),
        (" \n\t", ("empty",)),
        ("?!", ("empty",)),
        ("no", ("empty",)),
        ("yes", ()),
        ("42", ()),
        (ENGLISH, ()),
        (ENGLISH + " the" * 30, ("tail_loop",)),
        ("word " * 4, ("tail_loop",)),
        ("word " * 3, ()),
        (ENGLISH * 10 + " so" * 4, ()),
        ("I do not know" + "." * 6, ()),
        ("def f():\n    return {" + "}" * 8, ()),
        ("a b c d e f. " * 5, ("tail_loop",)),
        ("." * 200, ("empty", "tail_loop")),
    ],
)
def test_golden_cases(response, expected):
    assert flags(response) == expected


def test_a_valid_label_is_an_answer_however_short():
    assert flags("B)", labels=("A", "B"), task="classification") == ()
    assert flags("E)", labels=("A", "B"), task="classification") == ("empty",)


def test_languages_without_spaces_loop_by_character():
    assert flags("你好" * 30, language="zh") == ("tail_loop",)
    assert flags("是", language="zh") == ()


@pytest.mark.filterwarnings("ignore")  # py3langid's own imports
def test_a_language_that_nobody_asked_for_is_flagged():
    assert flags(FRENCH, task="translation", language="fr", thresholds=LANGUAGE) == ()
    assert flags(
        SPANISH, task="translation", language="fr", prompt=ENGLISH, thresholds=LANGUAGE
    ) == ("language",)
    assert flags(SPANISH, task="code", language="fr", prompt=ENGLISH, thresholds=LANGUAGE) == ()
    assert flags(SPANISH, language=None, prompt=ENGLISH, thresholds=LANGUAGE) == ()
    assert flags(SPANISH, language="fr", prompt=ENGLISH) == ()


def test_a_refusal_in_the_language_of_the_prompt_is_coherent():
    refusal = "I am sorry, but I cannot help you with the translation of this text."
    assert (
        flags(
            refusal,
            task="translation",
            language="fr",
            prompt="Translate into French: " + ENGLISH,
            thresholds=LANGUAGE,
        )
        == ()
    )


def version(thresholds=DEFAULT):
    return Coherence(thresholds).version


def test_the_version_names_every_threshold():
    assert version() == version(Thresholds())
    assert version(Thresholds(tail_loop=0.2)) != version()


def test_the_version_names_the_language_identifier_where_it_is_asked(monkeypatch):
    import importlib.metadata

    before = version(), version(LANGUAGE)
    monkeypatch.setattr(importlib.metadata, "version", lambda package: f"another {package}")
    assert version() == before[0]
    assert version(LANGUAGE) != before[1]


@pytest.mark.filterwarnings("ignore")  # py3langid's own imports
def test_every_flag_is_kept():
    looping = " ".join([SPANISH] * 8)
    assert flags(looping, language="fr", prompt=ENGLISH, thresholds=LANGUAGE) == (
        "tail_loop",
        "language",
    )
    assert flags("?! " * 40) == ("empty", "tail_loop")


def test_each_detector_can_be_switched_off():
    assert flags("", thresholds=Thresholds(empty=False)) == ()
    assert flags("so " * 40, thresholds=Thresholds(tail_loop=None)) == ()


def naive_tail_loop(words, limits):
    """The definition, word for word: every period, every suffix."""
    total = len(words)
    for period in range(1, limits.longest_period + 1):
        for length in range(total, 0, -1):
            suffix = words[total - length :]
            if (
                all(suffix[i] == suffix[i - period] for i in range(period, length))
                and length > period
            ):
                spoken = any(re.search(r"[^\W_]", word) for word in suffix[:period])
                turns = limits.tail_periods if spoken else limits.punctuation_periods
                if length >= turns * period and length >= limits.tail_loop * total:
                    return True
                break
    return False


@given(st.lists(st.sampled_from(["a", "b", ".", "cd"]), max_size=60))
def test_tail_loop_agrees_with_its_definition(words):
    limits = Thresholds(longest_period=8)
    assert tail_loop(words, limits) == naive_tail_loop(words, limits)


@given(
    st.lists(st.sampled_from("abcdefgh"), max_size=12),
    st.lists(st.sampled_from("xyz."), min_size=1, max_size=7),
    st.integers(0, 9),
)
def test_built_loops_agree_with_the_definition(head, unit, turns):
    words = head + unit * turns
    assert tail_loop(words) == naive_tail_loop(words, Thresholds())


@given(st.text())
def test_any_text_has_a_reading(text):
    flags(text)
    assert isinstance(tokens(text, "ja"), str)


@pytest.mark.parametrize(
    "text",
    ["\x00" * 100_000, "a " * 50_000, "\u202eab" * 30_000, "x" * 100_000, "ab cd " * 16_000 + "e"],
)
def test_long_texts_are_read_at_once(text):
    start = time.perf_counter()
    flags(text)
    assert time.perf_counter() - start < 1


def test_ten_thousand_short_texts_take_less_than_two_seconds():
    start = time.perf_counter()
    for number in range(10_000):
        flags(f"{ENGLISH} {number}")
    assert time.perf_counter() - start < 2
