"""Finds requests inside longer lines, where neither a line break nor a colon sets them apart.

What is looked for are a prompt's *own phrases*, of six words or more: its whole text, its lines and what follows their
colons, and what is left of it without the words that all prompts of its template begin and end with. A phrase that
several behaviors posed by one template have is wording, not a request, and is not looked for.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile

from aftertune.core.records import Prompt

PHRASE_WORDS = 6
"""Shorter phrases stand in too many texts by chance."""

Texts = Sequence[tuple[Prompt, str, frozenset[str]]]
"""Prompts with their normalised text and its parts (`overlap.payloads`)."""


def unit(prompt: Prompt) -> str:
    """Return what a prompt's overlap counts for: its behavior, for a benign twin the harmful behavior of the pair."""
    return prompt.pair or prompt.behavior


def wording(phrases: Iterable[tuple[Prompt, str]]) -> set[str]:
    """Return the phrases that several behaviors posed by one template have."""
    first: dict[tuple[str, str, str], str] = {}
    return {
        phrase
        for prompt, phrase in phrases
        if first.setdefault((prompt.set, prompt.template, phrase), unit(prompt)) != unit(prompt)
    }


class OwnPhrases:
    """The own phrases of prompts, ready to be looked for in many texts."""

    def __init__(self, texts: Texts) -> None:
        groups: dict[tuple[str, str], list[tuple[Prompt, str, frozenset[str]]]] = {}
        for each in texts:
            groups.setdefault((each[0].set, each[0].template), []).append(each)
        compared = [
            group for group in groups.values() if len({unit(prompt) for prompt, _, _ in group}) > 1
        ]
        self._phrases = _by_rarest_word(self._own(texts, compared))
        self._texts = [(f" {text} ", prompt) for group in compared for prompt, text, _ in group]
        self._places = _places(text for text, _ in self._texts)

    def held(self, text: str) -> set[str]:
        """Return the ids of the prompts of which an own phrase stands in a normalised text, or in which it stands."""
        words, padded = set(text.split()), f" {text} "
        found: set[str] = set()
        for word in words & self._phrases.keys():
            for phrase, ids in self._phrases[word]:
                if phrase in padded:
                    found |= ids
        return found | self._holding(words, padded)

    def _holding(self, words: set[str], padded: str) -> set[str]:
        """Return the prompts that hold a whole text, unless it is wording."""
        if padded.count(" ") <= PHRASE_WORDS or not words <= self._places.keys():
            return set()
        rarest = min((self._places[word] for word in words), key=len)
        holding = [
            prompt for text, prompt in (self._texts[place] for place in rarest) if padded in text
        ]
        return (
            set()
            if wording((prompt, padded) for prompt in holding)
            else {prompt.id for prompt in holding}
        )

    @staticmethod
    def _own(texts: Texts, compared: Iterable[Texts]) -> dict[str, set[str]]:
        """Return the ids of the prompts by own phrase."""
        candidates = [found for group in compared for found in _candidates(group)]
        shared = wording(candidates)
        own: dict[str, set[str]] = {}
        for prompt, phrase in candidates:
            if phrase not in shared:
                own.setdefault(phrase, set()).add(prompt.id)
        for prompt, text, _ in texts:
            own.setdefault(text, set()).add(prompt.id)
        return {phrase: ids for phrase, ids in own.items() if phrase.count(" ") >= PHRASE_WORDS - 1}


def _candidates(group: Texts) -> Iterator[tuple[Prompt, str]]:
    """Yield the parts of each prompt of one template, and what is left without its common beginning and end."""
    split = [text.split() for _, text, _ in group]
    start = _shared(split)
    end = _shared([words[start:][::-1] for words in split])
    for (prompt, _, parts), words in zip(group, split, strict=True):
        for part in parts:
            yield prompt, part
        yield prompt, " ".join(words[start : len(words) - end])


def _shared(texts: Iterable[Sequence[str]]) -> int:
    """Return how many words all texts begin with."""
    return sum(1 for _ in takewhile(lambda words: len(set(words)) == 1, zip(*texts, strict=False)))


def _by_rarest_word(phrases: Mapping[str, set[str]]) -> dict[str, list[tuple[str, set[str]]]]:
    """Return the phrases by the word of each that the fewest others have, so that few are compared with a text."""
    counts = Counter(word for phrase in phrases for word in set(phrase.split()))
    index: dict[str, list[tuple[str, set[str]]]] = {}
    for phrase, ids in phrases.items():
        rarest = min(phrase.split(), key=lambda word: counts[word])
        index.setdefault(rarest, []).append((f" {phrase} ", ids))
    return index


def _places(texts: Iterable[str]) -> dict[str, list[int]]:
    """Return the places of the texts that have a word, by word."""
    places: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        for word in set(text.split()):
            places.setdefault(word, []).append(place)
    return places
