"""A study on a Ray cluster of this machine gives the result of the plain run, whatever is killed on the way."""

import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from faithful_server import KEY, Server
from local_server import LocalServer
from ray_nodes import RAY, nodes, workers_of
from text_classifiers import ROBERTA, make_text_classifier
from tiny_study import (
    calls_of,
    environment,
    finish,
    kill,
    lines_of,
    make_base,
    prompts,
    start,
    stored_keys,
    study,
    write_study,
)

from aftertune import __version__
from aftertune.core.recipe import Recipe, Start, StudyModel, Training
from aftertune.core.records import Prompt
from aftertune.execute.room import Room, nodes_of
from aftertune.execute.units import Unit, units_of
from aftertune.execute.worker import Setup, State, Worker
from aftertune.report.progress import Quiet
from aftertune.study import load_study, study_from_mapping, to_yaml
from aftertune.workspace import open_engines

SEED = 20261128
needs_ray = pytest.mark.skipif(
    not RAY, reason="Ray is not installed (pip install 'aftertune[ray]')"
)


def result_of(folder):
    return (folder / "out" / "result.json").read_bytes()


def on(address):
    return ("run", "study.yaml", "--out", "out", "--on", f"ray:{address}")


# Units


def recipe(name, seed, **changes):
    fields = {
        "name": name, "base": "base", "base_identity": {"weights": "w"}, "data": (), "method": "lora",
        "training": Training(), "seed": seed,
    }  # fmt: skip
    return Recipe(**(fields | changes))


def tuned(name, own_recipe):
    return StudyModel(
        name=name, condition=name, reference=name, base="base", training_seed=1, recipe=own_recipe
    )


@pytest.fixture
def rounds():
    """A base, a ready-made fine-tune, a training with an epoch that is kept, and a second round upon it."""
    first = recipe("code", 1)
    after = Start(reference="code", key=first.key.hex())
    return [
        StudyModel(name="base", condition="base", reference="base"),
        StudyModel(name="theirs", condition="theirs", reference="theirs", base="base"),
        tuned("code@epoch1/seed1", recipe("code@epoch1", 1, epoch=1)),
        tuned("code/seed1", first),
        tuned("code@round2/seed1", recipe("code@round2", 1, start=after)),
    ]


def units(models, calls_per_unit=50, remote=()):
    asked = [Prompt(**{**row, "labels": tuple(row["labels"])}, set="s") for row in prompts()]
    keys = {"name": "s", "models": [{"name": "base", "reference": "org/base"}], "prompts": ["multitask-v1"],
            "decoding": {"temperatures": [0.0, 0.9]}}  # fmt: skip
    config = study_from_mapping(keys, Path())
    return asked, units_of(config, models, asked, remote, calls_per_unit)


def test_units_wait_for_the_trainings_that_they_need(rounds):
    _, made = units(rounds)
    by_name = {unit.name: unit for unit in made}
    assert len(by_name) == len(made)
    training = by_name["train-code@epoch1~seed1"]
    assert training.trains == ("code@epoch1/seed1", "code/seed1")
    assert by_name["train-code@round2~seed1"].after == (training.name,)
    asking = [unit for unit in made if unit.asks]
    assert all(
        unit.after
        == {"base": (), "code@epoch1/seed1": (training.name,)}.get(
            unit.asks[0], ("train-code@round2~seed1",)
        )
        for unit in asking
    )


def test_every_call_is_in_one_unit_and_every_prompt_is_screened_in_one(rounds):
    asked, made = units(rounds)
    places = Counter(
        (model.name, prompt.id)
        for unit in made
        for model in rounds
        for prompt in asked
        if unit.portion(rounds).takes(model, prompt)
    )
    assert places == Counter({(model.name, prompt.id): 1 for model in rounds for prompt in asked})
    assert sum(unit.calls for unit in made) == 2 * len(places)
    assert max(unit.calls for unit in made) <= 60
    screened = Counter(
        prompt.id for unit in made for prompt in asked if unit.portion(rounds).screens(prompt)
    )
    assert screened == Counter({prompt.id: 1 for prompt in asked})


def test_models_of_other_machines_are_in_no_unit(rounds):
    _, made = units(rounds, remote={"base", "theirs"})
    assert {name for unit in made for name in unit.asks}.isdisjoint({"base", "theirs"})


