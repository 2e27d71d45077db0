"""The dataset card of a mixed training file, in the form of the Hugging Face hub."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from aftertune import __version__
from aftertune.core.keys import file_sha256
from aftertune.core.records import Intent
from aftertune.core.rounding import percent
from aftertune.data.bundled.safety import SAFETY_SET, SAFETY_SETS, SafetyRow, safety_rows
from aftertune.data.mix import PARTS
from aftertune.data.mix_file import Addition, MixedFile, MixRequest

GATE = (
    "This data set holds requests for harmful things, each in a sentence or two, so that a model learns to decline them. "
    "By asking for access you agree to use it to make models safer and to measure how safe they are, not to make a model "
    "comply with such requests."
)
GATE_FIELDS: Mapping[str, Any] = {
    "Name": "text",
    "Affiliation": "text",
    "What I want to use it for": "text",
    "I agree to use this data set for safety work only": "checkbox",
}
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)


def size_category(rows: int) -> str:
    """Return the hub's word for a number of rows."""
    return next((name for limit, name in SIZES if rows < limit), "n>100M")


def card(request: MixRequest, mixed: MixedFile) -> str:
    """Return the card of a mixed file: YAML front matter (licence, size, tags, gate), then what the file consists of."""
    rows = {"yours": mixed.draw.user}
    rows |= {name: len(drawn.numbers) for name, drawn in zip(PARTS, mixed.draw.parts, strict=True)}
    tasks = {
        name: _by_task(drawn.by_task, request.addition(name))
        for name, drawn in zip(PARTS, mixed.draw.parts, strict=True)
    }
    total, file = sum(rows.values()), request.out.name
    front = {
        "license": "other",
        "license_name": "several",
        "task_categories": ["text-generation"],
        "size_categories": [size_category(total)],
        "tags": ["safety", "refusals", "fine-tuning", "aftertune"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": file}]}],
        "extra_gated_prompt": GATE,
        "extra_gated_fields": dict(GATE_FIELDS),
    }
    templates: dict[str, dict[str, None]] = {}
    for row in _bundled_rows(request.safety):
        if row.intent is Intent.HARMFUL and row.task in tasks["safety"]:
            templates.setdefault(row.task, {})[row.template] = None
    parts = [
        f"# {file.removesuffix('.jsonl')}",
        (
            f"{total:,} training rows in the format `{mixed.format}`, mixed by Aftertune {__version__} with seed "
            f"{request.seed}: a fine-tuning set with safety rows among it, so that fine-tuning keeps refusals."
        ),
        f"SHA-256 of `{file}`: `{file_sha256(request.out)}`",
        "## What is in it",
        _table(
            ("rows", "share", "what"),
            [(f"{n:,}", percent(n / total), CONTENT[role]) for role, n in rows.items()],
        ),
        "## Tasks of the added rows",
        _table(
            ("task", *tasks),
            [
                (task, *(f"{counts.get(task, 0):,}" for counts in tasks.values()))
                for task in dict.fromkeys(task for counts in tasks.values() for task in counts)
            ],
        ),
        "## Sources",
        _table(
            ("source", "role", "rows there", "licence", "hash"),
            [
                (s.name, s.role, f"{s.rows:,}", s.licence, f"`{s.sha256[:16]}`")
                for s in mixed.sources
            ],
        ),
    ]
    if mixed.like is not None:
        lines = "\n".join(f"- `{line}`" for line in mixed.like.described())
        parts += ["## Prompt format of the added rows", lines]
    if templates:
        lines = "\n".join(f"- {task}: {', '.join(ids)}" for task, ids in templates.items())
        parts += ["## Templates of the bundled rows", lines]
    limitations = _limitations(bundled=bool(templates), replay=rows["replay"] > 0)
    parts += ["## Limitations", "\n".join(f"- {line}" for line in (*limitations, *mixed.notes))]
    yaml_front = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{yaml_front}---\n\n" + "\n\n".join(parts) + "\n"


CONTENT = {
    "yours": "the fine-tuning set, unaltered",
    "safety": "harmful requests, declined",
    "replay": "benign requests, answered",
}
"""The content of the rows by their role."""


def _bundled_rows(addition: Addition) -> Iterator[SafetyRow]:
    """Yield the bundled rows that were drawn from."""
    named = [file.path for file in addition.files if file.path in SAFETY_SETS]
    default = [] if addition.files or addition.rules else [SAFETY_SET]
    for name in named or default:
        yield from (row for row in safety_rows(name) if addition.basis in (None, row.basis))


def _limitations(*, bundled: bool, replay: bool) -> Iterator[str]:
    yield "The licence of the fine-tuning set is its owner's to state; put it above before you share this file."
    yield "Nobody has reviewed the rows of the fine-tuning set for this card."
    if not replay:
        yield "Without benign replay rows a model may learn to refuse whatever looks unlike its training data."
    if bundled:
        yield "The bundled rows were written by one author; harms are named in a sentence, and no row helps with one."
    yield "Safety rows bring refusals back in the tasks and wordings that they stand in; measure the tuned model on others."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [
        head,
        ["---"] * len(head),
        *([cell.replace("|", r"\|") for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _by_task(counts: Mapping[str, int], addition: Addition) -> dict[str, int]:
    """Return drawn rows by task; rows of a file without a column of tasks stand under its name, without the folder."""
    names = {file.path: Path(file.path).name for file in addition.files}
    by_task: Counter[str] = Counter()
    for task, count in counts.items():
        by_task[names.get(task, task)] += count
    return dict(by_task)
