"""Untrusted text in a question to a guard or a judge: a chat template's marker in it must not act as one."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from aftertune.core.records import Message, Question

KNOWN = (
    r"<[|\uff5c][^<>|\uff5c\n]{1,60}[|\uff5c]>",  # ChatML, Llama 3, Phi, gpt-oss; DeepSeek with fullwidth bars
    r"\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<</?SYS>>",  # Llama 2, Mistral
    r"<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>|</?s>",  # Gemma, T5, Llama
)
"""Shapes that are broken whatever the model: an endpoint does not say what its markers are."""


def marker_pattern(markers: Iterable[str] = ()) -> re.Pattern[str]:
    """Return the expression that finds the known markers and ``markers``, a model's own."""
    own = {marker.strip() for marker in markers} - {""}
    return re.compile("|".join([*map(re.escape, sorted(own, key=len, reverse=True)), *KNOWN]))


def neutralised(text: str, pattern: re.Pattern[str]) -> str:
    """Return the text with a space behind the first character of every marker (one of a single character becomes a space).

    A response can hold ``[/INST]`` or ``<|im_end|>``; put into a guard's question as it is, it would end the question and
    answer it. The words stay legible; a text without markers stays as it is.
    """
    broken = 1
    while broken:  # breaking one marker may make another of its neighbours
        text, broken = pattern.subn(_broken, text)
    return text


def _broken(match: re.Match[str]) -> str:
    marker = match[0]
    return f"{marker[0]} {marker[1:]}" if len(marker) > 1 else " "


def filled(pattern: str, parts: Mapping[str, str]) -> str:
    """Return a pattern with every ``{name}`` of ``parts`` replaced, in a single pass: a part that holds one stays as it is."""
    if not parts:
        return pattern
    names = "|".join(map(re.escape, parts))
    return re.sub(rf"\{{({names})\}}", lambda match: parts[match[1]], pattern)


def safe_messages(question: Question) -> tuple[Message, ...]:
    """Return a question's messages for a model whose own markers are not known: all known shapes of markers are broken."""
    pattern = marker_pattern()
    return tuple(
        replace(message, content=neutralised(message.content, pattern))
        for message in question.messages
    )


def safe_prompt(question: Question) -> str:
    """Return a question's finished prompt, likewise."""
    pattern = marker_pattern()
    return filled(
        question.pattern,
        {name: neutralised(text, pattern) for name, text in question.parts.items()},
    )