# What cannot be


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"version": "0.0.1"}, "install the same version everywhere"),
        ({"token": ".driver-of-another-machine"}, "put that folder on a file system that all nodes share"),
        ({"identities": {"base": {"engine": "transformers", "dtype": "bfloat16"}}}, "so calls would have other keys"),
        ({"models": (StudyModel(name="base", condition="base", reference="/no/such/folder"),)}, "/no/such/folder"),
    ],
)  # fmt: skip
def test_a_worker_sees_what_is_otherwise_than_at_the_driver(
    tiny_folder, monkeypatch, changes, problem
):
    monkeypatch.setattr(tempfile, "tempdir", str(tiny_folder / "tmp"))
    config = load_study(tiny_folder / "study.yaml")
    base = StudyModel(name="base", condition="base", reference=str(tiny_folder / "base"))
    with open_engines(config.engine, tiny_folder, Quiet()) as engines:
        identity = dict(engines.open(base.reference).identity)
    setup = Setup(
        version=__version__,
        study=to_yaml(config),
        run="run",
        source=str(tiny_folder),
        models_folder=str(tiny_folder),
        models=(base,),
        prompts=(),
        identities={"base": identity},
        token="questions.jsonl",  # noqa: S106 - the name of a file that is there
    )
    arrived = Worker(replace(setup, **changes), "node").arrived()
    assert problem in arrived.problem
    assert bool(problem) == bool(arrived.problem)


def worker_of(folder, run, **declared):
    """Return a worker for a study without models, in this process."""
    declared = yaml.safe_load(to_yaml(load_study(folder / "study.yaml"))) | declared
    setup = Setup(
        version=__version__,
        study=yaml.safe_dump(declared),
        run=run,
        source=str(folder),
        models_folder=str(folder),
        models=(),
        prompts=(),
        identities={},
        token="",
    )
    return Worker(setup, "node")


def done(worker, unit):
    """Let a worker do a unit, and return its last report."""
    worker.begin(unit, None)
    while (report := worker.report()).state is State.RUNNING:
        pass
    return report


def test_a_worker_opens_text_classifiers(tiny_folder, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tiny_folder / "tmp"))
    make_text_classifier(
        tiny_folder / "classifier", ROBERTA, ("neutral", "toxic"), [0.0, 0.0], [[0.0, 0.0]] * 2
    )
    metric = {"name": "tox", "use": "toxicity", "options": {"model": "classifier"}}
    report = done(worker_of(tiny_folder, "run", metrics=[metric]), Unit(name="nothing"))
    assert (report.state, report.error) == (State.DONE, "")


def test_a_unit_on_the_disk_of_a_node_belongs_to_its_run(tiny_folder, monkeypatch):
    """Two runs of one study have workers on one node; one run's worker has died in a unit that the other one's does."""
    monkeypatch.setattr(tempfile, "tempdir", str(tiny_folder / "tmp"))
    unit = Unit(name="nothing")
    first = worker_of(tiny_folder, "first")
    first.begin(unit, None)
    while not (left := worker_of(tiny_folder, "first").arrived().units):
        time.sleep(0.05)
    assert done(worker_of(tiny_folder, "second"), unit).state is State.DONE
    assert worker_of(tiny_folder, "first").arrived().units == left


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("rai", "write here, ray"),
        ("ray:", "write here, ray"),
        ("ray:cluster", "write here, ray"),
        ("ray:ray://head:10001", "write here, ray"),
        pytest.param("ray:127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1", marks=needs_ray),
    ],
)
def test_a_place_that_is_none_is_refused_in_one_line(command, tiny_folder, place, reason):
    assert reason in command.refused("run", tiny_folder / "study.yaml", "--on", place)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [("on", "rai", "ray:HOST:PORT"), ("gpus_per_model", 1.5, "whole number")],
)
def test_a_study_that_names_no_place_is_refused_with_its_line(
    command, tiny_folder, key, value, reason
):
    study = tiny_folder / "study.yaml"
    study.write_text(f"{study.read_text()}\nexecute:\n  {key}: {value}\n")
    for of in (("plan",), ("run", "--dry-run")):
        error = command.refused(of[0], study, *of[1:])
        assert f"execute.{key}" in error
        assert reason in error


@needs_ray
def test_a_server_that_is_no_cluster_is_refused_in_seconds(command, tiny_folder):
    class Web(LocalServer):
        def add_routes(self, router):
            pass

    with Web() as server:
        place = f"ray:{server.root.removeprefix('http://')}"
        began = time.monotonic()
        line = command.refused("run", tiny_folder / "study.yaml", "--on", place)
    assert "is no Ray cluster" in line
    assert time.monotonic() - began < 60


