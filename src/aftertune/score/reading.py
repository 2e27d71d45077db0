"""The guard and judge stages: what has no reading yet is asked about (if it costs a call) and read."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal, TypeVar

from aftertune.core.counts import Scored
from aftertune.core.ids import Key, content_key
from aftertune.core.protocols import Guard, Judge, Scorer
from aftertune.core.records import Decision, GuardJob, JudgeJob, Side, Verdict
from aftertune.errors import AftertuneError, PluginError
from aftertune.score import coherence
from aftertune.score.likelihood import Likelihood
from aftertune.score.screen import screening
from aftertune.store import Reading, Unread
from aftertune.workspace import Run

CHUNK = 4096
"""Responses that are in memory at a time."""
BATCH_CHUNK = 50_000
"""The same where somebody is asked by batch: every chunk may be a day's wait for what has to be asked twice."""

T = TypeVar("T")
Read = Callable[[list[Unread]], Iterable[Reading]]


def read_coherence(run: Run, likelihood: Likelihood | None = None) -> int:
    """Read the coherence of every response that has no reading with these thresholds; return the reader.

    Args:
        run: the run.
        likelihood: which responses are unlikely under their base; None where that is not looked at.
    """
    limits = (
        ""
        if likelihood is None
        else content_key({base: dict(of) for base, of in likelihood.limits.items()}).hex()
    )
    outside = frozenset() if likelihood is None else likelihood.outside
    thresholds = coherence.Thresholds(**run.study.coherence.model_dump(exclude={"nll"}), nll=limits)
    reader = run.store.add_reader("coherence", "coherence", coherence.version(thresholds))

    def read(chunk: list[Unread]) -> Iterator[Reading]:
        for item in chunk:
            found = coherence.read(
                judge_job(item, None), thresholds, unlikely=(item.key, item.prompt.id) in outside
            )
            yield Reading(
                prompt=item.prompt, key=item.key, value=found.coherent, label=" ".join(found.flags)
            )

    _read_all(run, "coherence", reader, read)
    return reader


def read_judges(run: Run, judges: Mapping[str, Judge]) -> list[int]:
    """Let every judge read every response that it has not read; return their readers."""
    return [_read_judge(run, name, judge) for name, judge in judges.items()]


def read_guards(run: Run, guards: Mapping[str, Guard]) -> list[int]:
    """Let every guard screen every prompt and response that it has not screened; return their readers."""
    return [
        _read_guard(run, name, guard, side)
        for name, guard in guards.items()
        for side in guard.sides
    ]


def read_scores(run: Run, scorers: Mapping[str, Scorer]) -> list[int]:
    """Let every scorer score every response that it has not scored; return their readers."""
    return [_read_scorer(run, name, scorer) for name, scorer in scorers.items()]


def _read_judge(run: Run, name: str, judge: Judge) -> int:
    identity, reader = judge.call_identity, _judge_reader(run, name, judge)

    def read_for_free(chunk: list[Unread]) -> Iterator[Reading]:
        return (_reading(item, judge.read(judge_job(item, None), None)) for item in chunk)

    read = (
        read_for_free
        if identity is None
        else _asking(run, "judge", judge, lambda item: judge_job(item, identity))
    )
    _read_all(run, f"judge {name}", reader, read)
    return reader


def _judge_reader(run: Run, name: str, judge: Judge) -> int:
    return run.store.add_reader("judge", name, _version(judge.reading_version, judge.call_identity))


def _guard_reader(run: Run, name: str, guard: Guard, side: Side) -> int:
    return run.store.add_reader(
        "guard", name, _version(guard.reading_version, guard.call_identity), side
    )


def _read_guard(run: Run, name: str, guard: Guard, side: Side) -> int:
    reader = _guard_reader(run, name, guard, side)
    _read_all(
        run,
        f"guard {name} on {side}s",
        reader,
        _asking(run, "guard", guard, lambda item: _guard_job(guard, item)),
    )
    return reader


def _asking(
    run: Run, kind: Literal["judge", "guard"], instrument: Any, job_of: Callable[[Unread], Any]
) -> Read:
    """Return what reads a chunk by calls: those without an answer are made, and what has none then stays unread."""

    def read(chunk: list[Unread]) -> Iterator[Reading]:
        jobs = [(item, job_of(item)) for item in chunk]
        run.store.complete(kind, [job for _, job in jobs], instrument.ask)
        replies = run.store.calls([job.key for _, job in jobs])
        for item, job in jobs:
            if job.key in replies:
                yield _reading(item, instrument.read(job, replies[job.key]), source=job.key)

    return read


def _reading(item: Unread, found: Verdict | Decision, source: Key | None = None) -> Reading:
    return Reading(
        prompt=item.prompt,
        key=item.key,
        value=found.value,
        score=found.score,
        label=found.label,
        source=source,
    )


def _read_scorer(run: Run, name: str, scorer: Scorer) -> int:
    reader = run.store.add_reader("scorer", name, scorer.reading_version)

    def read(chunk: list[Unread]) -> Iterator[Reading]:
        for item in chunk:
            found = scorer.score(judge_job(item, None))
            scored = found if isinstance(found, Scored) else Scored(found)
            yield Reading(
                prompt=item.prompt,
                key=item.key,
                value=None,
                score=scored.value,
                label=scored.counts,
            )

    _read_all(run, f"score {name}", reader, read)
    return reader


def _read_all(run: Run, stage: str, reader: int, read: Read) -> None:
    """Read what is unread, a chunk at a time.

    Raises:
        PluginError: the instrument fails; what it read before is kept.
    """
    unread = run.store.unread(run.study.name, reader)
    with run.progress.stage(stage, len(unread)) as advance:
        size = BATCH_CHUNK if run.engines.endpoints.by_batch else CHUNK
        for chunk in _chunks(unread, size):
            with _blamed(stage):
                readings = list(read(chunk))
            run.store.add_readings(reader, readings)
            advance(len(chunk))


@contextmanager
def _blamed(stage: str) -> Iterator[None]:
    """Say whose fault it is, whatever other people's code raises.

    Raises:
        PluginError: the instrument fails.
    """
    try:
        yield
    except (AftertuneError, OSError):
        raise
    except Exception as error:
        raise PluginError(
            f"{stage} failed: {type(error).__name__}: {error}; mend it and run again"
        ) from error


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def judge_job(item: Unread, identity: Mapping[str, object] | None) -> JudgeJob:
    """Return what a judge sees; a call's key holds the judge's identity and everything that the judge is shown."""
    prompt, response, key = item.prompt, item.response, item.key
    assert response is not None
    assert key is not None
    if identity is not None:
        shown = [
            [
                prompt.behavior,
                prompt.task,
                prompt.intent,
                prompt.text,
                prompt.reference,
                prompt.labels,
                prompt.language,
            ],
            [response.text, response.finish_reason],
        ]
        key = content_key("judge", dict(identity), shown)
    return JudgeJob(
        key=key,
        behavior=prompt.behavior,
        task=prompt.task,
        intent=prompt.intent,
        prompt=prompt.text,
        response=response.text,
        finish_reason=response.finish_reason,
        reference=prompt.reference,
        labels=prompt.labels,
        language=prompt.language,
    )


def _guard_job(guard: Guard, item: Unread) -> GuardJob:
    return screening(guard, item.prompt.text, None if item.response is None else item.response.text)


def _version(reading: str, identity: Mapping[str, object] | None) -> str:
    return (
        reading if identity is None else f"{reading} {content_key('reader', dict(identity)).hex()}"
    )
