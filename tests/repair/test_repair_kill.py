"""kill -9 while the strength is chosen and while it is proven, then the same command again: the same result, nothing asked twice."""

import json
import signal
import time
from pathlib import Path

from tiny_study import environment, finish, kill, lines_of, start, stored_keys

PACE = 0.1
"""Seconds that a batch of four takes in runs that are going to be killed."""
IN_FLIGHT = 4


def arguments(models):
    return [
        "repair", str(models / "base"), str(models / "tuned"), "-o", "out", "--prompts", str(models / "harm.jsonl"), "--judge",
        "rules", "--max-new-tokens", "12", "--run", "run", "-q", "--own-task", str(models / "own.jsonl"), "--own-score", "exact",
        "--strength", "0.4",
    ]  # fmt: skip


def keys_in(folder):
    stores = [folder / "run" / part / "store.sqlite" for part in ("selection", "proof")]
    return {key for store in stores if store.is_file() for key in stored_keys(store)}


def test_kills_change_nothing_and_nothing_is_asked_twice(models, repair_cache, tmp_path):
    log, plain = tmp_path / "calls.log", tmp_path / "plain"
    plain.mkdir()
    env = environment(repair_cache)
    code, _, err = finish(start(*arguments(models), env=env, cwd=plain))
    assert code == 4, err
    killed = tmp_path / "killed"
    killed.mkdir()
    answered = set()
    for part, lines in (("selection", 20), ("proof", 30)):
        before = len(lines_of(log)) if log.is_file() else 0
        process = start(
            *arguments(models), env=environment(repair_cache, log=log, pace=PACE), cwd=killed
        )
        while process.poll() is None:
            begun = (killed / "run" / part / "store.sqlite").is_file()
            calls = [kind for _, kind, _ in lines_of(log)[before:]] if log.is_file() else []
            if begun and calls.count("generate") >= lines:
                break
            time.sleep(0.01)
        kill(process, signal.SIGKILL)
        assert finish(process)[0] == -signal.SIGKILL, "it was killed too late"
        assert not (killed / "out").exists()
        repeated = answered & {key for _, kind, key in lines_of(log)[before:] if kind == "generate"}
        assert not repeated
        answered = keys_in(killed)
    before = len(lines_of(log))
    code, _, err = finish(
        start(*arguments(models), env=environment(repair_cache, log=log), cwd=killed)
    )
    assert code == 4, err
    assert not answered & {key for _, kind, key in lines_of(log)[before:] if kind == "generate"}
    result, other = (
        json.loads((folder / "run/repair.json").read_text()) for folder in (plain, killed)
    )
    assert result == other
    weights = [(folder / "out/model.safetensors").read_bytes() for folder in (plain, killed)]
    assert weights[0] == weights[1]
    assert not list(Path(killed).glob(".out.*"))
