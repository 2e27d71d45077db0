"""Mixes safety rows and benign replay into training rows, as shares of the final set."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from aftertune.errors import DataError
from aftertune.prompts.exclusions import names_child_exploitation
from aftertune.prompts.overlap import normalise
from aftertune.prompts.rows import Row

Pool = Sequence[Row] | Mapping[str, Sequence[Row]]
"""Rows to draw from; by task (`rows.read_pools`) if the draw shall be balanced over tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """A mixed training set and what went into it."""

    rows: list[Row]
    """All rows, shuffled."""
    user: int
    safety: int
    replay: int
    by_task: Mapping[str, int]
    """Safety rows drawn from each task's pool."""
    left_out: int
    """Safety and replay rows that were left out of the draw: they repeat each other or a question of the user's rows,
    or no loader lets them through."""
    repeated: int
    """Rows that were drawn again because a pool was too small."""
    notes: tuple[str, ...] = ()
    """One line for each thing that the user should know."""

    @property
    def share(self) -> float:
        """Safety rows / all rows."""
        return self.safety / len(self.rows)


@dataclass(slots=True)
class _Draw:
    rows: list[Row]
    by_task: dict[str, int]
    left_out: int
    repeated: int


def mix(
    rows: Sequence[Row], safety: Pool, replay: Pool = (), *, share: float, replay_share: float = 0.0, seed: int = 0
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
    parts = added(len(rows), share, replay_share)
    known = {_question(row) for row in rows}
    rng = random.Random(f"mix {seed}")  # noqa: S311 - a reproducible draw, not a secret
    drawn = [
        _draw(pool, count, known, rng, name)
        for pool, count, name in zip((safety, replay), parts, ("safety", "replay"), strict=True)
    ]
    mixed = [*rows, *drawn[0].rows, *drawn[1].rows]
    rng.shuffle(mixed)
    return Mixed(
        rows=mixed,
        user=len(rows),
        safety=len(drawn[0].rows),
        replay=len(drawn[1].rows),
        by_task=drawn[0].by_task,
        left_out=sum(draw.left_out for draw in drawn),
        repeated=sum(draw.repeated for draw in drawn),
        notes=tuple(
            note for draw, name in zip(drawn, ("safety", "replay"), strict=True) for note in _notes(draw, name)
        ),
    )


def added(rows: int, share: float, replay_share: float = 0.0) -> tuple[int, int]:
    """Return how many safety and replay rows make their shares of the final set, given the user's rows.

    Raises:
        DataError: no rows, a negative share, or shares that add up to 1 or more.
    """
    for name, value in (("share", share), ("replay share", replay_share)):
        if not 0 <= value < 1:
            raise DataError(f"the {name} must be at least 0 and below 1 (of the final set), not {value}")
    wanted = [Fraction(str(value)) for value in (share, replay_share)]
    rest = 1 - sum(wanted)
    if rest <= 0:
        raise DataError(f"shares {share} + {replay_share} leave no room for the training rows; keep the sum below 1")
    if not rows:
        raise DataError("no training rows to mix into")
    safety, replay = (int(rows * part / rest + Fraction(1, 2)) for part in wanted)
    return safety, replay


def _draw(pool: Pool, count: int, known: set[str], rng: random.Random, name: str) -> _Draw:
    tasks = dict(pool) if isinstance(pool, Mapping) else {name: pool}
    fresh = {task: _fresh(rows, known) for task, rows in sorted(tasks.items())}
    draw = _Draw([], {}, sum(map(len, tasks.values())) - sum(map(len, fresh.values())), 0)
    usable = [task for task, rows in fresh.items() if rows]
    if not count:
        return _Draw([], {}, 0, 0)
    if not usable:
        raise DataError(f"no {name} rows to draw {count} from; name a file with rows that the training set lacks")
    each, more = divmod(count, len(usable))
    for position, task in enumerate(usable):
        wanted = each + (position < more)
        draw.rows += _take(fresh[task], wanted, rng)
        draw.by_task[task] = wanted
        draw.repeated += max(0, wanted - len(fresh[task]))
    return draw


def _fresh(rows: Sequence[Row], known: set[str]) -> list[Row]:
    """Return the rows whose question the user's rows lack, each conversation once, without those no loader lets in."""
    fresh = dict.fromkeys(row for row in rows if _question(row) not in known)
    return [row for row in fresh if not names_child_exploitation(*(turn.content for turn in row))]


def _take(rows: Sequence[Row], count: int, rng: random.Random) -> list[Row]:
    taken: list[Row] = []
    while len(taken) < count:
        taken += rng.sample(rows, min(count - len(taken), len(rows)))
    return taken


def _question(row: Row) -> str:
    return "\n".join(normalise(turn.content) or turn.content for turn in row if turn.role == "user")


def _notes(draw: _Draw, name: str) -> list[str]:
    notes = []
    if draw.left_out:
        notes.append(
            f"{draw.left_out} {name} rows were left out: they repeat each other or a question of the training set, or "
            "are such as no loader lets through"
        )
    if draw.repeated:
        notes.append(f"the {name} pool is too small: {draw.repeated} of {len(draw.rows)} rows are repeats")
    return notes
