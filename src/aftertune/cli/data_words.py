"""How the data commands say things: a shortened foreign text, a sentence that wraps under itself, names beside facts."""

import textwrap
from collections.abc import Mapping

from rich.console import Console

from aftertune.core.foreign import marker_pattern, neutralised
from aftertune.report.wording import clean

SHOWN = 60
"""Characters of a foreign text that are shown: enough to know it by, too few to be of use."""

_MARKERS = marker_pattern()


def shortened(text: str, characters: int = SHOWN) -> str:
    """Return the beginning of a foreign text on one line, unable to steer a terminal or a chat template."""
    line = clean(neutralised(text, _MARKERS))
    return line if len(line) <= characters else f"{line[: characters - 1].rstrip()}…"


def screen() -> Console:
    """Return the console of the data commands: nothing in what it prints is taken for markup."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(console: Console, line: str, lead: str = "") -> None:
    """Print a sentence behind ``lead``; what does not fit follows under its beginning."""
    console.print(
        textwrap.fill(
            line,
            max(console.width, len(lead) + 20),
            initial_indent=lead,
            subsequent_indent=" " * len(lead),
        )
    )


def facts(console: Console, told: Mapping[str, str]) -> None:
    """Print names and what is said of them, side by side; what is empty is left out."""
    width = max(map(len, told))
    for name, value in told.items():
        if value:
            say(console, value, lead=f"{name:<{width}}  ")


def counted(counts: Mapping[str, int]) -> str:
    """Return ``text 12, code 3``."""
    return ", ".join(f"{clean(name)} {count:,}" for name, count in counts.items())
