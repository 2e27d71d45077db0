"""A tracer that lists the modules of `aftertune` in which a block of code enters a function."""

import inspect
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import aftertune

ROOT = Path(aftertune.__file__).parent


@contextmanager
def modules_entered(without: Sequence[str] = ()) -> Iterator[list[str]]:
    """Give a list that holds, after the block, the modules entered in it, in the order of their first entry.

    A module counts when one of its functions, methods or properties is called, in any thread; running its top level
    (an import) and the bodies of its classes does not count.

    Args:
        without: modules that are not listed, as paths without suffix below ``src/aftertune``: ``core/records``. A name
            that ends with ``/`` leaves out the whole folder. ``errors`` and every ``__init__`` are never listed.
    """
    modules: dict[str, None] = {}
    places: dict[CodeType, str | None] = {}

    def trace(frame: FrameType, event: str, _: object) -> None:
        if event != "call":
            return
        code = frame.f_code
        if code not in places:
            places[code] = _module_of(code, without)
        if (module := places[code]) is not None:
            modules.setdefault(module)

    entered: list[str] = []
    before = sys.getprofile()
    threading.setprofile(trace)
    sys.setprofile(trace)
    try:
        yield entered
    finally:
        sys.setprofile(before)
        threading.setprofile(None)  # type: ignore[arg-type]
        entered.extend(modules)


def _module_of(code: CodeType, without: Sequence[str]) -> str | None:
    """Return the module of a function of ours that counts, else None."""
    file = Path(code.co_filename)
    # Modules and class bodies are code objects too; only those of functions have optimised locals.
    if not code.co_flags & inspect.CO_OPTIMIZED or ROOT not in file.parents:
        return None
    name = file.relative_to(ROOT).with_suffix("").as_posix()
    skipped = name == "errors" or name.endswith("__init__")
    left_out = any(
        name == entry or (entry.endswith("/") and name.startswith(entry)) for entry in without
    )
    return None if skipped or left_out else name
