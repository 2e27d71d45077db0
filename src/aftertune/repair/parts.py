"""The prompts of a repair in two parts: one chooses the strength, the other proves it.

What chose a strength says too much good of it: the luck of the prompts is part of the choice. So every third behavior
chooses and the others prove. A behavior goes with its benign twin, in every set, task and template.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aftertune.core.keys import short_id
from aftertune.core.records import Intent, Message, Prompt
from aftertune.data.overlap import unit_of
from aftertune.data.prompt_sets import write_prompts
from aftertune.data.rows import Row
from aftertune.errors import DataError

EVERY = 3
"""One behavior of so many is for selection."""
PLACE = 1
"""The place of that behavior among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The prompts for selection and for proof; no behavior is in both."""

    selection: tuple[Prompt, ...]
    proof: tuple[Prompt, ...]

    def counts(self, sets: Iterable[str]) -> tuple[int, int]:
        """Return how many harmful behaviors (or, of benign sets, behaviors) of the named sets each part has."""
        named = set(sets)
        return (
            len({unit_of(prompt) for prompt in self.selection if prompt.set in named}),
            len({unit_of(prompt) for prompt in self.proof if prompt.set in named}),
        )


def divide(prompts: Sequence[Prompt], seed: int = 0) -> Parts:
    """Divide prompts into the part for selection and the part for proof.

    Inside each hazard behaviors are ordered by a hash, and every third is for selection; the count goes on from hazard to
    hazard, so that small hazards are not all on one side. Benign sets without harmful behaviors (the own task) are divided
    in the same way, each set by itself.

    Args:
        prompts: of all sets.
        seed: 0 gives the division that every run has; other seeds draw others, for simulations.
    """
    group: dict[str, tuple[str, str]] = {}
    for prompt in prompts:
        harmful = prompt.intent is Intent.HARMFUL
        # A harmful prompt says its behavior's hazard; a twin, or a row of a benign set, says none.
        if harmful or unit_of(prompt) not in group:
            group[unit_of(prompt)] = ("", prompt.hazard) if harmful else (prompt.set, "")
    salt = [seed] if seed else []
    ordered = sorted(group, key=lambda unit: (group[unit], short_id("part", unit, *salt)))
    harmful_first = [unit for unit in ordered if not group[unit][0]]
    by_set: dict[str, list[str]] = {"": harmful_first}
    for unit in ordered:
        if group[unit][0]:
            by_set.setdefault(group[unit][0], []).append(unit)
    selected = {unit for units in by_set.values() for unit in units[PLACE::EVERY]}
    return Parts(
        selection=tuple(prompt for prompt in prompts if unit_of(prompt) in selected),
        proof=tuple(prompt for prompt in prompts if unit_of(prompt) not in selected),
    )


def write_part(prompts: Sequence[Prompt], folder: Path) -> Mapping[str, Path]:
    """Write the prompts of one part, a file for each set, and return the files by set.

    A part of a repair is kept in its run: its study names these files, and can be run again by itself.

    Raises:
        DataError: a set has no prompt in this part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name in dict.fromkeys(prompt.set for prompt in prompts):
        files[name] = folder / f"{name}.jsonl"
        write_prompts((prompt for prompt in prompts if prompt.set == name), files[name])
    return files


def check_parts(parts: Parts, sets: Iterable[str]) -> None:
    """See that every set has prompts for selection and for proof.

    Raises:
        DataError: one has not.
    """
    for name in sets:
        chosen, proven = parts.counts([name])
        if not chosen or not proven:
            raise DataError(
                f"prompt set {name}: {chosen + proven} behaviors are too few to choose a strength on some and prove it on the "
                f"others; give at least {EVERY}"
            )


def shown_rows(prompts: Iterable[Prompt]) -> list[Row]:
    """Return prompts as rows that a model was shown, for the overlap of the proof with what chose the strength."""
    return [(Message(role="user", content=prompt.text),) for prompt in prompts]
