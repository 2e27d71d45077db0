"""Reasoning models: the thinking block that stands before a final answer is kept apart from it.

A final answer's text is what the user is shown. Its reasoning goes to ``detail["reasoning"]`` (`Response.reasoning`).
Answers that were stored before this module was there keep their texts, thinking included: a stored answer is never
changed, and the same call is not made again. To have such answers apart, ask anew in another folder.
"""

import re
from dataclasses import dataclass, replace

from aftertune.core.records import FinishReason, Response

PAIRS = (
    ("<think>", "</think>"),  # DeepSeek R1, Qwen3, QwQ, SmolLM3, Granite, and most others
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),  # Kimi
)
"""The marks that open and close a thinking block."""
CHANNEL, FINAL = "<|channel|>", "<|channel|>final<|message|>"
"""Harmony (gpt-oss): everything before the final channel is thinking."""
MARKS = frozenset({mark for pair in PAIRS for mark in pair} | {CHANNEL})

_HARMONY = re.compile(r"\s*(?:<\|start\|>assistant)?<\|channel\|>")
_BARE_HARMONY = re.compile(r"analysis(.*?)assistant\s*final(.*)", re.DOTALL)
"""Harmony whose markers were dropped as special tokens on the way."""
_HARMONY_MARK = re.compile(
    r"<\|start\|>assistant|<\|channel\|>\w*(?: [^<]*)?<\|message\|>|<\|(?:end|call|return)\|>"
)


@dataclass(frozen=True, slots=True)
class Separated:
    """A text as reasoning and final answer."""

    reasoning: str
    answer: str
    closed: bool = True
    """False where the text ends inside the thinking, so that there is no final answer."""


def separate(text: str, *, opened: bool = False) -> Separated | None:
    """Return the thinking block at the beginning of a text apart from the answer; None where there is no such block.

    Args:
        text: what the model wrote.
        opened: whether the prompt ended with the mark that opens a block (`opens`), so that only its end is in the text.
    """
    if _HARMONY.match(text):
        before, mark, answer = text.partition(FINAL)
        plain = _HARMONY_MARK.sub("", answer).lstrip()
        return Separated(_HARMONY_MARK.sub("", before).strip(), plain, closed=bool(mark))
    if match := _BARE_HARMONY.fullmatch(text):
        return Separated(match[1].strip(), match[2].lstrip())
    blocks: list[str] = []
    rest, closed = text, True
    while closed and (block := _leading(rest, opened=opened and not blocks)):
        reasoning, rest, closed = block
        blocks.append(reasoning.strip())
    if not blocks:
        return None
    return Separated("\n\n".join(filter(None, blocks)), rest.lstrip(), closed=closed)


def without_thinking(text: str) -> str:
    """Return the answer in a text, without the thinking at its beginning; empty where the text ends inside that."""
    separated = separate(text)
    return text if separated is None else separated.answer


def opens(prompt: str) -> bool:
    """Return whether a rendered prompt ends with the mark that opens a thinking block."""
    return prompt.rstrip().endswith(tuple(start for start, _ in PAIRS))


def final(response: Response, *, reasoning: str = "", opened: bool = False) -> Response:
    """Return a response with its thinking apart.

    One that ends inside its thinking, or is cut at the token limit right behind it, has no final answer: its finish reason
    becomes `FinishReason.THINKING`, its text empty. An empty text of a model that ended by itself stays a final answer.

    Args:
        response: the text as the model or server gave it.
        reasoning: what the server gave apart from the text.
        opened: see `separate`.
    """
    if response.finish_reason is FinishReason.PROVIDER_REFUSAL:
        return response
    separated = separate(response.text, opened=opened)
    if separated is None and not reasoning:
        return response
    answer = response.text if separated is None else separated.answer
    cut = response.finish_reason is FinishReason.LENGTH and not answer.strip()
    unfinished = cut or (separated is not None and not separated.closed)
    parts = filter(None, (reasoning, "" if separated is None else separated.reasoning))
    return replace(
        response,
        text="" if unfinished else answer,
        finish_reason=FinishReason.THINKING if unfinished else response.finish_reason,
        detail={**response.detail, "reasoning": "\n\n".join(parts)},
    )


def _leading(text: str, *, opened: bool) -> tuple[str, str, bool] | None:
    """Return the block that a text begins with, what stands behind it, and whether the block was closed."""
    start = text.lstrip()
    for opening, closing in PAIRS:
        if start.startswith(opening):
            block, mark, rest = start.removeprefix(opening).partition(closing)
            return block, rest, bool(mark)
    for opening, closing in PAIRS:  # the template opened the block, or a server dropped the mark
        block, mark, rest = text.partition(closing)
        if mark and opening not in block:
            return block, rest, True
    return (text, "", False) if opened else None
