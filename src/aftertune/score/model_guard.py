"""A guard that is a language model: how it is asked, and how its answer is read."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from aftertune.core.ids import Key, content_key
from aftertune.core.protocols import Answer, Engine
from aftertune.core.records import (
    Decision,
    DecisionValue,
    FinishReason,
    GuardJob,
    Question,
    Response,
    Side,
)
from aftertune.core.replies import Screened
from aftertune.errors import PluginError
from aftertune.models.asking import (
    LIKELY,
    Asked,
    Classifier,
    Labels,
    Replies,
    check_template,
    classify,
)
from aftertune.models.labels import log_sum
from aftertune.score.categories import label

BOTH: tuple[Side, ...] = ("prompt", "response")
VERSION = "model-guard-1"
"""Of everything below that reads; each parser adds its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What differs between guards."""

    name: str
    questions: Callable[[GuardJob], tuple[Question, ...]]
    """What is asked about a job: one question, or one for each policy."""
    read: Callable[[str, Side], Screened | None]
    """The parser of a reply; None for what it cannot read."""
    parser: str
    """Its version."""
    labels: Labels | None = None
    """First word of a harmless reply, and of a harmful one; None where the first word tells nothing."""
    policies: tuple[str, ...] = ("",)
    """The native category that each question is about; empty where the reply names its own."""
    hazards: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Native category to our hazard."""
    explains: bool = False
    """Whether a harmful reply names categories."""
    mentions: str = ""
    """What the chat template of such a checkpoint writes."""
    max_new_tokens: int = 32


class ModelGuard:
    """See `aftertune.core.protocols.Guard`."""

    def __init__(
        self,
        engine: Engine,
        kind: Kind,
        *,
        sides: tuple[Side, ...] = BOTH,
        threshold: float | None = None,
    ) -> None:
        self.engine, self.kind, self.sides, self.threshold = engine, kind, sides, threshold
        self.max_new_tokens = kind.max_new_tokens
        check_template(
            engine, kind.questions(_probe("prompt"))[0], kind.mentions, f"guard {kind.name}"
        )
        self.reading_version = f"{VERSION} {kind.parser} threshold {threshold}"
        self.call_identity: Mapping[str, object] = {
            "guard": kind.name,
            "asked": content_key(*(_plain(kind.questions(_probe(side))) for side in BOTH)).hex(),
            "labels": kind.labels,
            "explains": kind.explains,
            "max_new_tokens": kind.max_new_tokens,
            "model": dict(engine.identity),
        }

    def ask(self, jobs: Iterable[GuardJob]) -> Iterator[tuple[Key, Answer]]:
        """Ask about each job: by likelihoods first where the model is here, by generated replies elsewhere."""
        kind, by_side = self.kind, dict[Side, list[GuardJob]]()
        for job in jobs:
            by_side.setdefault(job.side, []).append(job)
        for side, listed in by_side.items():
            how = Classifier(
                labels=kind.labels,
                probe=kind.questions(_probe(side))[0],
                explains=kind.explains,
                max_new_tokens=kind.max_new_tokens,
            )
            yield from classify(
                self.engine,
                (Asked(key=job.key, questions=kind.questions(job)) for job in listed),
                how,
            )

    def questions(self, job: GuardJob) -> tuple[Question, ...]:
        """Return what is asked about a job; see `aftertune.core.protocols.Foreseeable`."""
        return self.kind.questions(job)

    def read(self, job: GuardJob, reply: Response) -> Decision:
        """Block where any policy is violated; undecided where none is and one reply cannot be read."""
        if reply.finish_reason is FinishReason.PROVIDER_REFUSAL:
            return _undecided("the guard's provider refused")
        found = Replies.of(reply, len(self.kind.policies))
        if found is None:
            return _undecided("a reply of another make")
        each = [self._one(job.side, found, i) for i in range(len(self.kind.policies))]
        scores = [decision.score for decision in each if decision.score is not None]
        for value in (DecisionValue.BLOCK, DecisionValue.UNDECIDED):
            if labels := [decision.label for decision in each if decision.value is value]:
                said = (
                    ", ".join(filter(None, labels)) if value is DecisionValue.BLOCK else labels[0]
                )
                return Decision(value=value, score=max(scores, default=None), label=said)
        return Decision(value=DecisionValue.ALLOW, score=max(scores, default=None))

    def _one(self, side: Side, found: Replies, number: int) -> Decision:
        text, score, logprobs = found.texts[number], found.harm(number), found.logprobs[number]
        said = self.kind.read(text, side)
        known = logprobs is not None and score is not None and math.exp(log_sum(logprobs)) >= LIKELY
        if said is None and not known:
            return _undecided(f"cannot be read: {' '.join(text.split())[:40]}")
        if self.threshold is not None and not known:
            return _undecided("no score to compare with the threshold")
        if known and score is not None:
            harmful = score >= (0.5 if self.threshold is None else self.threshold)
        else:
            harmful = said is not None and said.harmful
        policy = self.kind.policies[number]
        codes = (policy,) if policy else said.codes if said is not None else ()
        return Decision(
            value=DecisionValue.BLOCK if harmful else DecisionValue.ALLOW,
            score=score if known else None,
            label=label(codes, self.kind.hazards) if harmful else "",
        )


def checked_threshold(who: str, threshold: float | None) -> float | None:
    """Return a threshold.

    Raises:
        PluginError: it is no probability between 0 and 1.
    """
    if threshold is None or (isinstance(threshold, int | float) and 0 < threshold < 1):
        return threshold
    raise PluginError(
        f"guard {who}: threshold {threshold} is no probability; give one between 0 and 1"
    )


def checked_sides(who: str, sides: object) -> tuple[Side, ...]:
    """Return the sides that a guard screens.

    Raises:
        PluginError: another word than ``prompt`` and ``response``, or none.
    """
    named = (
        [sides] if isinstance(sides, str) else list(sides) if isinstance(sides, Sequence) else []
    )
    if not named or any(side not in BOTH for side in named):
        raise PluginError(f"guard {who}: sides {sides!r}; give prompt, response, or both as a list")
    return tuple(side for side in BOTH if side in named)


def _probe(side: Side) -> GuardJob:
    """Return a harmless job: its questions show how the guard asks, and how its model begins to answer."""
    answer = "It rains." if side == "response" else None
    return GuardJob(key=b"", side=side, prompt="How is the weather?", response=answer)


def _plain(questions: tuple[Question, ...]) -> list[object]:
    return [
        [
            [[m.role, m.content] for m in each.messages],
            _values(each.settings),
            each.pattern,
            dict(each.parts),
            each.moderated,
        ]
        for each in questions
    ]


def _values(settings: Mapping[str, object]) -> dict[str, object]:
    return {
        name: _values(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
    }


def _undecided(why: str) -> Decision:
    return Decision(value=DecisionValue.UNDECIDED, label=why)
