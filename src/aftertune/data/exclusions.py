"""The rule by which every loader drops texts about the sexual exploitation of children."""

import re
from collections.abc import Iterable

from aftertune.data.formats import Row

_CHILD = (
    r"child(?:ren)?|kids?|minors?|under-?\s?aged?|infants?|toddlers?|bab(?:y|ies)|pre-?teens?|teen(?:age|ager|agers|aged|s)?"
    r"|schoolgirls?|schoolboys?|(?:little|young) (?:girls?|boys?)|\d{1,2}[- ]year[- ]olds?|enfants?|mineure?s?|fillettes?"
)
_SEXUAL = (
    r"sex(?:ual|ually|ting|y)?|porn\w*|nudes?|nudity|naked|erotic\w*|molest\w*|grooming|groomed|rap(?:e|ed|ing)|lewd"
    r"|fondl\w*|incest\w*|sexuel\w*|érotique\w*"
)
_WITHIN = r"\W+(?:\w+\W+){0,8}?"
"""At most eight words between the two: farther apart they seldom speak of each other."""

_PATTERN = re.compile(
    rf"\b(?:p(?:a)?edophil\w*|pédophil\w*|csam|child exploitation|lolicon|shotacon"
    rf"|(?:{_CHILD}){_WITHIN}(?:{_SEXUAL})|(?:{_SEXUAL}){_WITHIN}(?:{_CHILD}))\b",
    re.IGNORECASE,
)

_CUES = (
    *(
        "sex",
        "porn",
        "nud",
        "naked",
        "erotic",
        "molest",
        "groom",
        "rap",
        "lewd",
        "fondl",
        "incest",
        "érotique",
    ),
    *("pedo", "paedo", "pédo", "csam", "child exploitation", "lolicon", "shotacon"),
)
"""Pieces of which at least one stands in every casefolded text that fits: looking for them first saves most of the search."""


def names_child_exploitation(*texts: str) -> bool:
    """Return whether a text speaks of children and sex in one breath; errs on the side of dropping a row."""
    return any(
        any(cue in text.casefold() for cue in _CUES) and _PATTERN.search(text) for text in texts
    )


def trainable(rows: Iterable[Row]) -> tuple[list[Row], int]:
    """Return the rows that may be trained on, and the number of those that may not."""
    all_rows = list(rows)
    kept = [row for row in all_rows if not names_child_exploitation(*(t.content for t in row))]
    return kept, len(all_rows) - len(kept)


def left_out(count: int) -> str:
    """Return the note that rows were left out of training."""
    return f"{count:,} rows about the sexual exploitation of children, or that read like it, are left out of training"
