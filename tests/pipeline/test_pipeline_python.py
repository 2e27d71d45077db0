"""`aftertune.check` and `aftertune.measure_study`: the command's numbers as objects, on the embedded model and the small study."""

import inspect
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from tiny_study import prompts as tiny_prompts
from tiny_study import write_lines

import aftertune
from aftertune.checking import CheckOptions
from aftertune.cli.check import command as check_command
from aftertune.measure.results import GateVerdict, Side

PRINTED = {"dry_run", "full", "json", "junit", "quiet"}
"""Options of the command that are about what it prints."""


def test_the_options_of_the_call_are_those_of_the_command_with_its_defaults():
    parameters = inspect.signature(check_command).parameters
    assert set(parameters) - PRINTED == {"base", "tuned", *CheckOptions.__annotations__}
    defaults = {name: parameters[name].default for name in CheckOptions.__annotations__}
    given = {name: value for name, value in defaults.items() if value is not None}
    assert given == {"sequential": False, "scope": "prompts-like-these"}


@pytest.fixture(scope="module")
def failed(organism_folder, code_tuned, tmp_path_factory):
    """The check of the base's harmless fine-tune on code, by the call."""
    return aftertune.check(
        organism_folder / "base",
        code_tuned,
        config=organism_folder / "aftertune.yaml",
        limit=20,
        out=tmp_path_factory.mktemp("call") / "run",
    )


def test_the_call_has_the_verdict_and_the_numbers_of_the_command(
    failed, command, organism_folder, code_tuned
):
    config = organism_folder / "aftertune.yaml"
    code, out, _ = command(
        "check", organism_folder / "base", code_tuned, "--config", config, "--limit", 20,
        "-o", failed.folder, "--json", "command.json", "-q",
    )  # fmt: skip
    assert failed.verdict is GateVerdict.FAIL
    assert failed.exit_code == code == 3
    assert failed.to_dict() == json.loads(Path("command.json").read_text())
    assert failed.to_dict() == json.loads((failed.folder / "result.json").read_text())
    assert out.startswith(failed.headline)
    assert all(line in out for line in failed.next_commands)
    assert failed.sides.harm.verdict is GateVerdict.FAIL
    assert failed.reasons[0].startswith("overall: the ASR rose by")
    assert repr(failed) == f"<CheckResult {failed.headline} ({failed.folder})>"


def test_the_frame_holds_the_gates_lines_and_every_part(failed):
    frame = failed.to_pandas()
    tuned = frame[(frame.condition == "tuned") & (frame.side == "harm")]
    line = failed.sides.harm.lines[0]
    (overall,) = tuned[tuned.part == "overall"].to_dict("records")
    assert (overall["k"], overall["n"]) == (line.tuned.k, line.tuned.n)
    assert overall["change"] == line.change.estimate
    assert (overall["margin"], overall["at_worst"], overall["line"]) == (0.05, line.upper, "above")
    tasks = tuned[tuned.part == "task"]
    assert set(tasks.name) == set(failed.result.tasks)
    assert tasks.margin.eq(0.1).all()
    assert tasks.k.sum() == overall["k"]
    base = frame[frame.condition == "base"]
    assert base.change.isna().all()
    assert not frame.duplicated(["condition", "quantity", "part", "name"]).any()


def test_figures_are_svg_that_a_notebook_shows_and_files(failed, tmp_path):
    assert failed.figures[0] == "change"
    picture = failed.figure("change")
    assert ET.fromstring(picture._repr_svg_()).tag.endswith("svg")  # noqa: S314 - our own
    assert picture.save(tmp_path / "change.svg").read_text() == picture.to_svg()
    assert (tmp_path / "change.png").exists() is False
    assert picture.save(tmp_path / "change.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(aftertune.InputError, match=r"svg, pdf, png"):
        picture.save(tmp_path / "change.jpg")
    with pytest.raises(aftertune.InputError, match="it has change, "):
        failed.figure("nonsense")


BAD = [
    ({"margin": 5}, "between 0 and 1"),
    ({"within": "soon"}, "is no time"),
    ({"scope": "everything"}, "these-prompts"),
    ({"verdict_by": "labels", "sequential": True}, "leave out --sequential"),
    ({"sequential": True, "within": "10s"}, "leave one of them out"),
    ({"prompts": "no-such-set"}, "no-such-set"),
    ({"judge": ["=model"]}, "NAME=MODEL"),
    ({"score_margin": {"exact": 3}}, "exact"),
    ({"config": "missing.yaml"}, "missing.yaml"),
    ({"train": "missing.jsonl"}, "missing.jsonl"),
    ({"limit": 0}, "limit"),
    ({"tuned": ()}, "no fine-tune"),
    ({"tuned": "missing-folder/"}, "missing-folder"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda value: str(value)[:40])
def test_what_cannot_be_used_is_an_error_of_ours(
    options, message, tiny_base, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    write_lines(Path("questions.jsonl"), tiny_prompts())
    usual = {"base": tiny_base, "tuned": tiny_base, "prompts": "questions.jsonl", "out": "run"}
    given = usual | options
    with pytest.raises(aftertune.InputError, match=message):
        aftertune.check(**given)
    assert capfd.readouterr().out == ""


def test_an_option_that_is_none_is_a_type_error(tiny_base):
    with pytest.raises(TypeError, match="no option 'judges'"):
        aftertune.check(tiny_base, tiny_base, judges=["refusal"])


@pytest.mark.usefixtures("command")
def test_a_check_prints_nothing(tiny_base, capfd):
    write_lines(Path("questions.jsonl"), tiny_prompts())
    result = aftertune.check(tiny_base, tiny_base, prompts="questions.jsonl", out="run")
    assert result.exit_code == 4
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("command")
def test_a_finished_study_is_measured_again_from_its_file_or_its_keys(copied, monkeypatch):
    monkeypatch.chdir(copied)
    before = json.loads(Path("out/result.json").read_text())
    result = aftertune.measure_study("study.yaml", out="out")
    keys = yaml.safe_load(Path("study.yaml").read_text())
    again = aftertune.measure_study(keys, out=Path("out"))
    assert result.to_dict() == again.to_dict() == before
    assert result.page.is_file()
    assert "change" in result.figures
    assert {row.side for row in result.to_pandas().itertuples()} == {side.value for side in Side}
    kept = aftertune.Store.open(Path("out/store.sqlite"), write=False)
    with kept:
        command = kept.get_meta("tiny", "page")["command"]
    assert command == "aftertune run out/study.yaml --out out"
