"""What the models are asked: the prompt sets, without what a model was trained on, and only if the models can read it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aftertune.core.records import Prompt
from aftertune.data.load import load_prompts
from aftertune.data.overlap import find_overlap
from aftertune.data.rows import Row
from aftertune.data.sets import limit
from aftertune.errors import DataError, StudyError
from aftertune.study.config import PromptKeys
from aftertune.workspace import Run

MAX_UNKNOWN = 0.05
"""Largest share of ``<unk>`` tokens in a prompt set: above it the model is asked something else than what is measured."""

SEEN, OF_SEEN = "in training data", "of a behavior in training data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """The prompts of a study, and what became of the rest."""

    prompts: tuple[Prompt, ...]
    dropped: Mapping[str, Mapping[str, int]]
    """Prompt set -> reason -> how many were left out (``duplicate``, ``child exploitation``, `SEEN`, `OF_SEEN`)."""
    overlap: Mapping[str, int]
    """Training file that was looked through -> how many evaluation prompts occur in it; these are dropped for all models."""
    notes: tuple[str, ...] = ()


def load_sets(run: Run) -> Questions:
    """Load the prompt sets and check that the models can read them; fine-tunes have the tokenizer of their base.

    Raises:
        DataError: a set cannot be loaded, is empty, or does not fit a model's vocabulary.
        StudyError: the declared task weights are not those of the prompts' tasks.
    """
    prompts: dict[str, Prompt] = {}
    dropped: dict[str, dict[str, int]] = {}
    notes: list[str] = []
    for keys in run.study.prompts:
        loaded, left_out, said = _load(run, keys)
        prompts |= {prompt.id: prompt for prompt in loaded}
        dropped[keys.set] = left_out
        notes += [f"{keys.set}: {note}" for note in said]
    _check_vocabulary(run, tuple(prompts.values()))
    _check_weights(run, {prompt.task for prompt in prompts.values()})
    return Questions(
        prompts=tuple(prompts.values()),
        dropped={name: reasons for name, reasons in dropped.items() if reasons},
        overlap={},
        notes=tuple(notes),
    )


def without_overlap(loaded: Questions, rows: Mapping[str, Sequence[Row]]) -> Questions:
    """Drop every behavior that was seen in any training row of the study (``rows``: file -> rows), for all its models.

    A behavior goes with all its prompts, in every task and template, and with its benign twin: a model that was shown one
    of them has been shown what the others ask.

    Raises:
        DataError: nothing is left.
    """
    found = find_overlap(loaded.prompts, rows)
    kept = tuple(prompt for prompt in loaded.prompts if not found.drops(prompt))
    if not kept:
        raise DataError(
            "every evaluation behavior occurs in the training rows; choose other prompts or other training data"
        )
    dropped = {name: Counter(reasons) for name, reasons in loaded.dropped.items()}
    for prompt in loaded.prompts:
        if found.drops(prompt):
            reason = SEEN if prompt.id in found.prompts else OF_SEEN
            dropped.setdefault(prompt.set, Counter())[reason] += 1
    return replace(
        loaded, prompts=kept, dropped=dropped, overlap=dict.fromkeys(rows, 0) | found.sources
    )


def _load(run: Run, keys: PromptKeys) -> tuple[Sequence[Prompt], dict[str, int], tuple[str, ...]]:
    found = load_prompts(
        keys.set, file=keys.file, loader=keys.loader, options=keys.options, tools=run.tools
    )
    prompts = found.prompts if keys.limit is None else limit(found.prompts, keys.limit)
    return prompts, dict(found.dropped), found.notes


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
