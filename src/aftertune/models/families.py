"""Which rows begin alike, so that keys and values of what they share are worth computing once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

LEAST = 4
"""Tokens below which a shared beginning saves less than it costs."""
PASS = 1000
"""Tokens that have to be saved for one more forward pass to pay: what a GPU computes while it reads the weights once; on a
CPU fewer would do."""


@dataclass(frozen=True, slots=True)
class Family:
    """Rows, by number, and the tokens that they all begin with; none where sharing them does not pay."""

    rows: tuple[int, ...]
    shared: tuple[int, ...] = ()


def families(rows: Sequence[list[int]], *, own: int = 1, steps: int = 1) -> list[Family]:
    """Sort rows into families by what they begin with.

    Rows leave for a family of their own where that saves more than the batch that it adds: the rubric of a task, a guard's
    policy. Everybody else stays with what all share: a chat template, a system prompt.

    Args:
        rows: tokens of each row.
        own: tokens that each row keeps for itself at least.
        steps: forward passes that a batch takes: one to score it, as many as it has new tokens to generate.
    """
    if not rows:
        return []
    order = sorted(range(len(rows)), key=rows.__getitem__)
    known = _alike(rows[order[0]], rows[order[-1]])  # what these share, all in between do
    alike = [
        known + _alike(rows[one][known:], rows[other][known:]) for one, other in pairwise(order)
    ]
    found, open_ = [], [(0, len(order))]
    while open_:
        begin, end = open_.pop()
        pieces = list(_pieces(alike, begin, end))
        shared = _shared(alike, begin, end)
        leaving = [
            (low, high)
            for low, high in pieces
            if len(pieces) > 1
            and (_shared(alike, low, high) - shared) * (high - low - 1) >= PASS * (steps + 1)
        ]
        open_ += leaving
        stay = [i for piece in pieces if piece not in leaving for i in order[slice(*piece)]]
        if stay:
            found.append(_family(rows, stay, own))
    return found


def _family(rows: Sequence[list[int]], members: Sequence[int], own: int) -> Family:
    tokens = [rows[i] for i in members]
    first, last = min(tokens), max(tokens)  # what these share, all in between do
    length = max(min(_alike(first, last), min(map(len, tokens)) - own), 0)
    pays = length >= LEAST and length * (len(members) - 1) >= PASS
    return Family(tuple(sorted(members)), tuple(first[:length]) if pays else ())


def _shared(alike: Sequence[int], begin: int, end: int) -> int:
    """Return how many tokens the sorted rows from ``begin`` to ``end`` share; 0 for a single one, which shares with nobody."""
    return min(alike[begin : end - 1], default=0)


def _pieces(alike: Sequence[int], begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut sorted rows where neighbours share no more than all do."""
    shared, low = _shared(alike, begin, end), begin
    for high in range(begin + 1, end):
        if alike[high - 1] == shared:
            yield low, high
            low = high
    yield low, end


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two rows begin with in common."""
    differ = (i for i, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
    return next(differ, min(len(one), len(other)))
