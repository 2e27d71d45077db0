"""The mix of safety rows and benign replay into training rows, as shares of the final set.

`draw` decides which rows are mixed in and where each row stands. It works on row numbers and 8-byte hashes, so that a
million rows need not be in memory. `mix` applies it to rows in memory, `mix_file` to files.
"""

import random
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aftertune.core.recipe import MOST_ADDED
from aftertune.data.files import names_child_exploitation
from aftertune.data.formats import uses_tools
from aftertune.data.overlap import normalise, text_hash
from aftertune.data.rows import Row, answered
from aftertune.errors import DataError

Part = Literal["user", "safety", "replay"]
"""The origin of a row of a mixed set."""
PARTS: tuple[Part, Part] = ("safety", "replay")
"""The parts that are drawn, in the order of the shares."""
Hashes: TypeAlias = NDArray[np.uint64]


def is_drawable(row: Row) -> bool:
    """Return whether a row can be mixed in: it has a last answer, which is to be learnt, and calls no tool."""
    return answered(row) and not uses_tools(row) and row[-1].learnt is not False


class Candidates:
    """Rows that may be drawn, with the hashes that a draw compares: 17 to 25 bytes a row beside the rows themselves."""

    def __init__(
        self,
        rows: Sequence[Row],
        posed: Callable[[Row], Row] | None = None,
        barred: Callable[[Row], bool] | None = None,
    ) -> None:
        """Hash the rows and see which may be drawn.

        Args:
            rows: in memory, or read when asked for.
            posed: poses a row that is drawn; neither wording may stand in the user's rows.
            barred: tells rows that must not be drawn for another reason than those of every draw.
        """
        self.rows = rows
        self.posed = posed
        self.questions, self.whole, self.posed_questions = array("Q"), array("Q"), array("Q")
        self.usable = bytearray()
        for row in rows:
            self.questions.append(question_hash(row))
            self.whole.append(
                text_hash("\0".join(chain.from_iterable((turn.role, turn.content) for turn in row)))
            )
            unfit = not is_drawable(row) or names_child_exploitation(
                *(turn.content for turn in row)
            )
            self.usable.append(not (unfit or (barred is not None and barred(row))))
            if posed is not None:
                self.posed_questions.append(question_hash(posed(row)))

    def fresh(self, user_questions: Hashes) -> list[int]:
        """Return the numbers of the usable rows whose question is not the user's (hashes, sorted), each row once."""
        usable = np.frombuffer(self.usable, dtype=np.bool_).copy()
        for hashes in filter(len, (self.questions, self.posed_questions)):
            questions = np.frombuffer(hashes, dtype=np.uint64)
            # A hash is among the sorted ones if it equals the one at the place where it would be inserted.
            places = np.searchsorted(user_questions, questions)
            usable &= user_questions[np.minimum(places, len(user_questions) - 1)] != questions
        numbers = np.flatnonzero(usable)
        # Sorted back into row order: np.unique returns the first places in the order of the hashes.
        _, first = np.unique(np.frombuffer(self.whole, dtype=np.uint64)[numbers], return_index=True)
        fresh: list[int] = numbers[np.sort(first)].tolist()
        return fresh

    def row(self, number: int) -> Row:
        """Return a row as it is mixed in."""
        return self.rows[number] if self.posed is None else self.posed(self.rows[number])


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The rows that were drawn for one part, safety or replay."""

    tasks: tuple[str, ...]
    task_of: "array[int]"
    """The position in ``tasks`` of each drawn row."""
    numbers: "array[int]"
    """The number of each drawn row among its task's candidates."""
    by_task: Mapping[str, int]
    """The number of drawn rows by task."""
    left_out: int
    """Candidates that could not be drawn."""
    repeated: int
    """Rows that were drawn again because a pool was too small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The composition of a mixed set, as row numbers in their order."""

    user: int
    parts: tuple[Drawn, Drawn]
    """Safety and replay."""
    order: "array[int]"
    """For each place of the mixed set a number: of a user's row, behind those the safety rows drawn, then the replay."""
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[tuple[Part, str, int]]:
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
    user_questions: "array[int]",
    pools: tuple[Mapping[str, Candidates], Mapping[str, Candidates]],
    *,
    shares: tuple[float, float],
    seed: int = 0,
    weights: Mapping[str, float] | None = None,
) -> Draw:
    """Decide which rows are mixed in and where each row stands, as `mix` describes it.

    Args:
        user_questions: the `question_hash` of each of the user's rows; it is sorted in place.
        pools: safety and replay rows by task.
        shares: of safety and replay rows in the final set.
        seed: of the draw and of the order.
        weights: of tasks, by name; 1 where none is given.

    Raises:
        DataError: shares that are negative or leave nothing for the user's rows; nothing to draw from; a weight of no task.
    """
    counts = added(len(user_questions), *shares)
    if unknown := sorted((weights or {}).keys() - {task for pool in pools for task in pool}):
        there = ", ".join(sorted({task for pool in pools for task in pool}))
        raise DataError(
            f"weights: {unknown[0]!r} is no task of the rows to draw from; they have {there}"
        )
    questions = np.frombuffer(user_questions, dtype=np.uint64)
    questions.sort()
    rng = random.Random(f"mix {seed}")  # noqa: S311 - a reproducible draw, not a secret
    safety, replay = (
        _drawn(pool, count, questions, rng, weights or {}, name)
        for pool, count, name in zip(pools, counts, PARTS, strict=True)
    )
    order = array("q", range(len(user_questions) + sum(counts)))
    rng.shuffle(order)
    notes = [
        note
        for part, name in zip((safety, replay), PARTS, strict=True)
        for note in _notes(part, name)
    ]
    notes += [
        f"no {name} rows are added: a share of {share:g} of so few rows ({len(user_questions):,} of yours) is less than half a row"
        for count, share, name in zip(counts, shares, PARTS, strict=True)
        if share and not count
    ]
    return Draw(user=len(user_questions), parts=(safety, replay), order=order, notes=tuple(notes))


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
    # Exact decimals: as a float, 0.15 of 1,000 rows may come out a row short.
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
    """Return how many of ``count`` rows each task gets by its weight (1 where none is given); the numbers add up to ``count``.

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
    return text_hash(
        "\n".join(normalise(turn.content) or turn.content for turn in row if turn.role == "user")
    )


def _drawn(
    pool: Mapping[str, Candidates],
    count: int,
    user_questions: Hashes,
    rng: random.Random,
    weights: Mapping[str, float],
    name: str,
) -> Drawn:
    fresh = {task: pool[task].fresh(user_questions) for task in sorted(pool)} if count else {}
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
            "no answer (or none that is to be learnt), call tools, hold an evaluation behavior, or are such as no loader lets through"
        )
    if part.repeated:
        yield f"the {name} pool is too small: {part.repeated:,} of {len(part.numbers):,} rows are repeats"


Pool = Sequence[Row] | Mapping[str, Sequence[Row]]
"""Rows to draw from; by task (`rows.read_pools`) if the draw shall be balanced over tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """A mixed training set, and the numbers of the rows that went into it."""

    rows: list[Row]
    """All rows, shuffled."""
    user: int
    safety: int
    replay: int
    by_task: Mapping[str, int]
    """Safety rows drawn from each task's pool."""
    left_out: int
    """Safety and replay rows that were left out of the draw: they repeat each other or a question of the user's rows,
    have no answer that is to be learnt, call tools, or no loader lets them through."""
    repeated: int
    """Rows that were drawn again because a pool was too small."""
    notes: tuple[str, ...] = ()
    """Remarks for the user, one line each."""

    @property
    def share(self) -> float:
        """Safety rows / all rows."""
        return self.safety / len(self.rows)


