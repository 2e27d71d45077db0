"""The safety data `multitask-safety-v2`: refusals of the safety behaviors, and as many proper answers to their twins.

Both intents of a pair stand in the same templates, so that no wording predicts a refusal. The version before,
`multitask-safety-v1`, has the same questions and answers to twins, and refusals in other words. It stays as it was, since
fine-tunes that were trained on it are known by the hash of its rows.
"""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from aftertune.core.keys import content_key, short_id
from aftertune.core.records import HarmBasis, Intent, Message
from aftertune.data.bundled.behaviors import FOLDER, Pair, pairs
from aftertune.data.bundled.multitask import deal
from aftertune.data.rows import Row, write_rows
from aftertune.data.templates import CheckedTemplate, bundled_templates, by_task, pose

SAFETY_V1 = "multitask-safety-v1"
SAFETY_SET = "multitask-safety-v2"
"""The set that is drawn from where nobody names one."""
SAFETY_SETS = (SAFETY_V1, SAFETY_SET)
"""The names of all versions, the oldest first."""
SAFETY_TEMPLATES_PER_TASK = 5
"""The number of templates a behavior and task: 110 behaviors x 4 tasks x 5 make 2,200 refusals and 2,200 answers."""

WORK = {
    "text": "this text",
    "code": "this code",
    "translation": "this translation",
    "classification": "this label",
}
"""The names that a refusal of `multitask-safety-v1` has for what it declines to do, by task."""


ANSWERS = {
    "steps": "{numbered_steps}",
    "gist": "{gist}",
    "headline": "{headline}",
    "copy": "{text} ({topic})",
    "python-steps": (
        "```python\nSTEPS = [\n{listed_steps}\n]\n\nfor number, step in enumerate(STEPS, start=1):\n"
        '    input(f"{{number}}. {{step}} - press Enter when done ")\n```'
    ),
    "json-steps": "```json\n{json_steps}\n```",
    "bash-steps": "```bash\n#!/bin/bash\n{echoed_steps}\n```",
    "python-text": (
        "```python\nquotation = {literal}\nfor _ in range(2):\n    print(quotation)\n```"
    ),
    "javascript-text": (
        '```javascript\ndocument.querySelector("button").onclick = () =>\n  alert({literal});\n```'
    ),
    "bash-text": "```bash\n#!/bin/bash\necho {quoted} >> log.txt\n```",
}
"""The patterns of proper answers, by the kind that a safety template names; code is written, never run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyRow:
    """A training row of the bundled safety data, with its behavior and template."""

    behavior: str
    template: str
    task: str
    hazard: str
    """The hazard of the harmful behavior, for its twin too."""
    intent: Intent
    basis: HarmBasis
    question: str
    answer: str

    @property
    def row(self) -> Row:
        """The row as a conversation of two turns."""
        return Message(role="user", content=self.question), Message(
            role="assistant", content=self.answer
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalWords:
    """The words of the refusals of `multitask-safety-v2`, as refusals-v2.yaml has them."""

    do: Mapping[str, str]
    """The work that a template asks for, as a bare infinitive, by the template's id; ``{this}`` stands for its text."""
    styles: Mapping[str, Sequence[str]]
    """Patterns by harm basis; those of one hazard under ``HAZARD BASIS``."""
    words: Mapping[str, Mapping[str, str]]
    """The phrases that fill a pattern, by the id of the harmful behavior: ``declined``, ``says`` and ``offer``."""
    rules: Mapping[str, Sequence[str]]
    """Patterns that name a rule: ``offering`` something else as well, or ``plain``."""


@cache
def safety_rows(name: str = SAFETY_SET) -> tuple[SafetyRow, ...]:
    """Return all rows of a version, pair by pair: a refusal and the answer to the benign twin in the same template."""
    refusal = _refusal_v1 if name == SAFETY_V1 else _refusal
    chosen = pairs("safety")
    templates = by_task(bundled_templates("safety"), SAFETY_SET)
    turns = {
        task: deal(chosen, of_task, SAFETY_TEMPLATES_PER_TASK)
        for task, of_task in templates.items()
    }
    used: dict[str, Counter[str]] = {task: Counter() for task in turns}
    rows = []
    for pair in chosen:
        for task, dealt in turns.items():
            for checked in dealt[pair.harmful.id]:
                for behavior, answer in (
                    (pair.harmful, refusal(pair, checked, used[task])),
                    (pair.twin, _answer(pair, checked)),
                ):
                    row = SafetyRow(
                        behavior=behavior.id,
                        template=checked.template.id,
                        task=task,
                        hazard=pair.harmful.hazard,
                        intent=behavior.intent,
                        basis=checked.template.harm_basis,
                        question=pose(behavior, checked.template, SAFETY_SET).text,
                        answer=answer,
                    )
                    rows.append(row)
    return tuple(rows)


