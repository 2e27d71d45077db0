"""How long to wait: what servers ask for in their headers, and exponential backoff with jitter."""

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from random import SystemRandom

FIRST_SECONDS, MOST_SECONDS = 0.5, 60.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_random = SystemRandom()


def backoff(failures: int) -> float:
    """Return how many seconds to wait after so many failures: doubled each time, and spread so that calls part."""
    longest = min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 16))
    return _random.uniform(longest / 2, longest)


def asked_to_wait(headers: Mapping[str, str]) -> float:
    """Return the seconds that a failed reply asks to wait (``retry-after-ms``, ``Retry-After``); 0.0 if it does not.

    Names of headers are in small letters, here and below.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return 0.0
    if (seconds := _number(value)) is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def until_reset(headers: Mapping[str, str]) -> float:
    """Return the seconds until a rate limit that this reply has used up is reset; 0.0 while something is left."""
    waits = [
        duration(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}") == "0"
    ]
    return max(waits, default=0.0)


def duration(text: str) -> float:
    """Return the seconds of ``6m0s``, ``250ms``, ``1.5s`` or a plain number; 0.0 for anything else."""
    if (seconds := _number(text)) is not None:
        return seconds
    parts = _PART.findall(text)
    whole = "".join(number + unit for number, unit in parts) == text.strip()
    return sum(float(number) * _UNITS[unit] for number, unit in parts) if whole else 0.0


def _number(text: str | None) -> float | None:
    """Return a plain number of seconds, None for everything else (``nan`` and ``inf`` too)."""
    return float(text) if text and re.fullmatch(r"\s*\d+(\.\d+)?\s*", text) else None