def mix(
    rows: Sequence[Row],
    safety: Pool,
    replay: Pool = (),
    *,
    share: float,
    replay_share: float = 0.0,
    seed: int = 0,
) -> Mixed:
    """Return ``rows`` with safety and replay rows among them, shuffled by ``seed``.

    Shares are those of the final set: of n rows, n·share/(1 - share - replay_share) safety rows are added, rounded to
    the nearest whole row (halves up), and replay rows likewise. With 1,000 rows, a share of 0.2 adds 250; shares of
    0.15 and 0.15 add 214 and 214. No row of the user's is dropped or altered. Rows whose question (all user turns,
    normalised) is among the user's are not drawn. Tasks are drawn from equally, one row more for the first ones where
    it does not divide; a pool is drawn from without replacement, and again from the start only when it is used up.

    Raises:
        DataError: shares that are negative or leave nothing for the user's rows; nothing to draw from.
    """
    pools = tuple(
        {
            task: Candidates(rows_of_task)
            for task, rows_of_task in (pool if isinstance(pool, Mapping) else {name: pool}).items()
        }
        for pool, name in zip((safety, replay), PARTS, strict=True)
    )
    user_questions = array("Q", map(question_hash, rows))
    made = draw(user_questions, (pools[0], pools[1]), shares=(share, replay_share), seed=seed)
    by_part = dict(zip(PARTS, pools, strict=True))
    return Mixed(
        rows=[
            rows[number] if part == "user" else by_part[part][task].row(number)
            for part, task, number in made
        ],
        user=made.user,
        safety=len(made.parts[0].numbers),
        replay=len(made.parts[1].numbers),
        by_task=made.parts[0].by_task,
        left_out=sum(part.left_out for part in made.parts),
        repeated=sum(part.repeated for part in made.parts),
        notes=made.notes,
    )
