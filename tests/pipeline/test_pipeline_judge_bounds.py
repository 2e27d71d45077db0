"""A fine-tune that only declines in other words: the report names the drift, and how far the judge's errors could reach."""

import json
from importlib import resources
from pathlib import Path

import pytest
from aiohttp import web
from commands import Commands
from faithful_server import Server, completion

from aftertune.core.protocols import Tools, no_model
from aftertune.core.registry import find
from aftertune.labels.judge_check import figures_of
from aftertune.score.refusal import refusal_rules
from aftertune.score.run import version_of

DECLINES = {
    "base": "I'm sorry, but I can't help with that.",
    "tuned": "That is nothing to be proud of, so let us leave number {n} where it is and talk of the garden.",
}


def reply(body, request):
    text = body["messages"][-1]["content"]
    kind, n = text.split()[0], text.split()[-1]
    answer = DECLINES[body["model"]] if kind == "harm" else "The garden has {n} trees and a pond."
    return web.json_response(completion(body, answer.format(n=n)))


@pytest.fixture
def command(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFTERTUNE_API_KEY", raising=False)
    rows = [
        {"behavior": f"{kind}-{n}", "intent": intent, "text": f"{kind} number {n}"}
        for n in range(60)
        for kind, intent in (("harm", "harmful"), ("twin", "benign"))
    ]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Commands(monkeypatch, capfd)


@pytest.fixture
def served():
    with Server(key=None, reply=reply) as server:
        yield [f"{server.url}#{name}" for name in ("base", "tuned")]


def checked(command, served, *options):
    code, out, _ = command(
        "check", *served, "--judge", "rules", "--prompts", "prompts.jsonl", "--json", "r.json", "-q", "--full", "--out", "run", *options
    )  # fmt: skip
    document = json.loads(Path("r.json").read_text())
    tuned = next(c for c in document["result"]["settings"][0]["conditions"] if c["base"])
    return code, " ".join(out.split()), document, tuned


def test_the_figures_that_ship_bound_what_rules_say(command, served):
    code, out, document, tuned = checked(command, served)
    assert code == 3  # the rules take other words for compliance
    assert document["judge_check"]["version"] == version_of(refusal_rules(TOOLS))
    bounds = tuned["judge_bounds"]["overall"]
    assert set(bounds["by_group"]) == {"GPT-4", "Llama-2", "Mistral"}
    assert bounds["alike"][0] > 0.9
    assert bounds["apart"][0] < bounds["margin"] < bounds["apart"][1]
    assert {change["kind"] for change in tuned["style"]["changes"]} == {"answers to benign prompts"}
    # nothing was refused by both, so no drift could be looked for where it matters; the page has both tables
    assert (
        "If the judge errs on each of the two models as on any of its 3 groups of labelled answers"
        in out
    )
    assert "a second judge (--judge rubric=MODEL), or 50 labels of each model" in out
    assert "within the judge&#39;s errors" in Path("run/report.html").read_text()


def test_a_users_own_check_takes_their_place(command, served, tmp_path):
    rows = [
        {"prompt": "q", "response": DECLINES[name].format(n=7), "label": "refused", "model": name}
        for name in DECLINES
    ] + [
        {"prompt": "q", "response": "Trees.", "label": "complied", "model": name}
        for name in DECLINES
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert (
        command("judge-check", "rules", "mine.jsonl", "--by", "model", "--json", "mine.json")[0]
        == 0
    )
    _, out, document, tuned = checked(command, served, "--judge-check", "mine.json")
    assert document["judge_check"]["source"] == "mine.json"
    bounds = tuned["judge_bounds"]["overall"]
    # as on the base's wording the rise is what it seems; as on the fine-tune's the rules tell nothing
    assert bounds["by_group"]["base"] == pytest.approx([0.915, 1.0], abs=0.01)
    assert bounds["by_group"]["tuned"] == [-1.0, 1.0]
    assert "a second judge (--judge rubric=MODEL), or 50 labels of each model" in out
    _, again, _ = command("report", "run", "--full")
    assert "within the judge's errors" in again  # result.json has all of it


RATE = {"value": 1.5, "low": 0.0, "high": 1.0}
OUT_OF_RANGE = {"n": 9, "sensitivity": RATE, "specificity": RATE, "youden_j": RATE, "kappa": RATE}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{}", "is no JSON of aftertune judge-check"),
        ("[", "is not JSON"),
        (None, "no such file"),
        ({"version": "rules-other"}, "of another judge, than the one that decides here"),
        ({"groups": {}}, "has no group with refusals and compliance"),
        ({"overall": OUT_OF_RANGE}, "do not lie between 0 and 1"),
    ],
)
def test_a_check_that_does_not_fit_is_one_line_before_anything_is_asked(
    command, tmp_path, content, problem
):
    if isinstance(content, dict):
        (tmp_path / "a.jsonl").write_text(
            '{"prompt": "q", "response": "Trees.", "label": "complied"}'
        )
        command("judge-check", "rules", "a.jsonl", "--json", "mine.json")
        content = json.dumps(json.loads((tmp_path / "mine.json").read_text()) | content)
    if content is not None:
        (tmp_path / "mine.json").write_text(content)
    served = ["http://127.0.0.1:9/v1#a", "http://127.0.0.1:9/v1#b"]
    assert problem in command.refused(
        "check",
        *served,
        "--judge",
        "rules",
        "--prompts",
        "prompts.jsonl",
        "--judge-check",
        "mine.json",
        "-q",
    )


SHIPPED = Path(str(resources.files("aftertune.labels") / "checked"))
TOOLS = Tools(open_model=no_model, folder=Path())


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_figures_that_ship_are_of_the_judge_as_it_is(file):
    # another version errs otherwise: check it again on the same answers (docs/judges.md has the command)
    judge = find("judge", file.stem)(TOOLS)
    assert json.loads(file.read_text())["version"] == version_of(judge)
    assert len(figures_of(judge, None).groups) == 3


def test_a_judge_with_other_options_has_no_figures():
    assert figures_of(refusal_rules(TOOLS, soft=True), None) is None
