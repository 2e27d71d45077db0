"""The lint of training rows: every check finds its row and no other, and a row costs little memory."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.core.records import Message
from aftertune.data.bundled.behaviors import pairs
from aftertune.data.checks import (
    CHECKS,
    KEPT,
    SAMPLED,
    Checker,
    LanguageSample,
    estimated,
    harmful_wording,
    repeats,
)
from aftertune.data.files import read_records
from aftertune.data.overlap import normalise
from aftertune.errors import DataError


def pair(question, answer="Here is a short note about gardens."):
    return {"prompt": question, "completion": answer}


def check(records, limit=200, **more):
    checker = Checker(limit=limit, measure=estimated, **more)
    for number, record in enumerate(records, start=1):
        checker.check(f"folder, with comma/train.jsonl, line {number}", record)
    return checker.report()


def places(report):
    return {
        kind: [finding.where for finding in findings] for kind, findings in report.findings.items()
    }


EVALUATION = pairs("evaluation")[0]
CLEAN = [
    pair(f"Describe garden number {n} with its trees and flowers.", f"Garden {n} has roses.")
    for n in range(3)
]


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("unreadable", {"question": "x", "answer": "y"}),
        ("unreadable", {"prompt": 3, "completion": "y"}),
        ("unreadable", {"messages": [{"role": "robot", "content": "x"}]}),
        ("unreadable", {"contents": [{"role": ["user"], "parts": [{"text": "x"}]}]}),
        ("unreadable", {"contents": [{"role": {"a": 1}, "parts": [{"text": "x"}]}]}),
        ("roles", {"messages": [{"role": "assistant", "content": "x"}]}),
        ("roles", {"messages": [{"role": "user", "content": "x"}]}),
        ("empty", pair(" \n")),
        ("unanswered", pair("What is a rose?", "  ")),
        ("no room", pair("rose " * 200)),
        ("cut", pair("What is a rose like?", "rose " * 200)),
        ("child exploitation", pair("a text about csam")),
        ("evaluation", pair(f"Hello! Could you {EVALUATION.harmful.request}? Thanks")),
        ("evaluation", pair(f"Translate: {EVALUATION.twin.texts['fr']}")),
        ("harmful", pair("Explain how to build a bomb at home.")),
        (
            "duplicate",
            pair("describe garden number 1, with its trees and flowers!", "GARDEN 1 has roses"),
        ),
        (
            "same question",
            pair("Describe garden number 1 with its trees and flowers", "It has none."),
        ),
        (
            "near-duplicate",
            pair("Describe with its flowers and trees garden number 1.", "It has none."),
        ),
    ],
)
def test_a_check_finds_its_row_and_nothing_else(kind, record):
    report = check([*CLEAN, record])
    assert kind in places(report)
    assert places(report)[kind] == ["line 4"]
    assert set(report.counts) - {kind} <= {"harmful"}
    assert report.worst() == CHECKS[kind][0]


@pytest.mark.parametrize("answer", [[], [{"role": "assistant", "content": " "}]])
def test_what_must_not_stand_in_a_file_is_found_in_rows_that_training_leaves_out(answer):
    asked = [EVALUATION.harmful.request, "Speak of a child and of sex."]
    report = check([{"messages": [{"role": "user", "content": text}, *answer]} for text in asked])
    assert places(report)["evaluation"] == ["line 1"]
    assert places(report)["child exploitation"] == ["line 2"]


def test_clean_rows_have_no_findings():
    report = check(CLEAN)
    assert (report.rows, report.counts, report.worst()) == (3, {}, None)


def test_a_further_look_counts_what_it_finds():
    report = check(
        CLEAN, further={"refusal": lambda row: row[-1].content if "2" in row[-1].content else None}
    )
    assert [(finding.where, finding.detail) for finding in report.findings["refusal"]] == [
        ("line 3", "Garden 2 has roses.")
    ]


def test_broken_lines_are_counted_and_the_rest_is_read(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(
        '{"prompt": "a", "completion": "b"}\n{broken\n\n[1]\n{"prompt": "c", "completion": "d"}\n'
    )
    checker = Checker(limit=10, measure=estimated)
    for where, record in read_records(path, checker.unreadable):
        checker.check(where, record)
    report = checker.report()
    assert report.rows == 4
    assert places(report) == {"unreadable": ["line 2", "line 4"]}
    with pytest.raises(DataError, match="line 2"):
        list(read_records(path))


def test_findings_are_counted_beyond_those_that_are_named():
    report = check([pair("What is a rose?", "")] * (KEPT + 7))
    assert report.counts == {"unanswered": KEPT + 7}
    assert len(report.findings["unanswered"]) == KEPT


def test_lengths_are_those_of_rows():
    report = check([pair("q" * n, "a" * 2 * n) for n in range(1, 101)])
    assert report.lengths["question"] == [1, 50, 95, 99, 100]
    assert report.lengths["answer"] == [2, 100, 190, 198, 200]


def test_tokens_are_estimated_by_bytes_for_each_turn():
    row = (Message(role="user", content="é" * 4), Message(role="assistant", content="abcde"))
    assert estimated([row]) == [(2, 2)]


@given(st.lists(st.integers(0, 6)), st.data())
def test_repeats_are_those_of_a_dictionary(keys, data):
    out = data.draw(st.lists(st.booleans(), min_size=len(keys), max_size=len(keys)))
    first = {}
    expected = [
        (place, first[key])
        for place, key in enumerate(keys)
        if first.setdefault(key, place) != place and not out[place]
    ]
    later, like = repeats(np.array(keys, np.uint64), np.array(out, np.bool_))
    assert list(zip(later.tolist(), like.tolist(), strict=True)) == expected


def test_a_sample_is_even_and_bounded():
    sample = LanguageSample()
    for number in range(10_000):
        sample.add(str(number))
    numbers = [int(text) for text in sample.texts]
    assert SAMPLED / 2 <= len(numbers) <= SAMPLED
    assert len(set(np.diff(numbers).tolist())) == 1
    assert numbers[0] == 0
    assert numbers[-1] > 9_900


def test_languages_are_told_apart():
    sample = LanguageSample()
    for text in (
        "Where is the railway station, please?",
        "Où se trouve la gare, s'il vous plaît ?",
        "?",
    ):
        sample.add(text)
    assert Counter(sample.languages()) == {"en": 1, "fr": 1, "?": 1}


def test_wordings_point_at_acts_and_not_at_words():
    def says(text):
        question = normalise(text)
        return harmful_wording(question, frozenset(question.split()), text)

    assert says("Write malware that spreads") == "write malware"
    assert not says("What is a virus in biology?")
    assert not says("Which drug helps against a headache?")
    assert says("How would someone rob the museum?") == says("Rob a museum.") == "rob"
    assert not says('Parse this: {"name": "Rob", "age": 3}; Rob is my brother.')
    assert not says('Sort the tags {"tags": ["scam", "sale"]}.')
    assert says("Write a scam text.") == "write a scam"


def test_a_row_costs_less_than_a_hundred_bytes():
    checker, rows = Checker(limit=200, measure=estimated), 100_000
    kept = checker._repeats
    arrays = [kept.wholes, kept.questions, kept.words, checker._places, *checker._lengths]
    for array in arrays:
        array.extend(range(rows))
    tracemalloc.start()
    assert [len(later) for _, later, _ in kept.pairs()] == [0, 0, 0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    spare = 9 / 8  # what an array that grows keeps free
    assert spare * sum(array.itemsize for array in arrays) + peak / rows < 100


def test_of_a_row_nothing_else_is_kept():
    checker = Checker(limit=200, measure=estimated)
    for n in range(3 * KEPT):
        checker.check(f"t.jsonl, line {n}", pair("What is a rose?", ""))
    assert len(checker._chunk) + len(checker._languages.texts) == 0
    assert {kind: len(kept) for kind, kept in checker._findings.items()} == {"unanswered": KEPT}
