"""Whether a result.json holds the numbers of an older one.

Usage: python tests/golden/golden_results.py OLD NEW

Only numbers, truth values and nulls are compared (sentences may change), each at its path or where `renamed_fields`
says that it went. What the new file has beyond them is no difference.
"""

import json
import math
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from renamed_fields import GONE, MOVED, RENAMED

RELATIVE = 1e-9
"""Other versions of numpy and scipy, and other processors, round the last digits otherwise."""

Parts = tuple[str, ...]


def differences(old: Any, new: Any, *, exact: bool = False) -> tuple[list[str], int]:
    """Return what differs, a line each, and how many values were compared."""
    before, after = dict(values(old)), dict(values(new))
    lines, compared = [], 0
    for path, value in before.items():
        place = moved(path)
        if place is None:
            continue
        compared += 1
        if place not in after:
            if value is not None:
                lines.append(
                    f"{'/'.join(path)}: {value!r} is gone (looked for at {'/'.join(place)})"
                )
        elif not equal(value, after[place], exact=exact):
            lines.append(f"{'/'.join(path)}: {value!r} became {after[place]!r}")
    return lines, compared


def values(node: Any, path: Parts = ()) -> Iterator[tuple[Parts, Any]]:
    """Yield the path and value of every number, truth value and null, and of every list its length."""
    if isinstance(node, dict):
        for name, part in node.items():
            yield from values(part, (*path, name))
    elif isinstance(node, list):
        if not all(isinstance(part, str) for part in node):  # notes and the like may grow
            yield (*path, "length"), len(node)
        for number, part in enumerate(node):
            yield from values(part, (*path, str(number)))
    elif not isinstance(node, str):
        yield path, node


def moved(path: Parts) -> Parts | None:
    """Return where a value stands now, None if it is no longer written."""
    if any(matched(pattern, path) is not None for pattern in GONE):
        return None
    for pattern, target in MOVED.items():
        stars = matched(pattern, path)
        if stars is not None:
            parts = iter(stars)
            rest = path[len(pattern.split("/")) :]
            path = (*(next(parts) if part == "*" else part for part in target.split("/")), *rest)
            break
    return tuple(RENAMED.get(part, part) for part in path)


def matched(pattern: str, path: Parts) -> Parts | None:
    """Return what the stars of a pattern stand for if it leads to a value or to a node above it."""
    parts = pattern.split("/")
    if len(parts) > len(path):
        return None
    pairs = list(zip(parts, path, strict=False))
    if not all(part == "*" or fnmatchcase(given, part) for part, given in pairs):
        return None
    return tuple(given for part, given in pairs if part == "*")


def equal(old: Any, new: Any, *, exact: bool) -> bool:
    if isinstance(old, bool) or old is None or isinstance(new, bool) or new is None:
        return old is new
    if exact or not isinstance(new, int | float):
        return bool(old == new)
    return math.isclose(old, new, rel_tol=RELATIVE, abs_tol=1e-12)


def main(old: str, new: str) -> int:
    lines, compared = differences(*(json.loads(Path(path).read_text()) for path in (old, new)))
    sys.stdout.write(
        "\n".join([*lines, f"{compared:,} values compared, {len(lines):,} differ", ""])
    )
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
