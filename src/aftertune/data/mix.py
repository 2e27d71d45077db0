"""Mixes safety rows and benign replay into training rows in memory, as shares of the final set.

`aftertune mix` makes the same draw (`prompts.draw`) and writes it row by row from the files.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aftertune.data.draw import PARTS, Candidates, draw, question_hash
from aftertune.data.rows import Row

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
    have no answer, or no loader lets them through."""
    repeated: int
    """Rows that were drawn again because a pool was too small."""
    notes: tuple[str, ...] = ()
    """One line for each thing that the user should know."""

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
        {task: Candidates(pool) for task, pool in _tasks(part, name).items()}
        for part, name in zip((safety, replay), PARTS, strict=True)
    )
    known = array("Q", map(question_hash, rows))
    made = draw(known, (pools[0], pools[1]), shares=(share, replay_share), seed=seed)
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


def _tasks(pool: Pool, name: str) -> Mapping[str, Sequence[Row]]:
    return pool if isinstance(pool, Mapping) else {name: pool}
