"""How guards and judges ask: classifiers by the likelihoods of their labels first, everybody else for a reply.

A classifier that answers ``safe`` or ``unsafe`` has decided with its first token. On this machine that token is not
generated: one forward pass gives the likelihoods of both labels. Only where the reply says more than the label (the
categories of what is unsafe), or where neither label is likely, is it generated. A server generates every reply, and is
asked how likely its first words were.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from aftertune.core.foreign import safe_messages
from aftertune.core.ids import Key, content_key
from aftertune.core.protocols import Answer, Engine
from aftertune.core.records import Attempt, Decoding, FinishReason, GenerateJob, Question, Response
from aftertune.errors import EngineError, ModelError
from aftertune.models.endpoint.model import EndpointModel
from aftertune.models.labels import log_sum
from aftertune.models.local import LocalEngine

LIKELY = 0.5
"""What the labels must have together of the first word's probability for their likelihoods to count as a reply."""
_WINDOW = 4096
"""Jobs that are scored together."""
Labels = tuple[str, str]
"""The first word of a harmless reply, and that of a harmful one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A job: its key and what is asked, once for each policy of a guard that takes one at a time."""

    key: Key
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """How a classifier is asked."""

    labels: Labels | None
    """None where the first word tells nothing."""
    probe: Question
    """A harmless question of the same kind."""
    explains: bool = False
    """Whether a harmful reply says more than its label."""
    max_new_tokens: int = 32


def classify(
    engine: Engine, jobs: Iterable[Asked], how: Classifier
) -> Iterator[tuple[Key, Answer]]:
    """Ask a classifier; see `Replies` for what an answer holds.

    A call that fails gives the attempt of its first question that failed.
    """
    jobs = iter(jobs)
    by_batch = engine.by_batch
    while window := list(islice(jobs, None if by_batch else _WINDOW)):
        scores = _scores(engine, window, how)
        for key, replies in _replied(engine, window, scores, how):
            yield key, _combined(scores[key], replies, how)


def ask(
    engine: Engine,
    jobs: Iterable[tuple[Key, Question]],
    decodings: Sequence[Decoding],
    readable: Callable[[Response], bool],
) -> Iterator[tuple[Key, Answer]]:
    """Ask for replies; what cannot be read is asked again under the next decoding, the last reply stands.

    ``detail["tries"]`` counts the replies. A provider's refusal is not asked again: its filter does not change its mind.
    """
    left = dict(jobs)
    for tries, decoding in enumerate(decodings, start=1):
        asked = [_job(engine, key, question, decoding, tries - 1) for key, question in left.items()]
        for key, answer in engine.generate(asked):
            final = (
                isinstance(answer, Attempt) or answer.finish_reason is FinishReason.PROVIDER_REFUSAL
            )
            if (
                final
                or tries == len(decodings)
                or (isinstance(answer, Response) and readable(answer))
            ):
                del left[key]
                yield key, _counted(answer, tries)
        if not left:
            return


def check_template(engine: Engine, probe: Question, mentions: str, who: str) -> None:
    """See that a checkpoint's chat template asks as this guard or judge does; what is served cannot be seen.

    Raises:
        ModelError: the rendered question has not what every such template writes: this is another kind of model.
    """
    if not isinstance(engine, LocalEngine) or not mentions:
        return
    if mentions.casefold() not in engine.question_text(probe).casefold():
        raise ModelError(
            f"{who}: the chat template of {engine.name!r} does not ask its question ({mentions[:40]!r} is not in it); "
            "name a checkpoint of this kind"
        )


@dataclass(frozen=True, slots=True)
class Replies:
    """What a classifier's answer holds, one entry a question."""

    texts: tuple[str, ...]
    """The reply, or the likelier label where only the likelihoods were asked for."""
    logprobs: tuple[tuple[float, float] | None, ...]
    """Natural logarithms of the probabilities of the two labels; None where they are not known."""

    @classmethod
    def of(cls, reply: Response, count: int) -> "Replies | None":
        """Return what an answer to ``count`` questions holds; None for one that is not of `classify`'s making."""
        texts, logprobs = (
            reply.detail.get("replies", [reply.text]),
            reply.detail.get("logprobs", [None] * count),
        )
        if not isinstance(texts, list | tuple) or not isinstance(logprobs, list | tuple):
            return None
        if (
            len(texts) != count
            or len(logprobs) != count
            or not all(isinstance(text, str) for text in texts)
        ):
            return None
        return cls(tuple(texts), tuple(_pair(each) for each in logprobs))

    def harm(self, number: int) -> float | None:
        """Return P(harmful label) / (P(harmless) + P(harmful)) of one question, None where it is not known."""
        found = self.logprobs[number]
        if found is None or max(found) == -math.inf:
            return None
        harmless, harmful = found
        return 1 / (1 + math.exp(min(harmless - harmful, 700.0)))


