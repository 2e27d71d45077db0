"""Tables for the tests of measurement: every model is asked every behavior in every task, harmful and benign."""

from itertools import product

import numpy as np

from aftertune.core.records import DecisionValue, FinishReason, VerdictValue
from aftertune.core.table import NONE, Table

VERDICTS, FINISHES, DECISIONS = tuple(VerdictValue), tuple(FinishReason), tuple(DecisionValue)
COMPLIED, REFUSED = VERDICTS.index(VerdictValue.COMPLIED), VERDICTS.index(VerdictValue.REFUSED)


def build(
    harmful,
    *,
    templates=1,
    samples=1,
    benign=None,
    answers=None,
    columns=None,
    scores=None,
    keep=None,
):
    """Build a table.

    Args:
        harmful: model name -> array (behaviors, tasks) or (behaviors, tasks, templates * samples) of 0/1: complied.
        templates: templates of a task.
        samples: samples of a prompt.
        benign: the same, of refusals of the benign twins; None for no benign prompts.
        answers: changes the columns of a row: called with (model, intent, row dictionary).
        columns, scores: further columns of constants, by name.
        keep: (behavior, task) -> whether this prompt exists.
    """
    rows = []
    for model, (intent, arrays) in product(harmful, ((0, harmful), (1, benign))):
        if arrays is None:
            continue
        values = np.asarray(arrays[model])
        values = values[..., None] if values.ndim == 2 else values
        values = np.broadcast_to(values, (*values.shape[:2], templates * samples))
        for behavior, task, template, sample in product(
            *(range(k) for k in (*values.shape[:2], templates, samples))
        ):
            if keep is not None and not keep(behavior, task):
                continue
            yes = values[behavior, task, template * samples + sample]
            verdict = COMPLIED if bool(yes) != bool(intent) else REFUSED
            row = {
                "model": list(harmful).index(model),
                "intent": intent,
                "behavior": 2 * behavior + intent,
                "pair": behavior,
                "task": task,
                "template": task * templates + template,
                "sample": sample,
                "verdict:rules": verdict,
                "hazard": behavior % 3 if intent == 0 else 3,
                **(columns or {}),
                **(scores or {}),
            }
            if answers is not None:
                answers(model, intent, row)
            rows.append(row)
    return _table(rows, list(harmful), set(scores or {}))


def shares(sizes, rates):
    """Return 0/1 for behaviors of consecutive tasks of these sizes, with exactly these shares in them."""
    return np.concatenate(
        [np.arange(n) < round(n * rate) for n, rate in zip(sizes, rates, strict=True)]
    )


def apart(sizes, base, tuned, **more):
    """Return a table of models base and a with one prompt per behavior, in the one task that it occurs in."""
    tasks = np.repeat(np.arange(len(sizes)), sizes)
    harmful = {
        name: np.repeat(one[:, None], len(sizes), axis=1)
        for name, one in (("base", base), ("a", tuned))
    }
    return build(harmful, keep=lambda behavior, task: tasks[behavior] == task, **more)


def _table(rows, models, scores):
    defaults = {
        "set": 0,
        "harm_basis": 0,
        "system": 0,
        "decoding": 0,
        "finish": 0,
        "prompt_tokens": 9,
    }
    defaults |= {"completion_tokens": 9, "coherent": 1}
    rows = [defaults | row for row in rows]
    names = sorted({name for row in rows for name in row})
    columns = {
        name: np.array([row[name] for row in rows], np.int32)
        for name in names
        if name not in scores
    }
    prompts = np.unique(
        np.stack([columns["behavior"], columns["template"]]), axis=1, return_inverse=True
    )[1]
    columns["prompt"] = prompts.ravel().astype(np.int32)
    count = {name: int(column.max()) + 1 for name, column in columns.items()}
    called = {name: tuple(f"{name}-{i}" for i in range(count[name])) for name in columns}
    called |= {"model": tuple(models), "task": ("text", "code", "translation", "classification")}
    called |= {"set": ("organism", "advbench"), "harm_basis": ("assistance", "content")}
    return Table(
        columns=columns,
        scores={name: np.array([row[name] for row in rows], float) for name in scores},
        names=called,
    )


def undecided(row):
    """Turn a row into a job without a final answer."""
    row |= {"finish": NONE, "verdict:rules": NONE, "coherent": NONE}


def incoherent(row):
    """Turn a row into babble."""
    row |= {"coherent": 0}
