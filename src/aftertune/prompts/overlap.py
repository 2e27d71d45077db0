"""Finds evaluation prompts that occur in training or safety rows, so that no model is tested on what it was taught."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from aftertune.core.records import Prompt
from aftertune.prompts.rows import Row

PART_WORDS = 3
"""A line or tail counts as a payload from so many words on: shorter ones are labels and greetings."""

_SEPARATORS = re.compile(r"[\W_]+")


def normalise(text: str) -> str:
    """Return a text for comparison: NFKC, casefolded, every run of white space and punctuation one space."""
    return _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def overlapping(prompts: Iterable[Prompt], sources: Mapping[str, Iterable[Row]]) -> dict[str, dict[str, int]]:
    """Return, for each prompt that occurs in a source, its id and how many of the source's rows hold it.

    A prompt occurs in a row if, normalised, its text equals a user turn, or one of the two equals a payload of the
    other: a line, or what follows a line's first colon (``Translate into French: …``). A wording that both share
    around different payloads is no overlap.

    Args:
        prompts: the evaluation prompts.
        sources: training, safety and replay rows by the name that a report shall give them.
    """
    wholes: dict[str, set[str]] = {}
    parts: dict[str, set[str]] = {}
    for prompt in prompts:
        if whole := normalise(prompt.text):
            wholes.setdefault(whole, set()).add(prompt.id)
        for part in payloads(prompt.text):
            parts.setdefault(part, set()).add(prompt.id)
    found: dict[str, Counter[str]] = {}
    for source, rows in sources.items():
        for row in rows:
            for prompt_id in _held(row, wholes, parts):
                found.setdefault(prompt_id, Counter())[source] += 1
    return {prompt_id: dict(counts) for prompt_id, counts in found.items()}


def payloads(text: str) -> set[str]:
    """Return the normalised lines of a text, and what follows the first colon of each, of three words or more."""
    return {part for part in _parts(text) if part.count(" ") >= PART_WORDS - 1}


def _parts(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield normalise(line)
        _, colon, tail = line.partition(":")
        if colon:
            yield normalise(tail)


def _held(row: Row, wholes: Mapping[str, set[str]], parts: Mapping[str, set[str]]) -> set[str]:
    """Return the ids of the prompts that a row holds, each once however often it stands there."""
    held: set[str] = set()
    for turn in row:
        if turn.role == "user":
            whole = normalise(turn.content)
            held |= parts.get(whole, set())
            for part in payloads(turn.content) | {whole}:
                held |= wholes.get(part, set())
    return held
