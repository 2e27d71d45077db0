"""Finds evaluation behaviors in training rows, whatever wording they stand in."""

from collections.abc import Iterable, Iterator
from functools import cache

from aftertune.prompts.bundled.behaviors import pairs
from aftertune.prompts.overlap import normalise
from aftertune.prompts.rows import Row

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
