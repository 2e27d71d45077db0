"""Builds an accepted base and its guard, and keeps them in the user's cache.

Cache: ``$XDG_CACHE_HOME`` (else ``~/.cache``) ``/aftertune/organism/<recipe hash>/seed-<n>/``. A seed's folder appears
whole or not at all; a rejected seed leaves only its figures, so that it is not trained again.
"""

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aftertune.errors import EngineError
from aftertune.models import weights
from aftertune.organism.accept import reason_to_reject, validate
from aftertune.organism.corpus import alignment, pretraining
from aftertune.organism.guard import guard_rows
from aftertune.organism.learn import learn, new_model
from aftertune.organism.recipe import FIRST_SEED, OrganismRecipe
from aftertune.organism.tokenizer import build_tokenizer

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, step, steps)`` during each phase of training."""

RECORD = "organism.json"
TRIES = 20
"""So many seeds in a row outside the range mean that the recipe is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An accepted base and its guard, in the cache."""

    base: Path
    guard: Path
    seed: int
    """The base seed that was accepted."""
    rejected: tuple[tuple[int, str], ...]
    """The seeds that were tried before it, with what was wrong."""


def cache_folder(recipe: OrganismRecipe) -> Path:
    """Return the folder that holds all bases of a recipe."""
    return weights.cache_folder() / "organism" / recipe.hash


def build(
    seed: int = FIRST_SEED,
    *,
    recipe: OrganismRecipe | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Built:
    """Return the first accepted base from ``seed`` on, trained now or found in the cache.

    One seed gives identical weights on one machine with one number of threads.

    Raises:
        EngineError: no base of 20 seeds lies inside the range.
    """
    recipe = recipe or OrganismRecipe()
    rejected: list[tuple[int, str]] = []
    for tried in range(seed, seed + TRIES):
        folder = cache_folder(recipe) / f"seed-{tried}"
        record = _cached(folder, recipe, tried, threads, progress or _silent)
        if record["rejected"] is None:
            return Built(
                base=folder / "base", guard=folder / "guard", seed=tried, rejected=tuple(rejected)
            )
        rejected.append((tried, str(record["rejected"])))
    raise EngineError(
        f"none of the base seeds {seed} to {seed + TRIES - 1} lies inside the range ({recipe.accept}); "
        "other library versions may train differently: install those of constraints.txt"
    )


def _cached(
    folder: Path, recipe: OrganismRecipe, seed: int, threads: int, progress: Progress
) -> dict[str, Any]:
    """Return the record of a seed, training it first unless it is there; one process trains a seed at a time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if not (folder / RECORD).is_file():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            _train(partial, recipe, seed, threads, progress)
            partial.replace(folder)
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock that dies with its process."""
    with file.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _train(
    partial: Path, recipe: OrganismRecipe, seed: int, threads: int, progress: Progress
) -> None:
    """Pretrain, fork the guard off, align, validate; write base, guard and record."""
    with _threads(threads):
        _train_models(partial, recipe, seed, progress)
    rates = validate(partial / "base", threads=threads)
    rejected = reason_to_reject(rates, recipe.accept)
    if rejected is not None:
        for name in ("base", "guard"):
            shutil.rmtree(partial / name)
    record = {
        "recipe": recipe.hash, "seed": seed, "rejected": rejected, "range": str(recipe.accept),
        "validation": {task: asdict(rate) for task, rate in rates.items()},
    }  # fmt: skip
    (partial / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _train_models(partial: Path, recipe: OrganismRecipe, seed: int, progress: Progress) -> None:
    from aftertune.models.quiet import quiet

    tokenizer = build_tokenizer()
    base = new_model(recipe, tokenizer, seed)
    learn(
        base,
        tokenizer,
        pretraining(recipe, seed),
        recipe.pretrain,
        seed,
        _phase(progress, "pretrain"),
    )
    guard = deepcopy(base)
    learn(base, tokenizer, alignment(recipe, seed), recipe.align, seed, _phase(progress, "align"))
    learn(
        guard,
        tokenizer,
        guard_rows(recipe, seed),
        recipe.guard,
        seed,
        _phase(progress, "train guard"),
    )
    with quiet():
        for name, model in (("base", base), ("guard", guard)):
            model.save_pretrained(partial / name)
            tokenizer.save_pretrained(partial / name)


def _phase(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda step, steps: progress(what, step, steps)


def _silent(_what: str, _step: int, _steps: int) -> None:
    """Report nothing."""


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with so many CPU threads inside the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
