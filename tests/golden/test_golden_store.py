"""A store that version 0.1.0 wrote: it opens, nothing is asked again, and its figures are the same.

The study's models are served at an address where nobody listens (study-v1/write.py), so a call that is made fails.
"""

import json
import shutil
import sqlite3
from pathlib import Path

import golden_results
import pytest
import yaml
from commands import Commands

from aftertune.study import load_study

OLD = Path(__file__).parent / "study-v1"
STAGES = {"generate": 96, "guard": 103, "judge": 117}
"""Calls in the store by what they were made for; 24 of the judge's compare two answers."""


@pytest.fixture
def folder(tmp_path):
    """A copy of the study, in the places where version 0.1.0 kept it."""
    (tmp_path / "run").mkdir()
    for name in ("study.yaml", "prompts.jsonl"):
        shutil.copy(OLD / name, tmp_path)
    study = tmp_path / "study.yaml"
    shutil.copy(study, tmp_path / "run")  # as version 0.1.0 left it, with the keys of then
    text = study.read_text().replace("scorers:", "metrics:").replace("comparers:", "preferences:")
    study.write_text(text)
    for name in ("store.sqlite", "result.json"):
        shutil.copy(OLD / name, tmp_path / "run")
    return tmp_path


@pytest.fixture
def command(monkeypatch, capfd, folder):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")
    return Commands(monkeypatch, capfd)


def query(store, text):
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    try:
        return connection.execute(text).fetchall()
    finally:
        connection.close()


def calls(folder):
    """Return the keys of all calls with their answers, and how many attempts failed."""
    store = folder / "run" / "store.sqlite"
    rows = query(
        store,
        "SELECT call.key, call.kind, text.text, text.detail FROM call "
        "JOIN answer ON answer.call = call.id JOIN text ON text.call = call.id ORDER BY call.key",
    )
    return rows, query(store, "SELECT count(*) FROM attempt")[0][0]


def test_nothing_is_asked_again_and_the_figures_are_the_same(command, folder):
    before = calls(folder)
    kinds = [row[1] for row in before[0]]
    assert {kind: kinds.count(kind) for kind in STAGES} == STAGES
    code, _, err = command("run", "study.yaml", "--out", "run", "-q")
    assert code == 0, err
    assert calls(folder) == before
    old, new = (
        json.loads(path.read_text())
        for path in (OLD / "result.json", folder / "run" / "result.json")
    )
    lines, compared = golden_results.differences(old, new)
    assert not lines
    assert compared > 1000
    code, out, err = command("report", "run")
    assert code == 0, err
    assert "tuned" in out
    assert calls(folder) == before


def test_the_study_of_an_old_run_is_read_and_a_new_run_needs_the_new_keys(command, folder):
    finished = load_study(folder / "run" / "study.yaml", finished=True)
    assert [keys.name for keys in (*finished.metrics, *finished.preferences)] == [
        "chrf",
        "win-rate",
    ]
    shutil.copy(folder / "run" / "study.yaml", folder / "study.yaml")
    code, _, err = command("run", "study.yaml", "--out", "run", "-q")
    assert code == 1
    assert "study.yaml:13: scorers: scorers is called metrics now; rename the key" in err


def test_a_judge_is_added_and_nothing_is_asked(command, folder):
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["judges"].append({"name": "soft", "use": "rules", "options": {"soft": True}})
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    before = calls(folder)
    code, _, err = command("run", "study.yaml", "--out", "run", "-q")
    assert code == 0, err
    assert calls(folder) == before
    (count,) = query(
        folder / "run" / "store.sqlite",
        "SELECT count(*) FROM reading JOIN reader ON reader.id = reading.reader WHERE reader.name = 'soft'",
    )
    assert count == (96,)
    assert "soft" in (folder / "run" / "result.json").read_text()


def test_a_label_undecided_leaves_a_run_readable(command, folder):
    """It is counted where too few labels correct anything, so that there are no bounds yet."""
    assert command("run", "study.yaml", "--out", "run", "-q")[0] == 0
    code, _, err = command(
        "label", "export", "run", "-o", "labels.jsonl", "--n", "12", "--benign", "4"
    )
    assert code == 0, err
    first = json.loads((folder / "labels.jsonl").read_text().splitlines()[0])
    (folder / "labels.jsonl").write_text(json.dumps(first | {"label": "undecided"}) + "\n")
    for words in (
        ["label", "import", "run", "labels.jsonl", "--annotator", "ben"],
        ["report", "run", "--full"],
        ["run", "study.yaml", "--out", "run", "-q"],
    ):
        code, _, err = command(*words)
        assert code == 0, err


def test_a_changed_number_is_seen(monkeypatch):
    for table in ("RENAMED", "MOVED"):
        monkeypatch.setattr(golden_results, table, {})
    monkeypatch.setattr(golden_results, "GONE", ())
    old = json.loads((OLD / "result.json").read_text())
    path, value = next(
        (path, value) for path, value in golden_results.values(old) if isinstance(value, float)
    )
    new = json.loads((OLD / "result.json").read_text())
    node = new
    for part in path[:-1]:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[path[-1] if isinstance(node, dict) else int(path[-1])] = value + 1e-6
    (line,) = golden_results.differences(old, new)[0]
    assert line.startswith("/".join(path))


def test_a_moved_and_renamed_node_is_found_again(monkeypatch):
    monkeypatch.setattr(golden_results, "MOVED", {"a/*/b": "c/*"})
    monkeypatch.setattr(golden_results, "RENAMED", {"told": "result"})
    monkeypatch.setattr(golden_results, "GONE", ("x",))
    old = {"a": {"text": {"b": {"told": 1, "k": [1.5, 2]}}}, "x": {"y": 3}}
    new = {"c": {"text": {"result": 1, "k": [1.5, 2]}}}
    assert golden_results.differences(old, new) == ([], 4)
    new["c"]["text"]["k"].append(3)
    assert golden_results.differences(old, new)[0] == ["a/text/b/k/length: 2 became 3"]
