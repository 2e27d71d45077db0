"""What users get wrong, and what goes wrong under them: one line on standard error, exit 1, nothing else, and a way on."""

import json
import os
import sqlite3
import subprocess
import sys

import pytest
from tiny_study import environment, finish, prompts, start, stored_keys, write_lines, write_study

LARGEST_FILE = 150_000
"""Bytes: room for the empty store and some answers, not for all of them."""


@pytest.fixture
def refused(command, tiny_folder, monkeypatch):
    """Runs the small study, which must be refused before any training; returns the line that says why."""

    def run(*options):
        monkeypatch.chdir(tiny_folder)
        line = command.refused("run", "study.yaml", "--out", "out", "--quiet", *options)
        assert not list((tiny_folder / "out").glob("models/*"))
        assert not (tiny_folder / "out" / "result.json").exists()
        return line

    return run


def test_a_missing_study(command):
    assert "nothing.yaml" in command.refused("run", "nothing.yaml")


def test_an_empty_study(refused, tiny_folder):
    (tiny_folder / "study.yaml").write_text("# to be written\n")
    assert "the file is empty" in refused()


def test_an_unknown_key(refused, tiny_folder):
    write_study(tiny_folder, judgse=["rules"])
    line = refused()
    assert "study.yaml:" in line
    assert "did you mean 'judges'?" in line


def test_a_broken_line_in_a_training_file(refused, tiny_folder):
    path = tiny_folder / "help.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2][:30], *lines[3:]]))
    assert "help.jsonl, line 3: broken JSON" in refused()


def test_a_training_row_without_answer(refused, tiny_folder):
    with (tiny_folder / "safety.jsonl").open("a") as stream:
        stream.write('{"messages": [{"role": "user", "content": "tell me"}]}\n')
    assert "the last turn must be the assistant's answer" in refused()


def test_rows_that_a_mitigation_cannot_draw_are_said_by_a_dry_run(
    command, tiny_folder, monkeypatch
):
    monkeypatch.chdir(tiny_folder)
    mitigation = {"preset": "multitask", "share": 0.2, "tasks": ["cooking"]}
    tune = {
        "name": "help",
        "base": "base",
        "data": "./help.jsonl",
        "method": "full",
        "mitigation": mitigation,
    }
    write_study(tiny_folder, fine_tunes=[tune])
    assert "no safety rows of the task 'cooking'" in command.refused(
        "run", "study.yaml", "--dry-run"
    )


def test_an_empty_prompts_file(refused, tiny_folder):
    (tiny_folder / "questions.jsonl").write_text("\n")
    assert "no prompts in it" in refused()


def test_prompts_that_the_model_cannot_read(refused, tiny_folder):
    foreign = [
        {**record, "text": f"explain quantum field theory {record['text'][:7]}"}
        for record in prompts()
    ]
    write_lines(tiny_folder / "questions.jsonl", foreign)
    line = refused()
    assert "prompt set questions does not fit model base" in line
    assert "tokens are unknown" in line


