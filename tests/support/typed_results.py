"""Results for tests of the report: measured ones as JSON that a test may change, and typed again for the code."""

from aftertune.measure.results import GateResult, StudyResult
from aftertune.report.document import FORMAT, PromptCounts, ResultDocument, from_plain
from aftertune.report.finding import finding


def as_study(result) -> StudyResult:
    return from_plain(StudyResult, result, "test")


def as_gate(gate) -> GateResult:
    return from_plain(GateResult, gate, "test")


def as_document(result, gate=None, **fields) -> ResultDocument:
    """A result document without models and prompts around a result."""
    study = as_study(result)
    return ResultDocument(
        format=FORMAT,
        study="made up",
        models=(),
        prompts=PromptCounts(count=240, sets={}, dropped={}, overlap={}),
        notes=(),
        gate=None if gate is None else as_gate(gate),
        scorers={},
        result=study,
        finding=finding(study),
        labels=None,
        **fields,
    )


def interval(low, high):
    return {
        "low": low,
        "high": high,
        "level": 0.95,
        "method": "m",
        "scope": "the recipe, prompts like these",
    }


def change(low, high, **more):
    """A change with these limits, shown where they exclude 0."""
    return {
        "estimate": (low + high) / 2, "interval": interval(low, high), "interval90": interval(low, high), "p_value": 0.01,
        "method": "m", "behaviors": 40, "seeds": 3, "pairs": None, "bounds": None, "hidden": False,
    } | more  # fmt: skip


def score(estimate, **more):
    return {
        "estimate": estimate, "n": 240, "behaviors": 60, "seeds": 1, "interval": interval(0.01, 0.6), "unequal": False,
        "hidden": False,
    } | more  # fmt: skip


def conditions(result):
    """The conditions of the first setting by name."""
    return {condition["name"]: condition for condition in result["settings"][0]["conditions"]}
