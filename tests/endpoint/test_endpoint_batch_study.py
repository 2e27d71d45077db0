"""Studies that are asked by batch, through the command line: killed at each step, they end with one batch and one upload."""

import json
import re
import signal
import subprocess
import time

import pytest
from batch_server import BatchServer, undone
from faithful_server import KEY, Server
from test_endpoint_study import COMMAND, aftertune, environment, everything_under, write_study

from aftertune.errors import StudyError
from aftertune.store import Store
from aftertune.study import load_study

ASKING = {"name": "asking", "use": "endpoint_plugins:asking"}


def study_of(folder, server, count=6, models=("base",), engine=(), **more):
    named = [{"name": "base", "reference": f"{server.url}#base"}]
    named += [
        {"name": name, "reference": f"{server.url}#{name}", "base": "base"} for name in models[1:]
    ]
    return write_study(
        folder, server, count, models=named, engine={"batch": True, **dict(engine)}, **more
    )


def begun(server, study, *options):
    server.client = subprocess.Popen(
        [COMMAND, "run", study, "--out", study.parent / "run", *options], env=environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return server.client


def answers_of(study):
    with Store.open(study.parent / "run" / "store.sqlite", write=False) as store:
        return {(one.model, one.prompt.id): one.response for one in store.responses("served")}


def uploads(server):
    return [file for file in server.files.values() if file["purpose"] == "batch"]


def test_models_are_asked_together_then_guard_and_judge_and_the_store_is_that_of_a_study_asked_at_once(
    tmp_path,
):
    judge = {**ASKING, "options": {"model": ""}}
    rows = []
    for batch in (True, False):
        with BatchServer(looks=2) as server:
            judge["options"]["model"] = f"{server.url}#judge"
            study = study_of(
                tmp_path / str(batch),
                server,
                models=("base", "tuned"),
                engine={"batch": batch},
                judges=["rules", judge],
            )
            ended = aftertune(study)
            assert ended.returncode == 0, ended.stderr
            if batch:
                assert not server.bodies
                names = [line["model"] for line in bodies(server)]
                assert sorted(names[:24]) == ["base"] * 12 + ["tuned"] * 12
                assert names[24:] == ["judge"] * 12
                assert server.seen[: server.seen.index("download")].count("create") == 2
                assert "goes on without us" in ended.stderr
                again, seen = aftertune(study), len(server.seen)
                assert (again.returncode, len(server.seen)) == (0, seen)
            else:
                assert not server.batches
            rows.append(answers_of(study))
        assert not [
            path for path in everything_under(tmp_path) if KEY.encode() in path.read_bytes()
        ]
    assert rows[0] == rows[1]


def bodies(server):
    lines = [line for file in uploads(server) for line in server.contents[file["id"]].splitlines()]
    return [json.loads(line)["body"] for line in lines]


def moments(*steps, quick):
    """Every step before and after it was carried out; only the quick ones are no slow tests."""
    every = [(step, when) for step in steps for when in ("before", "after")]
    return [
        pytest.param(*one, marks=() if one in quick else pytest.mark.slow, id=" ".join(one))
        for one in every
    ]


@pytest.mark.parametrize(
    ("step", "when"),
    moments(
        "list batches", "list files", "upload", "create", "look", "download",
        quick=[("create", "after"), ("download", "after")],
    ),
)  # fmt: skip
def test_killed_at_any_step_it_ends_with_one_batch_and_one_upload(tmp_path, step, when):
    with BatchServer(kill_at=(step, when), looks=1) as server:
        study = study_of(tmp_path / "s", server)
        running = begun(server, study)
        running.communicate(timeout=300)
        assert running.returncode == -signal.SIGKILL
        ended = aftertune(study)
        assert ended.returncode == 0, ended.stderr
        assert (len(uploads(server)), len(server.batches), set(server.done.values())) == (1, 1, {1})
        assert len(server.done) == 12
        assert None not in answers_of(study).values()
    states = [
        json.loads(path.read_text())["step"]
        for path in (study.parent / "run" / "batches").glob("*.json")
    ]
    assert states == ["ended"]


def test_ctrl_c_leaves_the_batch_running_and_says_so(tmp_path):
    with BatchServer(looks=10**6) as server:
        study = study_of(tmp_path / "s", server)
        running = begun(server, study)
        deadline = time.monotonic() + 300
        while server.seen.count("look") < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=300)[1]
        assert running.returncode == 5, said
        assert "batches under way go on, and the same command picks them up" in said
        assert "Traceback" not in said
        assert re.search(r"1 batch in_progress, 0 of 12 done \(Ctrl-C: they go on", said)
        server.looks = 0
        assert "batches under way: 1 with 12 of these calls" in aftertune(study, "--dry-run").stdout
        ended = aftertune(study)
        assert ended.returncode == 0, ended.stderr
        assert (len(uploads(server)), len(server.batches)) == (1, 1)


