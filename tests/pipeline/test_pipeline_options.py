"""Bad command lines: whoever finds them, typer's parser or a check of ours, they are one line that names the option, and exit code 2."""

from typing import Literal, get_origin

import pytest

from aftertune.cli.app import COMMANDS, load_command


def is_typed(parameter):
    """Return whether the parser reads an option's value as a number or a choice."""
    if parameter.param_type_name != "option":
        return False
    annotation = parameter.type_descriptor.annotation
    return annotation in (int, float) or get_origin(annotation) is Literal


def leaves(name):
    """Yield the words of a command and its parameters; of a group, those of its commands."""
    command = load_command(name)
    for sub, leaf in getattr(command, "commands", {"": command}).items():
        yield [name, *([sub] if sub else [])], leaf.params


def needed(parameters):
    """Return words for what a command cannot be without."""
    words = []
    for parameter in parameters:
        if parameter.required:
            options = [parameter.opts[0]] if parameter.param_type_name == "option" else []
            words += [*options, "x"]
    return words


PARSED = [
    (*words, *needed(parameters), parameter.opts[0], "?!")
    for name in COMMANDS
    for words, parameters in leaves(name)
    for parameter in parameters
    if is_typed(parameter)
]
OWN = [
    "check base base --margin 5",
    "check base base --task-margin -1",
    "check base base --over-refusal-margin nan",
    "check base base --over-refusal-task-margin 0",
    "check base base --max-asr 2",
    "check base base --within soon",
    "check base base --score-margin exact=3",
    "check base base --score-margin exact",
    "repair base base --method magic",
    "repair base base --strength much",
    "repair base base -o x --own-task rows.jsonl --own-score exact=2",
    "tune base rows.jsonl -o x --method magic",
    "tune base rows.jsonl -o x --epochs 0",
    "tune base rows.jsonl -o x --learning-rate nan",
    "tune base rows.jsonl -o x --batch-size -1",
    "tune base rows.jsonl -o x --max-length 0",
    "tune base rows.jsonl -o x --columns answer",
    "mix rows.jsonl -o mixed.jsonl --share 2",
    "mix rows.jsonl -o mixed.jsonl --replay -1",
    "mix rows.jsonl -o mixed.jsonl --weights code",
    "mix rows.jsonl -o mixed.jsonl --to csv",
    "mix rows.jsonl -o mixed.jsonl --columns answer",
    "run study.yaml --part 3/2",
    "judge-check rules labels.csv --columns answer",
    "judge-check rules labels.csv --words yes=maybe",
]
"""Values that our own checks refuse; neither files nor models are there."""
STRANGE = [
    ("--nothing",),
    ("nothing",),
    ("check", "base", "tuned", "--nothing"),
    ("check", "base"),
    ("label", "nothing"),
    ("store", "merge", "into", "store", "more", "--nothing"),
]


def refused(command, *words):
    code, out, err = command(*words)
    assert (code, out) == (2, ""), err
    assert err.startswith("aftertune: ")
    assert err.count("\n") == 1, err
    return err


@pytest.fixture
def here(command, tiny_base, monkeypatch):
    monkeypatch.chdir(tiny_base.parent)
    return command


@pytest.mark.parametrize("words", PARSED, ids=" ".join)
def test_a_value_that_the_parser_cannot_read(command, words):
    assert words[-2] in refused(command, *words)


@pytest.mark.parametrize("line", OWN)
def test_a_value_that_is_wrong_by_itself(here, line):
    message = refused(here, *line.split())
    assert line.split()[-2] in message
    assert "Input should" not in message, "a raw text of pydantic"


@pytest.mark.parametrize("words", STRANGE, ids=" ".join)
def test_what_no_command_has(command, words):
    assert "--help" in refused(command, *words)


def test_a_command_without_arguments_prints_its_help(command):
    for words in ((), ("label",)):
        code, out, err = command(*words)
        assert code in {0, 2}
        assert "Usage:" in out + err


def test_what_is_not_there_is_an_error_of_its_own(command):
    assert "does not exist" in command.refused("check", "./nowhere", "./nowhere", "--limit", 3)
