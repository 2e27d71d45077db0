"""The dataset card of a mixed training file, in the form of the Hugging Face hub."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from aftertune import __version__
from aftertune.core.rounding import percent

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source of the rows of a mixed file."""

    name: str
    role: str
    """``yours``, ``safety`` or ``replay``."""
    rows: int
    """Rows of the source, whether they were drawn or not."""
    sha256: str
    """The digest of a file; of the bundled rows, their content key."""
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """The facts in the card of a mixed file."""

    file: str
    sha256: str
    format: str
    seed: int
    counts: Mapping[str, int]
    """Rows by role: ``yours``, ``safety``, ``replay``."""
    tasks: Mapping[str, Mapping[str, int]]
    """Drawn rows by role and task."""
    sources: Sequence[Source]
    templates: Mapping[str, Sequence[str]]
    """Templates of the drawn bundled rows by task; empty without bundled rows."""
    posed: Sequence[str]
    """The prompt format that the added rows were posed in, line by line; empty where they were left as they are."""
    notes: Sequence[str]


def size_category(rows: int) -> str:
    """Return the hub's word for a number of rows."""
    return next((name for limit, name in SIZES if rows < limit), "n>100M")


def card(mixture: Mixture) -> str:
    """Return the card: YAML front matter (licence, size, tags, gate), then composition, sources and limitations of the file."""
    total = sum(mixture.counts.values())
    front = {
        "license": "other",
        "license_name": "several",
        "task_categories": ["text-generation"],
        "size_categories": [size_category(total)],
        "tags": ["safety", "refusals", "fine-tuning", "aftertune"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": mixture.file}]}
        ],
        "extra_gated_prompt": GATE,
        "extra_gated_fields": dict(GATE_FIELDS),
    }
    summary = (
        f"{total:,} training rows in the format `{mixture.format}`, mixed by Aftertune {__version__} with seed "
        f"{mixture.seed}: a fine-tuning set with safety rows among it, so that fine-tuning keeps refusals."
    )
    parts = [
        f"# {mixture.file.removesuffix('.jsonl')}",
        summary,
        f"SHA-256 of `{mixture.file}`: `{mixture.sha256}`",
        "## What is in it",
        _table(("rows", "share", "what"), _composition(mixture, total)),
        "## Tasks of the added rows",
        _table(("task", *mixture.tasks), _by_task(mixture.tasks)),
        "## Sources",
        _table(("source", "role", "rows there", "licence", "hash"), _sources(mixture.sources)),
        *_templates(mixture),
        "## Limitations",
        _limitations(mixture),
    ]
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=100)}---\n\n"
        + "\n\n".join(parts)
        + "\n"
    )


CONTENT = {
    "yours": "the fine-tuning set, unaltered",
    "safety": "harmful requests, declined",
    "replay": "benign requests, answered",
}
"""The content of the rows by their role."""


def _composition(mixture: Mixture, total: int) -> list[tuple[str, ...]]:
    return [
        (f"{count:,}", percent(count / total), CONTENT[role])
        for role, count in mixture.counts.items()
    ]


def _by_task(tasks: Mapping[str, Mapping[str, int]]) -> list[tuple[str, ...]]:
    names = dict.fromkeys(task for counts in tasks.values() for task in counts)
    return [(name, *(f"{counts.get(name, 0):,}" for counts in tasks.values())) for name in names]


def _sources(sources: Sequence[Source]) -> list[tuple[str, ...]]:
    return [
        (source.name, source.role, f"{source.rows:,}", source.licence, f"`{source.sha256[:16]}`")
        for source in sources
    ]


def _templates(mixture: Mixture) -> list[str]:
    parts = []
    if mixture.posed:
        parts += [
            "## Prompt format of the added rows",
            "\n".join(f"- `{line}`" for line in mixture.posed),
        ]
    if mixture.templates:
        listed = [f"- {task}: {', '.join(names)}" for task, names in mixture.templates.items()]
        parts += ["## Templates of the bundled rows", "\n".join(listed)]
    return parts


def _limitations(mixture: Mixture) -> str:
    lines = [
        "The licence of the fine-tuning set is its owner's to state; put it above before you share this file.",
        "Nobody has reviewed the rows of the fine-tuning set for this card.",
        "Safety rows bring refusals back in the tasks and wordings that they stand in; measure the tuned model on others.",
        *mixture.notes,
    ]
    if mixture.templates:
        lines.insert(
            2,
            "The bundled rows were written by one author; harms are named in a sentence, and no row helps with one.",
        )
    if not mixture.counts["replay"]:
        lines.insert(
            2,
            "Without benign replay rows a model may learn to refuse whatever looks unlike its training data.",
        )
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [
        head,
        ["---"] * len(head),
        *([cell.replace("|", r"\|") for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