def test_a_budget_stops_with_5_before_what_could_pass_it_and_a_larger_one_goes_on(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "prices.yaml").write_text(
        '{currency: USD, models: {"http://127.0.0.1:*": {input: 1000, output: 10000}}}'
    )
    with BatchServer() as server:
        engine = {"prices": "./prices.yaml"}
        ended = aftertune(study_of(folder, server, engine=engine | {"budget": 1.5}))
        assert ended.returncode == 5, ended.stderr
        assert "raise engine.budget and run again" in ended.stderr
        first = sum(server.done.values())
        assert 0 < first < 12
        ended = aftertune(study_of(folder, server, engine=engine | {"budget": 500.0}))
        assert ended.returncode == 0, ended.stderr
        assert set(server.done.values()) == {1}
    (account,) = json.loads((folder / "run" / "spending.json").read_text())["models"].values()
    assert account["cost"] == pytest.approx(12 * (11 * 0.001 + 7 * 0.01) / 2)


def test_dry_run_and_plan_show_half_the_price(tmp_path):
    told = []
    with Server() as server:
        for batch in ("together:*", "openai:*"):
            study = write_study(
                tmp_path / batch[:3], server, 50, models=[{"name": "base", "reference": "openai:gpt-4o-2024-08-06"}],
                engine={"batch": batch},
            )  # fmt: skip
            told.append(planned(study)["costs"][0]["money"])
        dry = aftertune(study, "--dry-run")
    assert told[1] == pytest.approx(told[0] / 2) != 0
    assert f"at most {told[1]:.4f} USD by batch (prices.yaml" in dry.stdout
    assert not (tmp_path / "ope" / "run").exists()


def planned(study):
    path = study.parent / "plan.json"
    ended = subprocess.run(
        [COMMAND, "plan", study, "--json", path],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("true", ("*",)),
        ("false", ()),
        ("openai:*", ("openai:*",)),
        ("[a, b]", ("a", "b")),
        ("3", None),
        ("{a: 1}", None),
    ],
)
def test_who_is_asked_by_batch_is_said_by_patterns(tmp_path, said, means):
    with Server() as server:
        study = study_of(tmp_path, server)
    study.write_text(study.read_text().replace("batch: true", f"batch: {said}"))
    if means is None:
        with pytest.raises(StudyError, match=r"study\.yaml:\d+: engine\.batch"):
            load_study(study)
    else:
        assert load_study(study).engine.batch == means


@pytest.mark.slow
def test_a_judge_whose_batch_expires_half_way_is_killed_and_ends_whole(tmp_path):
    def half(place, line, answer):
        return undone(line) if place % 2 else answer(line)

    with BatchServer(fates=["completed", ("expired", half), "completed"], looks=1) as server:
        judge = {**ASKING, "options": {"model": f"{server.url}#judge"}}
        study = study_of(tmp_path / "s", server, judges=["rules", judge])
        running = begun(server, study)
        deadline = time.monotonic() + 300
        while len(server.batches) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        running.kill()
        running.communicate(timeout=300)
        assert running.returncode == -signal.SIGKILL
        ended = aftertune(study)
        assert ended.returncode == 0, ended.stderr
        assert (len(server.batches), len(uploads(server)), set(server.done.values())) == (3, 3, {1})
