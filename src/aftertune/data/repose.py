"""Finds the prompt format of a training file, and poses other rows in it: system line, prefix, suffix, input field.

The rule, in full. A *prefix* is what a question begins with, up to a line break, up to a colon and a space, or up to a
space; a *suffix* is what it ends with, from a line break or a space on. What stands at a line break or a colon counts as
format if at least `SUPPORT` of the rows (and at least `LEAST`) share it, so that a file may have several frames (with and
without an input field, say); where there is no such piece, what stands at a space inside a line must be shared by `COMMON`
of them, for words that many requests begin with ("Write a") are no format. All frames together must hold `COMMON` of the rows; otherwise the file has no
common format. A *middle* is a line that `COMMON` of a frame's rows have inside, between an instruction and its input. A
system turn is part of the format if `COMMON` of the rows share it.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from aftertune.core.records import Message
from aftertune.data.rows import Row

SUPPORT = 0.1
"""Share of the rows that must have a frame."""
COMMON = 0.9
"""Share of the rows that must have some frame, and one system turn, for the file to have a format."""
LEAST = 10
"""Rows that must have a frame, however small the file."""
LOOKED_AT = 10_000
"""Rows that are looked at, evenly spread over the file."""
REACH = 4_000
"""Characters of a question's beginning and end in which a prefix and a suffix are looked for."""
BOUNDARIES = 40
"""Places at which a prefix or suffix may end, from the edge of the question inwards."""

INPUT = "\n\n"
"""What `rows` puts between an instruction and what stands in a column ``input``."""

