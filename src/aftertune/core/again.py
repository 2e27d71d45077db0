"""Asking again for what may be repeated."""

import time
from collections.abc import Callable
from typing import TypeVar

from aftertune.errors import EngineError

T = TypeVar("T")
TRIES = 8
FIRST_SECONDS, MOST_SECONDS = 0.5, 60.0


def again(ask: Callable[[], T]) -> T:
    """Ask what changes nothing, or only once, until there is an answer; for about two minutes.

    Raises:
        EngineError: there was none.
    """
    for failures in range(TRIES - 1):
        try:
            return ask()
        except EngineError:
            time.sleep(min(MOST_SECONDS, FIRST_SECONDS * 2.0**failures))
    return ask()
