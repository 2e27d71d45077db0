"""Answers of served models that think: what is read is the final answer, and one that has none is undecided."""

import json

import pytest
from aiohttp import web
from endpoint_jobs import ask
from faithful_server import KEY, Server, completion
from test_endpoint_study import aftertune, write_study

from aftertune.core.records import FinishReason
from aftertune.models.open import Engines

S, L, T = FinishReason.STOP, FinishReason.LENGTH, FinishReason.THINKING
PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
    {"type": "text", "text": "No."},
]


@pytest.mark.parametrize("reference", ["{url}#m", "inspect:openai-api/local/m"])
@pytest.mark.parametrize(
    ("message", "finish", "expected"),
    [
        ({"content": "No.", "reasoning_content": "Hm."}, "stop", ("No.", S, "Hm.")),
        ({"content": "No.", "reasoning": "Hm."}, "stop", ("No.", S, "Hm.")),
        ({"content": "<think>Hm.</think>\n\nNo."}, "stop", ("No.", S, "Hm.")),
        ({"content": None, "reasoning_content": "Hm."}, "length", ("", T, "Hm.")),
        ({"content": "", "reasoning": "Hm."}, "length", ("", T, "Hm.")),
        ({"content": "", "reasoning_content": "Hm."}, "stop", ("", S, "Hm.")),
        ({"content": "<think>Hm."}, "length", ("", T, "Hm.")),
        ({"content": PARTS}, "stop", ("No.", S, "Hm.")),
        ({"content": [{"type": "reasoning", "text": "Hm."}, PARTS[1]]}, "stop", ("No.", S, "Hm.")),
    ],
)
def test_a_servers_thinking(monkeypatch, reference, message, finish, expected):
    if reference.startswith("inspect") and isinstance(message["content"], list):
        pytest.skip("Inspect's provider takes a text as content")

    def reply(body, _):
        whole = completion(body, "", finish=finish)
        whole["choices"][0]["message"] = {"role": "assistant", **message}
        return web.json_response(whole)

    with Server(reply=reply) as server, Engines() as engines:
        monkeypatch.setenv("LOCAL_BASE_URL", server.url)
        monkeypatch.setenv("LOCAL_API_KEY", KEY)
        model = engines.open(reference.format(url=server.url))
        (answer,) = ask(model, ["question"])
    assert (answer.text, answer.finish_reason, answer.reasoning) == expected


def test_a_study_whose_answers_end_inside_their_thinking(tmp_path):
    """Nothing reads them: no judge, no detector of incoherence, no metric; and the note names the limit to raise."""

    def reply(body, _):
        text = body["messages"][-1]["content"]
        if body["model"] == "tuned" and "number 1" in text:
            return web.json_response(completion(body, "<think>I'm sorry, that is", finish="length"))
        if body["model"] == "tuned" and "number 2" in text:
            whole = completion(body, "")
            whole["choices"][0]["message"]["reasoning_content"] = "I'm sorry."
            return web.json_response(whole)
        return web.json_response(
            completion(body, "<think>Harmful?</think>I'm sorry, I can't help with that.")
        )

    with Server(reply=reply) as server:
        study = write_study(tmp_path / "s", server, 4)
        assert (ended := aftertune(study)).returncode == 0, ended.stderr
        asked = sum(server.asked.values())
        assert aftertune(study).returncode == 0
        assert sum(server.asked.values()) == asked == 16
    told = json.loads((study.parent / "told.json").read_text())
    assert any(
        "tuned: 2 of 8 answers ended inside their thinking" in note
        and "decoding.max_new_tokens (now 256)" in note
        for note in told["notes"]
    )
    assert any(
        "tuned: 2 of 8 answers are empty beside a reasoning" in note for note in told["notes"]
    )
    assert not any("have no answer" in note or "were not read" in note for note in told["notes"])
    _, tuned = told["result"]["settings"][0]["conditions"]
    overall = tuned["asr"]["overall"]
    assert (overall["n"], overall["k"], overall["undecided"], overall["incoherent"]) == (4, 0, 1, 1)
    out = study.parent / "answers.jsonl"
    export(study, out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    cut = [line for line in lines if line["finish_reason"] == "thinking"]
    assert {
        (line["text"], line["reasoning"], line["outcome"], str(line["verdicts"])) for line in cut
    } == {(None, "I'm sorry, that is", "undecided", "{}")}
    assert {line["reasoning"] for line in lines} == {"I'm sorry, that is", "I'm sorry.", "Harmful?"}


def export(study, out):
    from aftertune.cli.export import export_responses

    export_responses(study.parent / "run", out, show=True)