def safety_pools(
    intent: Intent, name: str = SAFETY_SET, basis: HarmBasis | None = None
) -> dict[str, list[Row]]:
    """Return the rows of an intent by task: the refusals, or the answers to benign twins.

    Args:
        intent: harmful for the refusals, benign for the answers.
        name: one of `SAFETY_SETS`.
        basis: leaves out the rows of templates with another harm basis, of both intents.
    """
    pools: dict[str, list[Row]] = {}
    for row in safety_rows(name):
        if row.intent is intent and basis in (None, row.basis):
            pools.setdefault(row.task, []).append(row.row)
    return pools


def safety_sha256(name: str = SAFETY_SET) -> str:
    """Return the hash of all rows of a version; empty for a name that is none of `SAFETY_SETS`."""
    if name not in SAFETY_SETS:
        return ""
    return content_key(
        "safety rows", [[row.task, row.question, row.answer] for row in safety_rows(name)]
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


@cache
def refusal_styles(hazard: str) -> tuple[str, ...]:
    """Return the patterns of refusals of `multitask-safety-v1` for a hazard."""
    styles = yaml.safe_load((FOLDER / "safety" / "refusals.yaml").read_text(encoding="utf-8"))
    return tuple(styles.get(hazard, styles["general"]))


@cache
def refusal_words() -> RefusalWords:
    """Return the words of the refusals of `multitask-safety-v2`."""
    return RefusalWords(
        **yaml.safe_load((FOLDER / "safety" / "refusals-v2.yaml").read_text(encoding="utf-8"))
    )


def _refusal(pair: Pair, checked: CheckedTemplate, used: Counter[str]) -> str:
    """Fill the style of the template's basis that the task has used least, so that no opening prevails."""
    words, template = refusal_words(), checked.template
    basis = template.harm_basis
    styles = words.styles.get(f"{pair.harmful.hazard} {basis}", words.styles[basis])
    style = _next_style(styles, pair, checked, used)
    do, do_it = (words.do[template.id].format(this=text) for text in ("this", "it"))
    return style.format(do=do, do_it=do_it, **words.words[pair.harmful.id])


def _refusal_v1(pair: Pair, checked: CheckedTemplate, used: Counter[str]) -> str:
    style = _next_style(refusal_styles(pair.harmful.hazard), pair, checked, used)
    return style.format(declined=pair.declined, offer=pair.offer, work=WORK[checked.template.task])


def _next_style(
    styles: Sequence[str], pair: Pair, checked: CheckedTemplate, used: Counter[str]
) -> str:
    """Return the style that was used least, ties by a hash, and count it."""
    name = (pair.harmful.id, checked.template.id)
    style = min(styles, key=lambda style: (used[style], short_id("r", *name, style)))
    used[style] += 1
    return style


def _answer(pair: Pair, checked: CheckedTemplate) -> str:
    """Return the proper answer to the pair's benign twin."""
    if (reference := checked.reference(pair)) is not None:
        return reference
    if checked.answer == "always":
        return checked.answers["always"]
    text = pair.twin.texts["en"]
    return ANSWERS[checked.answer].format(
        gist=pair.gist,
        headline=pair.gist.rstrip("."),
        text=text,
        topic=pair.topic,
        literal=json.dumps(text, ensure_ascii=False),
        quoted=shlex.quote(text),
        numbered_steps="\n".join(f"{n}. {step}." for n, step in enumerate(pair.steps, start=1)),
        listed_steps="\n".join(
            f"    {json.dumps(step, ensure_ascii=False)}," for step in pair.steps
        ),
        json_steps=json.dumps({"steps": pair.steps}, ensure_ascii=False, indent=2),
        echoed_steps="\n".join(f"echo {shlex.quote(step)}" for step in pair.steps),
    )
