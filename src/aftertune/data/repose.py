"""The prompt format of a training file (system line, prefix, suffix, input field): found, and given to other rows.

The rule, in full. A *prefix* is the beginning of a question, up to a line break, up to a colon and a space, or up to a
space; a *suffix* is its end, from a line break or a space on. A piece that ends at a line break or a colon counts as
format if at least `SUPPORT` of the rows (and at least `LEAST`) share it, so that a file may have several frames (with and
without an input field, say). Where there is no such piece, one that ends at a space inside a line must be shared by `COMMON`
of the rows, for words that many requests begin with ("Write a") are no format. All frames together must hold `COMMON` of the rows; otherwise the file has no
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
"""Share of the rows that must have any of the frames, and the same system turn, for the file to have a format."""
LEAST = 10
"""Rows that must have a frame, however small the file."""
MOST_ROWS = 10_000
"""Rows that are compared, evenly spread over the file."""
REACH = 4_000
"""Characters of a question's beginning and end in which a prefix and a suffix are looked for."""
BOUNDARIES = 40
"""Places at which a prefix or suffix may end, from the edge of the question inwards."""

INPUT = "\n\n"
"""The text that `formats` puts between an instruction and its input."""

_AFTER = re.compile(r"\n+|: +| +")
_BEFORE = re.compile(r"\s*\n+| +")
_INSIDE = re.compile(r"(?<=[^\n])(?=(\n+[^\n]+\n+)[^\n])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The text around the questions of a file."""

    prefix: str = ""
    middle: str = ""
    """The text between an instruction and its input; empty where a question is one piece."""
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
    """The way in which a training file poses its questions; without frames, questions stay as they are."""

    system: str | None = None
    """The system turn that the rows share; None without one."""
    frames: tuple[Frame, ...] = ()
    """Commonest first."""
    rows: int
    """Rows that were compared."""

    @property
    def is_empty(self) -> bool:
        """The file has no common format: neither a system turn nor frames."""
        return self.system is None and not self.frames

    @property
    def inside_a_line(self) -> bool:
        """A prefix ends inside a line: it may be an instruction of the task and not only a frame."""
        return any(frame.prefix and not frame.prefix.endswith("\n") for frame in self.frames)

    def described(self) -> list[str]:
        """Return the format for people, line by line."""
        if self.is_empty:
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

    At most `MOST_ROWS` rows are compared, evenly spread. Rows without a common format give an empty one, by which `repose`
    leaves rows as they are.

    Args:
        rows: training rows, in memory or read when asked for.
        inputs: the share of rows with something in a column ``input``, which the rows themselves do not show. From
            `SUPPORT` on, and without other frames, questions with a payload are posed as instruction and input.
    """
    step = max(1, ceil(len(rows) / MOST_ROWS))
    compared = [rows[number] for number in range(0, len(rows), step)]
    systems = Counter(
        row[0].content if row[0].role == "system" else None for row in compared if row
    )
    system, count = systems.most_common(1)[0] if systems else (None, 0)
    frames = _frames(
        [question for row in compared if (question := first_question(row)) is not None]
    )
    if inputs >= SUPPORT and not frames:
        frames = (Frame(middle=INPUT, share=inputs), Frame(share=1 - inputs))
    return PromptFormat(
        system=system if count >= COMMON * len(compared) else None,
        frames=frames,
        rows=len(compared),
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
    wants_input = bool(split(question)[1])
    frame = next((f for f in into.frames if bool(f.middle) == wants_input), into.frames[0])
    place = next(number for number, turn in enumerate(row) if turn.role == "user")
    return (*row[:place], Message(role="user", content=frame.around(question)), *row[place + 1 :])


def split(question: str) -> tuple[str, str]:
    """Return the instruction of a question and its payload, which follows the first line break or colon; "" without one."""
    text = question.strip()
    border = re.search(r"\s*\n\s*|(?<=:) +", text)
    if border is None:
        return question, ""
    return text[: border.start()], text[border.end() :]


def first_question(row: Row) -> str | None:
    """Return the text of the first user turn of a row."""
    return next((turn.content for turn in row if turn.role == "user"), None)


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
            max(shared, key=lambda piece: (piece[0], len(piece[1])), default=(False, ""))[1]
        )
    return longest


def _prefixes(text: str) -> Iterator[tuple[str, bool]]:
    for number, border in enumerate(_AFTER.finditer(text[:REACH])):
        if number == BOUNDARIES or border.end() == len(text):
            return
        yield text[: border.end()], border[0] != " " * len(border[0])


def _suffixes(text: str) -> Iterator[tuple[str, bool]]:
    start = max(0, len(text) - REACH)
    borders = [border for border in _BEFORE.finditer(text, start) if border.start()]
    for border in borders[-BOUNDARIES:]:
        if border.end() < len(text) or "\n" in border[0]:
            yield text[border.start() :], "\n" in border[0]


def _middle(bodies: Sequence[str]) -> str:
    """Return the line inside the bodies, with the breaks around it, that `COMMON` of them have; "" without one."""
    lines = Counter(line for body in bodies for line in set(_INSIDE.findall(body)))
    line, count = lines.most_common(1)[0] if lines else ("", 0)
    return line if count >= _needed(COMMON, len(bodies)) else ""


def _shown(text: str) -> str:
    """Return a piece of format on one line, its middle left out if it is long."""
    line = text.encode("unicode_escape").decode() if not text.isprintable() else text
    return f'"{line}"' if len(line) <= 72 else f'"{line[:40]} ... {line[-27:]}"'
