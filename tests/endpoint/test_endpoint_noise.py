"""Replicates of served models: every one is a call, whole runs come one after the other, and noise is what the server made."""

import json

import numpy as np
import pytest
from batch_server import BatchServer
from commands import Commands
from noisy_server import NoisyServer
from scipy.stats import norm, t
from test_endpoint_study import write_study

PROMPTS, REPLICATES = 40, 3
STILL = [0.0] * REPLICATES


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "study"


def noisy(runs=STILL, open_share=0.2):
    return NoisyServer(
        open_share={"base": 0.05, "tuned": open_share}, runs={"base": STILL, "tuned": runs}
    )


def harmful_of(server, model):
    """Return the answers to harmful prompts as the server gave them, behaviors x replicates."""
    return np.array(
        [values for (name, prompt), values in server.complied.items() if name == model and prompt.startswith("harmful")],
        float,
    )  # fmt: skip


def changes_of(server):
    by_prompt = {
        (model, prompt): np.array(values, float)
        for (model, prompt), values in server.complied.items()
    }
    harmful = sorted({prompt for _, prompt in by_prompt if prompt.startswith("harmful")})
    return np.array([by_prompt["tuned", one] - by_prompt["base", one] for one in harmful])


def variances(x):
    """Return the variance of a run's mean as it is, and the part that single answers explain."""
    residual = x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + x.mean()
    single = (residual**2).sum() / ((len(x) - 1) * (x.shape[1] - 1)) / len(x)
    return x.mean(axis=0).var(ddof=1), single


def run_twice(command, folder, server, **more):
    """Run a study, and once more: nothing is asked then."""
    study = write_study(folder, server, PROMPTS, decoding={"replicates": REPLICATES}, **more)
    code, _, err = command("run", study, "--out", "run", "-q")
    assert code == 0, err
    asked = sum(server.asked.values())
    assert command("run", study, "--out", "run", "-q")[0] == 0
    assert sum(server.asked.values()) == asked
    return json.loads((study.parent.parent / "run" / "result.json").read_text())


def test_every_replicate_is_asked_and_the_noise_floor_is_that_of_the_server(command, folder):
    with noisy() as server:
        result = run_twice(command, folder, server)
        assert len(server.asked) == 4 * PROMPTS
        assert set(server.asked.values()) == {REPLICATES}
        # whole runs, one after the other: each model's prompts all come before any of them comes again
        for model in ("base", "tuned"):
            bodies = [str(body["messages"]) for body in server.bodies if body["model"] == model]
            runs = np.array(bodies).reshape(REPLICATES, 2 * PROMPTS)
            assert len({frozenset(one) for one in runs.tolist()}) == 1
    (setting,) = result["result"]["settings"]
    assert setting["decoding"] == "T=0 max=256"
    base, tuned = setting["conditions"]
    change, x = tuned["asr_change"]["overall"], changes_of(server)
    assert change["estimate"] == pytest.approx(x.mean())
    means, single = variances(x)
    noise = change["noise"]
    assert noise["run_sd"] == pytest.approx(max(0, means - single) ** 0.5, abs=1e-9)
    unseen = 2 / (REPLICATES * PROMPTS**2)
    beyond = max(0, means - 0.5 * single)
    half = norm.ppf(0.975) ** 2 * (single + unseen) + t.ppf(0.975, REPLICATES - 1) ** 2 * beyond
    assert noise["floor"] == pytest.approx((half / REPLICATES) ** 0.5)
    assert noise["turned"] == pytest.approx((np.ptp(x, axis=1) > 0).mean())
    assert tuned["asr"]["overall"]["n"] == PROMPTS * REPLICATES
    assert base["asr"]["overall"]["noise"]["one_run"] < tuned["asr"]["overall"]["noise"]["one_run"]
    # Theory: a share of .05 and one of .2 of the prompts turn evenly, each with variance 1/4.
    assert single == pytest.approx((0.05 + 0.2) / 4 / PROMPTS, rel=0.5)


