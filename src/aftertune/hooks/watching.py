"""The safety of a model that is in training, looked at on a few behaviors that are set apart.

What is looked at again and again, and what a checkpoint is chosen by, says too much good of it: the luck of the prompts is
part of the choice. So every third behavior is for looking, and the others are kept for the check of the chosen checkpoint
(the division is that of `aftertune repair`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from aftertune.core.protocols import Answer, Scorer, Tools, no_model
from aftertune.core.records import (
    FinishReason,
    Intent,
    Prompt,
    Response,
    Role,
    VerdictValue,
)
from aftertune.core.table import NONE, Table
from aftertune.data.overlap import find_overlap
from aftertune.data.prompt_sets import limit, load_prompts
from aftertune.data.rows import Row
from aftertune.errors import DataError, PluginError
from aftertune.measure.gate import gate
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.results import GateLine
from aftertune.repair.parts import divide
from aftertune.score.coherence import Coherence
from aftertune.score.run import build_scorer, sample_of
from aftertune.study.config import ScorerKeys

BASE, TUNED = "base", "in training"
JUDGE = "judge"
ALPHA = 0.05
"""One-sided error of all looks of a training together that stop it, while nothing has risen above the margin."""
TOOLS = Tools(open_model=no_model, folder=Path())
NAMED = ("prompt", "behavior", "pair", "template", "task", "set", "hazard", "harm_basis")
"""The columns of a table that hold a property of the prompt."""
ORDERS: Mapping[str, Sequence[object]] = {
    "intent": tuple(Intent),
    "finish": tuple(FinishReason),
    "verdict": tuple(VerdictValue),
}
"""The columns of a table that hold a member of an enumeration, by its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divided:
    """The prompts of a training: a few that are asked at every look, and those for the check of a chosen checkpoint."""

    watched: tuple[Prompt, ...]
    kept: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The model at one step of its training, against the model before it."""

    step: int
    epoch: float
    harm: GateLine
    """The rate on harmful prompts, before and now, and its change; its lower bound holds for all looks together."""
    over_refusal: GateLine
    undecided: float
    """Share of the pairs of harmful prompts with an answer that was not decided."""
    seconds: float

    def logged(self) -> dict[str, float]:
        """Return the figures as a trainer logs them: shares and counts by name."""
        figures: dict[str, float] = {}
        for name, line in (("harm", self.harm), ("over_refusal", self.over_refusal)):
            figures |= {
                name: line.tuned.estimate,
                f"{name}_base": line.base.estimate,
                f"{name}_count": line.tuned.k,
                f"{name}_base_count": line.base.k,
                f"{name}_of": line.tuned.n,
                f"{name}_change": line.change.estimate,
                f"{name}_change_low": line.change.interval90.low,
                f"{name}_change_high": line.change.interval90.high,
            }
        figures["harm_lower"] = self.harm.lower
        figures |= {"undecided": self.undecided, "seconds": self.seconds}
        return {f"aftertune/{name}": float(value) for name, value in figures.items()}


def divided_prompts(
    prompts: str, behaviors: int, trained_on: Mapping[str, Sequence[Row]]
) -> Divided:
    """Load a prompt set, leave out what occurs in training rows, and set a few behaviors apart.

    Of a watched behavior one prompt is asked, with its benign twin in the same template; tasks take turns.

    Args:
        prompts: a prompt set, by name or file.
        behaviors: the number of harmful behaviors to watch, balanced over hazards.
        trained_on: the training rows by file.

    Raises:
        DataError: the set cannot be loaded, or has too few behaviors.
    """
    is_file = Path(prompts).is_file()
    name = Path(prompts).name.split(".")[0] if is_file else prompts
    loaded = load_prompts(
        name,
        file=str(Path(prompts).absolute()) if is_file else None,
        loader=None if is_file else prompts,
        tools=TOOLS,
    ).prompts
    overlap = find_overlap(loaded, trained_on)
    parts = divide([prompt for prompt in loaded if not overlap.drops(prompt)])
    watched = tuple(_one_prompt_each(limit(parts.selection, behaviors) if parts.selection else []))
    count = len({prompt.behavior for prompt in watched if prompt.intent is Intent.HARMFUL})
    if count < behaviors:
        raise DataError(
            f"prompt set {name}: {count} behaviors with a benign twin can be watched (every third; the others are kept for the "
            f"check of a checkpoint), and {behaviors} are wanted; watch fewer, or name a larger set"
        )
    return Divided(watched=watched, kept=parts.proof)


def _one_prompt_each(prompts: Sequence[Prompt]) -> Iterator[Prompt]:
    """Yield a harmful prompt and its twin of each behavior, tasks in turns, templates by their order."""
    harmful: dict[str, dict[str, list[Prompt]]] = {}
    twins: dict[tuple[str, str], Prompt] = {}
    for prompt in prompts:
        if prompt.intent is Intent.HARMFUL:
            harmful.setdefault(prompt.behavior, {}).setdefault(prompt.task, []).append(prompt)
        elif prompt.pair is not None:
            twins[prompt.pair, prompt.template] = prompt
    tasks = sorted({prompt.task for prompt in prompts})
    turns = cycle(tasks)
    for place, behavior in enumerate(sorted(harmful)):
        task = next(turns)
        candidates = harmful[behavior].get(task) or next(iter(harmful[behavior].values()))
        paired = [p for p in candidates if (behavior, p.template) in twins]
        if paired:
            chosen = paired[place // len(tasks) % len(paired)]
            yield chosen
            yield twins[behavior, chosen.template]


def judge_without_calls(named: str) -> Scorer:
    """Return a judge that makes no calls.

    Raises:
        PluginError: there is none of that name, or it asks a model.
    """
    judge = build_scorer(
        TOOLS, "judge", ScorerKeys(name=named.rpartition(":")[2], use=named, options={})
    )
    if judge.engine is not None:
        raise PluginError(
            f"judge {named}: it asks a model, and while another one is trained there is no room for that; watch with a judge that "
            "makes no calls (refusal, rules), and check the chosen checkpoint with this one"
        )
    return judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The prompts that are asked at every look, the judge, and the margin."""

    prompts: tuple[Prompt, ...]
    judge: Scorer
    margin: float
    looks: int
    """The number of looks that the training will have: they share the error of a stop."""

    def lines(
        self, before: Sequence[Answer], now: Sequence[Answer]
    ) -> tuple[GateLine, GateLine, float]:
        """Return the overall lines of harm and over-refusal, and the share of undecided pairs of harmful prompts.

        Args:
            before: the answers of the model before its training, in the order of the prompts.
            now: those of the model in training.
        """
        plan = MeasurePlan(
            conditions=(
                Condition(name=BASE, models=(BASE,)),
                Condition(name=TUNED, models=(TUNED,), base=BASE),
            ),
            judges=(JUDGE,),
            margin=self.margin,
            alpha=ALPHA / self.looks,
            name_rate="non-refusal rate" if self.judge.kind == "rules" else "ASR",
        )
        result = gate(self._table(before, now), plan, BASE, TUNED)
        harm, over_refusal = result.sides.harm, result.sides.over_refusal
        first, second = harm.lines[0], over_refusal.lines[0]
        assert isinstance(first, GateLine)
        assert isinstance(second, GateLine)
        return first, second, harm.undecided_share

    def _table(self, before: Sequence[Answer], now: Sequence[Answer]) -> Table:
        rows = [
            {"model": model, **self._row(prompt, answer)}
            for model, answers in ((BASE, before), (TUNED, now))
            for prompt, answer in zip(self.prompts, answers, strict=True)
        ]
        columns: dict[str, np.ndarray[tuple[int], np.dtype[np.int32]]] = {}
        names: dict[str, tuple[str, ...]] = {}
        for column in rows[0]:
            values = [row[column] for row in rows]
            if isinstance(values[0], str):
                names[column] = tuple(dict.fromkeys(map(str, values)))
                places = {name: place for place, name in enumerate(names[column])}
                values = [places[str(value)] for value in values]
            columns[column] = np.array(values, np.int32)
        return Table(columns=columns, scores={}, names=names)

    def _row(self, prompt: Prompt, answer: Answer) -> dict[str, str | int]:
        """Return a row of the table; texts become codes later."""
        final = answer if isinstance(answer, Response) else None
        sample = None if final is None else sample_of(Role.JUDGE, prompt, final)
        verdict = NONE if sample is None else _place("verdict", self.judge.score(sample).value)
        named = {
            column: getattr(prompt, "id" if column == "prompt" else column) for column in NAMED
        }
        return {
            **{column: value or "" for column, value in named.items()},
            "system": "none",
            "decoding": "greedy",
            "sample": 0,
            "intent": _place("intent", prompt.intent),
            "finish": NONE if final is None else _place("finish", final.finish_reason),
            "coherent": NONE if sample is None else int(bool(Coherence().score(sample).value)),
            f"verdict:{JUDGE}": verdict,
        }


def _place(column: str, value: object) -> int:
    return ORDERS[column].index(value)
