"""Thinking blocks stand apart from the final answer, in whichever marks a model writes them."""

import pytest
from set_weights import write_checkpoint
from tiny_models import answers, user

from aftertune.core.records import Decoding, FinishReason, Response
from aftertune.errors import ModelError
from aftertune.models.thinking import Bounds, Separated, final, opens, separate

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


NO = ("no", S, "harmful decline")


@pytest.mark.parametrize(
    ("answer", "reasoning", "expected"),
    [
        (2, 4, NO),  # <think> harmful decline </think>, and: no <end>
        (1, 4, ("no", L, "harmful decline")),
        (1, 40, ("no", L, "harmful decline")),
        (40, 3, ("", T, "harmful decline")),
        (40, 2, ("", T, "harmful")),
        (40, 1, ("", T, "")),
    ],
)
def test_thinking_and_answer_have_bounds_of_their_own(
    engines, thinker, answer, reasoning, expected
):
    decoding = Decoding(max_new_tokens=answer, max_reasoning_tokens=reasoning)
    (given,) = answers(engines.open(str(thinker)), [user("how")], decoding)
    assert (given.text, given.finish_reason, given.reasoning) == expected


@pytest.mark.parametrize(("reasoning", "expected"), [(3, NO), (2, ("", T, "harmful decline"))])
def test_the_bounds_where_the_template_opens_the_block(engines, tmp_path, reasoning, expected):
    folder = write_checkpoint(tmp_path / "opened", STEPS, words=["how"], template=OPENING)
    decoding = Decoding(max_new_tokens=2, max_reasoning_tokens=reasoning)
    (given,) = answers(engines.open(str(folder)), [user("how")], decoding)
    assert (given.text, given.finish_reason, given.reasoning) == expected


def test_rows_of_a_batch_end_each_at_its_own_bound(engines, tmp_path):
    """A sign in the prompt makes the thinking long; another model of the same batch never thinks, or never ends."""
    long = {"<think>": "well", "well": "hm", "hm": "so", "so": "</think>"}
    folder = write_checkpoint(
        tmp_path / "signs",
        {"<assistant>": "<think>", "<think>": "</think>", "</think>": "no", "no": "sir", "sir": "no"},
        signs=["deep"],
        signed={key: word for key, word in long.items() if key == "<think>"},
        words=["how", "hm", "so"],
    )  # fmt: skip
    engine = engines.open(str(folder))
    prompts = [user(text) for text in ("how", "how deep", "how how how", "deep", "how how")]
    bounded = Decoding(max_new_tokens=3, max_reasoning_tokens=2)
    given = answers(engine, prompts, bounded)
    assert [(a.text, a.finish_reason) for a in given] == [
        ("", T) if "deep" in prompt[0].content else ("no sir no", L) for prompt in prompts
    ]
    assert given == [answers(engine, [prompt], bounded)[0] for prompt in prompts]


@pytest.mark.parametrize(
    ("text", "answer", "reasoning", "length"),
    [
        ("abcdef", 4, 9, 4),
        ("<think>ab</think>cdef", 2, 99, 19),
        ("<think>ab</think>cdef", 99, 9, 9),
        ("<think>a</think><think>b</think>cd", 1, 99, 33),
        ("[THINK]a</think>b[/THINK]cd", 1, 99, 26),
        ("  \n<thinking>a</thinking>cd", 1, 99, 26),
        ("<thin ice", 3, 5, 3),
        ("<|channel|>analysis<|message|>a<|channel|>final<|message|>cd", 1, 99, 59),
        ("<|channel|>final<|message|>cd", 99, 1, 29),
        ("a<think>b", 5, 1, 5),
    ],
)
def test_what_a_token_counts_for(text, answer, reasoning, length):
    """A letter is a token here."""
    bounds = Bounds(lambda tokens: "".join(map(chr, tokens)), reasoning=reasoning, answer=answer)
    ended = [bounds.add(ord(letter)) for letter in text]
    assert bounds.length == length
    assert ended == sorted(ended)
    assert any(ended) is (length < len(text) or ended[-1])


SWITCH = OPENING.replace(
    "<think> ", "{% if not enable_thinking|default(true) %}<think> </think> {% endif %}"
)
"""As Qwen3's: an empty block is written where the model shall not think."""


@pytest.mark.parametrize("name", ["enable_thinking", "thinking"])
def test_the_switch_of_a_template(engines, tmp_path, name):
    template = SWITCH.replace("enable_thinking", name)
    steps = STEPS | {"<assistant>": "<think>"}
    folder = write_checkpoint(tmp_path / name, steps, words=["how"], template=template)
    engine = engines.open(str(folder))
    given = {
        thinking: answers(engine, [user("how")], Decoding(thinking=thinking))[0]
        for thinking in ("default", "on", "off")
    }
    assert given["default"] == given["on"]
    assert (given["on"].text, given["on"].reasoning) == ("no", "harmful decline")
    assert (given["off"].text, given["off"].reasoning) == ("no", "")
    keys = {
        thinking: engine.keys([user("how")], Decoding(thinking=thinking), 0)
        for thinking in ("default", "on", "off")
    }
    assert keys["default"] == keys["on"] != keys["off"]


def test_a_template_without_a_switch(engines, thinker):
    engine = engines.open(str(thinker))
    with pytest.raises(ModelError, match="no switch for thinking"):
        engine.keys([user("how")], Decoding(thinking="off"), 0)
    bounded = Decoding(max_reasoning_tokens=4)
    assert engine.keys([user("how")], bounded, 0) != engine.keys([user("how")], Decoding(), 0)


def test_marks_that_are_special_tokens(engines, tmp_path):
    """Decoding drops special tokens, and with them would go what tells thinking from answer."""
    marks = ["<|channel|>", "<|message|>", "<|start|>"]
    words = ["<|channel|>", "analysis", "<|message|>", "hm", "<|start|>", "assistant"]
    steps = dict(zip(["<assistant>", *words], [*words, "<end>"], strict=False))
    folder = write_checkpoint(tmp_path / "harmony", steps, words=["how"], special=marks)
    (answer,) = answers(engines.open(str(folder)), [user("how")], Decoding(max_new_tokens=16))
    assert (answer.text, answer.finish_reason) == ("", T)
    assert "hm" in answer.reasoning
