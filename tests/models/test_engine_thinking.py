"""Thinking blocks stand apart from the final answer, in whichever marks a model writes them."""

import pytest
from set_weights import write_checkpoint
from tiny_models import answers, user

from aftertune.core.records import Decoding, FinishReason, Response
from aftertune.models.thinking import Separated, final, opens, separate

HARMONY = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>No."


@pytest.mark.parametrize(
    ("text", "separated"),
    [
        ("No.", None),
        ("", None),
        ("A tag <think> in the midst of an answer.", None),
        ("Write <think>so</think> in your template.", None),
        ("<think>\nHm.\n</think>\n\nNo.", ("Hm.", "No.")),
        ("\n<think>Hm.</think>No.", ("Hm.", "No.")),
        ("<think></think>\n\nNo.", ("", "No.")),
        ("<think>Hm.</think><think>Ah.</think> No.", ("Hm.\n\nAh.", "No.")),
        ("<think>Hm.</think>", ("Hm.", "")),
        ("<think>Hm, the tag </b> is HTML", ("Hm, the tag </b> is HTML", "", False)),
        ("Hm.\n</think>\n\nNo.", ("Hm.", "No.")),
        ("<thinking>Hm.</thinking>No.", ("Hm.", "No.")),
        ("<thought>\nHm.\n</thought>\nNo.", ("Hm.", "No.")),
        ("<reasoning>Hm.</reasoning>No.", ("Hm.", "No.")),
        ("<seed:think>Hm.</seed:think>No.", ("Hm.", "No.")),
        ("[THINK]Hm.[/THINK]No.", ("Hm.", "No.")),
        ("<|begin_of_thought|>Hm.<|end_of_thought|>No.", ("Hm.", "No.")),
        ("<|START_THINKING|>Hm.<|END_THINKING|>No.", ("Hm.", "No.")),
        ("\u25c1think\u25b7Hm.\u25c1/think\u25b7No.", ("Hm.", "No.")),
        (HARMONY, ("Hm.", "No.")),
        ("<|channel|>analysis<|message|>Hm.", ("Hm.", "", False)),
        ("<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>commentary to=x<|message|>B<|call|>", ("AB", "", False)),
        ("<|channel|>final<|message|>No.", ("", "No.")),
        ("<|start|>assistant<|channel|>final<|message|>No.<|return|>", ("", "No.")),
        (HARMONY + "<|end|>", ("Hm.", "No.")),
        ("analysisHm.assistantfinalNo.", ("Hm.", "No.")),
        ("analysis of a poem", None),
    ],
)  # fmt: skip
def test_a_leading_block(text, separated):
    assert separate(text) == (None if separated is None else Separated(*separated))


@pytest.mark.parametrize(
    ("text", "separated"),
    [
        ("Hm.\n</think>\n\nNo.", ("Hm.", "No.")),
        ("Hm, let me see", ("Hm, let me see", "", False)),
        ("", ("", "", False)),
        ("<think>Hm.</think>No.", ("Hm.", "No.")),
    ],
)
def test_a_block_that_the_template_opened(text, separated):
    assert separate(text, opened=True) == Separated(*separated)


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [("<user> hi <assistant><think>\n", True), ("[THINK]", True), ("<think>x</think>\n", False), ("hi", False)],
)  # fmt: skip
def test_a_prompt_opens_a_block(prompt, opened):
    assert opens(prompt) is opened


S, L, P, T = (
    FinishReason.STOP,
    FinishReason.LENGTH,
    FinishReason.PROVIDER_REFUSAL,
    FinishReason.THINKING,
)


@pytest.mark.parametrize(
    ("text", "finish", "reasoning", "expected"),
    [
        ("No.", S, "", ("No.", S, "")),
        ("", S, "", ("", S, "")),
        ("", L, "", ("", L, "")),
        ("No.", S, "Hm.", ("No.", S, "Hm.")),
        ("", S, "Hm.", ("", S, "Hm.")),
        ("", L, "Hm.", ("", T, "Hm.")),
        ("<think>Hm.", L, "", ("", T, "Hm.")),
        ("<think>Hm.", S, "", ("", T, "Hm.")),
        ("<think>Hm.</think>", S, "", ("", S, "Hm.")),
        ("<think>Hm.</think>\n", L, "", ("", T, "Hm.")),
        ("<think>Hm.</think>No", L, "", ("No", L, "Hm.")),
        ("<think>Ah.</think>No.", S, "Hm.", ("No.", S, "Hm.\n\nAh.")),
        ("<think>Hm.", P, "", ("<think>Hm.", P, "")),
    ],
)
def test_the_final_answer(text, finish, reasoning, expected):
    response = final(
        Response(text=text, finish_reason=finish, prompt_tokens=1, completion_tokens=1),
        reasoning=reasoning,
    )
    assert (response.text, response.finish_reason, response.reasoning) == expected
    assert ("reasoning" in response.detail) is (response.reasoning != "")


STEPS = {
    "<think>": "harmful",
    "harmful": "decline",
    "decline": "</think>",
    "</think>": "no",
    "no": "<end>",
}
OPENING = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}<assistant> <think> "
)


@pytest.fixture
def thinker(tmp_path):
    return write_checkpoint(tmp_path / "thinker", STEPS | {"<assistant>": "<think>"}, words=["how"])


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (16, ("no", S, "harmful decline")),
        (5, ("no", L, "harmful decline")),
        (4, ("", T, "harmful decline")),
        (2, ("", T, "harmful")),
    ],
)
def test_a_model_here_that_thinks(engines, thinker, limit, expected):
    (answer,) = answers(engines.open(str(thinker)), [user("how")], Decoding(max_new_tokens=limit))
    assert (answer.text, answer.finish_reason, answer.reasoning) == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(16, ("no", S, "harmful decline")), (2, ("", T, "harmful decline"))],
)
def test_a_template_that_opens_the_block(engines, tmp_path, limit, expected):
    folder = write_checkpoint(tmp_path / "opened", STEPS, words=["how"], template=OPENING)
    (answer,) = answers(engines.open(str(folder)), [user("how")], Decoding(max_new_tokens=limit))
    assert (answer.text, answer.finish_reason, answer.reasoning) == expected


def test_marks_that_are_special_tokens(engines, tmp_path):
    """Decoding drops special tokens, and with them would go what tells thinking from answer."""
    marks = ["<|channel|>", "<|message|>", "<|start|>"]
    words = ["<|channel|>", "analysis", "<|message|>", "hm", "<|start|>", "assistant"]
    steps = dict(zip(["<assistant>", *words], [*words, "<end>"], strict=False))
    folder = write_checkpoint(tmp_path / "harmony", steps, words=["how"], special=marks)
    (answer,) = answers(engines.open(str(folder)), [user("how")], Decoding(max_new_tokens=16))
    assert (answer.text, answer.finish_reason) == ("", T)
    assert "hm" in answer.reasoning
