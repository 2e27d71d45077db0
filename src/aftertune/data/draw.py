"""Decides which safety and replay rows are mixed into training rows, and where each row stands.

A draw works on row numbers and 8-byte hashes, so that a million rows need not be in memory.
"""

import hashlib
import random
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import numpy as np

from aftertune.core.recipe import MOST_ADDED
from aftertune.data.exclusions import names_child_exploitation
from aftertune.data.overlap import normalise
from aftertune.data.rows import Row, answered
from aftertune.errors import DataError

PARTS = ("safety", "replay")


class Candidates:
    """Rows that may be drawn, by what a draw needs to know of them: 17 bytes a row beside the rows themselves."""

    def __init__(
        self,
        rows: Sequence[Row],
        posed: Callable[[Row], Row] | None = None,
        barred: Callable[[Row], bool] | None = None,
    ) -> None:
        """Look at the rows once.

        Args:
            rows: in memory, or read when asked for.
            posed: how a row is posed when it is drawn; neither wording may stand in the user's rows.
            barred: whether a row must not be drawn for another reason than those of every draw.
        """
        self.rows = rows
        self.posed = posed
        self.questions, self.whole, self.posed_questions = array("Q"), array("Q"), array("Q")
        self.usable = bytearray()
        for row in rows:
            self.questions.append(question_hash(row))
            self.whole.append(
                _hash("\0".join(chain.from_iterable((turn.role, turn.content) for turn in row)))
            )
            unfit = not answered(row) or names_child_exploitation(*(turn.content for turn in row))
            self.usable.append(not (unfit or (barred is not None and barred(row))))
            if posed is not None:
                self.posed_questions.append(question_hash(posed(row)))

    def fresh(self, known: "np.ndarray[tuple[int], np.dtype[np.uint64]]") -> list[int]:
        """Return the numbers of the usable rows whose question is not among ``known`` (sorted), each row once."""
        usable = np.frombuffer(self.usable, dtype=np.bool_).copy()
        for hashes in filter(len, (self.questions, self.posed_questions)):
            questions = np.frombuffer(hashes, dtype=np.uint64)
            places = np.searchsorted(known, questions)
            usable &= known[np.minimum(places, len(known) - 1)] != questions
        numbers = np.flatnonzero(usable)
        _, first = np.unique(np.frombuffer(self.whole, dtype=np.uint64)[numbers], return_index=True)
        found: list[int] = numbers[np.sort(first)].tolist()
        return found

    def row(self, number: int) -> Row:
        """Return a row as it is mixed in."""
        return self.rows[number] if self.posed is None else self.posed(self.rows[number])


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What was drawn of one part, safety or replay."""

    tasks: tuple[str, ...]
    task_of: "array[int]"
    """The position in ``tasks`` of each drawn row."""
    numbers: "array[int]"
    """The number of each drawn row among its task's candidates."""
    by_task: Mapping[str, int]
    left_out: int
    repeated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The composition of a mixed set: no rows, but which row stands where."""

    user: int
    parts: tuple[Drawn, Drawn]
    """Safety and replay."""
    order: "array[int]"
    """For each place of the mixed set a number: of a user's row, behind those the safety rows drawn, then the replay."""
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[tuple[str, str, int]]:
        """Yield for each place of the mixed set part (``user``, ``safety``, ``replay``), task and row number."""
        safety, replay = self.parts
        for place in self.order:
            if place < self.user:
                yield "user", "", place
            elif (drawn := place - self.user) < len(safety.numbers):
                yield "safety", safety.tasks[safety.task_of[drawn]], safety.numbers[drawn]
            else:
                drawn -= len(safety.numbers)
                yield "replay", replay.tasks[replay.task_of[drawn]], replay.numbers[drawn]


def draw(
    known: "array[int]",
    pools: tuple[Mapping[str, Candidates], Mapping[str, Candidates]],
    *,
    shares: tuple[float, float],
    seed: int = 0,
    weights: Mapping[str, float] | None = None,
) -> Draw:
    """Decide which rows are mixed in and where each row stands, as `prompts.mix.mix` describes it.

    Args:
        known: the `question_hash` of each of the user's rows; it is sorted in place.
        pools: safety and replay rows by task.
        shares: of safety and replay rows in the final set.
        seed: of the draw and of the order.
        weights: of tasks, by name; 1 where none is given.

    Raises:
        DataError: shares that are negative or leave nothing for the user's rows; nothing to draw from; a weight of no task.
    """
    counts = added(len(known), *shares)
    if unknown := sorted((weights or {}).keys() - {task for pool in pools for task in pool}):
        there = ", ".join(sorted({task for pool in pools for task in pool}))
        raise DataError(
            f"weights: {unknown[0]!r} is no task of the rows to draw from; they have {there}"
        )
    questions = np.frombuffer(known, dtype=np.uint64)
    questions.sort()
    rng = random.Random(f"mix {seed}")  # noqa: S311 - a reproducible draw, not a secret
    safety, replay = (
        _drawn(pool, count, questions, rng, weights or {}, name)
        for pool, count, name in zip(pools, counts, PARTS, strict=True)
    )
    order = array("q", range(len(known) + sum(counts)))
    rng.shuffle(order)
    notes = [
        note
        for part, name in zip((safety, replay), PARTS, strict=True)
        for note in _notes(part, name)
    ]
    notes += [
        f"no {name} rows are added: a share of {share:g} of so few rows ({len(known):,} of yours) is less than half a row"
        for count, share, name in zip(counts, shares, PARTS, strict=True)
        if share and not count
    ]
    return Draw(user=len(known), parts=(safety, replay), order=order, notes=tuple(notes))


