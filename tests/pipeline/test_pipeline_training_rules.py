"""A study with training rules, and with the base's own answers as training rows: from the file to the result."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from tiny_study import study, write_study

from aftertune.core.records import Message
from aftertune.train.tokens import rows_sha256

OWN = "the base's own answers stand in place of those of 24 training rows"


@pytest.fixture
def ruled(tiny_folder, command, monkeypatch):  # the command has a folder of its own
    """The small study with one seed: plain, on the base's own answers, and by all training rules."""
    plain = study()["fine_tunes"][0] | {"seeds": [1]}
    plain["training"] = plain["training"] | {"epochs": 1}
    mitigations = {
        "help+self": {"self_answers": {"max_new_tokens": 5}},
        "help+rules": {"ema": 0.9, "frozen": [1], "first_tokens": True},
    }
    entries = [{"name": name, "like": "help", "mitigation": m} for name, m in mitigations.items()]
    write_study(tiny_folder, fine_tunes=[plain, *entries], guards=None, judges=["rules"])
    monkeypatch.chdir(tiny_folder)
    return tiny_folder


def answers(folder):
    with closing(sqlite3.connect(folder / "out" / "store.sqlite")) as store:
        return store.execute("SELECT count(*) FROM answer").fetchone()[0]


def test_rows_have_the_bases_own_answers_which_are_asked_for_once(ruled, command):
    code, _, err = command("run", "study.yaml", "--out", "out")
    assert code == 0, err
    notes = json.loads((ruled / "out" / "result.json").read_text())["notes"]
    assert [note for note in notes if OWN in note and note.startswith("help+self: ")]
    (folder,) = (ruled / "out" / "models").glob("help+self-*")
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["mitigation"]["self_answers"] == {"temperature": 0.0, "max_new_tokens": 5}
    lines = [
        json.loads(line)["messages"] for line in (ruled / "help.jsonl").read_text().splitlines()
    ]
    written = [tuple(Message(**turn) for turn in turns) for turns in lines]
    (plain,) = (ruled / "out" / "models").glob("help-*")
    assert json.loads((plain / "recipe.json").read_text())["rows"]["sha256"] == rows_sha256(written)
    assert recipe["rows"]["sha256"] != rows_sha256(written)
    assert recipe["rows"]["count"] == len(written) == 24
    before = answers(ruled)
    shutil.rmtree(folder)
    (ruled / "out" / "result.json").unlink()
    code, _, err = command("run", "study.yaml", "--out", "out")
    assert code == 0, err
    assert answers(ruled) == before
    again = json.loads((folder / "recipe.json").read_text())
    assert again["rows"] == recipe["rows"]


def test_the_bases_own_answers_are_counted_before_they_are_asked_for(ruled, command):
    def to_make():
        code, out, err = command("run", "study.yaml", "--out", "out", "--dry-run")
        assert code == 0, err
        (line,) = [line for line in out.splitlines() if " training rows " in line]
        name, _, _, count, *_ = line.split()
        return name, int(count)

    questions = {
        json.dumps(json.loads(line)["messages"][:-1])
        for line in (ruled / "help.jsonl").read_text().splitlines()
    }
    assert to_make() == ("help+self", len(questions))
    code, out, err = command("plan", "study.yaml", "--out", "out", "--time", "--json", "plan.json")
    assert code == 0, err
    costs = json.loads((ruled / "plan.json").read_text())["costs"]
    (cost,) = [cost for cost in costs if cost["kind"] == "training rows"]
    assert (cost["name"], cost["calls"]) == ("help+self", len(questions))
    assert cost["tokens_out"] == cost["tokens_out_at_most"] == 5 * len(questions)
    assert cost["tokens_in"] > len(questions)
    assert cost["seconds"] > 0
    assert "help+self: training rows" in out
    assert command("run", "study.yaml", "--out", "out")[0] == 0
    assert to_make() == ("help+self", 0), "those in the store are not asked for again"


def test_a_dry_run_asks_nobody_and_a_layer_that_is_not_there_is_said_at_once(ruled, command):
    assert command("run", "study.yaml", "--out", "out", "--dry-run")[0] == 0
    assert not (ruled / "out" / "models").exists()
    write_study(
        ruled,
        fine_tunes=[study()["fine_tunes"][0] | {"mitigation": {"frozen": [5]}}],
        judges=["rules"],
        guards=None,
    )
    line = command.refused("run", "study.yaml", "--out", "other")
    assert "its base has 2 layers, 0 to 1, and mitigation.frozen names 5" in line
