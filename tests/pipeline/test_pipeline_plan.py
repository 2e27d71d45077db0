"""``aftertune plan``: what it prints, warns of and writes, with and without a study and a pilot."""

import json
from pathlib import Path

import pytest
import yaml


def test_without_a_study_it_plans_the_sizes_that_are_given(command):
    code, out, err = command(
        "plan", "--behaviors", 200, "--tasks", 2, "--seeds", 3, "--json", "plan.json"
    )
    assert (code, err) == (0, "")
    assert "3 seeds plateau at" in out
    assert "Assumed: base ASR 10.0 %" in out
    result = json.loads(Path("plan.json").read_text())
    (design,) = result["conditions"]
    assert [row["seeds"] for row in design["rows"]] == [1, 2, 3, 5, 10]
    own = design["rows"][2]
    assert own["power"] < own["plateau"] < 0.8
    assert result["costs"] == []
    assert [side["side"] for side in design["gate"]["quantities"]] == ["harm", "over-refusal"]
    assert 0 < design["gate"]["passes"] < 0.8
    few = ("--tasks", 1, "--seeds")
    _, out, _ = command("plan", "--behaviors", 200, *few, 10)
    assert "WARNING" not in out
    _, out, _ = command("plan", "--behaviors", 20, *few, 10)
    assert "more behaviors or seeds would help" in out
    _, out, _ = command("plan", *few, 1)
    assert "only this checkpoint may be spoken of" in out


def test_the_chances_of_a_verdict_stand_in_a_table_of_80_columns(command):
    assumed = ("--base-rate", 0.002, "--base-over-refusal", 0.001)
    sizes = ("--behaviors", 120, "--tasks", 1, "--seeds", 1)
    code, out, _ = command("plan", *sizes, *assumed, "--json", "plan.json")
    assert code == 0
    start = next(place for place, line in enumerate(out.splitlines()) if "verdict of check" in line)
    head, second, harm, refusal, whole, meaning = out.splitlines()[start : start + 6]
    assert max(map(len, (head, second, harm, refusal, whole))) <= 80
    assert all(len(line) <= 80 for line in out.splitlines()[1:start]), (
        "the table of seeds above it, too"
    )
    assert harm.split()[:5] == ["harm", "120", "0.2", "%", "5.0"]
    assert refusal.split()[:5] == ["over-refusal", "120", "0.1", "%", "5.0"]
    [gate] = [
        condition["gate"] for condition in json.loads(Path("plan.json").read_text())["conditions"]
    ]
    assert gate["passes"] >= 0.8
    assert gate["enough"] == 120
    assert meaning.strip().startswith(
        "120 behaviors: a fine-tune that changed nothing passes with "
    )


def test_a_study_is_counted_and_nothing_is_kept(command, tiny_folder, monkeypatch):
    monkeypatch.chdir(tiny_folder)
    code, out, err = command("plan", "study.yaml", "--json", "plan.json", "--out", "fresh")
    assert code == 0, err
    assert not Path("fresh").exists()
    result = json.loads(Path("plan.json").read_text())
    models = {cost["name"]: cost for cost in result["costs"] if cost["kind"] == "model"}
    assert models["base"]["to_be_trained"] is False
    tuned = next(cost for name, cost in models.items() if name != "base")
    assert (tuned["to_be_trained"], tuned["calls"]) == (True, models["base"]["calls"])
    assert tuned["training_bytes"] > models["base"]["parameters"]
    assert models["base"]["seconds"] is None
    assert models["base"]["money"] == 0.0
    asking = {cost["name"]: cost["calls"] for cost in result["costs"] if cost["kind"] != "model"}
    answers = sum(cost["calls"] for cost in models.values())
    assert asking
    assert all(0 < calls <= 2 * answers for calls in asking.values())
    assert "tokens in" in out


def test_fine_tunes_of_one_design_share_a_table_and_long_names_stand_whole(
    command, tiny_folder, monkeypatch
):
    monkeypatch.chdir(tiny_folder)
    text = Path("study.yaml").read_text()
    study = yaml.safe_load(text)
    first = study["fine_tunes"][0]["name"]
    study["fine_tunes"].append({"name": f"{first}-with-a-longer-name", "like": first})
    Path("two.yaml").write_text(yaml.safe_dump(study))
    _, out, _ = command("plan", "two.yaml")
    assert out.count("chance to show") == 1
    assert f", {first}-with-a-longer-name: " in out
    assert f"{first}-with-a-longer-name/seed1" in out


def test_a_finished_run_is_a_pilot_and_local_models_are_timed(command, copied, monkeypatch):
    monkeypatch.chdir(copied)
    code, out, err = command(
        "plan",
        "study.yaml",
        "--pilot",
        "out",
        "--out",
        "out",
        "--time",
        "--json",
        "plan.json",
        "-q",
    )
    assert code == 0, err
    result = json.loads(Path("plan.json").read_text())
    assert all(condition["spread"]["source"] == "pilot" for condition in result["conditions"])
    assert "Assumed" not in out
    sides = result["conditions"][0]["gate"]["quantities"]
    measured = json.loads(Path("out/result.json").read_text())["result"]["settings"][0]
    rates = next(x for x in measured["conditions"] if x["base"] is None)["asr"]["by_task"]
    planned = {
        task: min(max(rate["estimate"], 0.5 / (rate["n"] + 1)), 1 - 0.5 / (rate["n"] + 1))
        for task, rate in rates.items()
    }
    assert sides[0]["base"] == pytest.approx(sum(planned.values()) / len(planned))
    base = result["costs"][0]
    assert base["seconds"] > 0
    assert base["tokens_out"] <= base["tokens_out_at_most"]
    assert not any(cost["to_be_trained"] for cost in result["costs"] if cost["kind"] == "model")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--pilot", "nowhere"), "no finished run here"), (("nothing.yaml",), "nothing.yaml")],
)
def test_what_is_not_there_is_one_line(command, arguments, message):
    assert message in command.refused("plan", *arguments)
