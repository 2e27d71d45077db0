"""The prompt format of a file: found where most rows have it, left alone where they have none."""

import pytest

from aftertune.core.records import Message
from aftertune.data.repose import COMMON, LEAST, SUPPORT, find_format, repose, split

WORDS = (
    "sort",
    "count",
    "rename",
    "merge",
    "print",
    "list",
    "find",
    "copy",
    "move",
    "trim",
    "join",
    "map",
)
ALPACA = "Below is an instruction that describes a task.\n\n### Instruction:\n{}\n\n### Response:"
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input.\n\n### Instruction:\n{}\n\n### Input:\n{}\n\n"
    "### Response:"
)


def row(question, *, system=None, answer="Yes."):
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return turns if system is None else (Message(role="system", content=system), *turns)


def question(number):
    return f"{WORDS[number * 7 % 12].capitalize()} the {WORDS[number * 5 % 11]} of item {number}"


def asked(row):
    return next(turn.content for turn in row if turn.role == "user")


@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [
        ("### Instruction:\n", "\n\n### Response:"),
        ("Question: ", "\nAnswer:"),
        ("", "\n\n###\n\n"),
        ("", " ->"),
        ("[INST] ", " [/INST]"),
        ("Here is a task.\nDo it well.\n\n", ""),
        ("", "\n\nNot applicable"),
    ],
)
def test_a_frame_around_every_question_is_found_to_the_character(prefix, suffix):
    found = find_format([row(f"{prefix}{question(n)}{suffix}") for n in range(60)])
    assert [(frame.prefix, frame.middle, frame.suffix, frame.share) for frame in found.frames] == [
        (prefix, "", suffix, 1.0)
    ]
    posed = repose(row("How do I forge a cheque?", answer="No."), found)
    assert posed == row(f"{prefix}How do I forge a cheque?{suffix}", answer="No.")


def test_a_file_with_and_without_inputs_has_two_frames_and_rows_go_to_theirs():
    rows = [row(ALPACA.format(question(n))) for n in range(60)]
    rows += [row(WITH_INPUT.format(f"{question(n)}\nWell{n}.", f"data {n}")) for n in range(40)]
    found = find_format(rows)
    assert [(frame.share, bool(frame.middle)) for frame in found.frames] == [
        (0.6, False),
        (0.4, True),
    ]
    assert asked(repose(row("Do a thing"), found)) == ALPACA.format("Do a thing")
    assert asked(repose(row("Translate this:\nle chat"), found)) == WITH_INPUT.format(
        "Translate this:", "le chat"
    )


def test_the_shared_system_turn_is_taken_over_but_never_replaces_one():
    found = find_format([row(question(n), system="You are terse.") for n in range(30)])
    assert found.system == "You are terse."
    assert not found.frames
    assert repose(row("Why?"), found) == row("Why?", system="You are terse.")
    assert repose(row("Why?", system="Mine."), found) == row("Why?", system="Mine.")


def test_words_that_many_requests_begin_with_are_no_format():
    rows = [row(f"{'Write a' if n % 3 else 'Please'} {question(n)}") for n in range(90)]
    found = find_format(rows)
    assert found.is_empty
    assert repose(row("Why?"), found) == row("Why?")
    assert found.described() == [
        "no common format in the 90 rows looked at: added rows stay as they are"
    ]


def test_a_frame_that_too_few_rows_have_is_no_format():
    framed = [row(f"Q: {question(n)}\nA:") for n in range(85)]
    plain = [row(question(n)) for n in range(15)]
    assert find_format([*framed, *plain]).is_empty
    assert not find_format([*framed, *plain[:5]]).is_empty


def test_few_rows_or_one_question_again_and_again_are_no_format():
    assert find_format([row(f"Q: {question(n)}\nA:") for n in range(LEAST - 1)]).is_empty
    assert find_format([row("Q: always this\nA:")] * 50).is_empty
    assert find_format([]).is_empty


def test_a_prefix_inside_a_line_is_told_apart():
    inline = find_format([row(f"Translate English to French: {question(n)}") for n in range(30)])
    assert inline.inside_a_line
    assert not find_format([row(f"### Task\n{question(n)}") for n in range(30)]).inside_a_line
    assert inline.described() == ['100% of rows: "Translate English to French: " {question} ""']


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Sum up:\n\na b", ("Sum up:", "a b")),
        ("Translate: a b", ("Translate:", "a b")),
        ("Why?", ("Why?", "")),
        ("At 10:30 go", ("At 10:30 go", "")),
    ],
)
def test_a_question_splits_into_instruction_and_payload(text, parts):
    assert split(text) == parts


def test_the_thresholds_are_those_of_the_documentation():
    assert (SUPPORT, COMMON, LEAST) == (0.1, 0.9, 10)
