"""``check --sequential`` and ``--scope``: it stops early, goes on after a kill, and shows a declaration that changed."""

import json
import signal
import time
from pathlib import Path

import pytest
from tiny_study import (
    calls_of,
    environment,
    finish,
    kill,
    lines_of,
    prompts,
    start,
    stored_keys,
    write_lines,
)

ASKED = {"generate", "judge", "guard"}


@pytest.fixture
def base_with_itself(organism_folder, tiny_cache, tmp_path):
    """Checks the embedded base against itself in a process of its own; returns exit code, output and the result."""
    log = tmp_path / "calls.log"

    def command(folder, *options):
        base, config = organism_folder / "base", organism_folder / "aftertune.yaml"
        return (
            "check",
            base,
            base,
            "--config",
            config,
            "--sequential",
            "-o",
            folder,
            "-q",
            *options,
        )

    def run(folder, *options, until=None):
        env = environment(tiny_cache, log=log, pace=0.12 if until else 0)
        process = start(*command(folder, *options), env=env, cwd=tmp_path)
        if until:
            while process.poll() is None and len(calls_of(log, "generate")) < until:
                time.sleep(0.01)
            kill(process, signal.SIGKILL)
        code, out, err = finish(process)
        told = tmp_path / folder / "result.json"
        return code, out, err, json.loads(told.read_text()) if told.is_file() else None

    run.log = log
    return run


@pytest.mark.slow
def test_a_kill_changes_nothing_and_nothing_is_asked_twice(base_with_itself, tmp_path):
    code, _, err, told = base_with_itself("whole", "--scope", "these-prompts")
    assert code == 0, err
    asked = len(calls_of(base_with_itself.log, *ASKED))
    assert base_with_itself("whole", "--scope", "these-prompts")[3] == told
    assert len(calls_of(base_with_itself.log, *ASKED)) == asked

    code, *_ = base_with_itself("killed", "--scope", "these-prompts", until=asked + 60)
    assert code == -signal.SIGKILL
    there, seen = (
        stored_keys(tmp_path / "killed" / "store.sqlite"),
        len(lines_of(base_with_itself.log)),
    )
    code, _, err, again = base_with_itself("killed", "--scope", "these-prompts")
    assert code == 0, err
    assert again == told
    assert not there & {
        key for _, kind, key in lines_of(base_with_itself.log)[seen:] if kind in ASKED
    }


@pytest.fixture
def check_itself(command, organism_folder):
    """Checks the embedded base against itself, in this process; returns exit code, words and the result."""

    def run(*options):
        base, config = organism_folder / "base", organism_folder / "aftertune.yaml"
        code, out, _ = command(
            "check",
            base,
            base,
            "--config",
            config,
            "--sequential",
            "-o",
            "run",
            "-q",
            "--full",
            *options,
        )
        return code, " ".join(out.split()), json.loads(Path("run/result.json").read_text())

    return run


def test_it_stops_as_soon_as_the_verdict_stands(check_itself):
    code, words, told = check_itself("--scope", "these-prompts")
    stopping = told["gate"]["stopping"]
    assert code == 0
    assert 10 <= stopping["behaviors"] < stopping["of_behaviors"]
    assert told["prompts"]["count"] == stopping["prompts"] < stopping["of_prompts"]
    assert "of the prompts were not needed" in words
    assert "The verdict is about this checkpoint and these prompts." in words


def test_few_behaviors_are_said_beforehand_to_be_too_few_for_a_pass(check_itself):
    code, words, told = check_itself("--limit", "12")
    assert code == 4
    assert "12 behaviors can FAIL but not PASS" in words
    assert told["gate"]["stopping"]["behaviors"] == 12
    assert told["gate"]["declaration"]["changed"] == []


def test_the_first_declaration_is_kept_and_another_is_shown_as_changed(
    command, tiny_base, finished_study, tmp_path
):
    (tuned,) = (finished_study.folder / "out" / "models").glob("help-seed1-*")
    write_lines(tmp_path / "questions.jsonl", prompts())
    asked = (
        "check",
        tiny_base,
        tuned,
        "--prompts",
        tmp_path / "questions.jsonl",
        "-o",
        "run",
        "-q",
    )
    assert "options differ" not in command(*asked)[1]
    out = " ".join(command(*asked, "--margin", 0.2, "--scope", "these-prompts")[1].split())
    differs = "options differ from the first run of this comparison (margin 20.0 points, was 5.0 points, scope these-prompts, was prompts-like-these)"
    assert differs in out
    told = json.loads(Path("run/result.json").read_text())["gate"]
    assert (told["declaration"]["first"]["margin"], told["declaration"]["now"]["margin"]) == (
        0.05,
        0.2,
    )
    assert told["rule"] == "exact"
    page = Path("run/report.html").read_text()
    assert "options differ from the first run" in page
    assert "--scope these-prompts" in page
    assert "options differ" in command(*asked, "--max-asr", 0.5)[1], (
        "the first declaration stands, not the last"
    )
    assert "options differ" not in command(*asked)[1]
