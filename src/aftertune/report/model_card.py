"""A section for a model card on the Hugging Face hub, with the results as its ``model-index``."""

from collections.abc import Iterator
from typing import Any

import yaml

from aftertune import __version__
from aftertune.measure.results import Breakdown, ConditionResult, Rate, Score, SettingResult
from aftertune.report import wording
from aftertune.report.cells import finished
from aftertune.report.document import ResultDocument
from aftertune.report.gate import verdict_line, verdict_scope
from aftertune.report.harm_degree import toxicity_lines
from aftertune.report.markdown import escaped, fenced, table
from aftertune.report.overview import glance_sheet, overview, worst_line
from aftertune.report.scorers import panel_words


def model_card(document: ResultDocument, command: str, name: str | None = None) -> str:
    """Return a model card: its metadata with a ``model-index`` entry a fine-tune, and a section on safety.

    Into a card that exists copy the key ``model-index`` and the section.

    Args:
        document: the result.
        command: the command line that gives the same numbers again.
        name: of the fine-tune of a check; None for the names of the conditions.
    """
    result, gate = document.result, document.gate
    if not result.settings:
        return "---\nmodel-index: []\n---\n\n## Safety after fine-tuning\n\nNothing was measured.\n"
    setting = result.settings[0]
    glance = overview(result, setting, gate, document.margins)
    index = yaml.safe_dump(
        {"model-index": list(_entries(document, setting, name))},
        sort_keys=False,
        allow_unicode=True,
        width=1000,
    )
    harmful, benign = (
        sum(counts.get(intent, 0) for counts in document.prompts.sets.values())
        for intent in ("harmful", "benign")
    )
    head = verdict_line(gate) if gate else f"{glance.word}{glance.subject}"
    sentences = [
        *(reason for reason in glance.reasons),
        *([worst_line(*glance.worst, named=len(glance.fine_tunes) > 1)] if glance.worst else []),
        *([verdict_scope(gate)] if gate else []),
        *toxicity_lines(_described(document, setting)),
        f"Base and fine-tune answered the same {harmful:,} harmful and {benign:,} benign prompts of {_sets(document)}.",
        f"{panel_words(result)}. {_rate_words(document)}",
    ]
    parts = [
        f"---\n{index}---",
        "## Safety after fine-tuning",
        f"**{escaped(head)}**",
        table(glance_sheet(glance, result, setting, gate)),
        "\n".join(f"- {escaped(sentence)}" for sentence in sentences),
        f"Measured with Aftertune {__version__}; declared plan `{result.plan}`. The same numbers again:",
        fenced(wording.clean(command), "sh"),
    ]
    return "\n\n".join(parts) + "\n"


def _sets(document: ResultDocument) -> str:
    return wording.listing(sorted(document.prompts.sets)) if document.prompts.sets else "no set"


def _rate_words(document: ResultDocument) -> str:
    if document.result.name_rate == "ASR":
        return "ASR: share of the responses to harmful prompts that are harmful."
    return "Non-refusal rate: share of the responses to harmful prompts that are no refusals, harmful or not."


def _described(document: ResultDocument, setting: SettingResult) -> list[ConditionResult]:
    """Return the conditions that the card speaks of: the fine-tunes, of a check the one; the base where there is none."""
    conditions = finished(setting.conditions)
    tuned = [condition for condition in conditions if condition.base is not None]
    if document.gate is not None:
        tuned = [condition for condition in tuned if condition.name == document.gate.tuned]
    return tuned or list(conditions)


def _entries(
    document: ResultDocument, setting: SettingResult, name: str | None
) -> Iterator[dict[str, Any]]:
    """Yield an entry of the model index for each condition of the card."""
    sets = [wording.clean(prompts) for prompts in sorted(document.prompts.sets)] or ["prompts"]
    for condition in _described(document, setting):
        yield {
            "name": wording.clean(condition.name if name is None else name),
            "results": [
                {
                    "task": {"type": "text-generation", "name": "Text generation"},
                    "dataset": {"type": "+".join(sets), "name": ", ".join(sets)},
                    "metrics": list(_metrics(document, condition)),
                }
            ],
        }


def _metrics(document: ResultDocument, condition: ConditionResult) -> Iterator[dict[str, Any]]:
    rate = "attack_success_rate" if document.result.name_rate == "ASR" else "non_refusal_rate"
    yield from _of(rate, document.result.name_rate, condition.asr)
    yield from _of("over_refusal_rate", "Over-refusal", condition.over_refusal)
    for metric, scores in condition.capability.items():
        yield from _of(metric, metric, scores)


def _of(
    kind: str, name: str, figures: Breakdown[Rate] | Breakdown[Score]
) -> Iterator[dict[str, Any]]:
    """Yield the metrics of a figure overall and by task; figures over too few behaviors are left out."""
    values: list[tuple[str, Rate | Score | None]] = [
        ("", figures.overall),
        *((f", {task}", figure) for task, figure in figures.by_task.items()),
    ]
    for where, figure in values:
        if figure is None or figure.hidden:
            continue
        low, high = figure.interval.low, figure.interval.high
        yield {
            "type": wording.clean(kind),
            "name": wording.clean(f"{name}{where} (95 % interval {low:.4f} to {high:.4f})"),
            "value": float(figure.estimate),
        }
