"""The commands, options and exit codes of the command line, and those that the pages name."""

import re
import shlex

import click
import pytest
import typer
from doc_pages import PAGES, blocks, page, section, spans, tables

from aftertune import AftertuneError
from aftertune.cli.app import COMMANDS as NAMES
from aftertune.cli.app import app, load_command
from aftertune.measure.results import GateVerdict

GROUP = typer.main.get_command(app)
COMMANDS = {
    f"{name} {inner}".strip(): command
    for name in NAMES
    for inner, command in getattr(load_command(name), "commands", {"": load_command(name)}).items()
}
GROUPS = {name.partition(" ")[0] for name in COMMANDS if " " in name}
OF_ALL = {"--help", "-h"}


def options(command):
    return {
        option
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("-")
    }


def heading(name):
    arguments = [
        p
        for p in COMMANDS[name].params
        if isinstance(p, click.Argument) or p.param_type_name == "argument"
    ]
    named = [p.name.upper() + ("…" if p.nargs == -1 else "") for p in arguments]
    return f"## `{' '.join(['aftertune', name, *named])}`"


def documented(name):
    rows = [
        row for table in tables(section(page("docs/commands.md"), heading(name))) for row in table
    ]
    return {span for row in rows for span in spans(row[0])}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_documented_with_exactly_its_options(name):
    said = documented(name)
    long = {option for option in options(COMMANDS[name]) if option.startswith("--")}
    assert long <= said, f"undocumented: {long - said}"
    assert said <= options(COMMANDS[name]), f"no such option: {said - options(COMMANDS[name])}"


def test_the_page_has_no_other_commands():
    named = re.findall(
        r"^## `aftertune ([a-z-]+(?: [a-z-]+)?)", page("docs/commands.md"), re.MULTILINE
    )
    assert sorted(named) == sorted(COMMANDS)
    assert options(GROUP) - OF_ALL <= set(re.findall(r"--?\w+", page("docs/commands.md")))


def command_lines():
    """Return what the pages say to type, from inline code and from blocks."""
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        yield from ((path.name, span) for span in spans(text) if span.startswith("aftertune "))
    for block in blocks("bash", "sh", "shell", "console", "text", ""):
        joined = block.text.replace("\\\n", " ")
        for line in joined.splitlines():
            typed = line.strip().removeprefix("$ ").removeprefix(".venv/bin/").partition("  #")[0]
            if typed.startswith("aftertune "):
                yield block.page.name, typed


def test_every_command_line_that_a_page_names_exists():
    wrong = []
    for where, line in command_lines():
        _, name, *rest = shlex.split(line.replace("…", ""), comments=True)
        if name in GROUPS and rest:
            name = f"{name} {rest.pop(0)}"
        if name.startswith("-"):
            known = options(GROUP) | OF_ALL
            rest = [name]
        elif name == "COMMAND" or (name in GROUPS and not rest):
            known = OF_ALL
        elif name in COMMANDS:
            known = options(COMMANDS[name]) | OF_ALL
        else:
            wrong.append((where, line))
            continue
        wrong += [
            (where, line, word)
            for word in rest
            if re.match(r"\[?--?[a-z]", word) and word.strip("[]") not in known
        ]
    assert not wrong


def test_every_option_that_a_page_names_exists():
    known = OF_ALL | options(GROUP) | set().union(*map(options, COMMANDS.values()))
    named = {
        (path.name, word)
        for path in PAGES
        for span in spans(path.read_text(encoding="utf-8"))
        for word in re.findall(r"^--[a-z][a-z-]*", span)
    }
    named |= {
        (where, word)
        for where, line in command_lines()
        for word in re.findall(r"(?<!\S)--[a-z][a-z-]*", line)
    }
    assert {(where, word) for where, word in named if word not in known} == set()


def subclasses(kind):
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def test_the_exit_codes_are_those_of_the_code():
    errors = {error.exit_code for error in subclasses(AftertuneError)}
    codes = (
        {0, click.UsageError.exit_code} | errors | {verdict.exit_code for verdict in GateVerdict}
    )
    table = next(table for table in tables(page("docs/commands.md")) if table[0][0] == "0")
    assert [int(row[0]) for row in table] == sorted(codes)


def test_make_targets_that_a_page_names_exist():
    targets = set(re.findall(r"^([a-z-]+):", page("Makefile"), re.MULTILINE))
    named = {
        (path.name, target)
        for path in PAGES
        for target in re.findall(
            r"(?:`|^\s*(?:\$ )?)make ([a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert named
    assert {(where, target) for where, target in named if target not in targets} == set()
