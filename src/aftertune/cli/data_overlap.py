"""`aftertune data overlap`: what of one set stands in another, how, and where."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from aftertune.cli.data_words import say, screen, shortened
from aftertune.core.records import Prompt
from aftertune.core.rounding import percent
from aftertune.data.inside import unit
from aftertune.data.overlap import Finder, How
from aftertune.data.sources import Named, named
from aftertune.report.files import write_json
from aftertune.report.wording import clean, plural

FORMAT = 1
"""Formats of the JSON. 1: asked, in, prompts, behaviors, rows, examples."""
HOWS: Sequence[How] = get_args(How)
SAYS: Mapping[How, str] = {
    "verbatim": "the prompt is the question",
    "payload": "one is a line of the other",
    "inside": "a request inside a longer line",
}
KEPT, NAMED = 100, 3
"""Examples of each kind in the JSON, and on the screen."""


@dataclass(slots=True)
class _Found:
    """Counts while the rows of B pass by."""

    rows: int = 0
    hows: dict[str, How] = field(default_factory=dict)
    """The strictest way in which each prompt of A was found, by its id."""
    rows_by_how: Counter[How] = field(default_factory=Counter)
    examples: dict[str, tuple[How, str]] = field(default_factory=dict)
    """Where each prompt was first found in its strictest way."""

    def add(self, where: str, held: Mapping[str, How]) -> None:
        self.rows += 1
        if held:
            self.rows_by_how[min(held.values(), key=HOWS.index)] += 1
        for prompt, how in held.items():
            if prompt not in self.hows or HOWS.index(how) < HOWS.index(self.hows[prompt]):
                self.hows[prompt] = how
                self.examples[prompt] = (how, where)


def overlap(
    one: str, other: str, columns: str | None, folder: Path, json_path: Path | None
) -> None:
    """Print how much of what ``one`` asks stands in ``other``.

    Raises:
        DataError: one of the two is nothing known, or cannot be read.
    """
    ours, theirs = (named(name, folder, columns=columns) for name in (one, other))
    asked = ours.asked()
    finder, found = Finder(asked.prompts), _Found()
    for where, row in theirs.rows():
        found.add(where, finder.held(row))
    told = _document(ours, theirs, asked.prompts, found)
    if json_path is not None:
        write_json(json_path, told)
    _print(told, screen())


def _document(
    ours: Named, theirs: Named, prompts: Sequence[Prompt], found: _Found
) -> dict[str, Any]:
    ways = Counter(found.hows.values())
    hit = {unit(prompt) for prompt in prompts if prompt.id in found.hows}
    texts = {prompt.id: prompt.text for prompt in prompts if prompt.id in found.hows}
    examples: dict[str, list[dict[str, str]]] = {how: [] for how in HOWS if ways[how]}
    for prompt, (how, where) in found.examples.items():
        if len(examples[how]) < KEPT:
            examples[how].append({"where": _placed(where), "prompt": shortened(texts[prompt])})
    return {
        "format": FORMAT,
        "asked": ours.title,
        "in": theirs.title,
        "prompts": {
            "all": len(prompts),
            "found": len(found.hows),
            **{how: ways[how] for how in HOWS},
        },
        "behaviors": {"all": len({unit(prompt) for prompt in prompts}), "found": len(hit)},
        "rows": {
            "all": found.rows,
            "found": found.rows_by_how.total(),
            **{how: found.rows_by_how[how] for how in HOWS},
        },
        "examples": examples,
    }


def _placed(where: str) -> str:
    """Return the place without the folders before it, which say nothing elsewhere."""
    file, _, place = where.rpartition(", ")
    return f"{Path(file).name}, {place}"


def _print(told: Mapping[str, Any], console: Console) -> None:
    ours, theirs = clean(told["asked"]), clean(told["in"])
    say(
        console,
        f"What {ours} asks, in {theirs} (every prompt and row in the strictest way that fits):",
    )
    console.print(f"\n{'':<10}{'prompts of A':>15}{'rows of B':>15}")
    for how in HOWS:
        console.print(f"{how:<10}{told['prompts'][how]:>15,}{told['rows'][how]:>15,}  {SAYS[how]}")
    for name in ("found", "all"):
        console.print(f"{name:<10}{told['prompts'][name]:>15,}{told['rows'][name]:>15,}")
    for how, examples in told["examples"].items():
        console.print(f"\n{how}:")
        for each in examples[:NAMED]:
            console.print("  " + shortened(f"{each['where']}: {each['prompt']}", console.width - 2))
        if (more := told["prompts"][how] - NAMED) > 0:
            console.print(f"  and {more:,} more")
    console.print()
    say(console, _closing(told))


def _closing(told: Mapping[str, Any]) -> str:
    found, every = told["behaviors"]["found"], told["behaviors"]["all"]
    if not found:
        return (
            f"None of the {plural(every, 'behavior')} of A stands in B; paraphrases are not found."
        )
    return (
        f"{found:,} of {every:,} behaviors of A ({percent(found / every)}) stand in B: a model trained on B cannot be "
        "measured by them, and a study drops them for all its models. Paraphrases are not found."
    )