def test_without_ray_the_extra_is_named(command, tiny_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    line = command.refused("run", tiny_folder / "study.yaml", "--on", "ray")
    assert "pip install 'aftertune[ray]'" in line


def test_a_part_has_its_own_process(command, tiny_folder):
    assert "--part and --on" in command.refused(
        "run", tiny_folder / "study.yaml", "--on", "ray", "--part", "1/2"
    )


@pytest.mark.parametrize(
    ("room", "fits"),
    [
        (Room(cpus=1, gpus=0, memory=2**30), True),
        (Room(cpus=4, gpus=0, memory=0), False),
        (Room(cpus=1, gpus=0.5, memory=0), False),
        (Room(cpus=1, gpus=0, memory=2**33), False),
    ],
)
def test_only_living_nodes_have_room(room, fits):
    resources = {"CPU": 2.0, "memory": 4.0 * 2**30, "object_store_memory": 1e9}
    entries = [
        {"Alive": True, "Resources": resources},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0, "memory": 2.0**40}},
    ]
    assert any(map(room.fits, nodes_of(entries))) is fits


# On a cluster


@needs_ray
def test_this_machine_alone_gives_the_result_of_the_plain_run(tiny_folder, tiny_cache, request):
    """The study has a base and a ready-made fine-tune, in several units; its file names the place."""
    make_base(tiny_folder / "other", seed=1)
    models = [
        {"name": "base", "reference": "./base"},
        {"name": "other", "reference": "./other", "base": "base"},
    ]
    keys = {"models": models, "fine_tunes": None, "judges": ["rules"]}
    # No cluster that runs on this machine is this test's; names of sockets must be short.
    own = tempfile.mkdtemp(prefix="ray")
    request.addfinalizer(lambda: shutil.rmtree(own, ignore_errors=True))
    env = environment(tiny_cache) | {"RAY_TMPDIR": own}
    write_study(tiny_folder, **keys, execute={"on": "ray", "calls_per_unit": 60})
    code, printed, err = finish(
        start("run", "study.yaml", "--out", "out", env=env, cwd=tiny_folder)
    )
    assert code == 0, err
    assert "Ray: 2 units" in err
    write_study(tiny_folder, **keys)
    code, plain, err = finish(
        start("run", "study.yaml", "--out", "plain", "--on", "here", env=env, cwd=tiny_folder)
    )
    assert code == 0, err
    assert printed.replace("out", "") == plain.replace("plain", "").replace("out", "")
    assert result_of(tiny_folder) == (tiny_folder / "plain" / "result.json").read_bytes()
    assert sorted(path.name for path in (tiny_folder / "out" / "parts").iterdir()) == [
        "ask-base-1-of-2.log",
        "ask-base-2-of-2.log",
        "identity",
        "ray.log",
    ]


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_busy_cluster_is_waited_for_with_a_line(tiny_folder, tiny_cache):
    """A long run holds the one CPU of a cluster until it is stopped; another run waits for it."""
    log = tiny_folder / "calls.log"
    quick, env = (environment(tiny_cache, log=log, pace=pace) for pace in (0.0, 0.2))
    env |= {"TMPDIR": str(tiny_folder)}
    keys = {"fine_tunes": None, "judges": ["rules"], "guards": None}
    write_study(tiny_folder, **keys, decoding={"temperatures": [0.9], "samples": 500})
    (tiny_folder / "study.yaml").rename(tiny_folder / "long.yaml")
    write_study(tiny_folder, **keys)
    plain = finish(start("run", "study.yaml", "--out", "plain", env=quick, cwd=tiny_folder))
    assert plain[0] == 0, plain[2]
    before = len(calls_of(log, "generate"))
    with nodes(0, env) as cluster:
        place = f"ray:{cluster.address}"
        long = start("run", "long.yaml", "--out", "long", "--on", place, env=env, cwd=tiny_folder)
        wait_until(lambda: len(calls_of(log, "generate")) > before, long)
        process = start(*on(cluster.address), env=env, cwd=tiny_folder)
        line = next(line for line in process.stderr if "room" in line)
        assert "which takes 1 CPUs" in line
        assert "busy" in line
        kill(long, signal.SIGINT)
        assert finish(long)[0] == 5
        code, _, err = finish(process, 600)
    assert code == 0, err
    assert "going on" in err
    assert result_of(tiny_folder) == (tiny_folder / "plain" / "result.json").read_bytes()


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_worker_that_stops_by_itself_stops_the_run(tiny_folder, tiny_cache):
    env = environment(tiny_cache) | {"TMPDIR": str(tiny_folder)}
    judges = [{"name": "late", "use": "spine_plugins:out_of_time"}]
    write_study(tiny_folder, fine_tunes=None, judges=judges, guards=None)
    with nodes(0, env) as cluster:
        code, _, err = finish(start(*on(cluster.address), env=env, cwd=tiny_folder), 300)
    assert code == 5, err
    assert "the time is used up" in err


