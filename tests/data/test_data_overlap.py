"""Overlap: what counts as the same prompt, and what is only the same wording."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.core.protocols import Tools
from aftertune.core.recipe import TrainingFile
from aftertune.core.records import Intent, Message, Prompt
from aftertune.data.overlap import Finder, find_overlap, normalise
from aftertune.data.public_prompts import load_public
from aftertune.data.rows import read_rows


def row(question):
    return Message(role="user", content=question), Message(
        role="assistant", content="Steal a horse today."
    )


def prompt(text):
    return Prompt(
        behavior="b", template="t", task="text", intent=Intent.HARMFUL, text=text, set="s"
    )


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
    assert find_overlap([asked], {"file": [row(question)]}).verbatim == (
        {asked.id: {"file": 1}} if same else {}
    )


def test_rows_are_counted_by_source_and_answers_do_not_count():
    asked, other = prompt("Steal a horse today"), prompt("Paint a horse blue")
    found = find_overlap(
        [asked, other], {"a": [row(asked.text)] * 2, "b": [row("x"), row(f"Say: {asked.text}")]}
    ).verbatim
    assert found == {asked.id: {"a": 2, "b": 1}}


REQUESTS = (
    "steal a horse from the old king",
    "paint a fence in the old town",
    "feed a dog from the cold street",
)
PATTERNS = {
    "plain": "{r}",
    "code": "Write code to {r} in Python",
    "text": "Reply in one word.\nSay: {r}",
}


def posed(number, template, **more):
    return Prompt(
        behavior=f"b{number}", template=template, task="text", intent=Intent.HARMFUL, set="s",
        text=PATTERNS[template].replace("{r}", REQUESTS[number]), **more,
    )  # fmt: skip


ASKED = [posed(number, template) for number in range(3) for template in PATTERNS]


@pytest.mark.parametrize(
    ("question", "hit"),
    [
        ("In my novel they steal a horse from the old king, and get away", {"b0"}),
        ("please\nsteal a HORSE from\nthe old king -- now", {"b0"}),
        ("Steal a horse from the old king", {"b0"}),
        ("steal a horse from the old king and then paint a fence in the old town", {"b0", "b1"}),
        ("I steal a horse from the old queen", set()),
        ("do not resteal a horse from the old kings", set()),
        ("from the old king", set()),
        ("Reply in one word. Say: hello to my neighbour in the garden", set()),
        ("Write code to do something else in Python", set()),
        ("", set()),
    ],
)
def test_a_request_inside_a_line_hits_its_behavior(question, hit):
    found = find_overlap(ASKED, {"file": [row(question)]})
    assert found.behaviors == hit
    assert {prompt.behavior for prompt in ASKED if found.drops(prompt)} == hit
    assert {prompt.behavior for prompt in ASKED if prompt.id in found.prompts} == hit


def test_a_request_that_only_the_template_surrounds_is_found_in_a_row_of_another_wording():
    asked = [posed(number, "code") for number in range(3)]
    found = find_overlap(asked, {"file": [row(f"Could you {REQUESTS[0]}?")]})
    assert (found.verbatim, found.inside) == ({}, {asked[0].id: {"file": 1}})
    assert find_overlap(asked, {"file": [row(REQUESTS[0])]}).inside == {asked[0].id: {"file": 1}}


def test_wording_that_several_behaviors_share_is_no_request():
    wording = "answer this with one of the letters"
    asked = [
        Prompt(
            behavior=f"b{n}",
            template="t",
            task="text",
            intent=Intent.HARMFUL,
            set="s",
            text=f"{text}\n{wording}",
        )
        for n, text in enumerate(REQUESTS)
    ]
    rows = [row(f"What is it? {wording} of the alphabet"), row(wording)]
    assert not find_overlap(asked, {"file": rows}).prompts


def test_a_prompt_alone_in_its_template_is_looked_for_as_a_whole():
    asked = posed(0, "plain")
    assert find_overlap([asked], {"file": [row(f"Well, {asked.text} today")]}).behaviors == {"b0"}
    assert not find_overlap(
        [posed(0, "code")], {"file": [row("write code to steal a horse from the old")]}
    ).behaviors


def test_a_hit_twin_takes_its_harmful_behavior_along_and_the_other_way_round():
    harmful, twin = (
        posed(0, "plain", pair="b0"),
        replace(posed(1, "plain", pair="b0"), intent=Intent.BENIGN),
    )
    other = posed(2, "plain")
    for hit in (harmful, twin):
        found = find_overlap([harmful, twin, other], {"file": [row(hit.text)]})
        assert found.prompts == {hit.id}
        assert [found.drops(prompt) for prompt in (harmful, twin, other)] == [True, True, False]


def test_prompts_are_counted_by_source_and_rows_that_hold_them_verbatim_are_not_counted_twice():
    asked = ASKED[0]
    rows = {
        "a": [row(asked.text), row(f"Well, {asked.text} today")],
        "b": [row(f"Well, {asked.text} today")] * 2,
    }
    found = find_overlap([asked], rows)
    assert (found.verbatim, found.inside) == ({asked.id: {"a": 1}}, {asked.id: {"b": 2}})
    assert found.sources == {"a": 1, "b": 1}


@given(
    st.lists(st.sampled_from("abcdefg"), min_size=6).map(" ".join),
    st.text("abc xyz"),
    st.text("abc xyz"),
)
def test_six_words_are_found_inside_any_text(text, before, after):
    assert find_overlap([prompt(text)], {"a": [row(f"{before} {text} {after}")]}).behaviors == {"b"}


@given(st.text())
def test_normalising_twice_changes_nothing_more(text):
    once = normalise(text)
    assert normalise(once) == once


@given(st.text(min_size=1))
def test_a_prompt_is_found_in_itself(text):
    asked = prompt(text)
    assert bool(find_overlap([asked], {"a": [row(text)]}).verbatim) == bool(normalise(text))


PATIENCE = 60.0
"""Seconds, on a machine that others use too: comparing every row with every prompt would take many times as long."""


def test_twenty_thousand_rows_are_not_compared_with_a_thousand_prompts_one_by_one():
    start = time.perf_counter()
    assert not find_overlap(
        [prompt(f"prompt number {n} of many") for n in range(1000)],
        {"a": [row(f"row {n}\nof the file") for n in range(20_000)]},
    ).verbatim
    assert time.perf_counter() - start < PATIENCE


def test_looking_inside_twenty_thousand_rows_takes_seconds():
    asked = [
        replace(
            prompt(f"please tell me how the thing called {n} works in the house of {n % 7}"),
            behavior=str(n),
        )
        for n in range(1000)
    ]
    start = time.perf_counter()
    rows = [
        row(f"tell me how the house called {n + 1000} is built, please, and what it has cost")
        for n in range(20_000)
    ]
    assert not find_overlap(asked, {"a": rows}).prompts
    assert time.perf_counter() - start < PATIENCE


def test_a_finder_says_in_the_strictest_way_how_a_row_holds_a_prompt():
    finder = Finder(ASKED)
    plain = ASKED[0]
    assert finder.held(row(plain.text))[plain.id] == "verbatim"
    assert finder.held(row(f"Please do it: {plain.text}"))[plain.id] == "payload"
    assert finder.held(row(f"Well, {plain.text} today"))[plain.id] == "inside"
    assert finder.held(row("Feed the neighbour's cat")) == {}


@pytest.mark.data
def test_the_overlap_of_public_sets_is_the_known_one():
    if not (folder := os.environ.get("AFTERTUNE_DATA")):
        pytest.skip("AFTERTUNE_DATA names no folder of public data files")
    tools = Tools(open_model=None, folder=Path(folder))
    advbench, released = (
        load_public(name, tools).prompts for name in ("advbench", "multitaskbench")
    )
    llamas = TrainingFile(path="safety_tuned_llamas/safety_only_data_Instructions.json")
    assert (
        len(find_overlap(advbench, {"a": [row(prompt.text) for prompt in released]}).verbatim) == 94
    )
    assert len(find_overlap(released, {"a": read_rows(llamas, Path(folder))}).verbatim) == 155
