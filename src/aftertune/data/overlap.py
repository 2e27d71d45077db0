"""Texts that occur in other texts: the comparison of prompts with training rows, so that no model is tested on what it was taught.

Everything here compares words after `normalise`. One index (`PhraseIndex`) finds phrases inside texts; it serves evaluation
prompts in the rows of a study (`Finder`, from `PHRASE_WORDS` words on) and the bundled behaviors in any training file
(`bundled.multitask.evaluation_rows`, from 5 words on). `jaccard` tells near-duplicates apart (from `NEAR_DUPLICATE` on).
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import takewhile
from typing import Generic, Literal, TypeAlias, TypeVar

from aftertune.core.records import Prompt
from aftertune.data.rows import Row

PART_WORDS = 3
"""A line, or the rest of a line after a colon, counts as a payload from so many words on: shorter ones are labels and greetings."""
PHRASE_WORDS = 6
"""A request is looked for inside longer lines from so many words on: shorter phrases stand in too many texts by chance."""
NEAR_DUPLICATE = 0.4
"""Two texts whose word sets have a Jaccard similarity of this or more are near-duplicates."""

How = Literal["verbatim", "payload", "inside"]
"""The ways in which a row holds a prompt, strictest first: a whole turn, which is not an answer, is the prompt; one of the two is a line (or
the rest of a line after a colon) of the other; a longer line holds the request."""

_SEPARATORS = re.compile(r"[\W_]+")
_Owner = TypeVar("_Owner")


def normalise(text: str) -> str:
    """Return a text for comparison: NFKC, casefolded, every run of white space and punctuation one space."""
    return _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def shown_texts(row: Row) -> Iterator[str]:
    """Yield the texts of a row that a model is shown: all but the answers; calls of tools and their results too."""
    return (turn.content for turn in row if turn.role != "assistant")


def text_hash(text: str) -> int:
    """Return 8 bytes of BLAKE2b as an unsigned integer, so that a million texts can be compared in 8 MB."""
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest())


def payloads(text: str) -> set[str]:
    """Return the normalised lines of a text, and what follows the first colon of each, of `PART_WORDS` words or more."""
    parts = {
        normalise(part)
        for line in text.splitlines()
        for part in (line, line.partition(":")[2])
        if part
    }
    return {part for part in parts if part.count(" ") >= PART_WORDS - 1}


def word_set(text: str) -> frozenset[str]:
    """Return the different words of a text, normalised."""
    return frozenset(normalise(text).split())


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the Jaccard similarity of two word sets, in [0, 1]; two empty sets are alike.

    It is the number of words that both have / the number that either has: Broder's resemblance (1997), words as shingles.
    """
    union = len(first | second)
    return len(first & second) / union if union else 1.0


def near_duplicates(
    first: Iterable[tuple[str, str]],
    second: Iterable[tuple[str, str]],
    threshold: float = NEAR_DUPLICATE,
) -> Iterator[tuple[str, str, float]]:
    """Yield the names of every two texts (name, text) across two lists that are ``threshold`` alike or more, and how alike."""
    others = [(name, word_set(text)) for name, text in second]
    for name, text in first:
        words = word_set(text)
        for other, other_words in others:
            if (similarity := jaccard(words, other_words)) >= threshold:
                yield name, other, similarity