def test_an_effect_of_the_run_is_seen_and_widens_the_interval(command, folder):
    with noisy(runs=[0.0, 0.15, 0.3], open_share=0.05) as server:
        result = run_twice(command, folder, server)
    change = result["result"]["settings"][0]["conditions"][1]["asr_change"]["overall"]
    means, single = variances(changes_of(server))
    assert change["noise"]["run_sd"] == pytest.approx((means - single) ** 0.5)
    assert change["noise"]["run_sd"] > 0.08
    added = t.ppf(0.975, 2) ** 2 * change["noise"]["run_sd"] ** 2 / 3
    assert change["estimate"] - change["interval"]["low"] > added**0.5
    assert "run effect added" in change["interval"]["method"]


def test_without_replicates_the_run_says_in_the_first_seconds_that_noise_is_unknown(
    command, folder
):
    with noisy() as server:
        study = write_study(folder, server, 12)
        code, _, err = command("run", study, "--out", "run")
        assert code == 0, err
        assert set(server.asked.values()) == {1}
    (note,) = [line for line in err.splitlines() if "noise unknown" in line]
    assert "decoding.replicates: 3" in note
    assert err.index("noise unknown") < err.index("generate")
    kept = json.loads((folder.parent / "run" / "result.json").read_text())
    assert [text for text in kept["notes"] if text.startswith("noise unknown")]
    assert kept["result"]["settings"][0]["conditions"][1]["asr_change"]["overall"]["noise"] is None


def test_a_change_inside_the_noise_is_said_and_exports_tell_replicates_apart(command, folder):
    with noisy(open_share=0.08) as server:
        result = run_twice(command, folder, server)
        assert (
            command("export", "run", "--show-responses", "--to", "jsonl", "-o", "rows.jsonl")[0]
            == 0
        )
        glance = command("report", "run")[1]
        code, out, _ = command("consistency", "run")
    change = result["result"]["settings"][0]["conditions"][1]["asr_change"]["overall"]
    assert 0 < abs(change["estimate"]) <= change["noise"]["floor"]
    assert "inside the noise floor of" in result["finding"][0]
    assert "inside the noise floor of" in glance
    lines = (folder.parent / "rows.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 4 * PROMPTS * REPLICATES
    assert {row["replicate"] for row in rows} == set(range(REPLICATES))
    assert {row["sample"] for row in rows} == {0}
    given = {(row["model"], row["prompt"], row["replicate"]): row["text"] for row in rows}
    for (model, prompt), values in server.complied.items():
        said = [given[model, prompt, number].startswith("Sure") for number in range(REPLICATES)]
        assert said == values
    assert code == 0
    assert "Asked again" in out


def test_a_check_of_these_prompts_has_noise_for_its_interval(command, folder):
    with noisy() as server:
        models = [f"{server.url}#base", f"{server.url}#tuned"]
        study = write_study(folder, server, 30)
        options = [
            "--prompts",
            study.parent / "prompts.jsonl",
            "--judge",
            "rules",
            "--replicates",
            3,
        ]
        code, _, err = command(
            "check", *models, *options, "--scope", "these-prompts", "--out", "check", "-q"
        )
        assert code in (0, 3, 4), err
        asked = sum(server.asked.values())
        refused = command.refused("check", *models, *options, "--sequential", "-q")
        assert sum(server.asked.values()) == asked
    assert "--sequential" in refused
    gate = json.loads((folder.parent / "check" / "result.json").read_text())["gate"]
    line = gate["sides"]["harm"]["lines"][0]
    assert line["lower"] < line["change"]["estimate"] < line["upper"]
    assert line["change"]["noise"]["replicates"] == 3


def test_replicates_by_batch_are_lines_of_their_own(command, folder):
    with BatchServer() as server:
        study = write_study(folder, server, 4, decoding={"replicates": 2}, engine={"batch": True})
        code, _, err = command("run", study, "--out", "run", "-q")
        assert code == 0, err
    assert len(server.done) == 16
    assert set(server.done.values()) == {2}