def _pair(found: object) -> tuple[float, float] | None:
    if not isinstance(found, list | tuple) or len(found) != len(("harmless", "harmful")):
        return None
    return (
        (float(found[0]), float(found[1]))
        if all(isinstance(value, float | int) for value in found)
        else None
    )


def _job(
    engine: Engine, key: Key, question: Question, decoding: Decoding, sample: int
) -> GenerateJob:
    """Return a job that asks a question; an engine that knows messages only gets them with broken markers."""
    if isinstance(engine, LocalEngine | EndpointModel):
        return GenerateJob(
            key=key, messages=(), decoding=decoding, sample=sample, question=question
        )
    if question.pattern or question.settings:
        raise EngineError(
            f"model {engine.name!r}: this engine cannot hand settings or a finished prompt on; use a checkpoint or an endpoint"
        )
    return GenerateJob(key=key, messages=safe_messages(question), decoding=decoding, sample=sample)


Score = Sequence[float] | None


def _scores(engine: Engine, jobs: Sequence[Asked], how: Classifier) -> dict[Key, list[Score]]:
    unknown: dict[Key, list[Score]] = {job.key: [None] * len(job.questions) for job in jobs}
    if how.labels is None or not isinstance(engine, LocalEngine):
        return unknown
    found = engine.label_logprobs(
        [question for job in jobs for question in job.questions], how.labels, how.probe
    )
    if found is None:
        return unknown
    scores = iter(found)
    return {job.key: [next(scores) for _ in job.questions] for job in jobs}


def _open(score: Score, how: Classifier) -> bool:
    """Return whether the reply has to be generated: nothing likely is known of it, or it explains itself."""
    if score is None or math.exp(log_sum(score)) < LIKELY:
        return True
    return how.explains and score[1] >= score[0]


def _replied(
    engine: Engine, jobs: Sequence[Asked], scores: Mapping[Key, Sequence[Score]], how: Classifier
) -> Iterator[tuple[Key, Iterator[Answer]]]:
    """Yield each job with the generated replies to its open questions as soon as it has them all: they may be paid for."""
    decoding, asked = Decoding(max_new_tokens=how.max_new_tokens), []
    waiting: dict[Key, dict[int, Answer | None]] = {}
    places: dict[Key, tuple[Key, int]] = {}
    for job in jobs:
        waiting[job.key] = {i: None for i, score in enumerate(scores[job.key]) if _open(score, how)}
        for i in waiting[job.key]:
            key = content_key(job.key.hex(), i)
            places[key] = job.key, i
            asked.append(_job(engine, key, job.questions[i], decoding, 0))
    yield from ((key, iter(())) for key, open_ in waiting.items() if not open_)
    for key, answer in engine.generate(asked) if asked else ():
        job_key, i = places[key]
        waiting[job_key][i] = answer
        replies = [reply for reply in waiting[job_key].values() if reply is not None]
        if len(replies) == len(waiting[job_key]):
            yield job_key, iter(replies)


def _combined(scores: Sequence[Score], replies: Iterator[Answer], how: Classifier) -> Answer:
    """Put the answers to a job's questions together."""
    texts: list[str] = []
    logprobs: list[Score] = []
    refused, tokens = FinishReason.STOP, [0, 0]
    for score in scores:
        if not _open(score, how):
            assert score is not None
            assert how.labels is not None
            texts.append(how.labels[int(score[1] >= score[0])])
            logprobs.append(list(score))
            tokens[1] += 1
            continue
        reply = next(replies)
        if isinstance(reply, Attempt):
            return reply
        refused = reply.finish_reason if reply.finish_reason is not FinishReason.STOP else refused
        texts.append(reply.text)
        logprobs.append(score if score is not None else _served(reply, how.labels))
        tokens = [tokens[0] + reply.prompt_tokens, tokens[1] + reply.completion_tokens]
    return Response(
        text="\n".join(texts),
        finish_reason=refused,
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        detail={
            "replies": texts,
            "logprobs": [None if each is None else list(each) for each in logprobs],
        },
    )


def _served(reply: Response, labels: Labels | None) -> Score:
    """Return the log-probabilities of the labels among the words that a server says its reply could have begun with."""
    first = reply.detail.get("first_words")
    if labels is None or not isinstance(first, dict):
        return None
    found = [
        [value for word, value in first.items() if _begins(word, label, other)]
        for label, other in (labels, labels[::-1])
    ]
    if not any(found):
        return None
    return [log_sum(values) if values else -math.inf for values in found]


def _begins(word: str, label: str, other: str) -> bool:
    said = word.strip().casefold()
    return (
        bool(said) and label.casefold().startswith(said) and not other.casefold().startswith(said)
    )


def _counted(answer: Answer, tries: int) -> Answer:
    return (
        answer
        if isinstance(answer, Attempt)
        else replace(answer, detail={**answer.detail, "tries": tries})
    )
