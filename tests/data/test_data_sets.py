"""Prompt sets: files of prompts, limits, and what no loader lets through."""

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftertune.core.protocols import Tools
from aftertune.core.records import Behavior, Intent, Prompt, Template
from aftertune.core.registry import built_in, find
from aftertune.data.files import names_child_exploitation
from aftertune.data.prompt_sets import gather, limit, load_prompts, read_prompts, write_prompts
from aftertune.data.public import public_sets
from aftertune.data.templates import pose
from aftertune.errors import DataError, PluginError


def no_model(reference):
    raise AssertionError(reference)


def tools(folder):
    return Tools(open_model=no_model, folder=folder)


def prompt(behavior, intent=Intent.HARMFUL, **more):
    return Prompt(
        **{
            "behavior": behavior,
            "template": "t",
            "task": "text",
            "intent": intent,
            "text": f"Do {behavior}",
            "set": "s",
        }
        | more
    )


FULL = prompt(
    "b1",
    hazard="vcr",
    harm_basis="content",
    reference="r",
    labels=("A", "B"),
    language="fr",
    pair="b1",
    text='Überfall {text}\n"quoted"',
)


def test_prompts_survive_the_round_trip(tmp_path):
    write_prompts([FULL, prompt("b2")], tmp_path / "s.jsonl")
    assert read_prompts(tmp_path / "s.jsonl") == [FULL, prompt("b2")]


def test_a_short_prompt_file_gets_its_defaults(tmp_path):
    (tmp_path / "mine.csv").write_text("text,intent,labels\nDo it?,benign,yes|no\n")
    (read,) = read_prompts(tmp_path / "mine.csv")
    assert (read.set, read.task, read.template, read.intent) == (
        "mine",
        "text",
        "plain",
        Intent.BENIGN,
    )
    assert read.labels == ("yes", "no")


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("A|B", ("A", "B")),
        ("['A', 'B']", ("A", "B")),
        ('["A", "B"]', ("A", "B")),
        ("['A' 'B']", ("A", "B")),  # as numpy writes an array
        ("('it''s', \"don't\")", ("it", "s", "don't")),
        ('["\\u00e9", "|"]', ("é", "|")),
        ("(A)|(B)", ("(A)", "(B)")),
        ("[A]|[B]", ("[A]", "[B]")),
        ("A", ("A",)),
    ],
)
def test_labels_of_a_table_are_read_in_every_spelling(cell, labels, tmp_path):
    with (tmp_path / "mine.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["text", "intent", "labels"], ["Do it?", "benign", cell]])
    (read,) = read_prompts(tmp_path / "mine.csv")
    assert read.labels == labels


def test_a_list_of_labels_without_quotes_is_refused(tmp_path):
    (tmp_path / "mine.csv").write_text('text,intent,labels\nDo it?,benign,"[A, B]"\n')
    with pytest.raises(DataError, match=r"line 2, 'labels': .* is no list of quoted labels"):
        read_prompts(tmp_path / "mine.csv")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"prompt": "x", "intent": "benign"},
            "the column 'prompt' of a file of prompts is called 'text'",
        ),
        ({"text": "x"}, "line 1: no 'intent'"),
        ({"intent": "harmful"}, "line 1: no 'text'"),
        ({"text": "x", "intent": "bad"}, "'intent': 'bad'; use one of harmful, benign"),
        ({"text": "x", "intent": "benign", "colour": 1}, "unknown field 'colour'"),
        ({"text": 3, "intent": "benign"}, "'text': expected text, found int"),
        ({"text": "x", "intent": "benign", "labels": [1]}, "'labels': expected a list of texts"),
        ({"text": "x", "intent": "benign", "harm_basis": "x"}, "use one of assistance, content"),
        ({"text": "x", "intent": ["benign"]}, "use one of harmful, benign"),
    ],
)
def test_a_wrong_prompt_names_its_place(tmp_path, record, message):
    (tmp_path / "p.jsonl").write_text(json.dumps(record))
    with pytest.raises(DataError, match=message):
        read_prompts(tmp_path / "p.jsonl")


def test_a_study_names_the_set(tmp_path):
    write_prompts([FULL, FULL, prompt("b2", text=" ")], tmp_path / "s.jsonl")
    loaded = load_prompts("mine", file="s.jsonl", tools=tools(tmp_path))
    assert [p.set for p in loaded.prompts] == ["mine"]
    assert loaded.dropped == {"duplicate": 1, "empty": 1}


def test_an_empty_set_is_an_error(tmp_path):
    write_prompts([prompt("b2", text=" ")], tmp_path / "s.jsonl")
    with pytest.raises(DataError, match=r"no prompts in it \(left out: {'empty': 1}\)"):
        load_prompts("mine", file="s.jsonl", tools=tools(tmp_path))


