"""Work to be done: jobs with keys, what became of them, and what is still to be read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from aftertune.core.ids import Key
from aftertune.store.readings import Unread


class HasKey(Protocol):
    """A job: something with the key of its call."""

    @property
    def key(self) -> Key:
        """The key of the call."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of some jobs."""

    done: int
    """Final answers that arrived."""
    failed: int
    """Attempts that failed; a rerun tries them again."""
    skipped: int = 0
    """Jobs that needed nothing: their answer was there, or they are the same call as another job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What a reader has not read yet: a known number of items, fetched while they are iterated over."""

    size: int
    fetch: Callable[[], Iterator[Unread]]

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Unread]:
        return self.fetch()