class PhraseIndex(Generic[_Owner]):
    """Phrases with their owners, ready to be looked for in many texts.

    Phrases are filed under their first ``size`` words, so that a text of n words takes n look-ups, however many phrases
    there are. A shorter phrase is never found.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._phrases: dict[tuple[str, ...], list[tuple[tuple[str, ...], _Owner]]] = {}

    def add(self, phrase: str, owner: _Owner) -> None:
        """File a normalised phrase."""
        words = tuple(phrase.split())
        self._phrases.setdefault(words[: self._size], []).append((words, owner))

    def owners(self, text: str) -> Iterator[_Owner]:
        """Yield the owner of every phrase in a normalised text, in the order in which the phrases begin in it."""
        words = tuple(text.split())
        for start in range(len(words) - self._size + 1):
            for phrase, owner in self._phrases.get(words[start : start + self._size], ()):
                if words[start : start + len(phrase)] == phrase:
                    yield owner


def unit_of(prompt: Prompt) -> str:
    """Return the behavior that a prompt's overlap counts for; for a benign twin the harmful behavior of the pair."""
    return prompt.pair or prompt.behavior


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """The evaluation prompts that stand in training rows, and what must go for it."""

    verbatim: Mapping[str, Mapping[str, int]]
    """Prompt id -> source -> rows that hold the prompt verbatim or as a payload."""
    inside: Mapping[str, Mapping[str, int]]
    """The same for requests inside longer lines, in sources that do not hold the prompt in a stricter way."""
    behaviors: frozenset[str]
    """The behaviors hit; of a pair, the harmful one."""

    @property
    def prompts(self) -> frozenset[str]:
        """The ids of the prompts that occur in any way."""
        return frozenset(self.verbatim) | frozenset(self.inside)

    @property
    def sources(self) -> dict[str, int]:
        """The number of prompts that occur in each source."""
        counts = [*self.verbatim.values(), *self.inside.values()]
        return dict(Counter(source for by_source in counts for source in by_source))

    def drops(self, prompt: Prompt) -> bool:
        """Return whether a prompt must go: training showed its behavior, or that of its twin, in some wording."""
        return unit_of(prompt) in self.behaviors


@dataclass(frozen=True, slots=True)
class _Compared:
    """A prompt with its normalised text and that text's payloads."""

    prompt: Prompt
    text: str
    parts: frozenset[str]


class Finder:
    """Evaluation prompts, ready to be looked for in any number of training rows, one row at a time.

    A prompt occurs in a row if, normalised, its text equals a text that is shown (`shown_texts`: a user's or system turn,
    what a tool is asked or says; ``verbatim``), or if one of the two equals a payload of the other (``payload``). It stands
    ``inside`` a row if one of its *own phrases*, of `PHRASE_WORDS` words or more, stands in such a text, or if a whole text
    of so many words stands in it. Own phrases are its whole text, its
    payloads, and what is left of it without the words that all prompts of its template begin and end with. Phrases that
    several behaviors posed by one template share are the template's wording and never count.
    """

    def __init__(self, prompts: Iterable[Prompt]) -> None:
        compared = [
            _Compared(prompt, normalise(prompt.text), frozenset(payloads(prompt.text)))
            for prompt in prompts
        ]
        self._wholes = _ids_by_phrase((item.prompt, item.text) for item in compared if item.text)
        self._parts = _own([(item.prompt, part) for item in compared for part in item.parts])
        groups: dict[tuple[str, str], list[_Compared]] = {}
        for item in compared:
            groups.setdefault((item.prompt.set, item.prompt.template), []).append(item)
        # With one behavior alone in its template nothing tells the template's words from the request.
        several = [
            group for group in groups.values() if len({unit_of(item.prompt) for item in group}) > 1
        ]
        own = _own([candidate for group in several for candidate in _candidates(group)])
        for item in compared:
            own.setdefault(item.text, set()).add(item.prompt.id)
        self._phrases = PhraseIndex[set[str]](PHRASE_WORDS)
        for phrase, ids in own.items():
            self._phrases.add(phrase, ids)
        self._texts = [(f" {item.text} ", item.prompt) for group in several for item in group]
        self._places: dict[str, list[int]] = {}
        for place, (text, _) in enumerate(self._texts):
            for word in set(text.split()):
                self._places.setdefault(word, []).append(place)

    def held(self, row: Row) -> dict[str, How]:
        """Return the ids of the prompts that a row holds, each with the strictest way in which it does."""
        ways: dict[How, set[str]] = {"inside": set(), "payload": set(), "verbatim": set()}
        for shown in shown_texts(row):
            text = normalise(shown)
            ways["inside"].update(*self._phrases.owners(text), self._holding(text))
            ways["payload"].update(
                self._parts.get(text, ()),
                *(self._wholes.get(part, ()) for part in payloads(shown)),
            )
            ways["verbatim"].update(self._wholes.get(text, ()))
        # The strictest way comes last, and stays.
        return {prompt_id: way for way, ids in ways.items() for prompt_id in sorted(ids)}

    def _holding(self, text: str) -> set[str]:
        """Return the ids of the prompts in which a whole text stands, unless it is wording that behaviors share."""
        words, padded = set(text.split()), f" {text} "
        if padded.count(" ") <= PHRASE_WORDS or not words <= self._places.keys():
            return set()
        # Whatever holds the text holds its rarest word: few texts are compared.
        rarest = min((self._places[word] for word in words), key=len)
        holding = [
            prompt for held, prompt in (self._texts[place] for place in rarest) if padded in held
        ]
        shared = _wording([(prompt, padded) for prompt in holding])
        return set() if shared else {prompt.id for prompt in holding}


