"""Candidates: the mended model of every strength, each in a folder of its own that is whole or not there."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from shutil import disk_usage

from aftertune.core.files import whole_folder
from aftertune.core.keys import content_key
from aftertune.core.records import Prompt
from aftertune.errors import AftertuneError
from aftertune.models.reference import weight_files, weights_sha256
from aftertune.repair.data_free import Make
from aftertune.repair.methods import Method, Sources
from aftertune.repair.weights import FineTune, recorded_key, write_record

FORMAT = 1
"""Formats of repair.json beside mended weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One model that comes out of a repair: a mended fine-tune, or several joined into one."""

    name: str
    """The name of the fine-tune in the studies: ``tuned``, ``tuned/seed1``; of a joined model ``tuned``."""
    tunes: tuple[FineTune, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A candidate on disk."""

    strength: float
    folder: Path
    key: str


def targets_of(method: Method, tunes: Sequence[FineTune]) -> list[Target]:
    """Return the models that a method makes of fine-tunes: one of all where it joins them, else one of each."""
    if method.joins:
        return [Target(name="tuned", tunes=tuple(tunes))]
    if len(tunes) == 1:
        return [Target(name="tuned", tunes=tuple(tunes))]
    return [Target(name=f"tuned/seed{number}", tunes=(tune,)) for number, tune in enumerate(tunes)]


def record_of(method: Method, strength: float, sources: Sources) -> dict[str, object]:
    """Return everything that decides a candidate, with its key."""
    base = sources.tunes[0].base
    made_of: dict[str, object] = {
        "method": method.name,
        "strength": strength,
        "base": weights_sha256(base.folder),
        "tuned": [tune.identity for tune in sources.tunes],
        "unaligned": None
        if sources.unaligned is None
        else weights_sha256(sources.unaligned.folder),
        "prompts": _sha256(sources.prompts) if method.reads_prompts else None,
    }
    return {
        "format": FORMAT,
        "key": content_key("repair", 1, made_of).hex(),
        **made_of,
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
    }


def make_candidates(
    method: Method,
    strengths: Sequence[float],
    sources: Sources,
    folder: Path,
    advance: Callable[[int], None],
) -> list[Made]:
    """Write the candidates that are not there yet, and return all of them in the order of the strengths.

    Args:
        method: the repair.
        strengths: of the candidates.
        sources: what they are made of.
        folder: where they are kept, each under its key.
        advance: called with 1 after each.

    Raises:
        AftertuneError: there is too little room on the disk.
        ModelError: the weights cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    make: Make | None = None
    made = []
    for strength in strengths:
        record = record_of(method, strength, sources)
        key = str(record["key"])
        out = folder / f"{method.name}-{strength:g}-{key[:12]}"
        if recorded_key(out) != key:
            make = make or method.prepare(sources)
            with whole_folder(out) as draft:
                make(strength, draft)
                write_record(draft, record)
        made.append(Made(strength=strength, folder=out, key=key))
        advance(1)
    return made


def check_room(method: Method, strengths: int, targets: Sequence[Target], folder: Path) -> None:
    """See that the disk has room for the candidates and the result.

    Raises:
        AftertuneError: it has not.
    """
    size = sum(
        file.stat().st_size for target in targets for file in weight_files(target.tunes[0].folder)
    )
    needed = size * (strengths + 1) if method.writes else 0
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = disk_usage(place).free
    if needed > free:
        raise AftertuneError(
            f"{folder}: {strengths} candidates of {method.name} need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; free "
            "some space, or try one strength (--strength 0.5)"
        )


def _sha256(prompts: Sequence[Prompt]) -> str:
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(json.dumps([prompt.id, prompt.intent.value]).encode() + b"\n")
    return digest.hexdigest()