_AFTER = re.compile(r"\n+|: +| +")
_BEFORE = re.compile(r"\s*\n+| +")
_INSIDE = re.compile(r"(?<=[^\n])(?=(\n+[^\n]+\n+)[^\n])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What stands around the questions of a file."""

    prefix: str = ""
    middle: str = ""
    """What stands between an instruction and its input; empty where a question is one piece."""
    suffix: str = ""
    share: float
    """Rows in this frame / rows looked at."""

    def around(self, question: str) -> str:
        """Return the question in this frame; with a middle, its payload (`split`) goes behind it."""
        if self.middle:
            question = self.middle.join(split(question))
        return f"{self.prefix}{question}{self.suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFormat:
    """How a training file poses its questions, as `find_format` found it; without frames, questions stay as they are."""

    system: str | None = None
    """The system turn that the rows share; None without one."""
    frames: tuple[Frame, ...] = ()
    """Commonest first."""
    rows: int
    """Rows looked at."""

    @property
    def found(self) -> bool:
        """Whether there is anything to pose rows in."""
        return self.system is not None or bool(self.frames)

    @property
    def inside_a_line(self) -> bool:
        """Whether a prefix ends inside a line: it may be an instruction of the task and not only a frame."""
        return any(frame.prefix and not frame.prefix.endswith("\n") for frame in self.frames)

    def described(self) -> list[str]:
        """Return what was found, a line each, for people."""
        if not self.found:
            return [
                f"no common format in the {self.rows:,} rows looked at: added rows stay as they are"
            ]
        lines = [] if self.system is None else [f"system: {_shown(self.system)}"]
        for frame in self.frames:
            middle = (
                f" {{instruction}} {_shown(frame.middle)} {{input}} "
                if frame.middle
                else " {question} "
            )
            lines.append(
                f"{frame.share:.0%} of rows: {_shown(frame.prefix)}{middle}{_shown(frame.suffix)}".strip()
            )
        return lines


def find_format(rows: Sequence[Row], *, inputs: float = 0.0) -> PromptFormat:
    """Find the format in which rows pose their first question; the rule stands at the top of this module.

    At most `LOOKED_AT` rows are looked at, evenly spread. Nothing found gives a format without system turn and frames,
    whose ``found`` is False and which `repose` leaves rows alone for.

    Args:
        rows: training rows, in memory or read when asked for.
        inputs: the share of rows with something in a column ``input``, which the rows themselves do not tell. From
            `SUPPORT` on, and without other frames, questions with a payload are posed as instruction and input.
    """
    step = max(1, ceil(len(rows) / LOOKED_AT))
    looked_at = [rows[number] for number in range(0, len(rows), step)]
    systems = Counter(
        row[0].content if row[0].role == "system" else None for row in looked_at if row
    )
    system, count = systems.most_common(1)[0] if systems else (None, 0)
    frames = _frames(
        [question for row in looked_at if (question := first_question(row)) is not None]
    )
    if inputs >= SUPPORT and not frames:
        frames = (Frame(middle=INPUT, share=inputs), Frame(share=1 - inputs))
    return PromptFormat(
        system=system if count >= COMMON * len(looked_at) else None,
        frames=frames,
        rows=len(looked_at),
    )


def repose(row: Row, into: PromptFormat) -> Row:
    """Return the row with its first question in the format's frame and, unless it has one, the format's system turn.

    A question with a payload (`split`) is put into the commonest frame with an input field if there is one, any other
    into the commonest without. The answer, and all later turns, stay as they are.
    """
    if into.system is not None and row[0].role != "system":
        row = (Message(role="system", content=into.system), *row)
    question = first_question(row)
    if not into.frames or question is None:
        return row
    frame = _frame_for(question, into.frames)
    place = next(number for number, turn in enumerate(row) if turn.role == "user")
    return (*row[:place], Message(role="user", content=frame.around(question)), *row[place + 1 :])


def split(question: str) -> tuple[str, str]:
    """Return the instruction of a question and its payload: what follows the first line break or colon; "" without one."""
    found = re.search(r"\s*\n\s*|(?<=:) +", question.strip())
    if found is None:
        return question, ""
    return question.strip()[: found.start()], question.strip()[found.end() :]


def first_question(row: Row) -> str | None:
    """Return what the first user turn of a row says."""
    return next((turn.content for turn in row if turn.role == "user"), None)


def _frame_for(question: str, frames: Sequence[Frame]) -> Frame:
    wants_input = bool(split(question)[1])
    return next((frame for frame in frames if bool(frame.middle) == wants_input), frames[0])


def _frames(questions: Sequence[str]) -> tuple[Frame, ...]:
    """Return the frames that hold the questions, commonest first; none if they do not hold `COMMON` of them."""
    total = len(questions)
    prefixes = _longest_shared(questions, _prefixes, total)
    bodies = [question[len(prefix) :] for question, prefix in zip(questions, prefixes, strict=True)]
    suffixes = _longest_shared(bodies, _suffixes, total)
    groups: dict[tuple[str, str], list[str]] = {}
    for prefix, body, suffix in zip(prefixes, bodies, suffixes, strict=True):
        groups.setdefault((prefix, suffix), []).append(body[: len(body) - len(suffix)])
    frames = [
        Frame(prefix=prefix, middle=_middle(inner), suffix=suffix, share=len(inner) / total)
        for (prefix, suffix), inner in groups.items()
        if len(inner) >= _needed(SUPPORT, total) and len(set(inner)) > 1
    ]
    framed = [frame for frame in frames if frame.prefix or frame.middle or frame.suffix]
    if sum(frame.share for frame in framed) < COMMON:
        return ()
    return tuple(sorted(framed, key=lambda frame: (-frame.share, frame.prefix, frame.suffix)))


def _needed(share: float, total: int) -> int:
    return max(LEAST, ceil(share * total))


_Edges = Callable[[str], Iterable[tuple[str, bool]]]
"""Gives the prefixes (or suffixes) of a text that may be format, and whether each stands at a line break or a colon."""


def _longest_shared(texts: Sequence[str], edges: _Edges, total: int) -> list[str]:
    """Return for each text the longest prefix (or suffix) that enough others share, or ""."""
    counts = Counter(hash(edge) for text in texts for edge, _ in edges(text))
    at_breaks, inside = _needed(SUPPORT, total), _needed(COMMON, total)
    longest = []
    for text in texts:
        shared = [
            (strong, edge)
            for edge, strong in edges(text)
            if counts[hash(edge)] >= (at_breaks if strong else inside)
        ]
        longest.append(
            max(shared, key=lambda found: (found[0], len(found[1])), default=(False, ""))[1]
        )
    return longest


def _prefixes(text: str) -> Iterator[tuple[str, bool]]:
    for number, found in enumerate(_AFTER.finditer(text[:REACH])):
        if number == BOUNDARIES or found.end() == len(text):
            return
        yield text[: found.end()], found[0] != " " * len(found[0])


def _suffixes(text: str) -> Iterator[tuple[str, bool]]:
    start = max(0, len(text) - REACH)
    for found in [found for found in _BEFORE.finditer(text, start) if found.start()][-BOUNDARIES:]:
        if found.end() < len(text) or "\n" in found[0]:
            yield text[found.start() :], "\n" in found[0]


def _middle(bodies: Sequence[str]) -> str:
    """Return the line inside the bodies, with the breaks around it, that `COMMON` of them have; "" without one."""
    lines = Counter(line for body in bodies for line in set(_INSIDE.findall(body)))
    line, count = lines.most_common(1)[0] if lines else ("", 0)
    return line if count >= _needed(COMMON, len(bodies)) else ""


def _shown(text: str) -> str:
    """Return a piece of format on one line, its middle left out if it is long."""
    line = text.encode("unicode_escape").decode() if not text.isprintable() else text
    return f'"{line}"' if len(line) <= 72 else f'"{line[:40]} ... {line[-27:]}"'
