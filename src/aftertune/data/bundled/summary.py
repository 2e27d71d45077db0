"""The counts and the balance of the bundled sets, and the proof that their two parts do not meet, as text."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

from aftertune.core.protocols import Tools, no_model
from aftertune.core.records import Intent, Prompt
from aftertune.data.bundled.behaviors import HAZARDS, SET, Part, pairs, payload_texts
from aftertune.data.bundled.multitask import multitask_v1
from aftertune.data.bundled.safety import SAFETY_SET, SafetyRow, safety_rows
from aftertune.data.overlap import NEAR_DUPLICATE, find_overlap, near_duplicates
from aftertune.data.templates import TEMPLATES_PER_TASK, bundled_templates, pattern_texts

PARTS: tuple[Part, ...] = ("evaluation", "safety")


def summary() -> str:
    """Return counts, balance and the leakage proof of the bundled sets, line by line."""
    return "\n".join((*_behaviors(), "", *_prompts(), "", *_safety(), "", *_leakage()))


def openings(rows: Sequence[SafetyRow], words: int = 3) -> list[tuple[str, float]]:
    """Return the openings of the rows' answers with their share of the rows, commonest first."""
    counts = Counter(" ".join(row.answer.split()[:words]) for row in rows)
    return [(opening, count / len(rows)) for opening, count in counts.most_common()]


def template_only_accuracy(rows: Iterable[SafetyRow]) -> float:
    """Return the accuracy of guessing a refusal from the template alone, by its majority intent; 0.5 is chance."""
    counts: dict[str, Counter[Intent]] = {}
    for row in rows:
        counts.setdefault(row.template, Counter())[row.intent] += 1
    right = sum(max(count.values()) for count in counts.values())
    return right / sum(count.total() for count in counts.values())


def _behaviors() -> Iterator[str]:
    for part in PARTS:
        counts = Counter(pair.harmful.hazard for pair in pairs(part))
        hazards = ", ".join(f"{hazard} {counts[hazard]}" for hazard in HAZARDS)
        yield f"{part}: {counts.total()} harmful behaviors, as many benign twins ({hazards})"
        templates = bundled_templates(part)
        yield f"{part}: {len(templates)} templates ({_counted(t.template.task for t in templates)})"


def _prompts() -> Iterator[str]:
    prompts = _all_prompts()
    yield f"{SET}: {len(prompts):,} prompts ({_counted(prompt.task for prompt in prompts)})"
    yield f"{SET}: {_counted(prompt.harm_basis for prompt in prompts)}; {_counted(prompt.intent for prompt in prompts)}"
    checkable = sum(
        prompt.reference is not None for prompt in prompts if prompt.intent is Intent.BENIGN
    )
    yield f"{SET}: {checkable:,} benign prompts with a checkable answer"
    for column in ("task", "template"):
        counts = Counter(
            (prompt.hazard, getattr(prompt, column))
            for prompt in prompts
            if prompt.intent is Intent.HARMFUL
        ).values()
        least, most = min(counts), max(counts)
        numbers = f"{least}" if least == most else f"{least} to {most}"
        yield f"{SET}: harmful prompts by hazard and {column}: {numbers}"


def _all_prompts(templates_per_task: int = TEMPLATES_PER_TASK) -> tuple[Prompt, ...]:
    tools = Tools(open_model=no_model, folder=Path())
    return multitask_v1(tools, templates_per_task=templates_per_task).prompts


def _safety() -> Iterator[str]:
    rows = safety_rows()
    refusals = [row for row in rows if row.intent is Intent.HARMFUL]
    yield f"{SAFETY_SET}: {len(refusals):,} refusals ({_counted(row.task for row in refusals)})"
    yield f"{SAFETY_SET}: {len(rows) - len(refusals):,} answers to benign twins in the same templates"
    yield f"{SAFETY_SET}: duplicate questions {len(rows) - len({row.question for row in rows})}"
    opening, share = openings(refusals)[0]
    yield f"{SAFETY_SET}: commonest opening of a refusal {share:.1%} ({opening} ...)"
    for task in dict.fromkeys(row.task for row in rows):
        of_task = [row for row in refusals if row.task == task]
        question = median(len(row.question.split()) for row in of_task)
        answer = median(len(row.answer.split()) for row in of_task)
        yield f"{SAFETY_SET}: {task}: median words {question:g} in a question, {answer:g} in a refusal"
    yield f"{SAFETY_SET}: accuracy of guessing a refusal from the template alone {template_only_accuracy(rows):.3f}"


def _leakage() -> Iterator[str]:
    evaluation, safety = (
        payload_texts(pairs(part)) | {"template": pattern_texts(bundled_templates(part))}
        for part in PARTS
    )
    for kind, texts in evaluation.items():
        compared = list(near_duplicates(texts, safety[kind], 0.0))
        first, second, highest = max(compared, key=lambda pair: pair[2])
        count = sum(similarity >= NEAR_DUPLICATE for _, _, similarity in compared)
        yield (
            f"evaluation x safety, {kind}: {len(texts)} x {len(safety[kind])}, near-duplicates "
            f"(likeness >= {NEAR_DUPLICATE}) {count}; most alike {first} and {second} ({highest:.2f})"
        )
    prompts = _all_prompts(templates_per_task=99)
    overlap = find_overlap(prompts, {SAFETY_SET: [row.row for row in safety_rows()]})
    yield f"evaluation prompts (all {len(prompts):,} wordings) that occur in safety rows: {len(overlap.verbatim)}"


def _counted(values: Iterable[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in Counter(map(str, values)).items())
