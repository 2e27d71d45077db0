"""What the pipeline tells about its work; `report.screen` shows it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """What the pipeline tells about its work."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Open a stage of ``total`` units; the context gives a function that counts done units."""
        ...

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""
        ...


class Quiet:
    """Shows nothing."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:  # noqa: ARG002 - the Protocol's names
        """Do not show a stage."""
        yield nothing

    def note(self, text: str) -> None:
        """Say nothing."""


def nothing(_count: int) -> None:
    """Count nothing."""
