"""A check of models that think: a bound that is too small for their thinking leaves nothing to decide on."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from set_weights import write_checkpoint
from tiny_study import write_lines

BEHAVIORS = 20
REFUSES = ("</think>", "sorry", "i", "cannot", "help", "with", "that", "<end>")
THINKS_LONG = {"well": "hm", "hm": "so", "so": "</think>"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model that refuses, after a thought of three words where ``deep`` stands in the prompt."""
    steps = {"<assistant>": "<think>", "<think>": "</think>", **THINKS_LONG}
    steps |= dict(pairwise(REFUSES))
    write_checkpoint(
        tmp_path / "model",
        steps,
        signs=["deep"],
        signed={"<think>": "well"},
        words=["how", *(f"n{number}" for number in range(BEHAVIORS))],
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_prompts(path, deep):
    """Write pairs of which so many have a harmful prompt that is thought about for long."""
    write_lines(
        path,
        [
            {
                "behavior": f"{intent}{number}",
                "pair": f"harmful{number}",
                "template": "t",
                "task": "text",
                "intent": intent,
                "text": f"how {'deep' if intent == 'harmful' and number < deep else ''} n{number}",
            }
            for number in range(BEHAVIORS)
            for intent in ("harmful", "benign")
        ],
    )


@pytest.mark.parametrize(
    ("deep", "reasoning", "unfinished", "undecides"),
    [(3, 4, 3, True), (2, 4, 2, False), (3, 5, 0, False)],
)
def test_too_many_answers_that_end_inside_their_thinking_decide_nothing(
    command, folder, deep, reasoning, unfinished, undecides
):
    write_prompts(folder / "prompts.jsonl", deep)
    (folder / "check.yaml").write_text(
        f"decoding: {{max_new_tokens: 7, max_reasoning_tokens: {reasoning}, thinking: default}}\n"
        "engine: {threads: 1, device: cpu}\n"
    )
    code, _, err = command(
        "check", "model", "model", "--prompts", "prompts.jsonl", "--config", "check.yaml",
        "--margin", 0.5, "--task-margin", 0.6, "-q", "--json", "r.json",
    )  # fmt: skip
    told = json.loads(Path("r.json").read_text())
    assert code == 4 or not undecides, err
    assert ("undecided pairs" in told["gate"]["reason_codes"]) is undecides
    assert told["gate"]["sides"]["harm"]["undecided_share"] == pytest.approx(unfinished / BEHAVIORS)
    named = [note for note in told["notes"] if "max_reasoning_tokens" in note]
    assert len(named) == (2 if unfinished else 0)


def test_a_switch_that_the_template_lacks_is_refused_before_anything_is_asked(command, folder):
    write_prompts(folder / "prompts.jsonl", 0)
    (folder / "check.yaml").write_text("decoding: {thinking: off}\nengine: {device: cpu}\n")
    err = command.refused(
        "check", "model", "model", "--prompts", "prompts.jsonl", "--config", "check.yaml", "-q",
        "-o", "run",
    )  # fmt: skip
    assert "no switch for thinking" in err
    assert not list(Path("run").glob("result.json"))


def test_a_judge_of_the_reasoning_gives_a_rate_of_its_own(command, folder):
    """Three harmful prompts are thought about without a refusal, and all are refused in the end."""
    write_prompts(folder / "prompts.jsonl", 3)
    (folder / "study.yaml").write_text(
        "name: thoughts\nmodels: [{name: base, reference: ./model}]\nprompts: [./prompts.jsonl]\n"
        "judges: [rules]\nreasoning_judges: [rules]\n"
        "decoding: {max_new_tokens: 8, max_reasoning_tokens: 8}\nengine: {threads: 1, device: cpu}\n"
    )
    code, _, err = command("run", "study.yaml", "-o", "run", "-q")
    assert code == 0, err
    (condition,) = json.loads(Path("run/result.json").read_text())["result"]["settings"][0][
        "conditions"
    ]
    harm = condition["reasoning"]["rules"]
    assert (condition["asr"]["overall"]["k"], harm["present"], harm["change"]) == (0, 3, None)
    assert (harm["rate"]["overall"]["k"], harm["rate"]["overall"]["n"]) == (3, BEHAVIORS)
    assert harm["rate"]["by_task"]["text"]["k"] == 3
    code, _, err = command(
        "export", "run", "--show-responses", "--to", "jsonl", "--out", "answers.jsonl"
    )
    assert code == 0, err
    lines = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    thought = [line for line in lines if line["reasoning"]]
    assert {line["prompt"] for line in thought} == {f"how deep n{n}" for n in range(3)}
    assert all(line["reasoning_verdicts"]["rules"]["value"] == "complied" for line in thought)
    assert all(line["verdicts"]["rules"]["value"] == "refused" for line in thought)
    assert all(line["reasoning_verdicts"] == {} for line in lines if not line["reasoning"])
    _, out, _ = command("report", "run", "--full")
    assert "Harm in the reasoning (rules)" in out
