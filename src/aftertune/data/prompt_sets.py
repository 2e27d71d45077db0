"""Prompt sets: loaded by name, read from and written to files, cleaned, and cut down to a balanced part."""

import inspect
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import chain, islice, zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from aftertune.core.keys import short_id
from aftertune.core.protocols import Tools
from aftertune.core.records import HarmBasis, Intent, Prompt
from aftertune.core.registry import find
from aftertune.data.files import Record, names_child_exploitation, read_records
from aftertune.data.rows import write_lines
from aftertune.errors import DataError, PluginError

FIELDS = tuple(f.name for f in fields(Prompt))


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """The prompts that a set gave, and the numbers of those that were left out."""

    prompts: tuple[Prompt, ...]
    dropped: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Rows left out, by reason: ``duplicate``, ``child exploitation``, ``empty``."""
    notes: tuple[str, ...] = ()
    """Remarks for the readers of the results, one line each."""


def load_prompts(
    name: str,
    *,
    file: str | None = None,
    loader: str | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
    tools: Tools,
) -> PromptSet:
    """Load the prompt set that a study calls ``name``: a file of prompts, a loader, or a loader reading a file.

    Args:
        name: becomes the ``set`` of every prompt.
        file: a file of finished prompts (`read_prompts`), or the file that the loader shall read.
        loader: a name of the registry: a public data set, ``package.module:factory`` or a plug-in's. It is called with
            ``tools``, with ``file`` if there is one, and with the options, and returns prompts or a `PromptSet`.
        options: the loader's own; those of the public data sets are the arguments of `public_prompts.load_public`.
        tools: for the loader, and for the folder that a relative ``file`` is relative to.

    Raises:
        DataError: the file or one of its rows is wrong; no prompt is left.
        PluginError: no loader has that name, or it does not take the options.
    """
    loaded: Any
    if loader is not None:
        arguments = {**options} if file is None else {"file": file, **options}
        factory = find("prompts", loader)
        try:
            inspect.signature(factory).bind(tools, **arguments)
        except TypeError as error:
            raise PluginError(f"prompts loader {loader!r}: {error}; check its options") from error
        loaded = factory(tools, **arguments)
    elif file is not None:
        loaded = read_prompts(tools.folder / file)
    else:
        raise DataError(f"prompt set {name}: give a file of prompts or a loader")
    raw = loaded if isinstance(loaded, PromptSet) else PromptSet(prompts=tuple(loaded))
    cleaned = gather(
        prompt if prompt.set == name else replace(prompt, set=name) for prompt in raw.prompts
    )
    dropped = Counter(raw.dropped) + Counter(cleaned.dropped)
    if not cleaned.prompts:
        raise DataError(
            f"prompt set {name}: no prompts in it (left out: {dict(dropped) or 'nothing'})"
        )
    return PromptSet(prompts=cleaned.prompts, dropped=dropped, notes=raw.notes)


def gather(prompts: Iterable[Prompt], notes: Iterable[str] = ()) -> PromptSet:
    """Return each prompt once, without empty ones and those about child exploitation, and count the others by reason."""
    kept: dict[str, Prompt] = {}
    dropped: Counter[str] = Counter()
    for prompt in prompts:
        if not prompt.text.strip():
            dropped["empty"] += 1
        elif prompt.hazard == "cse" or names_child_exploitation(prompt.text):
            dropped["child exploitation"] += 1
        elif (prompt_id := prompt.id) in kept:
            dropped["duplicate"] += 1
        else:
            kept[prompt_id] = prompt
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
    if unknown := record.keys() - set(FIELDS):
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
    all_harmful = {p.behavior for p in prompts if p.intent is Intent.HARMFUL}
    no_twins = _first(
        (p for p in prompts if p.intent is Intent.BENIGN and p.pair not in all_harmful), n
    )
    return [p for p in prompts if p.behavior in harmful | no_twins or p.pair in harmful]


def _first(prompts: Iterable[Prompt], n: int) -> set[str]:
    """Return the first ``n`` behaviors, hazards in turns."""
    by_hazard: dict[str, set[str]] = {}
    for prompt in prompts:
        by_hazard.setdefault(prompt.hazard, set()).add(prompt.behavior)
    ranked = [
        sorted(by_hazard[hazard], key=lambda b: short_id("o", b)) for hazard in sorted(by_hazard)
    ]
    turns = (
        behavior for behavior in chain.from_iterable(zip_longest(*ranked)) if behavior is not None
    )
    return set(islice(turns, n))
