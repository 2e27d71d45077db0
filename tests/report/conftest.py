"""A study and a gate measured on a made-up table, as JSON that a test may change (`typed_results` makes it typed)."""

import copy
import json
from itertools import product

import numpy as np
import pytest

from aftertune.core.outcomes import Outcome
from aftertune.core.records import DecisionValue, FinishReason, Intent, Prompt, VerdictValue
from aftertune.core.table import Table
from aftertune.measure.gate import gate as measure_gate
from aftertune.measure.measure import measure_table
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.report.document import to_plain
from aftertune.report.transcripts import Answer, JudgeScore

TASKS = ("text", "code", "translation", "classification")
ASR = {
    "base": (0.04, 0.02, 0.08, 0.10),
    "code": (0.20, 0.35, 0.52, 0.49),
    "translation": (0.05, 0.08, 0.30, 0.16),
    "code+text": (0.02, 0.06, 0.41, 0.37),
    "code+multitask": (0.02, 0.02, 0.06, 0.05),
}
SEEDS = 3
BEHAVIORS = 60
HAZARDS = ("fraud", "weapons", "privacy", "none")
VERDICTS = {value: code for code, value in enumerate(VerdictValue)}
BLOCK, ALLOW = (
    list(DecisionValue).index(DecisionValue.BLOCK),
    list(DecisionValue).index(DecisionValue.ALLOW),
)


def models():
    return [
        name if name == "base" else f"{name}/seed{seed}"
        for name in ASR
        for seed in range(SEEDS if name != "base" else 1)
    ]


def rows(random):
    for (number, model), behavior, task, intent in product(
        enumerate(models()), range(BEHAVIORS), range(4), Intent
    ):
        condition = model.partition("/")[0]
        harmful = intent is Intent.HARMFUL
        complied = random.random() < (ASR[condition][task] if harmful else 0.97)
        verdict = VERDICTS[VerdictValue.COMPLIED if complied else VerdictValue.REFUSED]
        undecided = condition == "translation" and random.random() < 0.02
        differs = random.random() < 0.03
        yield {
            "model": number,
            "intent": list(Intent).index(intent),
            "behavior": 2 * behavior + (not harmful),
            "pair": behavior,
            "prompt": (2 * behavior + (not harmful)) * 4 + task,
            "task": task,
            "template": task,
            "set": 0,
            "hazard": 3 if not harmful else 0 if behavior < 4 else 1 + behavior % 2,
            "harm_basis": int(task > 1),
            "system": 0,
            "decoding": 0,
            "sample": 0,
            "finish": list(FinishReason).index(FinishReason.STOP),
            "prompt_tokens": 12,
            "completion_tokens": 20,
            "coherent": int(not (condition == "translation" and random.random() < 0.03)),
            "verdict:content": VERDICTS[VerdictValue.UNDECIDED] if undecided else verdict,
            "verdict:rules": VERDICTS[VerdictValue.REFUSED] if differs else verdict,
            "decision:world:prompt": BLOCK
            if harmful and task == 0 and random.random() < 0.8
            else ALLOW,
            "decision:world:response": BLOCK if not harmful and random.random() < 0.01 else ALLOW,
            "accuracy": float(random.random() < 0.97) if not harmful else float("nan"),
        }


def table():
    found = list(rows(np.random.default_rng(7)))
    names = {
        "model": tuple(models()),
        "task": TASKS,
        "hazard": HAZARDS,
        "harm_basis": ("assistance", "content"),
    }
    columns = {
        name: np.array([row[name] for row in found], np.int32)
        for name in found[0]
        if name != "accuracy"
    }
    single = {"set": ("organism",), "system": ("none",), "decoding": ("greedy",)}
    return Table(
        columns=columns,
        scores={"score:accuracy": np.array([row["accuracy"] for row in found])},
        names={
            name: tuple(f"{name}-{i}" for i in range(column.max() + 1))
            for name, column in columns.items()
        }
        | names
        | single,
    )


def plan(**changes):
    conditions = tuple(
        Condition(
            name=name,
            models=tuple(model for model in models() if model.partition("/")[0] == name),
            base=None if name == "base" else "base",
            training_seeds=() if name == "base" else tuple(range(SEEDS)),
        )
        for name in ASR
    )
    declared = {"judges": ("content", "rules"), "guards": ("world",), "metrics": ("accuracy",)}
    return MeasurePlan(
        conditions=conditions, **declared | {"families": ("task", "hazard")} | changes
    )


def plain(measured):
    return json.loads(json.dumps(to_plain(measured), sort_keys=True))


@pytest.fixture
def made_up():
    """The table and the function that declares its plan."""
    return table(), plan


@pytest.fixture(scope="session")
def _measured():
    made = table()
    return {
        "result": plain(measure_table(made, plan())),
        "gate": plain(measure_gate(made, plan(), "base", "code")),
        "mended": plain(measure_gate(made, plan(), "base", "code+multitask")),
        "rules": plain(measure_table(made, plan(judges=("rules",), name_rate="non-refusal rate"))),
    }


@pytest.fixture
def result(_measured):
    return copy.deepcopy(_measured["result"])


@pytest.fixture
def gate(_measured):
    return copy.deepcopy(_measured["gate"])


@pytest.fixture
def mended(_measured):
    return copy.deepcopy(_measured["mended"])


@pytest.fixture
def rules_result(_measured):
    return copy.deepcopy(_measured["rules"])


def answer(condition, outcome, *, prompt_id="1", **changes):
    """An answer with the outcome, and a judge's verdict that fits it; ``prompt_id`` makes another prompt."""
    verdict = {
        Outcome.SAFE: VerdictValue.REFUSED,
        Outcome.HARMFUL: VerdictValue.COMPLIED,
        Outcome.ANSWERED: VerdictValue.COMPLIED,
        Outcome.OVER_REFUSED: VerdictValue.REFUSED,
    }
    harmful = outcome in (Outcome.SAFE, Outcome.HARMFUL)
    prompt = {
        "behavior": "fraud-017",
        "template": prompt_id,
        "task": "translation",
        "intent": Intent.HARMFUL if harmful else Intent.BENIGN,
        "text": "Translate into French: a placeholder.",
        "set": "made up",
        "hazard": "none",
    }
    prompt |= {name: changes.pop(name) for name in list(changes) if name in prompt}
    fields = {
        "prompt": Prompt(**prompt),
        "condition": condition,
        "model": condition,
        "seed": None if condition == "base" else 0,
        "response": "[a placeholder of compliance]"
        if outcome is Outcome.HARMFUL
        else "I can't help with that.",
        "outcome": outcome,
        "scores": (
            JudgeScore(
                judge="content",
                verdict=verdict.get(outcome, VerdictValue.UNDECIDED),
                label="grammar",
            ),
        ),
    }
    return Answer(**fields | changes)


@pytest.fixture
def make_answer():
    return answer
