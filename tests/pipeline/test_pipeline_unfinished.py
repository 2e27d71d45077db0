"""A run without a result: `report` says what there is and how to go on, and a check that asked nothing has declared nothing."""

import shutil
import sqlite3
from contextlib import closing

from tiny_study import prompts, write_lines

from aftertune.store import Store


def test_report_of_an_unfinished_run_says_what_there_is_and_how_to_go_on(copied, command):
    run = copied / "out"
    (run / "result.json").unlink()
    (folder,) = (run / "models").glob("help-seed2-*")
    draft = folder.rename(folder.with_name(f"{folder.name}.partial"))
    for step, marker in ((6, "complete"), (12, "complete"), (18, "half")):
        (draft / f"checkpoint-{step}").mkdir()
        (draft / f"checkpoint-{step}" / marker).touch()
    code, out, err = command("report", run)
    assert (code, err) == (5, "")
    first, *models, last = out.splitlines()
    assert first == "tiny: not finished"
    assert last == "Go on: aftertune run study.yaml --out out"
    states = {line.split()[0]: line for line in models}
    assert list(states) == [
        "base",
        "help/seed1",
        "help/seed2",
        "help+safety/seed1",
        "help+safety/seed2",
    ]
    assert "trained" not in states["base"]
    assert "to be trained (12 steps are done)" in states["help/seed2"]
    assert "trained, 48 of 48 answers" in states["help/seed1"]
    assert "48 scored by rules" in states["base"]


def test_report_of_a_run_that_was_stopped_before_any_answer(copied, command, monkeypatch):
    monkeypatch.chdir(copied)
    (copied / "out" / "result.json").unlink()
    shutil.copytree(copied / "out" / "models", copied / "other" / "models")
    with Store.open(copied / "other" / "store.sqlite") as store:
        kept = Store.open(copied / "out" / "store.sqlite", write=False)
        store.set_meta("tiny", "begun", kept.get_meta("tiny", "begun"))
        kept.close()
    code, out, _ = command("report", "other")
    assert code == 5
    assert out.count("trained, not asked yet") == 4
    assert command.refused("report", "nowhere").count("no finished run here") == 1


def test_a_check_that_got_no_answer_leaves_no_declaration(command, tmp_path):
    """The budget does not reach for the first call; the second try declares another margin, and nothing differs."""
    write_lines(tmp_path / "questions.jsonl", prompts())
    base, tuned = (f"http://127.0.0.1:9/v1#{name}" for name in ("base", "tuned"))
    (tmp_path / "prices.yaml").write_text("models: {'*': {input: 100, output: 100}}\n")
    (tmp_path / "poor.yaml").write_text("engine: {budget: 0.000001, prices: ./prices.yaml}\n")
    own = ("--prompts", "questions.jsonl", "--config", "poor.yaml", "-o", "run")
    for margin in ("0.05", "0.2"):
        code, _, err = command("check", base, tuned, *own, "--margin", margin)
        assert code == 5, err
        assert "options differ" not in err
    with closing(sqlite3.connect(tmp_path / "run" / "store.sqlite")) as connection:
        notes = [name for (name,) in connection.execute("SELECT name FROM note")]
    assert notes == ["begun"]