def test_only_prompts_that_were_trained_on(refused, tiny_folder, command):
    rows = [{"prompt": record["text"], "completion": "sure"} for record in prompts()]
    write_lines(tiny_folder / "train.jsonl", rows)
    base = tiny_folder / "base"
    asked = ("--prompts", tiny_folder / "questions.jsonl", "--train", tiny_folder / "train.jsonl")
    assert "every evaluation behavior occurs" in command.refused("check", base, base, *asked, "-q")


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("spine_plugins:nobody", "has no attribute 'nobody'"),
        ("no_such_module:judge", "No module named 'no_such_module'"),
        ("spine_plugins:not_callable", "cannot be called"),
        ("spine_plugins:raises", "RuntimeError: the judge's own set-up failed in two lines"),
        ("spine_plugins:likelihood", "missing a required argument: 'model'"),
        ("broken_plugin:judge", "SyntaxError"),
        (
            "spine_plugins:of_version_one",
            "makes no scorer of the role judge; inherit from aftertune.Scorer",
        ),
        ("spine_plugins:longer", "makes no scorer of the role judge"),
    ],
)
def test_a_judge_that_cannot_be_built(refused, tiny_folder, monkeypatch, factory, said):
    (tiny_folder / "broken_plugin.py").write_text("def judge(:\n")
    monkeypatch.syspath_prepend(tiny_folder)
    write_study(tiny_folder, judges=[{"name": "mine", "use": factory}])
    line = refused()
    assert "judge" in line
    assert said in line


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tune base nowhere.jsonl -o t", "nowhere.jsonl: no such file"),
        ("tune base nothing.jsonl -o t", "no rows"),
        ("tune base latin.jsonl -o t", "not UTF-8 text"),
        ("tune base help.jsonl -o base", "something that is no fine-tune of ours"),
        ("tune base help.jsonl -o /proc/no/room -q", "/proc/no: No such file or directory"),
        ("tune base help.jsonl -o t --learning-rate nan", "--learning-rate is nan"),
        ("tune base help.jsonl -o t --epochs 0", "--epochs is 0.0"),
        (
            "tune base help.jsonl -o t --method magic",
            "--method magic: use one of full, lora, qlora",
        ),
        ("mix help.jsonl --safety safety.jsonl -o help.jsonl", "help.jsonl is one of the inputs"),
        ("mix help.jsonl --safety safety.jsonl -o base", "base: the mixed file is JSON"),
        ("mix help.jsonl --safety nothing.jsonl -o mixed.jsonl", "nothing.jsonl: no rows"),
        ("mix help.jsonl --safety safety.jsonl -o mixed.jsonl --share 1.5", "not 1.5"),
        ("check base base --prompts nowhere.jsonl", "--prompts nowhere.jsonl: no such file"),
        (
            "check base base --prompts questions.jsonl --judge nobody",
            "--judge nobody: no judge is called 'nobody'",
        ),
        (
            "check base base --prompts questions.jsonl --guard llama-gard=base",
            "--guard llama-gard=base: no guard is called 'llama-gard'; did you mean 'llama-guard'",
        ),
        (
            "check base base --prompts questions.jsonl --attack prefil",
            "--attack prefil: no attack is called 'prefil'; did you mean 'prefill'?",
        ),
        ("judge-check rulez help.jsonl", "JUDGE rulez: no judge is called 'rulez'; did you mean"),
        ("check base base --prompts questions.jsonl --margin 5", "write 0.05 for 5 %"),
        (
            "check base base --prompts questions.jsonl --train nowhere.jsonl -q",
            "nowhere.jsonl: there is no such file",
        ),
        ("check base base --config nowhere.yaml", "nowhere.yaml: cannot be read"),
        ("organism base", "holds no organism"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(command, tiny_folder, monkeypatch, line, said):
    monkeypatch.chdir(tiny_folder)
    (tiny_folder / "nothing.jsonl").write_text("")
    (tiny_folder / "latin.jsonl").write_bytes(
        '{"prompt": "où", "completion": "là"}'.encode("latin-1")
    )
    before = sorted(path.name for path in tiny_folder.iterdir())
    assert said in command.refused(*line.split())
    left = {path.name for path in tiny_folder.iterdir()} - {"aftertune-runs", "t.partial"}
    assert sorted(left) == before, "no half of a file is left"


def test_out_is_a_file(command, tiny_folder, monkeypatch):
    monkeypatch.chdir(tiny_folder)
    (tiny_folder / "out").write_text("mine")
    assert "cannot make the folder out" in command.refused(
        "run", "study.yaml", "--out", "out", "-q"
    )
    assert (tiny_folder / "out").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_out_may_not_be_written(command, tiny_folder, monkeypatch):
    monkeypatch.chdir(tiny_folder)
    (tiny_folder / "out").mkdir(mode=0o500)
    assert "cannot be opened" in command.refused("run", "study.yaml", "--out", "out", "-q")


def test_a_store_that_is_none(refused, tiny_folder):
    (tiny_folder / "out").mkdir()
    (tiny_folder / "out" / "store.sqlite").write_bytes(
        b"not a database at all, but long enough to be read as one" * 40
    )
    assert "is not an Aftertune store" in refused()


def test_a_damaged_store(command, copied, monkeypatch):
    store = copied / "out" / "store.sqlite"
    pages = bytearray(store.read_bytes())
    pages[8192:-8192] = b"\xff" * (len(pages) - 16384)
    store.write_bytes(pages)
    monkeypatch.chdir(copied)
    assert "store.sqlite: " in command.refused("run", "study.yaml", "--out", "out", "-q")


def test_a_store_of_another_schema(command, copied, monkeypatch):
    store = copied / "out" / "store.sqlite"
    with sqlite3.connect(store) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = store.read_bytes()
    monkeypatch.chdir(copied)
    assert "has schema 99" in command.refused("run", "study.yaml", "--out", "out", "-q")
    assert "has schema 99" in command.refused("report", "out")
    assert store.read_bytes() == before


def test_a_store_that_another_process_writes_to(command, copied, monkeypatch):
    monkeypatch.chdir(copied)
    code = "import sys; from pathlib import Path; from aftertune.store import Store; Store(Path(sys.argv[1])); "
    holding = [
        sys.executable,
        "-c",
        code + "print('open', flush=True); sys.stdin.read()",
        "out/store.sqlite",
    ]
    with subprocess.Popen(
        holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        line = command.refused("run", "study.yaml", "--out", "out", "-q")
        code, out, _ = command("report", "out")
        other.communicate()
    assert f"another run (process {other.pid}) is writing to this store" in line
    assert code == 0, "a reader goes on"
    assert "report.html" in out


def test_a_result_of_another_version(command, copied, monkeypatch):
    monkeypatch.chdir(copied)
    path = copied / "out" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    assert "was written by another version" in command.refused("report", "out")
    path.write_text("{")
    assert "is not JSON" in command.refused("report", "out")
    path.unlink()
    assert "no finished run here" in command.refused("consistency", "out")
    assert "no finished run here" in command.refused("report", "nowhere")


def test_json_that_cannot_be_written(command, copied, monkeypatch):
    monkeypatch.chdir(copied)
    code, _, err = command("report", "out", "--json", "no/such/folder/r.json")
    assert code == 1
    assert err.startswith("aftertune: no/such/folder/r.json cannot be written")
    assert err.count("\n") == 1


def test_a_full_disk_keeps_what_was_answered(copied, tiny_cache, finished_study):
    """No file may grow beyond a limit, as on a disk that is full; with room again, the same command goes on."""
    store = copied / "out" / "store.sqlite"
    for file in store.parent.glob("store.sqlite*"):
        file.unlink()
    (copied / "out" / "result.json").unlink()
    log = copied / "calls.log"
    env = environment(tiny_cache, log=log, pace=0.05)
    arguments = ("run", "study.yaml", "--out", "out")
    full = start(*arguments, "--quiet", env=env, cwd=copied, largest_file=LARGEST_FILE)
    code, out, err = finish(full)
    assert (code, out) == (1, ""), err
    assert err.startswith("aftertune: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    kept = stored_keys(store)
    assert kept
    code, out, err = finish(start(*arguments, env=environment(tiny_cache), cwd=copied))
    assert code == 0, err
    assert out == finished_study.printed
    assert kept < stored_keys(store)
    assert (copied / "out" / "result.json").read_bytes() == finished_study.result


@pytest.mark.slow
def test_a_disk_that_fills_up_in_training(tiny_folder, tiny_cache, finished_study):
    arguments = ("run", "study.yaml", "--out", "out")
    env = environment(tiny_cache)
    code, out, err = finish(
        start(*arguments, "--quiet", env=env, cwd=tiny_folder, largest_file=120_000)
    )
    assert (code, out) == (1, ""), err
    assert err.count("\n") == 1, err
    assert "its checkpoint cannot be written" in err
    code, _, err = finish(start(*arguments, env=env, cwd=tiny_folder))
    assert code == 0, err
    assert (tiny_folder / "out" / "result.json").read_bytes() == finished_study.result
