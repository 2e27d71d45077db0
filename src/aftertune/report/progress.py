"""Progress of a run: the protocol that the stages speak to, a screen with bars, and silence.

The screen shows a bar per stage with counts, rate and time left; where there is no screen, a line per stage. All of it goes to
standard error, so that standard output holds results alone and pipes stay clean.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from aftertune.errors import Stopped
from aftertune.report.wording import clean

Advance = Callable[[int], None]


class Progress(Protocol):
    """Shows the work of the stages."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Open a stage of ``total`` units; the context gives a function that counts done units."""
        ...

    def at(self, place: str) -> None:
        """Take note of the model that the open stage works on."""
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

    def at(self, place: str) -> None:
        """Do not show a model."""

    def note(self, text: str) -> None:
        """Say nothing."""


def nothing(_count: int) -> None:
    """Count nothing."""


@contextmanager
def staged(
    progress: Progress, name: str, total: int, units: str, *, before: int = 0
) -> Iterator[Advance]:
    """Show one stage whose stop says how far it came.

    Args:
        progress: where the stage is shown.
        name: of the stage.
        total: units that are still to be done.
        units: their name, in the plural.
        before: units that were done by earlier runs.

    Raises:
        Stopped: Ctrl-C inside the stage.
    """
    done = before

    def count(more: int) -> None:
        nonlocal done
        done += more
        advance(more)

    try:
        with progress.stage(name, total) as advance:
            yield count
    except KeyboardInterrupt:
        raise Stopped(
            f"stopped: {done:,} of {before + total:,} {units}; run the same command to go on"
        ) from None


class _Rate(ProgressColumn):
    """Units per second, once there is something to divide."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="progress.data.speed")


_LONGEST_BETWEEN_LINES = 300.0


class Screen:
    """Bars on a terminal; elsewhere a line for each finished stage, and some for one that takes long.

    Attributes:
        first_line_seconds: time until the first line about a stage that goes on.
    """

    first_line_seconds = 30.0

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._place = ""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """Show one stage; a stage without work shows nothing."""
        if total == 0:
            yield nothing
            return
        began, self._place = time.monotonic(), ""
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description:<28}", markup=False),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(compact=True),
            )
            with Bars(*columns, console=self.console, transient=True) as bars:
                task = bars.add_task(name, total=total)
                yield lambda count: bars.advance(task, count)
        else:
            with self._lines(name, total) as advance:
                yield advance
        self._print(f"{clean(name):<28} {total:>9,}  {time.monotonic() - began:6.1f} s")

    @contextmanager
    def _lines(self, name: str, total: int) -> Iterator[Advance]:
        """Print how far a stage is, after half a minute and then at growing intervals, whether anything was done or not."""
        done, ended, began = 0, threading.Event(), time.monotonic()
        first: tuple[float, int] | None = None

        def advance(count: int) -> None:
            nonlocal done, first
            done += count
            first = first or (time.monotonic(), done)  # what was before it is mostly loading

        def tell() -> None:
            wait = self.first_line_seconds
            while not ended.wait(wait):
                wait = min(1.5 * wait, _LONGEST_BETWEEN_LINES)
                now = time.monotonic()
                left = "" if first is None else _left(first, (now, done), total)
                self._print(
                    f"{clean(name):<28} {done:>9,} of {total:,}, {now - began:.0f} s{left}{self._place}"
                )

        teller = threading.Thread(target=tell, name="progress", daemon=True)
        teller.start()
        try:
            yield advance
        finally:
            ended.set()
            teller.join()

    def at(self, place: str) -> None:
        """Add the model to the lines about the open stage."""
        self._place = f"; {clean(place)}"

    def note(self, text: str) -> None:
        """Print a line; model names and paths are not read as markup, and nothing in them steers the terminal."""
        self._print(clean(text))

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _left(first: tuple[float, int], now: tuple[float, int], total: int) -> str:
    """Return how long a stage will take at the speed since its first units, for its line; nothing before there is a speed.

    Args:
        first: the time when the first units were done, and their number.
        now: the time now, and the number of units that are done.
        total: the number of all units.
    """
    seconds, units = now[0] - first[0], now[1] - first[1]
    if not units:
        return ""
    left = seconds / units * (total - now[1])
    return f", about {left:.0f} s left" if left < 120 else f", about {left / 60:.0f} min left"
