"""Finds evaluation behaviors in training rows, whatever wording they stand in, and the wordings of evaluation templates."""

import re
from collections.abc import Iterable, Iterator
from functools import cache

from aftertune.data.bundled.behaviors import pairs
from aftertune.data.bundled.templates import bundled
from aftertune.data.overlap import normalise
from aftertune.data.rows import Row

SHINGLE = 5
"""Words by which a payload is looked up before it is compared as a whole; no bundled payload is shorter."""

Words = tuple[str, ...]


def evaluation_rows(rows: Iterable[Row]) -> Iterator[tuple[int, str]]:
    """Yield the number of each row (from 1) that holds an evaluation behavior, and the behavior's id.

    A row holds a behavior, or a benign twin, if a user turn contains its request or its text in any language, word for
    word after `overlap.normalise`. `overlap.overlapping` compares lines and tails; this looks inside sentences too, so a
    request is found in a wording that nobody has foreseen. One pass, in time proportional to the words.
    """
    for number, row in enumerate(rows, start=1):
        for behavior in dict.fromkeys(_held(row)):
            yield number, behavior


def _held(row: Row) -> Iterator[str]:
    index = _index()
    for turn in row:
        if turn.role == "user":
            words = tuple(normalise(turn.content).split())
            for start in range(len(words) - SHINGLE + 1):
                for payload, behavior in index.get(words[start : start + SHINGLE], ()):
                    if words[start : start + len(payload)] == payload:
                        yield behavior


def evaluation_templates(row: Row) -> Iterator[str]:
    """Yield the evaluation templates in whose words a user turn stands, whatever they are filled with."""
    for turn in row:
        if turn.role == "user":
            asked = normalise(turn.content)
            for template, (before, after) in _wordings().items():
                if (
                    asked.startswith(before)
                    and asked.endswith(after)
                    and len(asked) > len(before) + len(after)
                ):
                    yield template


@cache
def _wordings() -> dict[str, tuple[str, str]]:
    """Return what stands before and after the placeholder of each evaluation template, normalised, to a word's end."""
    found = {}
    for wording in bundled("evaluation"):
        before, after = (
            normalise(part) for part in re.split(r"\{(?:request|text)\}", wording.template.pattern)
        )
        found[wording.template.id] = (f"{before} " if before else "", f" {after}" if after else "")
    return found


@cache
def _index() -> dict[Words, list[tuple[Words, str]]]:
    """Return the evaluation payloads by their first words."""
    index: dict[Words, list[tuple[Words, str]]] = {}
    for pair in pairs("evaluation"):
        for behavior in (pair.harmful, pair.twin):
            for text in (behavior.request, *behavior.texts.values()):
                payload = tuple(normalise(text).split())
                index.setdefault(payload[:SHINGLE], []).append((payload, behavior.id))
    return index
