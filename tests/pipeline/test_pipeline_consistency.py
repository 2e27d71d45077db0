"""`aftertune consistency` on a finished study, and a study of epochs and rounds from its file to its curves."""

import json
import shutil

import pytest
from tiny_study import environment, finish, start, study, write_study


@pytest.fixture(scope="module")
def printed(finished_study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("printed")
    shutil.copytree(finished_study.folder / "out", folder / "out")
    code, out, err = finish(
        start(
            "consistency", "out", "--json", "c.json", env=environment(folder / "cache"), cwd=folder
        )
    )
    assert code == 0, err
    return out, json.loads((folder / "c.json").read_text()), folder


def test_it_says_what_two_labs_would_find(printed, finished_study):
    out, result, _ = printed
    assert "Two labs" in out
    assert len(out.splitlines()) <= 60
    assert {(entry["condition"], entry["task"]) for entry in result["entries"]} == {
        (name, task)
        for name in ("base", "help", "help+safety")
        for task in (None, "text", "classification")
    }
    settings = json.loads(finished_study.result)["result"]["settings"]
    for entry in (entry for entry in result["entries"] if entry["task"] is None):
        rates = [
            condition["asr"]["overall"]["estimate"]
            for setting in settings
            for condition in setting["conditions"]
            if condition["name"] == entry["condition"]
        ]
        assert entry["rate"]["estimate"] == pytest.approx(sum(rates) / len(rates)), (
            "the mean over the settings"
        )


def test_the_page_has_it_too(finished_study):
    page = (finished_study.folder / "out" / "report.html").read_text()
    assert "Reproducibility" in page
    assert "Two labs" in page


def test_a_folder_without_a_run_is_one_line(tmp_path):
    code, out, err = finish(
        start("consistency", ".", env=environment(tmp_path / "cache"), cwd=tmp_path)
    )
    assert (code, out) == (1, "")
    assert "no finished run here" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_epochs_and_rounds_are_trained_once_and_become_curves(tiny_folder, tmp_path):
    (plain, _) = study()["fine_tunes"]
    fine_tunes = [
        plain | {"keep_epochs": True},
        plain | {"name": "on", "rounds": ["./replay.jsonl"]},
    ]
    write_study(tiny_folder, fine_tunes=fine_tunes, guards=None, models=[
        {"name": "base", "reference": "./base", "attributes": {"family": "tiny"}}])  # fmt: skip
    env = environment(tmp_path / "cache")
    code, _, err = finish(start("run", "study.yaml", "--out", "out", env=env, cwd=tiny_folder))
    assert code == 0, err
    models = {
        path.name: path.stat().st_mtime_ns for path in (tiny_folder / "out" / "models").iterdir()
    }
    assert len(models) == 2 * (3 + 2)
    code, _, err = finish(start("run", "study.yaml", "--out", "out", env=env, cwd=tiny_folder))
    assert code == 0, err
    assert {
        path.name: path.stat().st_mtime_ns for path in (tiny_folder / "out" / "models").iterdir()
    } == models
    code, out, err = finish(
        start("consistency", "out", "--json", "c.json", env=env, cwd=tiny_folder)
    )
    assert code == 0, err
    curves = json.loads((tiny_folder / "c.json").read_text())["curves"]
    assert [[point["condition"] for point in curve["points"]] for curve in curves] == [
        ["help@epoch1", "help@epoch2", "help"], ["on@round1", "on@round2"],
    ]  # fmt: skip
    assert "by epoch" in out
    assert "by round" in out
    assert "the degradation curve" in (tiny_folder / "out" / "report.html").read_text()
