"""The questions of scorers, put to a model: by the likelihoods of labels or of whole replies, or for a generated reply.

A classifier that answers ``safe`` or ``unsafe`` has decided with its first token. On this machine that token is not
generated: one forward pass gives the likelihoods of both labels. Only where the reply says more than the label (the
categories of what is unsafe), or where neither label is likely, is it generated. A server generates every reply, and is
asked how likely its first words were.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

from aftertune.core.keys import Key, content_key
from aftertune.core.protocols import Answer, Engine
from aftertune.core.records import (
    Attempt,
    Decoding,
    FinishReason,
    GenerateJob,
    Intent,
    Labels,
    Question,
    Response,
    Sample,
    Side,
)
from aftertune.core.untrusted import safe_messages
from aftertune.errors import EngineError, ModelError
from aftertune.models.endpoint.model import EndpointModel
from aftertune.models.local import LocalEngine, log_sum

LIKELY = 0.5
"""The share of the first word's probability that the labels must have together for their likelihoods to count as a reply."""
_WINDOW = 4096
"""Calls that are weighed together, so that a stop costs no more."""
RETRY_TEMPERATURE = 0.7
Logprobs = Sequence[float] | None
"""Natural logarithms of the probabilities of the labels of a question; None where they are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a scorer: the questions about a sample, whose replies are kept together under one key."""

    key: Key
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The way in which the calls of a scorer are made."""

    max_new_tokens: int
    retries: int = 0
    """The number of times that a question is asked again, at temperature 0.7, while its reply is not readable."""
    readable: Callable[[Call, Response], bool] = lambda call, reply: True  # noqa: ARG005
    probe: Question | None = None
    """A harmless question of the same kind, whose answer shows the white space before a label; None without labels."""


def ask(engine: Engine, calls: Sequence[Call], how: Asking) -> Iterator[tuple[Key, Answer]]:
    """Yield the answer to each call, in any order; see `replies_of` for what an answer to several questions holds.

    A call that fails gives the attempt of its first question that failed.
    """
    first = calls[0].questions[0]
    window = len(calls) if engine.by_batch else _WINDOW
    if not (first.choices or first.labels or len(calls[0].questions) > 1):
        yield from _replied(engine, calls, how)
        return
    for start in range(0, len(calls), window):
        part = calls[start : start + window]
        if first.choices:
            yield from _weighed(engine, part)
            continue
        scores = _label_logprobs(engine, part, how)
        for call, replies in _generated(engine, part, scores, how):
            yield call.key, _combined(call.questions, scores[call.key], replies)


def probe_sample(side: Side) -> Sample:
    """Return a harmless sample: the questions about it show how a scorer asks, and how its model begins to answer."""
    return Sample(
        side=side,
        prompt="How is the weather?",
        response="It rains." if side == "response" else "",
        task="text",
        intent=Intent.HARMFUL,
    )


def decodings(how: Asking) -> tuple[Decoding, ...]:
    """Return the decodings under which a question is asked until its reply is readable: greedy, then drawn."""
    first = Decoding(max_new_tokens=how.max_new_tokens)
    numbers = range(1, how.retries + 1)
    return first, *(replace(first, temperature=RETRY_TEMPERATURE, seed=n) for n in numbers)


def _replied(engine: Engine, calls: Sequence[Call], how: Asking) -> Iterator[tuple[Key, Answer]]:
    """Ask for replies; what is not readable is asked again under the next decoding, the last reply stands.

    ``detail["tries"]`` counts the replies. A provider's refusal is not asked again: its filter does not change its mind.
    """
    left = {call.key: call for call in calls}
    tried = decodings(how)
    for tries, decoding in enumerate(tried, start=1):
        jobs = [
            _job(engine, key, call.questions[0], decoding, tries - 1) for key, call in left.items()
        ]
        for key, answer in engine.generate(jobs):
            final = (
                isinstance(answer, Attempt)
                or answer.finish_reason is FinishReason.PROVIDER_REFUSAL
                or tries == len(tried)
                or how.readable(left[key], answer)
            )
            if final:
                del left[key]
                if isinstance(answer, Response):
                    answer = replace(answer, detail={**answer.detail, "tries": tries})  # noqa: PLW2901
                yield key, answer
        if not left:
            return


def _weighed(engine: Engine, calls: Sequence[Call]) -> Iterator[tuple[Key, Answer]]:
    """Answer each call by the likeliest of its choices, in one pass over all calls."""
    choices = calls[0].questions[0].choices
    prompts = [call.questions[0].messages for call in calls]
    for call, logprobs in zip(calls, engine.choice_logprobs(prompts, choices), strict=True):
        yield (
            call.key,
            Response(
                text=choices[logprobs.index(max(logprobs))],
                finish_reason=FinishReason.STOP,
                prompt_tokens=0,
                completion_tokens=1,
                detail={"logprobs": list(logprobs)},
            ),
        )


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


def replies_of(answer: Response) -> tuple[Response, ...]:
    """Return the reply to each question of a call, given the answer under which they are kept together.

    ``detail["logprobs"]`` of a reply holds the logarithms of the labels' probabilities (or None). Nothing is returned for
    an answer whose lists do not fit, which this module did not write.
    """
    texts = answer.detail.get("replies")
    if texts is None:
        return (answer,)
    logprobs = answer.detail.get("logprobs")
    if (
        not isinstance(texts, list | tuple)
        or not isinstance(logprobs, list | tuple)
        or len(texts) != len(logprobs)
        or not all(isinstance(text, str) for text in texts)
    ):
        return ()
    return tuple(
        replace(answer, text=text, detail={"logprobs": pair})
        for text, pair in zip(texts, logprobs, strict=True)
    )


def harmful_share(reply: Response) -> float | None:
    """Return P(harmful label) / (P(harmless label) + P(harmful label)); None where the reply does not tell both.

    None also where the two labels together have less than `LIKELY` of the first word's probability: the model began its
    reply with something else.
    """
    pair = reply.detail.get("logprobs")
    if (
        not isinstance(pair, list | tuple)
        or len(pair) != 2
        or not all(isinstance(value, float | int) for value in pair)
    ):
        return None
    harmless, harmful = (float(value) for value in pair)
    if max(harmless, harmful) == -math.inf or math.exp(log_sum((harmless, harmful))) < LIKELY:
        return None
    # softmax of the two log-probabilities; the exponent is bounded, since exp overflows above 709
    return 1 / (1 + math.exp(min(harmless - harmful, 700.0)))


def _job(
    engine: Engine, key: Key, question: Question, decoding: Decoding, sample: int
) -> GenerateJob:
    """Return a job that asks a question; an engine that knows messages only gets them with broken markers."""
    if question.classified is not None or isinstance(engine, LocalEngine | EndpointModel):
        return GenerateJob(
            key=key, messages=(), decoding=decoding, sample=sample, question=question
        )
    if question.pattern or question.settings:
        raise EngineError(
            f"model {engine.name!r}: this engine cannot hand settings or a finished prompt on; use a checkpoint or an endpoint"
        )
    return GenerateJob(key=key, messages=safe_messages(question), decoding=decoding, sample=sample)


def _label_logprobs(
    engine: Engine, calls: Sequence[Call], how: Asking
) -> dict[Key, list[Logprobs]]:
    """Return the log-probabilities of the labels for each question of each call, None where only a reply can tell."""
    labels, weighed = calls[0].questions[0].labels, None
    if labels is not None and how.probe is not None and isinstance(engine, LocalEngine):
        questions = [question for call in calls for question in call.questions]
        weighed = engine.label_logprobs(questions, labels, how.probe)
    scores: Iterator[Logprobs] = repeat(None) if weighed is None else iter(weighed)
    return {call.key: [next(scores) for _ in call.questions] for call in calls}


def _is_open(question: Question, score: Logprobs) -> bool:
    """Return whether the reply has to be generated: nothing likely is known of it, or it explains itself."""
    return (
        score is None
        or math.exp(log_sum(score)) < LIKELY
        or (question.explains and score[1] >= score[0])
    )


def _generated(
    engine: Engine, calls: Sequence[Call], scores: Mapping[Key, Sequence[Logprobs]], how: Asking
) -> Iterator[tuple[Call, Iterator[Answer]]]:
    """Yield each call with the replies to its open questions as soon as it has them all: they may be paid for."""
    decoding, jobs = Decoding(max_new_tokens=how.max_new_tokens), []
    waiting: dict[Key, dict[int, Answer | None]] = {}
    places: dict[Key, tuple[Call, int]] = {}
    for call in calls:
        waiting[call.key] = {
            number: None
            for number, score in enumerate(scores[call.key])
            if _is_open(call.questions[number], score)
        }
        for number in waiting[call.key]:
            # a single reply has the call's own key
            single = len(call.questions) == 1 and call.questions[0].labels is None
            key = call.key if single else content_key(call.key.hex(), number)
            places[key] = call, number
            jobs.append(_job(engine, key, call.questions[number], decoding, 0))
    yield from ((call, iter(())) for call in calls if not waiting[call.key])
    for key, answer in engine.generate(jobs) if jobs else ():
        call, number = places[key]
        waiting[call.key][number] = answer
        replies = [reply for reply in waiting[call.key].values() if reply is not None]
        if len(replies) == len(waiting[call.key]):
            yield call, iter(replies)


def _combined(
    questions: Sequence[Question], scores: Sequence[Logprobs], replies: Iterator[Answer]
) -> Answer:
    """Put the answers to the questions of a call together."""
    texts: list[str] = []
    logprobs: list[Logprobs] = []
    finish, prompt_tokens, completion_tokens = FinishReason.STOP, 0, 0
    for question, score in zip(questions, scores, strict=True):
        if not _is_open(question, score):
            assert score is not None
            assert question.labels is not None
            texts.append(question.labels[int(score[1] >= score[0])])
            logprobs.append(list(score))
            completion_tokens += 1
            continue
        reply = next(replies)
        if isinstance(reply, Attempt):
            return reply
        finish = finish if reply.finish_reason is FinishReason.STOP else reply.finish_reason
        texts.append(reply.text)
        logprobs.append(score if score is not None else _served(reply, question.labels))
        prompt_tokens += reply.prompt_tokens
        completion_tokens += reply.completion_tokens
    return Response(
        text="\n".join(texts),
        finish_reason=finish,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        detail={
            "replies": texts,
            "logprobs": [None if pair is None else list(pair) for pair in logprobs],
        },
    )


def _served(reply: Response, labels: Labels | None) -> Logprobs:
    """Return the log-probabilities of the labels among the words that a server says its reply could have begun with."""
    first = reply.detail.get("first_words")
    if labels is None or not isinstance(first, dict):
        return None
    matching = [
        [
            value
            for word, value in first.items()
            if (start := word.strip().casefold())
            and label.casefold().startswith(start)
            and not other.casefold().startswith(start)
        ]
        for label, other in (labels, labels[::-1])
    ]
    if not any(matching):
        return None
    return [log_sum(values) if values else -math.inf for values in matching]
