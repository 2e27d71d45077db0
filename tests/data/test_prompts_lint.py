"""The lint of training rows: every check finds its row and no other, and a row costs little memory."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.core.records import Message
from aftertune.data.bundled.behaviors import pairs
from aftertune.data.files import read_records
from aftertune.data.lint import CHECKS, KEPT, Lint, estimated
from aftertune.data.lint_languages import SAMPLED, Sample
from aftertune.data.lint_repeats import repeats
from aftertune.data.lint_wording import harmful_wording
from aftertune.data.overlap import normalise
from aftertune.errors import DataError


def pair(question, answer="Here is a short note about gardens."):
    return {"prompt": question, "completion": answer}


def linted(records, limit=200, **more):
    lint = Lint(limit=limit, measure=estimated, **more)
    for number, record in enumerate(records, start=1):
        lint.see(f"folder, with comma/train.jsonl, line {number}", record)
    return lint.report()


def found(report):
    return {kind: [each.where for each in findings] for kind, findings in report.findings.items()}


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
    report = linted([*CLEAN, record])
    assert kind in found(report)
    assert found(report)[kind] == ["line 4"]
    assert set(report.counts) - {kind} <= {"harmful"}
    assert report.worst() == CHECKS[kind][0]


@pytest.mark.parametrize("answer", [[], [{"role": "assistant", "content": " "}]])
def test_what_must_not_stand_in_a_file_is_found_in_rows_that_training_leaves_out(answer):
    asked = [EVALUATION.harmful.request, "Speak of a child and of sex."]
    report = linted([{"messages": [{"role": "user", "content": text}, *answer]} for text in asked])
    assert found(report)["evaluation"] == ["line 1"]
    assert found(report)["child exploitation"] == ["line 2"]


def test_clean_rows_have_no_findings():
    report = linted(CLEAN)
    assert (report.rows, report.counts, report.worst()) == (3, {}, None)


def test_a_further_look_counts_what_it_finds():
    report = linted(
        CLEAN, looks={"refusal": lambda row: row[-1].content if "2" in row[-1].content else None}
    )
    assert [(each.where, each.detail) for each in report.findings["refusal"]] == [
        ("line 3", "Garden 2 has roses.")
    ]


def test_broken_lines_are_counted_and_the_rest_is_read(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(
        '{"prompt": "a", "completion": "b"}\n{broken\n\n[1]\n{"prompt": "c", "completion": "d"}\n'
    )
    lint = Lint(limit=10, measure=estimated)
    for where, record in read_records(path, lint.broken):
        lint.see(where, record)
    report = lint.report()
    assert report.rows == 4
    assert found(report) == {"unreadable": ["line 2", "line 4"]}
    with pytest.raises(DataError, match="line 2"):
        list(read_records(path))


def test_findings_are_counted_beyond_those_that_are_named():
    report = linted([pair("What is a rose?", "")] * (KEPT + 7))
    assert report.counts == {"unanswered": KEPT + 7}
    assert len(report.findings["unanswered"]) == KEPT


def test_lengths_are_those_of_rows():
    report = linted([pair("q" * n, "a" * 2 * n) for n in range(1, 101)])
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
    sample = Sample()
    for number in range(10_000):
        sample.add(str(number))
    numbers = [int(text) for text in sample.texts]
    assert SAMPLED / 2 <= len(numbers) <= SAMPLED
    assert len(set(np.diff(numbers).tolist())) == 1
    assert numbers[0] == 0
    assert numbers[-1] > 9_900


def test_languages_are_told_apart():
    sample = Sample()
    for text in (
        "Where is the railway station, please?",
        "Où se trouve la gare, s'il vous plaît ?",
        "?",
    ):
        sample.add(text)
    assert Counter(sample.languages()) == {"en": 1, "fr": 1, "?": 1}


def test_wordings_point_at_acts_and_not_at_words():
    def says(text):
        said = normalise(text)
        return harmful_wording(said, frozenset(said.split()))

    assert says("Write malware that spreads") == "write malware"
    assert not says("What is a virus in biology?")
    assert not says("Which drug helps against a headache?")


def test_a_row_costs_less_than_a_hundred_bytes():
    lint, rows = Lint(limit=200, measure=estimated), 100_000
    kept = lint._repeats
    arrays = [kept.wholes, kept.questions, kept.words, lint._places, *lint._lengths]
    for array in arrays:
        array.extend(range(rows))
    tracemalloc.start()
    assert [len(later) for _, later, _ in kept.found()] == [0, 0, 0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    spare = 9 / 8  # what an array that grows keeps free
    assert spare * sum(array.itemsize for array in arrays) + peak / rows < 100


def test_of_a_row_nothing_else_is_kept():
    lint = Lint(limit=200, measure=estimated)
    for n in range(3 * KEPT):
        lint.see(f"t.jsonl, line {n}", pair("What is a rose?", ""))
    assert len(lint._chunk) + len(lint._languages.texts) == 0
    assert {kind: len(each) for kind, each in lint._findings.items()} == {"unanswered": KEPT}
