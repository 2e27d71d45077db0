"""The mix of languages in a file of any length, from an even sample of its texts."""

from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec

SAMPLED = 400
"""Texts that are identified, at most; the sample is even over the file, and at least half of this in long ones."""
CHARACTERS = 500
"""Of each text that are looked at."""
FEWEST_LETTERS = 20
"""Shorter texts are too short to tell a language."""


@dataclass(slots=True)
class Sample:
    """Every n-th text that was added, n a power of two that grows with their number."""

    texts: list[str] = field(default_factory=list)
    _every: int = 1
    _added: int = 0

    def add(self, text: str) -> None:
        """Take a text, or pass it by."""
        if self._added % self._every == 0:
            if len(self.texts) == SAMPLED:
                self.texts = self.texts[::2]
                self._every *= 2
            if self._added % self._every == 0:
                self.texts.append(text[:CHARACTERS])
        self._added += 1

    def languages(self) -> dict[str, int]:
        """Return how many sampled texts are in which language, the commonest first; ``?`` for those too short to tell.

        Empty where py3langid is not installed.
        """
        if find_spec("py3langid") is None:
            return {}
        import py3langid

        counts = Counter(
            py3langid.classify(text)[0] if sum(map(str.isalpha, text)) >= FEWEST_LETTERS else "?"
            for text in self.texts
        )
        return dict(counts.most_common())
