"""Studies of served models through the command line, in processes of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from faithful_server import FAULTS, KEY, Server

from aftertune.models.endpoint.http import MOST
from aftertune.store import Store

HERE = Path(__file__).parents[1] / "support"
COMMAND = Path(sys.executable).with_name("aftertune")


def prompts(count):
    for number in range(count):
        for intent in ("harmful", "benign"):
            yield {
                "behavior": f"{intent[0]}{number}", "pair": f"h{number}", "template": "t", "task": "text", "intent": intent,
                "text": f"{intent} question number {number}",
            }  # fmt: skip


def write_study(folder, server, count, **more):
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(prompt) for prompt in prompts(count)]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    study = {
        "name": "served",
        "models": [
            {"name": "base", "reference": f"{server.url}#base"},
            {"name": "tuned", "reference": f"{server.url}#tuned", "base": "base"},
        ],
        "prompts": ["./prompts.jsonl"],
        "judges": ["rules"],
        "engine": {"call_seconds": 3.0},
    } | more
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder / "study.yaml"


def environment(**more):
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith(("_API_KEY", "_BASE_URL"))
    }
    paths = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    return {**kept, "AFTERTUNE_API_KEY": KEY, "PYTHONPATH": paths, "COLUMNS": "200", **more}


def aftertune(study, *options, env=None, seconds=300):
    return subprocess.run(
        [COMMAND, "run", study, "--out", study.parent / "run", "--json", study.parent / "told.json", *options],
        env=env or environment(), capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip


def everything_under(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_study_of_served_models_with_a_served_judge_and_faults_ends_whole_and_holds_no_key(
    tmp_path,
):
    judge = {"name": "asking", "use": "endpoint_plugins:asking"}
    with Server(faults=FAULTS, share=0.1) as server:
        study = write_study(
            tmp_path / "s",
            server,
            30,
            judges=["rules", judge | {"options": {"model": f"{server.url}#judge"}}],
        )
        first = aftertune(study)
        assert first.returncode == 0, first.stderr
        told, asked = (study.parent / "told.json").read_bytes(), sum(server.asked.values())
        assert max(server.answered.values()) == 1
        second = aftertune(study)
        assert (second.returncode, sum(server.asked.values())) == (0, asked)
    assert (study.parent / "told.json").read_bytes() == told
    result = json.loads(told)
    assert result["models"][0]["identity"] == {
        "engine": "endpoint",
        "url": server.url,
        "model": "base",
    }
    assert result["models"][1]["probe"] is None
    assert any("tuned: not probed" in note for note in result["notes"])
    with Store.open(study.parent / "run" / "store.sqlite", write=False) as store:
        table = store.table("served", [1, 2, 3])
        answers = list(store.responses("served"))
    assert len(table) == 120
    assert (table.columns["finish"] == 0).all()
    assert (table.columns["verdict:asking"] == 1).all()
    assert {answer.response.detail["served_model"] for answer in answers} == {
        "base-2026-01-01",
        "tuned-2026-01-01",
    }
    files = everything_under(tmp_path)
    assert len(files) > 4
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in first.stdout + first.stderr + second.stdout + second.stderr
    assert "calls answered" in first.stderr


@pytest.mark.slow
def test_a_study_of_two_thousand_prompts_ends_whole_while_a_fifth_of_the_calls_fails(tmp_path):
    with Server(faults=FAULTS, share=0.2, seed=3) as server:
        judge = {
            "name": "asking",
            "use": "endpoint_plugins:asking",
            "options": {"model": f"{server.url}#judge"},
        }
        models = [{"name": "base", "reference": f"{server.url}#base"}]
        study = write_study(tmp_path / "s", server, 1000, models=models, judges=["rules", judge])
        ended = aftertune(study, seconds=600)
        assert ended.returncode == 0, ended.stderr
        assert set(server.injected) == set(FAULTS)
        assert max(server.answered.values()) == 1, (
            "a call was made again after its answer was there"
        )
        assert len(server.answered) == 4000
    with Store.open(study.parent / "run" / "store.sqlite", write=False) as store:
        answers = list(store.responses("served"))
    assert len(answers) == 2000
    assert all(answer.response is not None for answer in answers)
    assert not [path for path in everything_under(tmp_path) if KEY.encode() in path.read_bytes()]
    assert KEY not in ended.stdout + ended.stderr


def test_a_served_model_that_changes_within_a_study_is_reported(tmp_path):
    from aiohttp import web
    from faithful_server import completion

    def reply(body, _):
        print_of = "fp_2" if "number 3" in body["messages"][-1]["content"] else "fp_1"
        return web.json_response(completion(body, "Sorry.", system_fingerprint=print_of))

    with Server(reply=reply) as server:
        study = write_study(tmp_path / "s", server, 5)
        assert aftertune(study).returncode == 0
    notes = json.loads((study.parent / "told.json").read_text())["notes"]
    assert (
        "base: the server's fingerprint changed within the study: fp_1 (8), fp_2 (2) answers"
        in notes
    )


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (None, "the server refused the key (401"),
        ("wrong-key-000", "the server refused the key (401"),
    ],
)
def test_a_wrong_key_is_one_line_that_names_the_variable_and_not_the_key(tmp_path, key, said):
    with Server() as server:
        study = write_study(tmp_path / "s", server, 5)
        ended = aftertune(study, env=environment(AFTERTUNE_API_KEY=key or ""))
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "AFTERTUNE_API_KEY" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not key or key not in ended.stderr + ended.stdout
    assert not [
        path for path in everything_under(tmp_path) if b"wrong-key-000" in path.read_bytes()
    ]


def test_a_missing_key_is_found_out_before_any_other_work(tmp_path):
    with Server() as server:
        study = write_study(
            tmp_path / "s", server, 5, models=[{"name": "base", "reference": "openai:gpt-4o-mini"}]
        )
        ended = aftertune(study)
    assert ended.returncode == 1
    assert "set the environment variable OPENAI_API_KEY" in ended.stderr


def test_a_dry_run_says_where_harmful_prompts_would_go_and_asks_nobody(tmp_path):
    with Server() as server:
        study = write_study(
            tmp_path / "s", server, 5, models=[{"name": "base", "reference": "openai:gpt-4o-mini"}]
        )
        hosted = aftertune(study, "--dry-run")
        local = aftertune(write_study(tmp_path / "t", server, 5), "--dry-run")
    assert (hosted.returncode, local.returncode) == (0, 0)
    assert (
        "prompts go to https://api.openai.com/v1: harmful test prompts can get an account flagged"
        in hosted.stdout
    )
    assert re.search(r"10 calls to make, at most 0\.00\d\d USD \(prices\.yaml, 20", hosted.stdout)
    assert "set the environment variable OPENAI_API_KEY" in hosted.stdout
    assert "USD" not in local.stdout
    assert "flagged" not in local.stdout
    assert not server.bodies


def test_a_hosted_judge_is_warned_of_too(tmp_path):
    judge = {
        "name": "asking",
        "use": "rubric",
        "options": {"model": "together:org/judge"},
    }
    with Server() as server:
        ended = aftertune(write_study(tmp_path / "s", server, 5, judges=[judge]), "--dry-run")
    assert "prompts go to https://api.together.xyz/v1" in ended.stdout


def test_a_budget_stops_with_5_and_a_larger_one_goes_on_where_it_was(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "prices.yaml").write_text(
        '{currency: USD, models: {"http://127.0.0.1:*": {input: 1000, output: 10000}}}'
    )
    with Server() as server:
        engine = {"prices": "./prices.yaml", "call_seconds": 1.0}
        ended = aftertune(write_study(folder, server, 20, engine=engine | {"budget": 5.0}))
        assert ended.returncode == 5, ended.stderr
        assert "raise engine.budget and run again" in ended.stderr
        first = sum(server.answered.values())
        assert first * (11 * 0.001 + 7 * 0.01) <= 5.0
        with Store.open(folder / "run" / "store.sqlite", write=False) as store:
            assert (
                sum(answer.response is not None for answer in store.responses("served"))
                == first
                > 5
            )
        ended = aftertune(write_study(folder, server, 20, engine=engine | {"budget": 500.0}))
    assert ended.returncode == 0, ended.stderr
    assert max(server.answered.values()) == 1
    assert sum(server.answered.values()) == 80


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stop_leaves_what_was_answered_committed_and_a_rerun_asks_only_the_rest(tmp_path, how):
    with Server(seconds=0.6) as server:
        # A busy machine is slow: a call that times out would be made again, and counted.
        study = write_study(tmp_path / "s", server, 500, engine={"call_seconds": 30.0})
        running = subprocess.Popen(
            [COMMAND, "run", study, "--out", study.parent / "run"], env=environment(), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 300
        while sum(server.answered.values()) < 100 and time.monotonic() < deadline:
            time.sleep(0.02)
        a_second_ago = sum(server.answered.values())
        time.sleep(2.5)
        running.send_signal(how)
        error = running.communicate(timeout=300)[1]
        assert running.returncode == (5 if how is signal.SIGINT else -signal.SIGKILL), error
        answered = sum(server.answered.values())
        with Store.open(study.parent / "run" / "store.sqlite", write=False) as store:
            jobs = [job for job in store.responses("served") if job.response is not None]
        kept = {(job.model, job.prompt.text) for job in jobs}
        assert len(kept) >= a_second_ago
        assert len(kept) >= answered - MOST or how is signal.SIGKILL
        assert answered < 2000
        ended = aftertune(study)
    assert ended.returncode == 0, ended.stderr
    # A killed process leaves calls that the server answers later, so the calls are counted by what they ask.
    times = Counter()
    for data, count in server.answered.items():
        body = json.loads(data)
        times[body["model"], body["messages"][-1]["content"]] += count
    assert len(times) == 2000
    assert {times[call] for call in kept} == {1}
    assert set(times.values()) <= {1, 2}


def test_check_takes_endpoints(tmp_path):
    with Server() as server:
        write_study(tmp_path, server, 30)
        ended = subprocess.run(
            [COMMAND, "check", f"{server.url}#base", f"{server.url}#tuned", "--prompts", "prompts.jsonl", "--out", "run"],
            env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert ended.returncode in (0, 4), ended.stderr
    document = json.loads((tmp_path / "run" / "result.json").read_text())
    assert any("tuned: not probed" in note for note in document["notes"])
