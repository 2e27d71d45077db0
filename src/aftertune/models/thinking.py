"""Reasoning models: the thinking block that stands before a final answer is kept apart from it.

A final answer's text is what the user is shown. Its reasoning goes to ``detail["reasoning"]`` (`Response.reasoning`).
Answers that were stored before this module was there keep their texts, thinking included: a stored answer is never
changed, and the same call is not made again. To have such answers apart, ask anew in another folder.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

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
THINKING_SWITCHES = ("enable_thinking", "thinking")
"""The settings of chat templates that turn thinking on or off: of Qwen3, SmolLM3, GLM and Hunyuan; of Granite and DeepSeek."""

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


def closed_behind(prompt: str) -> str:
    """Return the mark that closes the thinking block that a rendered prompt opens at its end; empty where it opens none."""
    end = prompt.rstrip()
    return next((closing for opening, closing in PAIRS if end.endswith(opening)), "")


def unopened(text: str) -> str:
    """Return a text without the mark at its beginning that opens a thinking block, and the white space around it."""
    start = text.lstrip()
    opening = next((mark for mark, _ in PAIRS if start.startswith(mark)), "")
    return start.removeprefix(opening).lstrip() if opening else text


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


_TAIL = 32
"""Tokens in which the mark that closes a block is looked for: more than any mark has."""
_CLOSINGS = tuple(closing for _, closing in PAIRS)
_HARMONY_STARTS = (CHANNEL, f"<|start|>assistant{CHANNEL}")


class Phase(Enum):
    """The part of an answer that a token belongs to."""

    BEGINNING = "beginning"
    """The text so far may still become the mark that opens a block."""
    THINKING = "thinking"
    ANSWER = "answer"


class Bounds:
    """The tokens of one answer as they come, counted for the thinking and for the final answer apart.

    What a token counts for depends on the tokens of its own answer alone, whatever stands beside it in a batch.

    Attributes:
        length: number of tokens inside the bounds.

    Args:
        decode: gives the text of tokens, special tokens among them.
        reasoning: most tokens of the thinking.
        answer: most tokens of the final answer.
        opened: whether the prompt ended with the mark that opens a block.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        *,
        reasoning: int,
        answer: int,
        opened: bool = False,
    ) -> None:
        self.length = 0
        self._decode = decode
        self._left = {Phase.THINKING: reasoning, Phase.ANSWER: answer}
        self._phase = Phase.THINKING if opened else Phase.BEGINNING
        self._closings: tuple[str, ...] = _CLOSINGS
        self._part: list[int] = []
        """Tokens since the phase began."""
        self._done = False

    def add(self, token: int) -> bool:
        """Count the next token, and return whether the answer ends with it."""
        if self._done:
            return True
        self._part.append(token)
        if self._phase is Phase.BEGINNING:
            self._begin()
            if self._phase is Phase.BEGINNING:
                self.length += 1
                self._done = len(self._part) >= max(self._left.values())
                if self._done:  # no mark after all
                    self.length -= max(0, len(self._part) - self._left[Phase.ANSWER])
                return self._done
            # What stands at the beginning counts for the part that it turned out to belong to.
            excess = max(0, len(self._part) - self._left[self._phase])
            self._left[self._phase] -= len(self._part) - excess
            self.length += 1 - excess
        else:
            self._left[self._phase] -= 1
            self.length += 1
        self._done = self._left[self._phase] <= 0
        if self._phase is Phase.THINKING and self._closed():
            self._phase, self._part = Phase.BEGINNING, []
            self._done = self._left[Phase.ANSWER] <= 0
        return self._done

    def _begin(self) -> None:
        """Enter the thinking or the answer, once the text so far tells which of them it is."""
        text = self._decode(self._part).lstrip().rstrip("\ufffd")  # half a character
        for opening, closing in PAIRS:
            if text.startswith(opening):
                self._phase, self._closings = Phase.THINKING, (closing,)
                return
        if _may_become(text, (FINAL,)):
            return
        if text.startswith(_HARMONY_STARTS) and not text.startswith(FINAL):
            self._phase, self._closings = Phase.THINKING, (FINAL,)
        elif not _may_become(text, (*(opening for opening, _ in PAIRS), *_HARMONY_STARTS)):
            self._phase = Phase.ANSWER

    def _closed(self) -> bool:
        tail = self._decode(self._part[-_TAIL:])
        return any(closing in tail for closing in self._closings)


def _may_become(text: str, marks: Sequence[str]) -> bool:
    """Return whether more text could make it begin with a mark that it does not begin with yet."""
    return any(mark != text and mark.startswith(text) for mark in marks)
