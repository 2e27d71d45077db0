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
        (" \u200b.\u0964\u3002", ("empty",)),
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


@pytest.mark.parametrize(
    "answer",
    [
        "No", "no.", "B", "(B)", "OK", "S\u00ed", "\u662f", "\u4e0d\u884c\u3002", "\u306f\u3044", "\ub124", "\u0644\u0627",
        "\u0928\u0939\u0940\u0902", "\u0e44\u0e21\u0e48", "\u05dc\u05d0", "\u041d\u0435", "4", "\u0968", "\u2461", "\u00bd",
    ],
)  # fmt: skip
def test_one_word_of_any_script_is_an_answer(answer):
    assert flags(answer) == ()


def test_a_valid_label_without_letters_is_an_answer():
    assert flags("+", labels=("+", "-"), task="classification") == ()
    assert flags("?", labels=("+", "-"), task="classification") == ("empty",)


CHINESE = "\u59d4\u5458\u4f1a\u8ba8\u8bba\u4e86\u56fe\u4e66\u9986\u7684\u5e74\u5ea6\u9884\u7b97\uff0c\u53d1\u73b0\u9700\u8981\u66f4\u591a\u7684\u94b1"
JAPANESE = "\u59d4\u54e1\u4f1a\u306f\u56f3\u66f8\u9928\u306e\u4e88\u7b97\u306b\u3064\u3044\u3066\u8a71\u3057\u5408\u3044\u307e\u3057\u305f"
THAI = "\u0e04\u0e13\u0e30\u0e01\u0e23\u0e23\u0e21\u0e01\u0e32\u0e23\u0e1e\u0e34\u0e08\u0e32\u0e23\u0e13\u0e32\u0e07\u0e1a\u0e1b\u0e23\u0e30\u0e21\u0e32\u0e13"
KHMER = "\u1782\u178e\u17c8\u1780\u1798\u17d2\u1798\u1780\u17b6\u179a"


@pytest.mark.parametrize(
    "response",
    [
        "\u4f60\u597d" * 30,
        CHINESE + "\u6211\u4e0d\u80fd\u5e2e\u52a9\u4f60" * 8,
        f"{CHINESE}\u3002" * 6,
        CHINESE * 3 + (CHINESE + JAPANESE + KHMER + THAI) * 4,  # a period of 82 characters
        JAPANESE + "\u3067\u304d\u307e\u305b\u3093" * 6,
        THAI + "\u0e44\u0e21\u0e48\u0e44\u0e14\u0e49" * 8,
        KHMER * 5,
        ENGLISH + " \u4e0d\u80fd" * 12,
        "cannothelp" * 20,
        ENGLISH + " " + "la" * 60,
        "self_attention_" * 12,
        "Dear [Friend's Name]\n\n" * 7 + "Dear [F",
        "I cannot help. " * 6 + "I can",
        ENGLISH + (" over and over" * 12)[:-3],
        CHINESE + "\u6211\u4e0d\u80fd\u5e2e\u52a9\u4f60" * 8 + "\u6211\u4e0d\ufffd",
    ],
)  # fmt: skip
def test_a_loop_is_one_in_any_script_and_where_the_limit_cuts(response):
    assert flags(response) == ("tail_loop",)


@pytest.mark.parametrize(
    "response",
    [
        CHINESE, JAPANESE * 3, THAI * 3, KHMER * 3,
        f"{CHINESE}\u3002\u54c8\u54c8\u54c8\u54c8",
        "\u8c22\u8c22\u8c22\u8c22",
        "\u3069\u304d\u3069\u304d",
        "Donaudampfschifffahrtsgesellschaftskapit\u00e4nsm\u00fctze",
        "Name: " + "_" * 60,
        "sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "1. one\n2. two\n3. three\n4. four\n5. fi",
        "I can do it. I can do it. I can do it, I th",
    ],
)  # fmt: skip
def test_texts_that_only_look_like_loops_are_coherent(response):
    assert flags(response) == ()


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
    for period in range(1, 3 * limits.longest_period + 1):
        for length in range(total, period, -1):
            suffix = words[total - length :]
            last = suffix[-1 - period]
            whole = [*suffix[:-1], last] if last.startswith(suffix[-1]) else suffix
            if all(whole[i] == whole[i - period] for i in range(period, length)):
                turn = whole[-period:]
                spoken = any(re.search(r"[^\W_]", word) for word in turn)
                turns = limits.tail_periods if spoken else limits.punctuation_periods
                long = period > limits.longest_period and any(len(word) > 1 for word in turn)
                if not long and length >= turns * period and length >= limits.tail_loop * total:
                    return True
                break
    return False


@given(st.lists(st.sampled_from(["a", "b", ".", "c", "cd"]), max_size=60))
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
    assert "".join(tokens(text)) in "".join(text.split())


@pytest.mark.parametrize(
    "text",
    ["\x00" * 100_000, "a " * 50_000, "\u202eab" * 30_000, "x" * 100_000, "ab cd " * 16_000 + "e"],
)
def test_long_texts_are_read_at_once(text):
    start = time.process_time()
    flags(text)
    assert time.process_time() - start < 10


def test_ten_thousand_short_texts_take_seconds():
    start = time.process_time()
    for number in range(10_000):
        flags(f"{ENGLISH} {number}")
    assert time.process_time() - start < 20
