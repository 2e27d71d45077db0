"""The prompts of a study: its sets loaded, checked against the models' vocabularies, and freed of behaviors seen in training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aftertune.core.records import Prompt
from aftertune.data.overlap import find_overlap
from aftertune.data.prompt_sets import limit, load_prompts
from aftertune.data.rows import Row
from aftertune.errors import DataError, StudyError
from aftertune.workspace import Run

MAX_UNKNOWN = 0.05
"""Largest share of ``<unk>`` tokens in a prompt set: above it the model reads another prompt than the one that is measured."""

IN_TRAINING, BEHAVIOR_IN_TRAINING = "in training data", "of a behavior in training data"
"""The reasons for which prompts are dropped: the prompt itself occurs in a training row, or another one of its behavior does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPrompts:
    """The prompts of a study, and the numbers of those that were left out."""

    prompts: tuple[Prompt, ...]
    dropped: Mapping[str, Mapping[str, int]]
    """Prompt set -> reason (``duplicate``, ``child exploitation``, `IN_TRAINING` …) -> prompts that were left out."""
    overlap: Mapping[str, int]
    """Training file -> evaluation prompts that occur in it; these are dropped for all models."""
    notes: tuple[str, ...] = ()


def load_sets(run: Run) -> StudyPrompts:
    """Load the prompt sets and check that the models can read them; fine-tunes have the tokenizer of their base.

    Raises:
        DataError: a set cannot be loaded, is empty, or does not fit a model's vocabulary.
        StudyError: the declared task weights are not those of the prompts' tasks.
    """
    prompts: dict[str, Prompt] = {}
    dropped: dict[str, dict[str, int]] = {}
    notes: list[str] = []
    for keys in run.study.prompts:
        loaded = load_prompts(
            keys.set, file=keys.file, loader=keys.loader, options=keys.options, tools=run.tools
        )
        chosen = loaded.prompts if keys.limit is None else limit(loaded.prompts, keys.limit)
        prompts |= {prompt.id: prompt for prompt in chosen}
        dropped[keys.set] = dict(loaded.dropped)
        notes += [f"{keys.set}: {note}" for note in loaded.notes]
    _check_vocabulary(run, tuple(prompts.values()))
    _check_weights(run, {prompt.task for prompt in prompts.values()})
    return StudyPrompts(
        prompts=tuple(prompts.values()),
        dropped={name: reasons for name, reasons in dropped.items() if reasons},
        overlap={},
        notes=tuple(notes),
    )


def without_overlap(loaded: StudyPrompts, rows: Mapping[str, Sequence[Row]]) -> StudyPrompts:
    """Drop, for all models, every behavior that occurs in a training row of the study.

    A behavior goes with all its prompts, in every task and template, and with its benign twin: a model that was shown one
    of them has been shown the request behind the others.

    Args:
        loaded: the prompts.
        rows: all training, safety and replay rows by file.

    Raises:
        DataError: nothing is left.
    """
    overlap = find_overlap(loaded.prompts, rows)
    kept = tuple(prompt for prompt in loaded.prompts if not overlap.drops(prompt))
    if not kept:
        raise DataError(
            "every evaluation behavior occurs in the training rows; choose other prompts or other training data"
        )
    dropped = {name: Counter(reasons) for name, reasons in loaded.dropped.items()}
    for prompt in loaded.prompts:
        if overlap.drops(prompt):
            reason = IN_TRAINING if prompt.id in overlap.prompts else BEHAVIOR_IN_TRAINING
            dropped.setdefault(prompt.set, Counter())[reason] += 1
    return replace(
        loaded, prompts=kept, dropped=dropped, overlap=dict.fromkeys(rows, 0) | overlap.sources
    )


def _check_weights(run: Run, tasks: set[str]) -> None:
    weights = run.study.measurement.task_weights
    if weights is not None and weights.keys() != tasks:
        raise StudyError(
            f"measurement.task_weights weighs {', '.join(sorted(weights))}, and the prompts have the tasks "
            f"{', '.join(sorted(tasks))}; weigh these, or none"
        )


def _check_vocabulary(run: Run, prompts: Sequence[Prompt]) -> None:
    sets: dict[str, list[str]] = {}
    for prompt in prompts:
        sets.setdefault(prompt.set, []).append(prompt.text)
    for model in run.study.models:
        engine = run.engines.open(model.reference)
        for name, texts in sets.items():
            share = engine.unknown_share(texts)
            if share > MAX_UNKNOWN:
                raise DataError(
                    f"prompt set {name} does not fit model {model.name}: {share:.0%} of its tokens are unknown to the "
                    f"model's tokenizer (at most {MAX_UNKNOWN:.0%}); use prompts in the model's language, or leave it out"
                )
