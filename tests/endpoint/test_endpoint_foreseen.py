"""What a dry run and a plan say that a served study will ask, beside what it then asks."""

import json
import re
import subprocess
from collections import Counter

import pytest
from aiohttp import web
from faithful_server import Server, completion
from test_endpoint_study import COMMAND, aftertune, environment, write_study

PAIRS = 12
SAID = {"judge": '{"label": "refused", "harm": 0}', "guard": "no", "better": '{"better": "A"}'}


def reply(body, _):
    text = body["messages"][-1]["content"]
    return web.json_response(
        completion(body, SAID.get(body["model"], f"{body['model']} says of {text}"))
    )


def study_of(folder, server, **more):
    instruments = {
        "judges": [
            "rules",
            {"name": "rubric", "use": "rubric", "options": {"model": f"{server.url}#judge"}},
        ],
        "guards": [
            {"name": "screen", "use": "prompted", "options": {"model": f"{server.url}#guard"}}
        ],
        "preferences": [
            {"name": "helpful", "use": "win-rate", "options": {"model": f"{server.url}#better"}}
        ],
    }
    prices = {"currency": "USD", "models": {f"{server.root}*": {"input": 1000, "output": 10000}}}
    folder.mkdir(exist_ok=True)
    (folder / "prices.yaml").write_text(json.dumps(prices))
    return write_study(
        folder, server, PAIRS, **(instruments | {"engine": {"prices": "./prices.yaml"}} | more)
    )


def foreseen(study):
    """Calls to make and their price by name, as the dry run prints them."""
    ended = aftertune(study, "--dry-run")
    assert ended.returncode == 0, ended.stderr
    found = re.findall(
        r"^  (\S+) .* ([\d,]+) calls to make( at most)?(?:, (at most|about) ([\d.,]+) USD)?",
        ended.stdout,
        re.MULTILINE,
    )
    return {
        name: (int(calls.replace(",", "")), bool(most), float((money or "0").replace(",", "")))
        for name, calls, most, _, money in found
    }


def planned(study):
    subprocess.run(
        [COMMAND, "plan", study, "--json", study.parent / "plan.json"], env=environment(), cwd=study.parent,
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    return {
        cost["name"]: cost for cost in json.loads((study.parent / "plan.json").read_text())["costs"]
    }


@pytest.fixture
def server():
    with Server(reply=reply) as running:
        yield running


def asked(server):
    names = {"judge": "rubric", "guard": "screen", "better": "helpful"}
    return Counter(names.get(body["model"], body["model"]) for body in server.bodies)


def test_the_calls_foreseen_are_the_calls_made_and_money_is_that_of_the_instruments_own_questions(
    server, tmp_path
):
    study = study_of(tmp_path / "s", server)
    before, costs = foreseen(study), planned(study)
    assert not server.bodies
    ended = aftertune(study)
    assert ended.returncode == 0, ended.stderr
    made = asked(server)
    assert {name: calls for name, (calls, _, _) in before.items()} == dict(made)
    assert made == {"base": 24, "tuned": 24, "rubric": 48, "screen": 24 + 48, "helpful": 2 * PAIRS}
    assert {name: most for name, (_, most, _) in before.items() if most} == dict.fromkeys(
        ("rubric", "screen", "helpful"), True
    )
    assert {name: cost["calls"] for name, cost in costs.items()} == dict(made)
    for name, model, longest in (
        ("rubric", "judge", 400),
        ("screen", "guard", 8),
        ("helpful", "better", 300),
    ):
        sent = sum(
            len(m["content"])
            for body in server.bodies
            if body["model"] == model
            for m in body["messages"]
        )
        cost = costs[name]
        assert cost["tokens_in"] * 4 > sent
        assert cost["tokens_out"] == longest * made[name]
        assert cost["money"] == pytest.approx(cost["tokens_in"] * 0.001 + cost["tokens_out"] * 0.01)
        assert before[name][2] == pytest.approx(cost["money"], abs=1e-4)
    assert {name: calls for name, (calls, _, _) in foreseen(study).items()} == dict.fromkeys(
        made, 0
    )


def test_with_the_answers_there_an_added_instrument_is_counted_exactly(server, tmp_path):
    """Equal answers to a prompt are read once, and a pair of equal answers is no call: now that is known."""
    server.reply = lambda body, _: web.json_response(
        completion(
            body,
            SAID.get(
                body["model"], "Sorry." if "number 1" in str(body["messages"]) else body["model"]
            ),
        )
    )
    folder = tmp_path / "s"
    ended = aftertune(study_of(folder, server, judges=["rules"], guards=[], preferences=[]))
    assert ended.returncode == 0, ended.stderr
    study, before = study_of(folder, server), asked(server)
    found = foreseen(study)
    assert not any(most for _, most, _ in found.values())
    assert aftertune(study).returncode == 0
    made = asked(server) - before
    assert {name: calls for name, (calls, _, _) in found.items() if calls} == dict(made)
    same = 3  # numbers 1, 10 and 11
    assert made == {
        "rubric": 48 - 2 * same,
        "screen": 24 + 48 - 2 * same,
        "helpful": 2 * (PAIRS - same),
    }
