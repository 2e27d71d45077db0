"""Near-duplicates: what stands in the evaluation part must not stand in the safety part in other words' order.

Two texts are near-duplicates if the token sets of their normalised forms have a Jaccard similarity of `THRESHOLD` or
more: the words that both have / the words that either has (Broder 1997, resemblance, with words as shingles).
"""

from collections.abc import Iterable, Iterator, Sequence

from aftertune.data.bundled.behaviors import Pair
from aftertune.data.bundled.templates import BASES, Wording
from aftertune.data.overlap import normalise

THRESHOLD = 0.4

Named = tuple[str, str]
"""The name of a text and the text."""


def tokens(text: str) -> frozenset[str]:
    """Return the words of a text, normalised as for the overlap of prompts and training rows."""
    return frozenset(normalise(text).split())


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the Jaccard similarity of two token sets, in [0, 1]; two empty ones are alike."""
    together = len(one | other)
    return len(one & other) / together if together else 1.0


def closest(ours: Sequence[Named], theirs: Sequence[Named]) -> tuple[str, str, float]:
    """Return the two names whose texts are most alike across two non-empty lists, and how alike they are."""
    sets = [(name, tokens(text)) for name, text in theirs]
    return max(
        (
            (name, other, similarity(words, those))
            for name, words in _sets(ours)
            for other, those in sets
        ),
        key=lambda found: found[2],
    )


def near_duplicates(
    ours: Iterable[Named], theirs: Iterable[Named], threshold: float = THRESHOLD
) -> Iterator[tuple[str, str, float]]:
    """Yield every two names across two lists whose texts are near-duplicates, and how alike they are."""
    sets = list(_sets(theirs))
    for name, words in _sets(ours):
        for other, those in sets:
            if (likeness := similarity(words, those)) >= threshold:
                yield name, other, likeness


def _sets(texts: Iterable[Named]) -> Iterator[tuple[str, frozenset[str]]]:
    return ((name, tokens(text)) for name, text in texts)


def wordings(templates: Iterable[Wording]) -> list[Named]:
    """Return the patterns of templates without their placeholders."""
    return [(wording.template.id, _bare(wording.template.pattern)) for wording in templates]


def _bare(pattern: str) -> str:
    for place in BASES:
        pattern = pattern.replace(place, " ")
    return pattern


def shared_wordings(
    ours: Iterable[Wording], theirs: Iterable[Wording]
) -> Iterator[tuple[str, str, float]]:
    """Yield the templates that are worded alike across two lists."""
    return near_duplicates(wordings(ours), wordings(theirs))


def payload_texts(chosen: Iterable[Pair]) -> dict[str, list[Named]]:
    """Return all payloads by kind (``request``, and the language of a text), harmful and benign together."""
    kinds: dict[str, list[Named]] = {}
    for pair in chosen:
        for behavior in (pair.harmful, pair.twin):
            kinds.setdefault("request", []).append((behavior.id, behavior.request))
            for language, text in behavior.texts.items():
                kinds.setdefault(language, []).append((behavior.id, text))
    return kinds
