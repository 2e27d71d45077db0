"""The report stage: the result document, its page, and what the screen shows."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from aftertune.core.recipe import StudyModel
from aftertune.data.study_prompts import StudyPrompts
from aftertune.measure.results import GateResult, StudyResult
from aftertune.report.cells import Json
from aftertune.report.files import write_json
from aftertune.report.finding import brief, finding
from aftertune.report.terminal import print_gate, print_sentences, print_study
from aftertune.report.wording import clean, listing
from aftertune.workspace import PAGE, RESULT

FORMAT = 1
"""Formats of result.json. 1: study, models, prompts, notes, result, gate, finding, labels (how many people labelled),
scorers (their versions)."""


def document(
    *,
    study: str,
    models: Sequence[Mapping[str, Any]],
    questions: StudyPrompts,
    notes: Sequence[str],
    result: StudyResult,
    gate: GateResult | None,
) -> dict[str, Any]:
    """Return what result.json holds: the same bytes for the same study on the same machine, so no times and no paths."""
    told = result.to_json()
    return {
        "format": FORMAT,
        "study": study,
        "models": list(models),
        "prompts": {
            "asked": len(questions.prompts),
            "sets": dict(_set_sizes(questions)),
            "dropped": {
                name: dict(sorted(reasons.items()))
                for name, reasons in sorted(questions.dropped.items())
            },
            "overlap": dict(sorted(_short_names(questions.overlap).items())),
        },
        "notes": list(notes),
        "result": told,
        "gate": None if gate is None else gate.to_json(),
        "finding": finding(told),
    }


def model_records(
    models: Sequence[StudyModel],
    identities: Mapping[str, Mapping[str, object]],
    probes: Mapping[str, object],
) -> list[dict[str, Any]]:
    """Return what result.json says of each model: its hashes, and for a fine-tune its recipe's key and the probe."""
    return [
        {
            "name": model.name,
            "condition": model.condition,
            "base": model.base,
            "training_seed": model.training_seed,
            "identity": dict(identities[model.name]),
            "recipe": None if model.recipe is None else model.recipe.key.hex(),
            "probe": probes[model.name],
        }
        for model in models
    ]


def _short_names(counts: Mapping[str, int]) -> dict[str, int]:
    """Name files by their name, and by their folder too where two files share one; a path says nothing elsewhere."""
    names = Counter(Path(file).name for file in counts)
    return {
        Path(file).name if names[Path(file).name] == 1 else str(Path(*Path(file).parts[-2:])): count
        for file, count in counts.items()
    }


def _set_sizes(questions: StudyPrompts) -> Iterator[tuple[str, dict[str, int]]]:
    sizes: dict[str, dict[str, int]] = {}
    for prompt in questions.prompts:
        counts = sizes.setdefault(prompt.set, {})
        counts[prompt.intent.value] = counts.get(prompt.intent.value, 0) + 1
    yield from sorted(sizes.items())


def present(told: Json, console: Console, json: Path | None = None, *, full: bool = False) -> None:
    """Print a result document: the gate's verdict first if there is one, the finding, the main tables, the notes.

    Args:
        told: the document.
        console: where to.
        json: also write the document there.
        full: with every table and sentence that the page has.

    Raises:
        InputError: the document has a format that is not known, or ``json`` cannot be written.
    """
    if told["gate"] is not None:
        print_gate(told["gate"], console)
        console.print()
    print_sentences(told["finding"] if full else brief(told["result"]), console)
    console.print()
    print_study(told["result"], console, tasks=told["gate"] is None or full, full=full)
    for line in notes_of(told, warnings_only=not full):
        console.print(f"note: {clean(line)}", markup=False, highlight=False)
    if json is not None:
        write_json(json, told)


def print_files(folder: Path, page: Path | None = None, following: Sequence[str] = ()) -> None:
    """Say where page and result are, and what to type next; a path stands whole on one line, so that it can be copied."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"\nPage:   {page or folder / PAGE}\nResult: {folder / RESULT}", markup=False)
    for number, line in enumerate(following):
        console.print(f"{'        ' if number else 'Next:   '}{line}", markup=False)


def notes_of(told: Json, *, warnings_only: bool = False) -> list[str]:
    """Return what a reader must know about the prompts and the training rows, in lines; or only what is amiss."""
    dropped = [
        f"{name}: {count:,} prompts left out ({reason})"
        for name, reasons in told["prompts"]["dropped"].items()
        for reason, count in reasons.items()
    ]
    overlap = told["prompts"]["overlap"]
    found = [
        f"{count:,} evaluation prompts occur in {file}" for file, count in overlap.items() if count
    ]
    free = [file for file, count in overlap.items() if not count]
    none = [f"no evaluation prompts occur in {listing(free)}"] if free and not warnings_only else []
    return [*dropped, *found, *none, *told["notes"]]
