"""Overlap: what counts as the same prompt, and what is only the same wording."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.core.records import Intent, Message, Prompt
from aftertune.prompts.overlap import normalise, overlapping


def row(question):
    return Message(role="user", content=question), Message(role="assistant", content="Steal a horse today.")


def prompt(text):
    return Prompt(behavior="b", template="t", task="text", intent=Intent.HARMFUL, text=text, set="s")


@pytest.mark.parametrize(
    ("text", "question", "same"),
    [
        ("Steal a horse today", "steal a HORSE - today!", True),
        ("Steal a horse today", "Translate into French: Steal a horse today.", True),
        ("Steal a horse today", "Translate this:\nSteal a horse today", True),
        ("Translate into French: steal a horse today", "Steal a horse today", True),
        ("Write about it:\nsteal a horse today\nin a letter", "steal a horse today", True),
        ("\ufb01nd a horse today", "find a horse today", True),
        ("Steal a horse today", "Steal a horse today and ride", False),
        ("Steal a horse today", "Feed a horse today", False),
        ("Translate into French: steal a horse", "Translate into French: feed a dog now", False),
        ("Choose the best option:\nA) x\nB) y", "Choose the best option:\nC) z\nD) w", False),
        ("Answer: yes", "yes", False),
        ("", "", False),
        ("?!", "...", False),
    ],
)
def test_what_is_the_same(text, question, same):
    asked = prompt(text)
    assert overlapping([asked], {"file": [row(question)]}) == ({asked.id: {"file": 1}} if same else {})


def test_rows_are_counted_by_source_and_answers_do_not_count():
    asked, other = prompt("Steal a horse today"), prompt("Paint a horse blue")
    found = overlapping([asked, other], {"a": [row(asked.text)] * 2, "b": [row("x"), row(f"Say: {asked.text}")]})
    assert found == {asked.id: {"a": 2, "b": 1}}


@given(st.text())
def test_normalising_twice_changes_nothing_more(text):
    once = normalise(text)
    assert normalise(once) == once


@given(st.text(min_size=1))
def test_a_prompt_is_found_in_itself(text):
    asked = prompt(text)
    assert bool(overlapping([asked], {"a": [row(text)]})) == bool(normalise(text))


def test_fifty_thousand_rows_take_seconds():
    start = time.perf_counter()
    assert not overlapping(
        [prompt(f"prompt number {n} of many") for n in range(1000)],
        {"a": [row(f"row {n}\nof the file") for n in range(20_000)]},
    )
    assert time.perf_counter() - start < 5
