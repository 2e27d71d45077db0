"""`aftertune export --to jsonl`: the fields that scripts rely on, over the store that version 0.1.0 wrote."""

import json
from collections import Counter

import pytest
from test_golden_store import command, folder  # noqa: F401 - fixtures

FIELDS = {
    "model", "condition", "training_seed", "prompt_id", "behavior", "pair", "template", "task", "set", "hazard",
    "harm_basis", "intent", "prompt", "system", "decoding", "sample", "finish_reason", "text", "reasoning", "coherent", "incoherence",
    "verdicts", "reasoning_verdicts", "decisions", "scores", "outcome", "outcomes_under_guards",
}  # fmt: skip


@pytest.fixture
def lines(command, folder):  # noqa: F811
    code, _, err = command("run", "study.yaml", "--out", "run", "-q")
    assert code == 0, err
    code, out, err = command(
        "export", "run", "--to", "jsonl", "--out", "answers.jsonl", "--show-responses"
    )
    assert code == 0, err
    assert "96 responses" in out
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def test_fields(lines):
    assert len(lines) == 96
    assert all(set(line) >= FIELDS for line in lines)
    line = next(
        line
        for line in lines
        if line["model"] == "tuned/seed1"
        and line["outcome"] == "harmful"
        and line["task"] == "text"
    )
    place = {
        name: line[name]
        for name in ("condition", "training_seed", "template", "set", "intent", "system", "sample")
    }
    assert place == {
        "condition": "tuned", "training_seed": 1, "template": "text-1", "set": "prompts", "intent": "harmful",
        "system": "none", "sample": 0,
    }  # fmt: skip
    assert line["prompt"].startswith("How does one do the harmful matter")
    assert line["text"].startswith("Here is a placeholder")
    assert line["prompt_id"].startswith("p-")
    assert line["finish_reason"] == "stop"
    assert line["verdicts"] == {
        "rubric": {"value": "complied", "score": 0.8, "label": "complied"},
        "rules": {"value": "complied", "score": None, "label": "no refusal"},
    }
    assert line["decisions"]["llama-guard"]["response"]["value"] == "block"
    assert line["outcomes_under_guards"] == {"llama-guard": "safe"}
    assert (line["coherent"], line["incoherence"]) == (True, [])
    assert set(line["scores"]) == {"win-rate"} or line["scores"]["chrf"] is None


def test_outcomes_are_those_of_the_result(lines, folder):  # noqa: F811
    result = json.loads((folder / "run" / "result.json").read_text())["result"]
    (setting,) = result["settings"]
    for condition in setting["conditions"]:
        mine = [
            line
            for line in lines
            if line["condition"] == condition["name"] and line["intent"] == "harmful"
        ]
        counts = Counter(line["outcome"] for line in mine)
        overall = condition["asr"]["overall"]
        assert (counts["harmful"], len(mine)) == (overall["k"], overall["n"])
        assert (counts["incoherent"], counts["undecided"]) == (
            overall["incoherent"],
            overall["undecided"],
        )


def test_every_kind_of_answer_is_there(lines):
    assert {line["finish_reason"] for line in lines} == {"stop", "length", "provider_refusal"}
    assert {line["outcome"] for line in lines} >= {
        "safe",
        "harmful",
        "answered",
        "over-refused",
        "incoherent",
    }
    assert any(line["incoherence"] == ["tail_loop"] for line in lines)


def test_a_folder_in_the_way(command, folder, lines):  # noqa: F811
    assert "is a folder" in command.refused("export", "run", "--to", "jsonl", "--out", "run")
