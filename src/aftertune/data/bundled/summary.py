"""What the bundled sets hold, how balanced they are, and the proof that their two parts do not meet, as text."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

from aftertune.core.protocols import Engine, Tools
from aftertune.core.records import Intent, Prompt
from aftertune.data.bundled.behaviors import HAZARDS, SET, SOURCE_LANGUAGES, Part, pairs
from aftertune.data.bundled.leakage import (
    THRESHOLD,
    closest,
    near_duplicates,
    payload_texts,
    wordings,
)
from aftertune.data.bundled.multitask import multitask_v1
from aftertune.data.bundled.safety_rows import (
    SAFETY_SET,
    openings,
    safety_rows,
    template_only_accuracy,
)
from aftertune.data.bundled.separability import words_only_accuracy
from aftertune.data.bundled.templates import bundled
from aftertune.data.overlap import overlapping
from aftertune.errors import PluginError

PARTS: tuple[Part, ...] = ("evaluation", "safety")


def summary() -> str:
    """Return counts, balance and the leakage proof of the bundled sets, line by line."""
    return "\n".join((*_behaviors(), "", *_prompts(), "", *_safety(), "", *_leakage()))


def _behaviors() -> Iterator[str]:
    for part in PARTS:
        counts = Counter(pair.harmful.hazard for pair in pairs(part))
        listed = ", ".join(f"{hazard} {counts[hazard]}" for hazard in HAZARDS)
        yield f"{part}: {counts.total()} harmful behaviors, as many benign twins ({listed})"
        yield f"{part}: {len(bundled(part))} templates ({_listed(w.template.task for w in bundled(part))})"


def _prompts() -> Iterator[str]:
    prompts = multitask_v1(Tools(open_model=_no_model, folder=Path())).prompts
    yield f"{SET}: {len(prompts):,} prompts ({_listed(prompt.task for prompt in prompts)})"
    yield f"{SET}: {_listed(prompt.harm_basis for prompt in prompts)}; {_listed(prompt.intent for prompt in prompts)}"
    known = sum(
        prompt.reference is not None for prompt in prompts if prompt.intent is Intent.BENIGN
    )
    yield f"{SET}: {known:,} benign prompts with a checkable answer"
    yield f"{SET}: harmful prompts by hazard and task: {_range(_harmful(prompts, 'task'))}"
    yield f"{SET}: harmful prompts by hazard and template: {_range(_harmful(prompts, 'template'))}"


def _no_model(reference: str) -> Engine:
    raise PluginError(f"the bundled prompts open no model, and so not {reference}")


def _harmful(prompts: Sequence[Prompt], column: str) -> Counter[tuple[str, str]]:
    return Counter((p.hazard, getattr(p, column)) for p in prompts if p.intent is Intent.HARMFUL)


def _safety() -> Iterator[str]:
    rows = safety_rows()
    refusals = [row for row in rows if row.intent is Intent.HARMFUL]
    yield f"{SAFETY_SET}: {len(refusals):,} refusals ({_listed(row.task for row in refusals)})"
    yield f"{SAFETY_SET}: {len(rows) - len(refusals):,} answers to benign twins in the same templates"
    yield f"{SAFETY_SET}: duplicate questions {len(rows) - len({row.question for row in rows})}"
    opening, share = next(openings(refusals))
    yield f"{SAFETY_SET}: commonest opening of a refusal {share:.1%} ({opening} ...)"
    for task in dict.fromkeys(row.task for row in rows):
        asked, said = (
            median(len(getattr(row, column).split()) for row in refusals if row.task == task)
            for column in ("question", "answer")
        )
        yield f"{SAFETY_SET}: {task}: median words {asked:g} in a question, {said:g} in a refusal"
    yield f"{SAFETY_SET}: accuracy of guessing a refusal from the template alone {template_only_accuracy(rows):.3f}"


def _leakage() -> Iterator[str]:
    ours, theirs = payload_texts(pairs("evaluation")), payload_texts(pairs("safety"))
    ours["template"], theirs["template"] = (
        wordings(bundled("evaluation")),
        wordings(bundled("safety")),
    )
    for kind in ours:
        one, other, likeness = closest(ours[kind], theirs[kind])
        found = sum(1 for _ in near_duplicates(ours[kind], theirs[kind]))
        yield (
            f"evaluation x safety, {kind}: {len(ours[kind])} x {len(theirs[kind])}, near-duplicates "
            f"(likeness >= {THRESHOLD}) {found}; most alike {one} and {other} ({likeness:.2f})"
        )
    for kind in ("request", *SOURCE_LANGUAGES):
        accuracy = words_only_accuracy(pairs("safety"), pairs("evaluation"), kind)
        yield f"harmful or twin, from single words of the {kind}, learned on safety: accuracy {accuracy:.2f}"
    prompts = multitask_v1(
        Tools(open_model=_no_model, folder=Path()), templates_per_task=99
    ).prompts
    held = overlapping(prompts, {SAFETY_SET: [row.row for row in safety_rows()]})
    yield f"evaluation prompts (all {len(prompts):,} wordings) that occur in safety rows: {len(held)}"


def _listed(values: Iterable[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in Counter(map(str, values)).items())


def _range(counts: Counter[tuple[str, str]]) -> str:
    least, most = min(counts.values()), max(counts.values())
    return f"{least}" if least == most else f"{least} to {most}"