_Phrases: TypeAlias = Iterable[tuple[Prompt, str]]


def _ids_by_phrase(phrases: _Phrases) -> dict[str, set[str]]:
    ids: dict[str, set[str]] = {}
    for prompt, phrase in phrases:
        ids.setdefault(phrase, set()).add(prompt.id)
    return ids


def _wording(phrases: _Phrases) -> set[str]:
    """Return the phrases that several behaviors posed by one template have."""
    first: dict[tuple[str, str, str], str] = {}
    return {
        phrase
        for prompt, phrase in phrases
        if first.setdefault((prompt.set, prompt.template, phrase), unit_of(prompt))
        != unit_of(prompt)
    }


def _own(phrases: Sequence[tuple[Prompt, str]]) -> dict[str, set[str]]:
    """Return the ids of the prompts by phrase, without the phrases that are wording."""
    shared = _wording(phrases)
    return _ids_by_phrase((prompt, phrase) for prompt, phrase in phrases if phrase not in shared)


def _candidates(group: Sequence[_Compared]) -> Iterator[tuple[Prompt, str]]:
    """Yield the payloads of each prompt of one template, and its text without the template's beginning and end."""
    split = [item.text.split() for item in group]
    start = _shared_words(split)
    end = _shared_words([words[start:][::-1] for words in split])
    for item, words in zip(group, split, strict=True):
        for part in item.parts:
            yield item.prompt, part
        yield item.prompt, " ".join(words[start : len(words) - end])


def _shared_words(texts: Iterable[Sequence[str]]) -> int:
    """Return the number of words that all texts begin with."""
    return sum(1 for _ in takewhile(lambda words: len(set(words)) == 1, zip(*texts, strict=False)))


def find_overlap(prompts: Iterable[Prompt], sources: Mapping[str, Iterable[Row]]) -> Overlap:
    """Find the behaviors that training rows hold, verbatim or as a request inside a longer line.

    Args:
        prompts: the evaluation prompts, all tasks, templates and twins together.
        sources: training, safety and replay rows by the name that a report shall give them; each is read once.
    """
    evaluated = list(prompts)
    finder = Finder(evaluated)
    verbatim: dict[str, dict[str, int]] = {}
    inside: dict[str, dict[str, int]] = {}
    for source, rows in sources.items():
        standing, within = Counter[str](), Counter[str]()
        for row in rows:
            for prompt_id, how in finder.held(row).items():
                (within if how == "inside" else standing)[prompt_id] += 1
        for prompt_id, count in standing.items():
            verbatim.setdefault(prompt_id, {})[source] = count
        for prompt_id in sorted(within.keys() - standing.keys()):
            inside.setdefault(prompt_id, {})[source] = within[prompt_id]
    hit = verbatim.keys() | inside.keys()
    return Overlap(
        verbatim=verbatim,
        inside=inside,
        behaviors=frozenset(unit_of(prompt) for prompt in evaluated if prompt.id in hit),
    )
