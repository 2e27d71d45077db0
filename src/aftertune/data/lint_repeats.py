"""Rows that stand twice, in numbers: eight bytes a row and kind of sameness, so that a million rows cost megabytes."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from aftertune.data.overlap import normalise
from aftertune.data.rows import Row

FEWEST_WORDS = 6
"""Questions of fewer different words share them by chance."""

Hashes = NDArray[np.uint64]


def _hashes() -> "array[int]":
    return array("Q")


@dataclass(slots=True)
class Repeats:
    """What is kept of every row to find its likes: hashes of the whole, of the question, and of the question's words."""

    wholes: "array[int]" = field(default_factory=_hashes)
    questions: "array[int]" = field(default_factory=_hashes)
    words: "array[int]" = field(default_factory=_hashes)

    def add(self, row: Row, question: str, words: frozenset[str]) -> None:
        """Keep a row; ``question`` is all that the user says, normalised, and ``words`` its words."""
        asked = _hash(question)
        answers = "\n".join(normalise(turn.content) for turn in row if turn.role != "user")
        self.wholes.append(_hash(f"{question}\n{answers}"))
        self.questions.append(asked)
        self.words.append(_hash(" ".join(sorted(words))) if len(words) >= FEWEST_WORDS else asked)

    def found(self) -> Iterator[tuple[str, NDArray[np.intp], NDArray[np.intp]]]:
        """Yield each kind of sameness with the places (from 0) of the later rows and of the first row like each.

        ``duplicate``: question and answers are those of an earlier row, without case, punctuation and spacing.
        ``same question``: the question is, the answers are not. ``near-duplicate``: the question is not, but has the very
        words of an earlier one, in another order or number. A row is of the first kind that fits.
        """
        known = np.zeros(len(self.wholes), np.bool_)
        kinds = {
            "duplicate": self.wholes,
            "same question": self.questions,
            "near-duplicate": self.words,
        }
        for kind, kept in kinds.items():
            later, first = repeats(np.frombuffer(kept, np.uint64), known)
            known[later] = True
            yield kind, later, first


def repeats(keys: Hashes, left_out: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the places, ascending, of the keys that an earlier place has too, and the first place of each.

    Args:
        keys: (rows,).
        left_out: (rows,): places that are no news.
    """
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    later = order[1:][ranked[1:] == ranked[:-1]]
    later = np.sort(later[~left_out[later]])
    return later, order[np.searchsorted(ranked, keys[later])]


def _hash(text: str) -> int:
    return int.from_bytes(
        blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little"
    )
