"""The dataset card of a mixed file, from what was drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aftertune.core.files import write_whole
from aftertune.core.ids import file_sha256
from aftertune.core.records import Intent
from aftertune.data.bundled.safety_rows import SAFETY_SET, safety_rows, safety_sha256
from aftertune.data.card import Mixture, Source, card
from aftertune.data.draw import Candidates, Draw
from aftertune.data.rowfile import RowFile

if TYPE_CHECKING:
    from aftertune.cli.mix import Addition, MixRequest

Pools = Mapping[str, Mapping[str, Candidates]]
"""Candidates by part (``safety``, ``replay``) and task."""


def write_card(
    request: "MixRequest",
    rows: RowFile,
    pools: Pools,
    made: Draw,
    target: str,
    told: tuple[Sequence[str], Sequence[str]],
) -> None:
    """Write the card of the mixed file, which must be there already.

    Args:
        request: what was asked for.
        rows: the training file.
        pools: what was drawn from.
        made: what was drawn.
        target: the format of the mixed file.
        told: the prompt format of the added rows and the notes, a line each.
    """
    additions = {"safety": request.safety, "replay": request.replay}
    by_part = dict(zip(additions, made.parts, strict=True))
    sources = [_source(request.train, "yours", len(rows))]
    for role, addition in additions.items():
        sources += _sources(role, addition, pools[role])
    mixture = Mixture(
        file=request.out.name,
        sha256=file_sha256(request.out),
        format=target,
        seed=request.seed,
        counts={"yours": made.user} | {role: len(part.numbers) for role, part in by_part.items()},
        tasks={role: _by_task(part.by_task, additions[role]) for role, part in by_part.items()},
        sources=sources,
        templates={} if request.safety.files else _templates(by_part["safety"].by_task),
        posed=told[0],
        notes=told[1],
    )
    write_whole(Path(str(request.card)), [card(mixture)])


def _source(path: Path, role: str, rows: int, licence: str = "") -> Source:
    sha256 = file_sha256(path) if path.is_file() else "not a file"
    return Source(
        name=path.name,
        role=role,
        rows=rows,
        sha256=sha256,
        licence=licence or "its owner's to state",
    )


def _by_task(counts: Mapping[str, int], addition: "Addition") -> dict[str, int]:
    """Return drawn rows by task; rows of a file without a column of tasks stand under its name, without the folder."""
    names = {
        file.path: path.name for file, path in zip(addition.files, addition.paths, strict=True)
    }
    shown: dict[str, int] = {}
    for task, count in counts.items():
        name = names.get(task, task)
        shown[name] = shown.get(name, 0) + count
    return shown


def _sources(role: str, addition: "Addition", pool: Mapping[str, Candidates]) -> list[Source]:
    """Return the sources of a part; its rows are told for all of its files together."""
    if not addition.share:
        return []
    count = sum(len(candidates.usable) for candidates in pool.values())
    if not addition.files:
        return [
            Source(
                name=SAFETY_SET, role=role, rows=count, sha256=safety_sha256(), licence="Apache-2.0"
            )
        ]
    licences = addition.licences or ("",) * len(addition.files)
    return [
        _source(path, role, count, licence)
        for path, licence in zip(addition.paths, licences, strict=True)
    ]


def _templates(tasks: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the bundled templates of the tasks that were drawn from."""
    names: dict[str, dict[str, None]] = {}
    for row in safety_rows():
        if row.intent is Intent.HARMFUL and row.task in tasks:
            names.setdefault(row.task, {})[row.template] = None
    return {task: list(templates) for task, templates in names.items()}
