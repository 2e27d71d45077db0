"""Finds evaluation prompts that occur in training or safety rows, so that no model is tested on what it was taught.

`Finder` says of one row which prompts it holds, and how. `overlapping` counts what stands in files verbatim; `find_overlap`
also looks inside longer lines and says which behaviors are hit, whose other tasks, templates and twin then are no honest
test either.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from aftertune.core.records import Prompt
from aftertune.data.inside import OwnPhrases, unit, wording
from aftertune.data.rows import Row

PART_WORDS = 3
"""A line or tail counts as a payload from so many words on: shorter ones are labels and greetings."""

How = Literal["verbatim", "payload", "inside"]
"""The whole prompt is the whole user turn; one of the two is a line or a colon's tail of the other; a longer line holds it."""

_SEPARATORS = re.compile(r"[\W_]+")


def normalise(text: str) -> str:
    """Return a text for comparison: NFKC, casefolded, every run of white space and punctuation one space."""
    return _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What of the evaluation prompts stands in training rows, and what must go for it."""

    verbatim: Mapping[str, Mapping[str, int]]
    """Prompt id -> source -> rows that hold it (`overlapping`)."""
    inside: Mapping[str, Mapping[str, int]]
    """The same for requests inside longer lines (`aftertune.data.inside`), in sources that do not hold it verbatim."""
    behaviors: frozenset[str]
    """The behaviors hit; of a pair, the harmful one."""

    @property
    def prompts(self) -> frozenset[str]:
        """The ids of the prompts that occur, verbatim or inside a line."""
        return frozenset(self.verbatim) | frozenset(self.inside)

    @property
    def sources(self) -> dict[str, int]:
        """How many prompts occur in a source."""
        every = [*self.verbatim.values(), *self.inside.values()]
        return dict(Counter(source for counts in every for source in counts))

    def drops(self, prompt: Prompt) -> bool:
        """Return whether a prompt must go: its behavior, or that of its twin, was seen in training under some wording."""
        return unit(prompt) in self.behaviors


class Finder:
    """Prompts made ready to be looked for in any number of rows, one at a time."""

    def __init__(self, prompts: Iterable[Prompt]) -> None:
        self._asked = list(prompts)
        every_part = [(prompt, part) for prompt in self._asked for part in payloads(prompt.text)]
        shared = wording(every_part)
        self._parts: dict[str, set[str]] = {}
        for prompt, part in every_part:
            if part not in shared:
                self._parts.setdefault(part, set()).add(prompt.id)
        self._wholes: dict[str, set[str]] = {}
        for prompt in self._asked:
            if whole := normalise(prompt.text):
                self._wholes.setdefault(whole, set()).add(prompt.id)

    def held(self, row: Row) -> dict[str, How]:
        """Return the ids of the prompts that a row holds, each with the strictest way in which it does."""
        loosely: dict[str, How] = dict.fromkeys(self.inside(row), "inside")
        return loosely | self.standing(row)

    def standing(self, row: Row) -> dict[str, How]:
        """Return the ids of the prompts that a row holds verbatim or as a payload, each once however often.

        A prompt occurs in a row if, normalised, its text equals a user turn, or one of the two equals a payload of the
        other: a line, or what follows a line's first colon (``Translate into French: …``). A wording that both share
        around different payloads is no overlap, nor is a line that several behaviors posed by one template have.
        """
        found: dict[str, How] = {}
        for turn in row:
            if turn.role == "user":
                whole = normalise(turn.content)
                named = self._parts.get(whole, set()).union(
                    *(self._wholes.get(part, ()) for part in payloads(turn.content))
                )
                parts: dict[str, How] = dict.fromkeys(named, "payload")
                found = parts | found
                found |= dict.fromkeys(self._wholes.get(whole, ()), "verbatim")
        return found

    def inside(self, row: Row) -> set[str]:
        """Return the ids of the prompts of which a request stands in a user turn (`aftertune.data.inside`)."""
        return {
            prompt
            for turn in row
            if turn.role == "user"
            for prompt in self._phrases.held(normalise(turn.content))
        }

    @cached_property
    def _phrases(self) -> OwnPhrases:
        return OwnPhrases(
            [
                (prompt, normalise(prompt.text), frozenset(payloads(prompt.text)))
                for prompt in self._asked
            ]
        )


def find_overlap(prompts: Iterable[Prompt], sources: Mapping[str, Iterable[Row]]) -> Overlap:
    """Find the behaviors that training rows hold, verbatim or as a request inside a longer line.

    Args:
        prompts: the evaluation prompts, all tasks, templates and twins together.
        sources: training, safety and replay rows by the name that a report shall give them; each is read once.
    """
    asked = list(prompts)
    finder = Finder(asked)
    verbatim: dict[str, dict[str, int]] = {}
    inside: dict[str, dict[str, int]] = {}
    for source, rows in sources.items():
        standing, within = Counter[str](), Counter[str]()
        for row in rows:
            standing.update(finder.standing(row).keys())
            within.update(finder.inside(row))
        for prompt, count in standing.items():
            verbatim.setdefault(prompt, {})[source] = count
        for prompt in within.keys() - standing.keys():
            inside.setdefault(prompt, {})[source] = within[prompt]
    return Overlap(
        verbatim=verbatim,
        inside=inside,
        behaviors=frozenset(
            unit(prompt) for prompt in asked if prompt.id in verbatim or prompt.id in inside
        ),
    )


def overlapping(
    prompts: Iterable[Prompt], sources: Mapping[str, Iterable[Row]]
) -> dict[str, dict[str, int]]:
    """Return, for each prompt that occurs in a source (`Finder.standing`), its id and how many of the rows hold it.

    Args:
        prompts: the evaluation prompts.
        sources: training, safety and replay rows by the name that a report shall give them.
    """
    finder = Finder(prompts)
    found: dict[str, Counter[str]] = {}
    for source, rows in sources.items():
        for row in rows:
            for prompt_id in finder.standing(row):
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
