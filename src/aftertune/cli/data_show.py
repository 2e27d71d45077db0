"""`aftertune data show`: what a set holds, and for the bundled one the proof that its two parts do not meet."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console

from aftertune.cli.data_words import counted, facts, say, screen, shortened
from aftertune.core.records import Intent, Prompt
from aftertune.core.registry import known
from aftertune.data.bundled.behaviors import SET
from aftertune.data.bundled.safety_rows import SAFETY_SET
from aftertune.data.bundled.summary import summary
from aftertune.data.files import read_records
from aftertune.data.lint import PERCENTILES
from aftertune.data.overlap import normalise
from aftertune.data.public import public_sets
from aftertune.data.sources import Named, named
from aftertune.errors import DataError
from aftertune.report.files import write_json
from aftertune.report.wording import clean, plural

FORMAT = 1
"""Formats of the JSON. 1: name, prompts, behaviors, by, hazards, characters, repeated, dropped, facts, notes, examples."""
EXAMPLES = 5
HAZARD_WIDTH = 14


def show_set(name: str, file: Path | None, folder: Path, json_path: Path | None) -> None:
    """Print what a prompt set or a file of prompts holds.

    Args:
        name: a set's name, or a file.
        file: the set's file, where it is not to be looked for.
        folder: where the files of public sets are looked for.
        json_path: where the same is also written.

    Raises:
        DataError: nothing is called so, or it cannot be read.
    """
    found = named(SET if name == SAFETY_SET else name, folder, file=file)
    if found.prompts is None:
        raise DataError(f"{name}: {_instead(found.file or Path(name))}")
    told = _document(found)
    console = screen()
    if json_path is not None:
        write_json(json_path, told)
    _print(told, console)
    if found.title == SET:
        console.print()
        for line in summary().splitlines():
            say(console, line)


def _instead(path: Path) -> str:
    """Say how to look at a file that is no file of prompts: as the public set that it is by name and column, or as rows."""
    with closing(read_records(path)) as records:
        _, first = next(records, ("", {}))
    for each in public_sets():
        if each.file and Path(each.file).name == path.name and each.payload in first:
            return f"looks like the public set {each.name}; look at it with: aftertune data show {each.name} --file {path}"
    return f"holds training rows, not prompts; look at them with: aftertune data check {path}"


def _document(found: Named) -> dict[str, Any]:
    assert found.prompts is not None  # `show_set` lets nothing else through
    prompts = found.prompts.prompts
    lengths = sorted(len(prompt.text) for prompt in prompts)
    texts = Counter(normalise(prompt.text) for prompt in prompts)
    pairs = {prompt.pair for prompt in prompts if prompt.intent is Intent.HARMFUL} - {None}
    return {
        "format": FORMAT,
        "name": found.title,
        "prompts": len(prompts),
        "behaviors": len({prompt.behavior for prompt in prompts}),
        "twins": len(
            {p.behavior for p in prompts if p.intent is Intent.BENIGN and p.pair in pairs}
        ),
        "by": {
            column: dict(
                sorted(Counter(str(getattr(prompt, column)) for prompt in prompts).items())
            )
            for column in ("intent", "task", "template", "harm_basis")
        },
        "hazards": _hazards(prompts),
        "characters": {
            f"p{each}": lengths[(len(lengths) - 1) * each // 100] for each in PERCENTILES if lengths
        },
        "references": sum(prompt.reference is not None for prompt in prompts),
        "repeated": sum(count - 1 for count in texts.values()),
        "dropped": dict(found.prompts.dropped),
        "facts": _facts(found.title),
        "notes": list(found.prompts.notes),
        "examples": [
            shortened(prompt.text)
            for prompt in prompts[:: max(1, len(prompts) // EXAMPLES)][:EXAMPLES]
        ],
    }


def _hazards(prompts: Iterable[Prompt]) -> dict[str, dict[str, int]]:
    """Return the numbers of harmful prompts by hazard and task."""
    counts = Counter(
        (prompt.hazard, prompt.task) for prompt in prompts if prompt.intent is Intent.HARMFUL
    )
    table: dict[str, dict[str, int]] = {}
    for (hazard, task), count in sorted(counts.items()):
        table.setdefault(hazard, {})[task] = count
    return table


def _facts(title: str) -> dict[str, str]:
    """Return what is known of a public set beside its rows; nothing of a file that merely has some name."""
    for each in public_sets() if title in known("prompts") else ():
        if each.name == title:
            gate = {"": "no", "automatic": "accept the licence", "manual": "the authors decide"}[
                each.gated
            ]
            published = "" if each.rows is None else f"{each.rows:,} rows"
            return {
                "licence": each.licence, "gated": gate, "home": each.page, "published": published,
                "citation": each.citation, "facts": f"read from {'the' if each.seen == 'file' else 'a'} {each.seen}"
                if each.checked else "from memory, unchecked",
            }  # fmt: skip
    return {}


def _print(told: Mapping[str, Any], console: Console) -> None:
    intents = counted(told["by"]["intent"])
    say(
        console,
        f"{clean(told['name'])}: {plural(told['prompts'], 'prompt')} ({intents}) of {_behaviors(told)}",
    )
    sizes = told["characters"]
    facts(
        console,
        {
            "tasks": counted(told["by"]["task"]),
            "templates": counted(told["by"]["template"]),
            "harm basis": counted(told["by"]["harm_basis"]),
            "length": f"{sizes['p0']:,} to {sizes['p100']:,}, median {sizes['p50']:,} characters"
            if sizes
            else "",
            "references": f"{told['references']:,} prompts have a correct answer"
            if told["references"]
            else "",
            "repeated": f"{told['repeated']:,} prompts say what an earlier one says (case, punctuation aside)",
            "left out": counted(told["dropped"]) or "nothing",
            **told["facts"],
        },
    )
    if told["hazards"]:
        _print_hazards(told["hazards"], list(told["by"]["task"]), console)
    console.print("\nfor example:")
    for text in told["examples"]:
        console.print(f"  {text}")
    for note in told["notes"]:
        say(console, clean(note), lead="note: ")


def _behaviors(told: Mapping[str, Any]) -> str:
    twins = f", {plural(told['twins'], 'benign twin')} among them" if told["twins"] else ""
    return f"{plural(told['behaviors'], 'behavior')}{twins}"


def _print_hazards(
    hazards: Mapping[str, Mapping[str, int]], tasks: Sequence[str], console: Console
) -> None:
    shown = [task for task in tasks if any(task in counts for counts in hazards.values())]
    widths = {task: max(len(task), 7) + 1 for task in shown}
    console.print(
        f"\n{'harmful':<{HAZARD_WIDTH}}{''.join(f'{clean(task):>{widths[task]}}' for task in shown)}"
    )
    for hazard, counts in hazards.items():
        cells = "".join(f"{counts.get(task, 0):>{widths[task]},}" for task in shown)
        console.print(f"{clean(hazard)[: HAZARD_WIDTH - 1]:<{HAZARD_WIDTH}}{cells}")
