"""A tracer that follows a text through the code: the modules of `aftertune` whose functions are given it or return it."""

import dataclasses
import inspect
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType

import aftertune

ROOT = Path(aftertune.__file__).parent
DEPTH = 5
"""How deep records and lists are looked into."""


@contextmanager
def text_followed(text: str) -> Iterator[list[str]]:
    """Give a list that holds, after the block, the modules that the text went through, in the order of first entry.

    A module counts when one of its functions has an argument or a result that holds the text, in any thread: itself, or
    in a list, a mapping or a record. Records, protocols, errors and every ``__init__`` are left out.
    """
    modules: dict[str, None] = {}

    def trace(frame: FrameType, event: str, result: object) -> None:
        if event not in ("call", "return"):
            return
        code = frame.f_code
        if not code.co_flags & inspect.CO_OPTIMIZED or not code.co_filename.startswith(f"{ROOT}/"):
            return
        name = Path(code.co_filename).relative_to(ROOT).with_suffix("").as_posix()
        if (
            name in modules
            or name in ("errors", "core/records", "core/protocols")
            or name.endswith("__init__")
        ):
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        values = (
            [result]
            if event == "return"
            else [frame.f_locals.get(name) for name in names if name != "self"]
        )
        if any(_holds(value, text, DEPTH) for value in values):
            modules.setdefault(name)

    entered: list[str] = []
    threading.setprofile(trace)
    sys.setprofile(trace)
    try:
        yield entered
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
        entered.extend(modules)


def _holds(value: object, text: str, depth: int) -> bool:
    if isinstance(value, str | bytes):
        return text in value if isinstance(value, str) else text.encode() in value
    return depth > 0 and any(_holds(part, text, depth - 1) for part in _parts(value))


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, dict | MappingProxyType):
        return [*value, *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return ()
