"""Prompt sets: what the models are asked, read from and written to JSONL, and cut down to a balanced part."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields
from itertools import chain, zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from aftertune.core.ids import short_id
from aftertune.core.records import HarmBasis, Intent, Prompt
from aftertune.data.exclusions import names_child_exploitation
from aftertune.data.files import Record, read_records
from aftertune.data.rows import write_lines
from aftertune.errors import DataError

FIELDS = tuple(f.name for f in fields(Prompt))
_KNOWN = frozenset(FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """The prompts that a set gave, and what became of the rest."""

    prompts: tuple[Prompt, ...]
    dropped: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """How many rows were left out, by reason: ``duplicate``, ``child exploitation``, ``empty``."""
    notes: tuple[str, ...] = ()
    """What a reader of the results should know, one line each."""


def gather(prompts: Iterable[Prompt], notes: Iterable[str] = ()) -> PromptSet:
    """Keep each prompt once, drop what no loader lets through, and count what was left out."""
    kept: dict[str, Prompt] = {}
    dropped: Counter[str] = Counter()
    for prompt in prompts:
        if not prompt.text.strip():
            dropped["empty"] += 1
        elif prompt.hazard == "cse" or names_child_exploitation(prompt.text):
            dropped["child exploitation"] += 1
        elif (number := prompt.id) in kept:
            dropped["duplicate"] += 1
        else:
            kept[number] = prompt
    return PromptSet(prompts=tuple(kept.values()), dropped=dict(dropped), notes=tuple(notes))


def write_prompts(prompts: Iterable[Prompt], path: Path) -> None:
    """Write prompts as JSONL, one object of `Prompt` fields a line; whole or not at all."""
    write_lines((json.dumps(asdict(prompt), ensure_ascii=False) for prompt in prompts), path)


def read_prompts(path: Path) -> list[Prompt]:
    """Read prompts from JSONL (or CSV, JSON) with the fields of `Prompt`.

    ``text`` and ``intent`` must be given. Without more, ``behavior`` is an id made from the text, ``template`` is
    ``plain``, ``task`` is ``text`` and ``set`` is the file's name.

    Raises:
        DataError: a broken file, an unknown or missing field, a wrong value.
    """
    name = path.name.split(".")[0]
    with closing(read_records(path)) as records:
        return [_prompt(record, name, where) for where, record in records]


def _prompt(record: Record, name: str, where: str) -> Prompt:
    if unknown := record.keys() - _KNOWN:
        raise DataError(f"{where}: unknown field {min(unknown)!r}; known: {', '.join(FIELDS)}")
    for key in ("text", "intent"):
        if key not in record:
            raise DataError(
                f"{where}: no {key!r}; a prompt needs 'text' and 'intent' (harmful or benign)"
            )
    given = {key: value for key, value in record.items() if value is not None and value != ""}
    if "behavior" not in given:
        given["behavior"] = short_id("b", record["text"])
    default = {"template": "plain", "task": "text", "text": "", "set": name}
    values: dict[str, Any] = {
        key: _field(key, value, where) for key, value in (default | given).items()
    }
    return Prompt(**values)


def _field(key: str, value: Any, where: str) -> Any:
    if key == "intent":
        return _one_of(value, tuple(Intent), Intent, f"{where}, 'intent'")
    if key == "harm_basis":
        return _one_of(value, get_args(HarmBasis), str, f"{where}, 'harm_basis'")
    if key == "labels":
        labels = value.split("|") if isinstance(value, str) else value
        if not isinstance(labels, list | tuple) or not all(
            isinstance(label, str) for label in labels
        ):
            raise DataError(f"{where}, 'labels': expected a list of texts")
        return tuple(labels)
    if not isinstance(value, str):
        raise DataError(f"{where}, {key!r}: expected text, found {type(value).__name__}")
    return value


def _one_of(value: Any, allowed: Sequence[str], make: Callable[[str], str], where: str) -> str:
    if value not in allowed:
        raise DataError(f"{where}: {value!r}; use one of {', '.join(allowed)}")
    return make(value)


def limit(prompts: Sequence[Prompt], n: int) -> list[Prompt]:
    """Return the prompts of ``n`` harmful behaviors with all their tasks, templates and twins, in their order.

    Hazards take turns, and within a hazard behaviors come in the order of a hash, so the first 50 are inside the first
    100. Benign behaviors that are nobody's twin are cut to ``n`` likewise.

    Raises:
        DataError: ``n`` is not positive.
    """
    if n < 1:
        raise DataError(
            f"a limit of {n} leaves no prompts; it counts harmful behaviors and must be at least 1"
        )
    harmful = _first((p for p in prompts if p.intent is Intent.HARMFUL), n)
    everyone = {p.behavior for p in prompts if p.intent is Intent.HARMFUL}
    alone = _first((p for p in prompts if p.intent is Intent.BENIGN and p.pair not in everyone), n)
    return [p for p in prompts if p.behavior in harmful | alone or p.pair in harmful]


def _first(prompts: Iterable[Prompt], n: int) -> set[str]:
    by_hazard: dict[str, set[str]] = {}
    for prompt in prompts:
        by_hazard.setdefault(prompt.hazard, set()).add(prompt.behavior)
    ranked = [
        sorted(by_hazard[hazard], key=lambda b: short_id("o", b)) for hazard in sorted(by_hazard)
    ]
    turns = (
        behavior for behavior in chain.from_iterable(zip_longest(*ranked)) if behavior is not None
    )
    return {behavior for behavior, _ in zip(turns, range(n), strict=False)}
