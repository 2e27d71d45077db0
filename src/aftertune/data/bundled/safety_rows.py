"""The safety data `multitask-safety-v1`: refusals of the safety behaviors, and as many proper answers to their twins.

Both intents of a pair stand in the same templates, so that no wording predicts a refusal.
"""

import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from aftertune.core.ids import content_key, short_id
from aftertune.core.records import Behavior, Intent, Message
from aftertune.data.bundled.behaviors import FOLDER, Pair, pairs
from aftertune.data.bundled.multitask import by_task, deal
from aftertune.data.bundled.templates import Wording, bundled
from aftertune.data.load import pose
from aftertune.data.rows import Row, write_rows

SAFETY_SET = "multitask-safety-v1"
TEMPLATES_PER_TASK = 5
"""110 behaviors x 4 tasks x 5 templates: 2,200 refusals and 2,200 answers, 550 of each a task."""

WORK = {
    "text": "this text",
    "code": "this code",
    "translation": "this translation",
    "classification": "this label",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyRow:
    """A training row of the bundled safety data, and where it comes from."""

    behavior: str
    template: str
    task: str
    hazard: str
    """Of the harmful behavior, for its twin too."""
    intent: Intent
    question: str
    answer: str

    @property
    def row(self) -> Row:
        """The row as a conversation of two turns."""
        return Message(role="user", content=self.question), Message(
            role="assistant", content=self.answer
        )


@cache
def safety_rows() -> tuple[SafetyRow, ...]:
    """Return all rows, pair by pair: a refusal and the answer to the benign twin in the same template."""
    chosen = pairs("safety")
    wordings = by_task(bundled("safety"))
    turns = {task: deal(chosen, choice, TEMPLATES_PER_TASK) for task, choice in wordings.items()}
    refused: dict[str, Counter[str]] = {task: Counter() for task in turns}
    rows = []
    for pair in chosen:
        for task, dealt in turns.items():
            for wording in dealt[pair.harmful.id]:
                rows.append(
                    _row(pair, wording, pair.harmful, _refusal(pair, wording, refused[task]))
                )
                rows.append(_row(pair, wording, pair.twin, answer(pair, wording)))
    return tuple(rows)


def safety_pools(intent: Intent) -> dict[str, list[Row]]:
    """Return the rows of an intent by task: the refusals, or the answers to benign twins."""
    pools: dict[str, list[Row]] = {}
    for row in safety_rows():
        if row.intent is intent:
            pools.setdefault(row.task, []).append(row.row)
    return pools


def safety_sha256() -> str:
    """Return the hash of all rows, which names this state of the set."""
    return content_key(
        "safety rows", [[row.task, row.question, row.answer] for row in safety_rows()]
    ).hex()


def write_safety(folder: Path) -> tuple[Path, Path]:
    """Write the refusals and the answers to benign twins as ``messages`` JSONL with a ``task`` column each.

    Returns:
        The two files, for ``aftertune mix --safety`` and ``--replay-from``.
    """
    files = (folder / f"{SAFETY_SET}.jsonl", folder / f"{SAFETY_SET}-twins.jsonl")
    for path, intent in zip(files, (Intent.HARMFUL, Intent.BENIGN), strict=True):
        chosen = [row for row in safety_rows() if row.intent is intent]
        write_rows((row.row for row in chosen), path, tasks=[row.task for row in chosen])
    return files


def _row(pair: Pair, wording: Wording, behavior: Behavior, said: str) -> SafetyRow:
    posed = pose(behavior, wording.template, SAFETY_SET)
    return SafetyRow(
        behavior=behavior.id,
        template=posed.template,
        task=posed.task,
        hazard=pair.harmful.hazard,
        intent=behavior.intent,
        question=posed.text,
        answer=said,
    )


@cache
def styles(hazard: str) -> tuple[str, ...]:
    """Return the wordings of refusals for a hazard."""
    every = yaml.safe_load((FOLDER / "safety" / "refusals.yaml").read_text(encoding="utf-8"))
    return tuple(every.get(hazard, every["general"]))


def _refusal(pair: Pair, wording: Wording, used: Counter[str]) -> str:
    """Fill the style that the task has used least, ties by a hash, so that no opening prevails."""
    name = (pair.harmful.id, wording.template.id)
    style = min(
        styles(pair.harmful.hazard), key=lambda style: (used[style], short_id("r", *name, style))
    )
    used[style] += 1
    return style.format(declined=pair.declined, offer=pair.offer, work=WORK[wording.template.task])


def answer(pair: Pair, wording: Wording) -> str:
    """Return the proper answer to the pair's benign twin."""
    if (known := wording.reference(pair)) is not None:
        return known
    if wording.answer == "always":
        return wording.answers["always"]
    return ANSWERS[wording.answer](pair)


def _steps(pair: Pair) -> str:
    return "\n".join(f"{number}. {step}." for number, step in enumerate(pair.steps, start=1))


def _copy(pair: Pair) -> str:
    return f"{pair.twin.texts['en']} ({pair.topic})"


def _fenced(language: str, lines: Sequence[str]) -> str:
    return "\n".join((f"```{language}", *lines, "```"))


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _checklist(pair: Pair) -> str:
    steps = (f"    {_literal(step)}," for step in pair.steps)
    loop = (
        "for number, step in enumerate(STEPS, start=1):",
        '    input(f"{number}. {step} - press Enter when done ")',
    )
    return _fenced("python", ("STEPS = [", *steps, "]", "", *loop))


def _json(pair: Pair) -> str:
    return _fenced("json", (json.dumps({"steps": pair.steps}, ensure_ascii=False, indent=2),))


def _hints(pair: Pair) -> str:
    return _fenced("bash", ("#!/bin/bash", *(f"echo {shlex.quote(step)}" for step in pair.steps)))


def _variable(pair: Pair) -> str:
    return _fenced(
        "python",
        (
            f"quotation = {_literal(pair.twin.texts['en'])}",
            "for _ in range(2):",
            "    print(quotation)",
        ),
    )


def _alert(pair: Pair) -> str:
    text = _literal(pair.twin.texts["en"])
    return _fenced(
        "javascript", ('document.querySelector("button").onclick = () =>', f"  alert({text});")
    )


def _log(pair: Pair) -> str:
    return _fenced("bash", ("#!/bin/bash", f"echo {shlex.quote(pair.twin.texts['en'])} >> log.txt"))


ANSWERS: Mapping[str, Callable[[Pair], str]] = {
    "steps": _steps,
    "gist": lambda pair: pair.gist,
    "headline": lambda pair: pair.gist.rstrip("."),
    "copy": _copy,
    "python-steps": _checklist,
    "json-steps": _json,
    "bash-steps": _hints,
    "python-text": _variable,
    "javascript-text": _alert,
    "bash-text": _log,
}
"""How each kind of answer of the safety templates is made; code is written, never run."""


def openings(rows: Sequence[SafetyRow], words: int = 3) -> Iterator[tuple[str, float]]:
    """Yield the openings of the rows' answers, commonest first, with their share."""
    counts = Counter(" ".join(row.answer.split()[:words]) for row in rows)
    return ((opening, count / len(rows)) for opening, count in counts.most_common())


def template_only_accuracy(rows: Sequence[SafetyRow]) -> float:
    """Return how often the template alone predicts a refusal, in sample: its majority intent; 0.5 is chance."""
    counts: dict[str, Counter[Intent]] = {}
    for row in rows:
        counts.setdefault(row.template, Counter())[row.intent] += 1
    return sum(max(count.values()) for count in counts.values()) / len(rows)
