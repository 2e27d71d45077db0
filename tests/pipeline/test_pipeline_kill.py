"""kill -9 and Ctrl-C at any moment, then the same command again: the same bytes, and no committed call made twice."""

import re
import shutil
import signal
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
import yaml
from tiny_study import calls_of, environment, finish, kill, lines_of, start, stored_keys, study

SEED = 20261121
PACE = 0.12
"""Seconds that a batch of four takes in runs that are going to be killed."""
IN_FLIGHT = 4
STOPPED_ANSWERS = re.compile(
    r"aftertune: stopped: (\d+) of (\d+) answers; run the same command to go on\n"
)
COMMITTED_AFTER = 2.0
"""Seconds after which an answer must be on disk: it is one second; the other is for a machine that others use too."""
LINES = {"train": 60, "generate": 220, "guard": 120, "judge": 130, "write": 2}
"""Lines of a stage that all kills in it share: each comes late enough for much to be committed, and finds work left."""


@dataclass(frozen=True)
class Moment:
    stage: str
    count: int
    delay: float


def moments(seed, *stages):
    draw = np.random.default_rng(seed)
    most = {stage: LINES[stage] // stages.count(stage) for stage in stages}
    counts = [int(draw.integers(most[stage] // 2, most[stage], endpoint=True)) for stage in stages]
    return [
        Moment(stage, count, draw.uniform(0, PACE))
        for stage, count in zip(stages, counts, strict=True)
    ]


def wait_for(process, log, seen, moment):
    """Wait until a running command has logged so many lines of a stage since ``seen`` lines, then a little longer."""
    while process.poll() is None:
        if sum(kind == moment.stage for _, kind, _ in lines_of(log)[seen:]) >= moment.count:
            time.sleep(moment.delay)
            return
        time.sleep(0.01)
    pytest.fail(f"it ended before {moment}: {process.communicate()}")


def run_until(moment, folder, cache, number=signal.SIGKILL, *options):
    """Run the study up to a moment, send a signal; return when it was sent, exit code, output, and the run's log."""
    log = folder / "calls.log"
    seen = len(lines_of(log))
    env = environment(cache, log=log, pace=PACE)
    process = start("run", "study.yaml", "--out", "out", *options, env=env, cwd=folder)
    wait_for(process, log, seen, moment)
    sent = time.monotonic()
    kill(process, number)
    code, out, err = finish(process)
    return sent, code, out, err, lines_of(log)[seen:]


def trained_models(folder):
    """Return the recipe keys (their first 8 digits) of the fine-tunes that are finished."""
    return {
        path.name.rpartition("-")[2]
        for path in (folder / "out" / "models").glob("*[!l]")
        if path.is_dir()
    }


def assert_only_what_was_open_is_lost(lines, committed, sent):
    """Only the batch in flight and answers that are younger than a commit may be missing from the store."""
    asked = [key for _, kind, key in lines if kind in {"generate", "judge", "guard"}]
    given = {key: seconds for seconds, kind, key in lines if kind == "given"}
    lost = [key for key in asked if key not in committed]
    assert sum(key not in given for key in lost) <= IN_FLIGHT
    late = [key for key in lost if given.get(key, sent) < sent - COMMITTED_AFTER]
    assert not late, f"{len(late)} answers were given long before the kill and are not in the store"


def assert_survives(kills, folder, cache, finished):
    sys.stdout.write("".join(f"{moment}\n" for moment in kills))
    log = folder / "calls.log"
    done, trained = set(), set()
    for moment in kills:
        sent, code, _, _, lines = run_until(moment, folder, cache)
        assert code == -signal.SIGKILL, f"{moment} came too late"
        assert not done & {key for _, kind, key in lines if kind in {"generate", "judge", "guard"}}
        assert not trained & {key[:8] for _, kind, key in lines if kind == "train"}
        done, trained = stored_keys(folder / "out" / "store.sqlite"), trained_models(folder)
        assert_only_what_was_open_is_lost(lines, done, sent)
    seen = len(lines_of(log))
    code, _, err = finish(
        start("run", "study.yaml", "--out", "out", env=environment(cache, log=log), cwd=folder)
    )
    assert code == 0, err
    last = lines_of(log)[seen:]
    assert not done & {key for _, kind, key in last if kind in {"generate", "judge", "guard"}}
    assert not trained & {key[:8] for _, kind, key in last if kind == "train"}
    assert (folder / "out" / "result.json").read_bytes() == finished.result
    assert stored_keys(folder / "out" / "store.sqlite") == stored_keys(
        finished.folder / "out" / "store.sqlite"
    )
    twice = len(calls_of(log, "generate", "judge", "guard")) - len(
        calls_of(finished.log, "generate", "judge", "guard")
    )
    sys.stdout.write(f"{twice} calls were made again after {len(kills)} kills\n")
    assert twice >= 0


def test_three_kills_change_nothing(tiny_folder, tiny_cache, finished_study):
    assert_survives(
        moments(SEED, "train", "generate", "judge"), tiny_folder, tiny_cache, finished_study
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [SEED + 1, SEED + 2])
def test_ten_kills_change_nothing(tiny_folder, tiny_cache, finished_study, seed):
    stages = (
        "train",
        "train",
        "train",
        "generate",
        "generate",
        "generate",
        "guard",
        "judge",
        "judge",
        "write",
    )
    assert_survives(moments(seed, *stages), tiny_folder, tiny_cache, finished_study)


def without_answers(folder):
    """Forget every answer, keep the fine-tunes."""
    for file in (folder / "out").glob("store.sqlite*"):
        file.unlink()
    (folder / "out" / "result.json").unlink()
    return folder


def test_ctrl_c_is_one_line_and_the_next_run_goes_on(copied, tiny_cache, finished_study):
    folder, log = without_answers(copied), copied / "calls.log"
    moment = Moment("generate", 40, 0.1)
    _, code, out, err, lines = run_until(moment, folder, tiny_cache, signal.SIGINT, "--quiet")
    assert (code, out) == (5, "")
    answers, total = map(int, STOPPED_ANSWERS.fullmatch(err).groups())
    committed = stored_keys(folder / "out" / "store.sqlite")
    assert committed >= {key for _, kind, key in lines if kind == "given"}, (
        "a stop loses nothing that was answered"
    )
    assert (answers, total) == (len(committed), 240)
    seen = len(lines_of(log))
    code, out, err = finish(
        start("run", "study.yaml", "--out", "out", env=environment(tiny_cache, log=log), cwd=folder)
    )
    assert code == 0, err
    assert out == finished_study.printed
    assert not committed & {key for _, kind, key in lines_of(log)[seen:] if kind == "generate"}
    assert (folder / "out" / "result.json").read_bytes() == finished_study.result


@pytest.mark.parametrize(
    ("stage", "number", "message"),
    [
        ("train", signal.SIGTERM, r"0 of 4 fine-tunes done, step \d+ of 18 of the next"),
        pytest.param("train", signal.SIGINT, r"0 of 4 fine-tunes done, step \d+ of 18 of the next", marks=pytest.mark.slow),
        pytest.param("guard", signal.SIGHUP, r"\d+ of \d+ scores \(guard words on \w+\)", marks=pytest.mark.slow),
        pytest.param("judge", signal.SIGTERM, r"\d+ of \d+ scores \(judge likelihood\)", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_signals_in_other_stages_are_stops(tiny_folder, copied, tiny_cache, stage, number, message):
    folder = tiny_folder if stage == "train" else without_answers(copied)
    _, code, out, err, _ = run_until(Moment(stage, 5, 0.05), folder, tiny_cache, number, "--quiet")
    assert (code, out) == (5, "")
    assert re.fullmatch(f"aftertune: stopped: {message}; run the same command to go on\n", err)
    shutil.rmtree(folder)


@pytest.mark.slow
def test_kills_while_likelihoods_are_scored_and_answers_compared(copied, tiny_cache, tmp_path):
    """The answers are there; what is killed is the likelihood of 192 of them, and the comparing of their pairs."""
    keys = study(
        preferences=[{"name": "longer", "use": "spine_plugins:longer"}], coherence={"nll": True}
    )
    (copied / "study.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))
    whole, log = shutil.copytree(copied, tmp_path / "whole"), copied / "calls.log"
    env = environment(tiny_cache, log=whole / "calls.log")
    code, _, err = finish(start("run", "study.yaml", "--out", "out", env=env, cwd=whole))
    assert code == 0, err
    scored, compared = (len(calls_of(whole / "calls.log", kind)) for kind in ("nll", "compare"))
    assert scored > 100
    assert compared > 60
    done = set()
    for moment in (Moment("nll", scored // 2, 0.05), Moment("compare", compared // 2, 0.05)):
        sent, code, _, _, lines = run_until(moment, copied, tiny_cache)
        assert code == -signal.SIGKILL, f"{moment} came too late"
        assert not done & {key for _, kind, key in lines if kind == "compare"}
        done = stored_keys(copied / "out" / "store.sqlite")
        given = {key: seconds for seconds, kind, key in lines if kind == "given"}
        late = [key for _, kind, key in lines if kind == "compare" and key not in done]
        assert not [key for key in late if given.get(key, sent) < sent - COMMITTED_AFTER]
    env, seen = environment(tiny_cache, log=log), len(lines_of(log))
    code, _, err = finish(start("run", "study.yaml", "--out", "out", env=env, cwd=copied))
    assert code == 0, err
    assert not done & {key for _, kind, key in lines_of(log)[seen:] if kind == "compare"}
    assert "nll" not in {kind for _, kind, _ in lines_of(log)[seen:]}, (
        "all were kept before the second kill"
    )
    assert scored <= len(calls_of(log, "nll")) <= scored + IN_FLIGHT
    assert not calls_of(log, "generate", "judge", "guard", "train")
    assert (copied / "out" / "result.json").read_bytes() == (
        whole / "out" / "result.json"
    ).read_bytes()
