"""Answers for a page to show side by side, chosen on the table, so that only their texts are fetched."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from aftertune.core.records import DecisionValue
from aftertune.core.table import Table
from aftertune.measure.outcomes import OUTCOMES, decided_verdicts, outcomes, setting_codes
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.report.exhibits import Example, Reading
from aftertune.store import Store, StoredJob

PER_TASK = 60
"""Prompts of a task whose answers are fetched for the page to choose from; those whose outcomes differ come first."""


def examples(
    store: Store, study: str, readers: Sequence[int], plan: MeasurePlan
) -> Iterator[Example]:
    """Yield answers of the first setting, prompt by prompt, condition by condition."""
    table = store.table(study, readers)
    found = outcomes(table, decided_verdicts(table, plan))
    by_id = {prompt.id: prompt for prompt in store.prompts(study)}
    chosen = [by_id[table.names["prompt"][code]] for code in _telling(table, plan, found)]
    places = {
        model: (condition.name, seed)
        for condition in plan.conditions
        for model, seed in _seeded(condition)
    }
    order = {model: number for number, model in enumerate(places)}
    words = _outcome_by_job(table, found)
    answers = [
        answer
        for answer in store.responses(study, readers, chosen)
        if answer.system == table.names["system"][0]
        and answer.decoding == table.names["decoding"][0]
    ]
    rank = {prompt.id: number for number, prompt in enumerate(chosen)}
    answers.sort(key=lambda answer: (rank[answer.prompt.id], order[answer.model], answer.sample))
    for answer in answers:
        condition, seed = places[answer.model]
        yield _example(
            answer, condition, seed, words[answer.model, answer.prompt.id, answer.sample]
        )


def _seeded(condition: Condition) -> Iterator[tuple[str, int | None]]:
    yield from zip(
        condition.models, condition.training_seeds or [None] * len(condition.models), strict=True
    )


def _telling(table: Table, plan: MeasurePlan, found: NDArray[np.int8]) -> list[int]:
    """Return prompt codes, per task first those whose models came to different outcomes."""
    first = setting_codes(table, plan)[0] == 0
    prompt, code = table.columns["prompt"][first], found[first].astype(np.int64)
    pairs = np.unique(np.stack([prompt.astype(np.int64), code], axis=1), axis=0)
    kinds = np.bincount(pairs[:, 0], minlength=len(table.names["prompt"]))
    task = np.zeros(len(kinds), np.int64)
    task[prompt] = table.columns["task"][first]
    asked = np.unique(prompt)
    ranked = asked[np.lexsort((asked, -kinds[asked], task[asked]))].tolist()
    return [
        code
        for _, group in groupby(ranked, key=lambda code: task[code])
        for code in list(group)[:PER_TASK]
    ]


def _outcome_by_job(table: Table, found: NDArray[np.int8]) -> Mapping[tuple[str, str, int], str]:
    """Return the outcome word of each job of the first system prompt and decoding, by model, prompt id and sample."""
    columns, names = table.columns, table.names
    rows = np.flatnonzero((columns["system"] == 0) & (columns["decoding"] == 0)).tolist()
    return {
        (names["model"][columns["model"][row]], names["prompt"][columns["prompt"][row]], int(columns["sample"][row])):
        OUTCOMES[found[row]].value
        for row in rows
    }  # fmt: skip


def _example(answer: StoredJob, condition: str, seed: int | None, outcome: str) -> Example:
    readings: list[Reading] = []
    blocked: dict[str, None] = {}
    for column, score in answer.scores.items():
        kind, _, name = column.partition(":")
        if kind == "verdict" and score.value is not None:
            readings.append(Reading(judge=name, verdict=str(score.value), label=score.label))
        elif kind == "decision" and score.value is DecisionValue.BLOCK:
            blocked[name.partition(":")[0]] = None
    return Example(
        prompt_id=answer.prompt.id,
        prompt=answer.prompt.text,
        task=answer.prompt.task,
        intent=answer.prompt.intent.value,
        behavior=answer.prompt.behavior,
        condition=condition,
        seed=seed,
        response=None if answer.response is None else answer.response.text,
        outcome=outcome,
        readings=tuple(readings),
        blocked_by=tuple(blocked),
    )
