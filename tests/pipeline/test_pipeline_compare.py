"""`aftertune compare` on runs of the embedded model: paired and unpaired, what differs, at most 25 lines, never a verdict."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
from test_pipeline_hand_over import checked  # noqa: F401 - a fixture

from aftertune.cli.compare import Opened, differing_weights
from aftertune.report.compare import differing, matching
from aftertune.report.document import read_document
from aftertune.result import open_finished


@pytest.fixture(scope="module")
def runs(checked, organism_folder, tmp_path_factory):  # noqa: F811
    """The check of a model that refuses everything, and one of the base itself on more prompts."""
    from aftertune.cli.app import main

    folder = tmp_path_factory.mktemp("compared") / "same"
    config = ("--config", organism_folder / "aftertune.yaml", "--limit", 16, "--margin", 0.07)
    base = organism_folder / "base"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys,
            "argv",
            ["aftertune", *map(str, ("check", base, base, *config, "-o", folder, "-q"))],
        )
        with pytest.raises(SystemExit) as left:
            main()
    assert left.value.code == 4
    return checked / "run", folder


def compared(command, *paths):
    code, out, err = command("compare", *paths, "--json", "c.json")
    assert (code, err) == (0, "")
    with open("c.json", encoding="utf-8") as file:  # noqa: PTH123
        return out, json.load(file)


def figure(told, role, name, task=None, result=1):
    (pair,) = [p for p in told["compared"] if (p["role"], p["result"]) == (role, result)]
    (difference,) = [d for d in pair["differences"] if (d["figure"], d["task"]) == (name, task)]
    return difference


def test_runs_that_share_prompts_are_paired_on_them(command, runs):
    out, told = compared(command, *runs)
    assert len(out.splitlines()) <= 25
    refused = figure(told, "fine-tune", "over-refusal")
    assert (refused["first"], refused["other"], refused["paired"]) == (1, 0, True)
    assert refused["difference"] == -1
    base = figure(told, "base", "harm")
    assert (base["difference"], base["behaviors"]) == (0, [12, 12])
    assert told["verdicts"][0].startswith("FAIL, over-refusal")
    assert "paired on" in told["compared"][0]["pairing"]
    assert "base, harm" in out
    assert "B paired on" in out


def test_what_differs_between_runs_is_named(command, runs, tmp_path):
    _, told = compared(command, *runs)
    assert any("other prompts or templates" in note for note in told["notes"])
    assert any("other margins, in points: harm 7 (first: 5)" in note for note in told["notes"])
    assert compared(command, runs[0], runs[0])[1]["notes"] == []


def test_a_file_alone_is_unpaired_and_that_is_said(command, runs, tmp_path):
    alone = shutil.copy(runs[1] / "result.json", tmp_path / "other.json")
    out, told = compared(command, runs[0], alone)
    refused = figure(told, "fine-tune", "over-refusal")
    assert not refused["paired"]
    low, high = refused["interval"]
    assert low <= -0.9 <= high or low < refused["difference"] <= high
    assert "unpaired" in out


def test_more_than_two_are_each_compared_with_the_first(command, runs):
    out, told = compared(command, *runs, runs[0])
    assert {pair["result"] for pair in told["compared"]} == {1, 2}
    assert figure(told, "fine-tune", "over-refusal", result=2)["difference"] == 0
    assert "B: over-refusal" in out
    assert "C: over-refusal" in out
    many = [runs[1] / "result.json"] * 8
    out, told = compared(command, runs[0], *many)
    assert len(out.splitlines()) <= 25
    assert {pair["result"] for pair in told["compared"]} == set(range(1, 9))
    assert "compare 9 at most" in command.refused("compare", *many, *many)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"judges": ["other"]}, "judged by other, the first by organism"),
        ({"panel": "majority"}, "panel: majority"),
        ({"name_rate": "non-refusal rate"}, "its rate is the non-refusal rate"),
    ],
)
def test_each_difference_of_the_instruments_has_its_line(runs, tmp_path, change, words):
    first = read_document(runs[0] / "result.json")
    other = replace(first, result=replace(first.result, **change))
    (note,) = differing(first, other, "B")
    assert words in note
    assert list(differing(first, first, "B")) == []


def test_versions_decoding_and_bases_are_looked_at_too(runs):
    first = read_document(runs[0] / "result.json")
    (setting,) = first.result.settings
    base = replace(first.models[0], identity={"weights": "others"})
    for other, words in (
        (replace(first, versions=dict(first.versions) | {"judge organism": "9"}), "other versions of judge organism"),
        (replace(first, result=replace(first.result, settings=(replace(setting, decoding="T=1 max=9"),))), "asked with system prompt none, T=1 max=9"),
        (replace(first, models=(base, *first.models[1:])), "another base"),
    ):  # fmt: skip
        (note,) = differing(first, other, "B")
        assert words in note


def test_task_weights_that_differ_are_named(runs):
    document = read_document(runs[0] / "result.json")
    with open_finished(runs[0]) as run:
        weighted = replace(run, plan=replace(run.plan, task_weights={"text": 2.0, "code": 1.0}))
        first, other = (
            Opened(document=document, run=of, tables={}, prompts={}) for of in (run, weighted)
        )
        (note,) = differing_weights(first, other, "B")
        assert "other task_weights" in note
        for same in (first, replace(other, run=None)):
            assert list(differing_weights(first, same, "B")) == []


def test_fine_tunes_of_other_names_are_named(runs):
    first = read_document(runs[0] / "result.json")
    (setting,) = first.result.settings
    base, tuned = setting.conditions
    several = (base, replace(tuned, name="a"), replace(tuned, name="b"))
    result = replace(first.result, settings=(replace(setting, conditions=several),))
    study = replace(first, gate=None, result=result)
    renamed = replace(
        result,
        settings=(replace(setting, conditions=(base, several[2], replace(tuned, name="c"))),),
    )
    other = replace(study, result=renamed)
    assert [c.name for _, c, _ in matching(study, other)] == ["b", "base"]
    told = list(differing(study, other, "B"))
    assert told == ["only the first has a: not compared", "only B has c: not compared"]


def test_what_cannot_be_compared_is_refused(command, runs, tmp_path):
    assert "needs two results" in command.refused("compare", runs[0])
    assert "does not exist" in command.refused("compare", runs[0], tmp_path / "nowhere")
    assert "no finished run" in command.refused("compare", runs[0], tmp_path)
    damaged = tmp_path / "damaged.json"
    damaged.write_text((runs[0] / "result.json").read_text().replace("FAIL", "PASS"))
    assert "changed after it was written" in command.refused("compare", runs[0], damaged)