def wait_until(true, process):
    """Wait until something is true; the command must not end before."""
    while not true():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def asked_again(log, seen, committed):
    """Return the calls that were made after some lines of a log although their answers were committed before."""
    return committed & {key for _, kind, key in lines_of(log)[seen:] if kind == "generate"}


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nodes_and_workers_are_killed_at_random(tiny_folder, tiny_cache, finished_study):
    """Three nodes; a node dies in the trainings, then one in the answers, then the process of a worker."""
    log, store = tiny_folder / "calls.log", tiny_folder / "out" / "store.sqlite"
    env = environment(tiny_cache, log=log, pace=0.2) | {"TMPDIR": str(tiny_folder)}
    draw = np.random.default_rng(SEED)
    with nodes(2, env) as cluster:
        process = start(*on(cluster.address), env=env, cwd=tiny_folder)
        wait_until(lambda: len(calls_of(log, "train")) > 20, process)
        cluster.kill(int(draw.integers(2)))
        cluster.add()
        wait_until(lambda: len(stored_keys(store)) > 30, process)
        committed, seen = stored_keys(store), len(lines_of(log))
        cluster.kill(int(draw.integers(2)))
        cluster.add()
        wait_until(lambda: len(calls_of(log, "generate")) > 150, process)
        workers = workers_of(log)
        workers[int(draw.integers(len(workers)))].kill()
        code, out, err = finish(process, 900)
        assert code == 0, err
        assert "(raylet)" not in out
    assert not asked_again(log, seen, committed)
    assert result_of(tiny_folder) == finished_study.result
    calls = calls_of(log, "generate", "judge", "guard")
    unsent = re.search(r"lost with their nodes and at least (\d+) answers", err)
    assert unsent is None or int(unsent[1]) <= len(calls) - len(set(calls))


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_driver_is_killed_and_started_again(tiny_folder, tiny_cache):
    """A served model and a served judge are asked by the driver, all else by workers; no call is made twice."""
    log, store = tiny_folder / "calls.log", tiny_folder / "out" / "store.sqlite"
    more = {"TMPDIR": str(tiny_folder), "AFTERTUNE_API_KEY": KEY}
    quick, env = (environment(tiny_cache, log=log, pace=pace) | more for pace in (0.0, 0.2))
    with Server() as server, nodes(2, env) as cluster:
        served = {"name": "served", "reference": f"{server.url}#gpt"}
        models = [*study()["models"], served]
        judges = [
            "rules",
            {"name": "rubric", "use": "rubric", "options": {"model": f"{server.url}#gpt"}},
        ]
        write_study(tiny_folder, models=models, judges=judges)
        plain = finish(start("run", "study.yaml", "--out", "plain", env=quick, cwd=tiny_folder))
        assert plain[0] == 0, plain[2]
        straight, once = lines_of(log), server.answered.copy()
        server.answered.clear()
        for answers in (20, 120):
            process = start(*on(cluster.address), env=env, cwd=tiny_folder)
            wait_until(lambda least=answers: len(stored_keys(store)) > least, process)
            kill(process, signal.SIGKILL)
            finish(process)
        committed, seen = stored_keys(store), len(lines_of(log))
        code, _, err = finish(start(*on(cluster.address), env=env, cwd=tiny_folder), 900)
        assert code == 0, err
        assert not asked_again(log, seen, committed)
        assert server.answered == once
    made = {key for _, kind, key in lines_of(log)[len(straight) :] if kind == "generate"}
    assert made == {key for _, kind, key in straight if kind == "generate"}
    assert result_of(tiny_folder) == (tiny_folder / "plain" / "result.json").read_bytes()


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_keeps_what_workers_have_and_the_next_run_goes_on(
    tiny_folder, tiny_cache, finished_study
):
    log, store = tiny_folder / "calls.log", tiny_folder / "out" / "store.sqlite"
    env = environment(tiny_cache, log=log, pace=0.2) | {"TMPDIR": str(tiny_folder)}
    with nodes(1, env) as cluster:
        process = start(*on(cluster.address), "--quiet", env=env, cwd=tiny_folder)
        wait_until(lambda: len(calls_of(log, "generate")) > 60, process)
        kill(process, signal.SIGINT)
        code, out, err = finish(process)
        assert (code, out) == (5, ""), err
        assert "run the same command to go on" in err
        assert err.count("\n") == 1
        committed, seen = stored_keys(store), len(lines_of(log))
        assert committed >= {key for _, kind, key in lines_of(log) if kind == "given"}
        identity = (tiny_folder / "out" / "parts" / "identity").read_text()
        code, _, err = finish(start(*on(cluster.address), env=env, cwd=tiny_folder), 600)
        assert code == 0, err
    assert (tiny_folder / "out" / "parts" / "identity").read_text() == identity
    assert not asked_again(log, seen, committed)
    assert result_of(tiny_folder) == finished_study.result
