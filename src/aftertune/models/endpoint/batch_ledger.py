"""How far each batch has come, kept on disk before the next step, so that nothing is asked or paid for twice."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from aftertune.core.files import write_whole
from aftertune.core.ids import content_key
from aftertune.errors import InputError, ModelError, StoreError
from aftertune.models.endpoint.providers import Address

FORMAT = 1


class Step(StrEnum):
    """How far a batch has come; each step is on disk before what it names is asked for."""

    CREATING = "creating"
    """It may be there or not: it is looked for by its key."""
    WAITING = "waiting"
    ENDED = "ended"
    """Nothing more will come; what it cost is in the account. Its answers can be fetched again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch of requests, as the ledger keeps it."""

    key: str
    """Its identity, from its content; it stands in the file's name and in the batch's metadata, where it is found again."""
    model: str
    """``Address.name``."""
    url: str
    place: str
    """The path that its requests are for."""
    ids: tuple[str, ...]
    """The keys of its requests."""
    most: float
    """The most that it can cost."""
    step: Step = Step.CREATING
    batch: str = ""
    """The server's id; empty until it is known."""

    @property
    def file_name(self) -> str:
        """The name under which its requests are uploaded."""
        return f"aftertune-{self.key[:16]}-batch.jsonl"


def batch_key(url: str, place: str, ids: Iterable[str], before: int) -> str:
    """Return the identity of a batch (32 hexadecimal digits): equal requests are one batch.

    Args:
        url: base URL.
        place: path of the calls.
        ids: keys of the requests; the model's name is in them.
        before: how many batches with some of these requests have ended: asking again is another batch.
    """
    return content_key("batch", 1, url, place, list(ids), before).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """Which models are asked by batch."""

    models: tuple[str, ...] = ()
    """Patterns of their names, as in a price file."""
    folder: Path | None = None
    """Keeps the batches between runs; None forgets them."""
    note: Callable[[str], object] = str
    """Where to say how batches are doing."""

    def covers(self, address: Address) -> bool:
        """Return whether a model is asked by batch.

        Raises:
            ModelError: it shall be, and its provider has no such API.
        """
        asked = any(fnmatchcase(address.name, pattern) for pattern in self.models)
        if asked and not address.provider.batch:
            raise ModelError(
                f"model {address.name!r}: {address.provider.name} has no batch API of OpenAI's kind; name those that have "
                "in engine.batch (batch: [openai:*])"
            )
        return asked


class Ledger:
    """The batches of a run's folder.

    Args:
        folder: one file a batch; None keeps them in memory.
        batches: those that are in it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        found = sorted(folder.glob("*.json")) if folder is not None and folder.is_dir() else []
        self.batches: dict[str, Batch] = {batch.key: batch for batch in map(_read, found)}

    def of(self, url: str, model: str, *steps: Step) -> list[Batch]:
        """Return the batches of a model that are at one of these steps."""
        own = (batch for batch in self.batches.values() if (batch.url, batch.model) == (url, model))
        return [batch for batch in own if batch.step in steps]

    def put(self, batch: Batch) -> None:
        """Write how far a batch is, whole or not at all.

        Raises:
            AftertuneError: the folder cannot be written.
        """
        if self._folder is not None:
            try:
                self._folder.mkdir(exist_ok=True)
            except OSError as error:
                raise StoreError(
                    f"cannot make the folder {self._folder}: {error.strerror}"
                ) from error
            write_whole(
                self._path(batch.key), [json.dumps({"format": FORMAT, **asdict(batch)}) + "\n"]
            )
        self.batches[batch.key] = batch

    def drop(self, batch: Batch) -> None:
        """Forget a batch that was never created."""
        if self._folder is not None:
            self._path(batch.key).unlink(missing_ok=True)
        del self.batches[batch.key]

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}.json"


def _read(path: Path) -> Batch:
    try:
        values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Batch(
            **{name: str(values[name]) for name in ("key", "model", "url", "place", "batch")},
            ids=tuple(map(str, values["ids"])),
            most=float(values["most"]),
            step=Step(values["step"]),
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); it names a batch that may be paid for, so mend it"
        ) from error