def added(rows: int, share: float, replay_share: float = 0.0) -> tuple[int, int]:
    """Return how many safety and replay rows make their shares of the final set, given the user's rows.

    Raises:
        DataError: no rows, a negative share, or shares that add up to more than `MOST_ADDED`.
    """
    for name, value in (("share", share), ("replay share", replay_share)):
        if not 0 <= value < 1:
            raise DataError(
                f"the {name} must be at least 0 and below 1 (of the final set), not {value}"
            )
    wanted = [Fraction(str(value)) for value in (share, replay_share)]
    rest = 1 - sum(wanted)
    if sum(wanted) > Fraction(str(MOST_ADDED)):
        raise DataError(
            f"shares {share} + {replay_share} leave too little room for the training rows; keep the sum at or under {MOST_ADDED:g}"
        )
    if not rows:
        raise DataError("no training rows to mix into")
    safety, replay = (int(rows * part / rest + Fraction(1, 2)) for part in wanted)
    return safety, replay


def allotted(count: int, tasks: Sequence[str], weights: Mapping[str, float]) -> dict[str, int]:
    """Share ``count`` rows out over tasks by weight (1 where none is given), exactly: the counts add up to ``count``.

    Each task gets the whole part of its quota, and the rows that are left go to the largest remainders, of equal ones to
    the first (Hamilton's method).

    Raises:
        DataError: no task has a weight above 0.
    """
    exact = {task: Fraction(str(weights.get(task, 1))) for task in tasks}
    if not (total := sum(exact.values())):
        raise DataError(
            f"the weights leave no task to draw from; give one of {', '.join(tasks)} a weight above 0"
        )
    quotas = {task: count * weight / total for task, weight in exact.items() if weight}
    shared = {task: int(quota) for task, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda task: int(quotas[task]) - quotas[task])
    for task in by_remainder[: count - sum(shared.values())]:
        shared[task] += 1
    return shared


def question_hash(row: Row) -> int:
    """Return 8 bytes of BLAKE2b over all that is asked in a row, normalised: rows that ask the same have the same."""
    return _hash(
        "\n".join(normalise(turn.content) or turn.content for turn in row if turn.role == "user")
    )


def _hash(text: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    )


def _drawn(
    pool: Mapping[str, Candidates],
    count: int,
    known: "np.ndarray[tuple[int], np.dtype[np.uint64]]",
    rng: random.Random,
    weights: Mapping[str, float],
    name: str,
) -> Drawn:
    fresh = {task: pool[task].fresh(known) for task in sorted(pool)} if count else {}
    usable = [task for task, numbers in fresh.items() if numbers]
    if count and not usable:
        raise DataError(
            f"no {name} rows to draw {count} from; name a file with rows that the training set lacks"
        )
    by_task = allotted(count, usable, weights) if count else {}
    task_of, drawn = array("H"), array("q")
    for task, wanted in by_task.items():
        drawn.extend(_taken(fresh[task], wanted, rng))
        task_of.extend([usable.index(task)] * wanted)
    return Drawn(
        tasks=tuple(usable),
        task_of=task_of,
        numbers=drawn,
        by_task=by_task,
        left_out=sum(len(pool[task].usable) - len(numbers) for task, numbers in fresh.items()),
        repeated=sum(max(0, wanted - len(fresh[task])) for task, wanted in by_task.items()),
    )


def _taken(numbers: Sequence[int], count: int, rng: random.Random) -> Iterator[int]:
    while count > 0:
        yield from rng.sample(numbers, min(count, len(numbers)))
        count -= len(numbers)


def _notes(part: Drawn, name: str) -> Iterator[str]:
    if part.left_out:
        yield (
            f"{part.left_out:,} {name} rows were left out: they repeat each other or a question of the training set, have "
            "no answer, hold an evaluation behavior, or are such as no loader lets through"
        )
    if part.repeated:
        yield f"the {name} pool is too small: {part.repeated:,} of {len(part.numbers):,} rows are repeats"