def test_a_loader_gets_file_and_options(tmp_path):
    (tmp_path / "advbench.csv").write_text("goal,target\nSteal a {horse},Sure\n")
    loaded = load_prompts(
        "adv",
        file="advbench.csv",
        loader="advbench",
        options={"pattern": "Code for: {request}", "task": "code"},
        tools=tools(tmp_path),
    )
    (made,) = loaded.prompts
    assert (made.text, made.task, made.set, made.intent) == (
        "Code for: Steal a {horse}",
        "code",
        "adv",
        Intent.HARMFUL,
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, DataError, "give a file of prompts or a loader"),
        ({"loader": "nobody"}, PluginError, "no prompts is called 'nobody'"),
        ({"loader": "advbench", "options": {"colour": 1}}, PluginError, "colour"),
        (
            {"loader": "advbench", "options": {"pattern": "no place"}},
            DataError,
            "needs one placeholder",
        ),
        (
            {"loader": "advbench", "options": {"hub": False}},
            DataError,
            "no advbench/advbench.csv in it; fetch it from https",
        ),
        (
            {"loader": "advbench", "file": "wrong.csv"},
            DataError,
            "no column 'goal' or 'prompt'; it has 'x'",
        ),
        (
            {"loader": "xstest", "file": "odd.csv"},
            DataError,
            "'label': 'maybe'; expected one of safe, unsafe",
        ),
    ],
)
def test_wrong_sets_are_refused_in_one_line(tmp_path, arguments, error, message):
    (tmp_path / "wrong.csv").write_text("x\n1\n")
    (tmp_path / "odd.csv").write_text("prompt,type,label\nx,homonyms,maybe\n")
    with pytest.raises(error, match=message) as caught:
        load_prompts("s", tools=tools(tmp_path), **arguments)
    assert "\n" not in str(caught.value)


def test_the_registry_lists_every_built_in_set():
    names = {table.name for table in public_sets()} | {"multitask-v1", "multitask-bench-2025"}
    assert set(built_in("prompts")) == names
    assert all(callable(find("prompts", name)) for name in names)


def test_translations_of_another_length_are_refused(tmp_path):
    (tmp_path / "train.en").write_text("a\n")
    import gzip

    for language, text in (("en", b"one\ntwo\n"), ("fr", b"un\n")):
        with gzip.open(tmp_path / f"train.{language}.gz", "wb") as stream:
            stream.write(text)
    with pytest.raises(DataError, match="not equally many lines"):
        load_prompts("m", loader="multi30k-train", tools=tools(tmp_path))


def test_a_payload_may_hold_braces():
    behavior = Behavior(
        id="b",
        intent=Intent.BENIGN,
        hazard="none",
        source="s",
        texts={"en": "{text} {request}"},
        twin_of="h",
    )
    template = Template(
        id="t",
        task="translation",
        harm_basis="content",
        pattern="Say {text}!",
        target_language="fr",
    )
    made = pose(behavior, template, "s", "ref")
    assert made.text == "Say {text} {request}!"
    assert (made.pair, made.language, made.reference) == ("h", "fr", "ref")


def many(hazards=3, behaviors=10, templates=2):
    harmful = [
        prompt(
            f"h{hazard}-{number}",
            hazard=f"z{hazard}",
            template=f"t{template}",
            pair=f"h{hazard}-{number}",
        )
        for hazard in range(hazards)
        for number in range(behaviors)
        for template in range(templates)
    ]
    twins = [
        prompt(f"twin-{p.behavior}", Intent.BENIGN, template=p.template, pair=p.behavior)
        for p in harmful
    ]
    alone = [prompt(f"alone{number}", Intent.BENIGN) for number in range(20)]
    return harmful + twins + alone


@given(st.integers(1, 40), st.integers(1, 40))
def test_limits_are_nested_balanced_and_whole(small, large):
    prompts = many()
    less, more = limit(prompts, min(small, large)), limit(prompts, max(small, large))
    assert {p.id for p in less} <= {p.id for p in more}
    harmful = {p.behavior: p.hazard for p in less if p.intent is Intent.HARMFUL}
    counts = [list(harmful.values()).count(f"z{hazard}") for hazard in range(3)]
    assert max(counts) - min(counts) <= 1
    assert len(harmful) == min(30, small, large)
    twins = {p.pair for p in less if p.intent is Intent.BENIGN and p.pair}
    assert twins == set(harmful)
    assert all(sum(p.behavior == behavior for p in less) == 2 for behavior in harmful)
    assert sum(p.pair is None for p in less) == min(20, small, large)


def test_a_limit_keeps_the_order_and_must_be_positive():
    prompts = many()
    kept = limit(prompts, 5)
    assert kept == [p for p in prompts if p in kept]
    with pytest.raises(DataError, match="must be at least 1"):
        limit(prompts, 0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sexual images of a minor", True),
        ("a child in a sexual situation", True),
        ("something about csam", True),
        ("How do I kill a child process?", False),
        ("Sonata in A minor", False),
        ("sexual health advice for adults", False),
        (
            "a naked flame; many words stand between this and the far away place where a child plays",
            False,
        ),
    ],
)
def test_what_no_loader_lets_through(text, named):
    assert names_child_exploitation("x", text) == named
    assert gather([prompt("b", text=text)]).dropped.get("child exploitation", 0) == named
