"""The room that a worker takes on a node: CPUs, GPUs, and on a CPU the memory of its largest model, as `aftertune plan` estimates it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aftertune.core.recipe import StudyModel
from aftertune.data.rows import Row
from aftertune.models.size import generating_bytes, parameters, shape, training_bytes
from aftertune.train.stage import LongestRows
from aftertune.workspace import Run

ROWS = 32
"""Answers at a time that the memory is estimated for."""
PROMPT_TOKENS = 512
"""Tokens of a prompt that the memory is estimated for."""
GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The resources of a worker, or those of a node."""

    cpus: float
    gpus: float
    memory: float
    """Bytes; 0 for a worker that computes on a GPU: Ray counts no memory of GPUs."""

    def fits(self, node: "Room") -> bool:
        """Return whether a node has that much in all."""
        return self.cpus <= node.cpus and self.gpus <= node.gpus and self.memory <= node.memory

    def __str__(self) -> str:
        gpus = f", {self.gpus:g} GPUs" if self.gpus else ""
        memory = f", {self.memory / GIB:.1f} GiB" if self.memory else ""
        return f"{self.cpus:g} CPUs{gpus}{memory}"


def nodes_of(entries: Iterable[Mapping[str, Any]]) -> list[Room]:
    """Return the room of each living node in ``ray.nodes()``."""
    return [room_in(entry["Resources"]) for entry in entries if entry["Alive"]]


def room_in(resources: Mapping[str, float]) -> Room:
    """Return the room in some of Ray's resources."""
    return Room(
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        memory=resources.get("memory", 0.0),
    )


def room_of(
    run: Run, models: Sequence[StudyModel], rows: Mapping[str, Sequence[Row]], gpus: float
) -> Room:
    """Return the room of a worker that trains and asks any of a study's models.

    Args:
        run: the study's.
        models: all models of the study.
        rows: the training rows of every fine-tune by its name.
        gpus: GPUs of a worker.
    """
    threads = run.engines.threads
    if gpus:
        return Room(cpus=threads, gpus=gpus, memory=0.0)
    by_name = {model.name: model for model in models}
    longest = LongestRows(run.engines)
    sizes = [_bytes(run, model, by_name, rows, longest) for model in models]
    return Room(cpus=threads, gpus=0.0, memory=max(sizes, default=0.0))


def _bytes(
    run: Run,
    model: StudyModel,
    by_name: Mapping[str, StudyModel],
    rows: Mapping[str, Sequence[Row]],
    longest_rows: LongestRows,
) -> float:
    """Return the memory of a model while it answers, and while it is trained; 0 for one that another machine answers for."""
    there = model if model.recipe is None or model.base is None else by_name[model.base]
    base = run.base_of(there)
    count = parameters(there.reference, base)
    if count is None:
        return 0.0
    dtype = str(run.open(there).identity.get("dtype", "float32"))
    sizes, tokens = shape(there.reference, base), PROMPT_TOKENS + run.study.decoding.limit
    answering = generating_bytes(count, sizes, dtype, tokens=tokens, rows=ROWS, device="cpu")
    if model.recipe is None:
        return answering
    longest = longest_rows.of(model.recipe, rows[model.name])
    trained = str(model.recipe.base_identity.get("dtype", dtype))
    return max(
        answering,
        training_bytes(count, sizes, model.recipe, trained, longest=longest, device="cpu"),
    )
