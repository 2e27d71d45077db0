"""The guard and judge stages: what has no reading yet is asked about (if it costs a call) and read."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from aftertune.core.ids import content_key
from aftertune.core.protocols import Guard, Judge, Scorer
from aftertune.core.records import GuardJob, JudgeJob, Side
from aftertune.guard.screen import screening
from aftertune.judge import coherence
from aftertune.pipeline.run_folder import Run
from aftertune.store import Reading, Unread

CHUNK = 4096
"""Responses that are in memory at a time."""

T = TypeVar("T")
Read = Callable[[list[Unread]], Iterable[Reading]]


def read_coherence(run: Run) -> int:
    """Read the coherence of every response that has no reading with these thresholds; return the reader."""
    thresholds = coherence.Thresholds(**run.study.coherence.model_dump())
    reader = run.store.add_reader("coherence", "coherence", coherence.version(thresholds))

    def read(chunk: list[Unread]) -> Iterator[Reading]:
        for item in chunk:
            found = coherence.read(_judge_job(item, None), thresholds)
            yield Reading(prompt=item.prompt, key=item.key, value=found.coherent, label=" ".join(found.flags))

    _read_all(run, "coherence", reader, read)
    return reader


def read_judges(run: Run, judges: Mapping[str, Judge]) -> list[int]:
    """Let every judge read every response that it has not read; return their readers."""
    return [_read_judge(run, name, judge) for name, judge in judges.items()]


def read_guards(run: Run, guards: Mapping[str, Guard]) -> list[int]:
    """Let every guard screen every prompt and response that it has not screened; return their readers."""
    return [_read_guard(run, name, guard, side) for name, guard in guards.items() for side in guard.sides]


def read_scores(run: Run, scorers: Mapping[str, Scorer]) -> list[int]:
    """Let every scorer score every response that it has not scored; return their readers."""
    return [_read_scorer(run, name, scorer) for name, scorer in scorers.items()]


def _read_judge(run: Run, name: str, judge: Judge) -> int:
    identity = judge.call_identity
    reader = run.store.add_reader("judge", name, _version(judge.reading_version, identity))

    def read(chunk: list[Unread]) -> Iterator[Reading]:
        jobs = [(item, _judge_job(item, identity)) for item in chunk]
        if identity is not None:
            run.store.complete("judge", [job for _, job in jobs], judge.ask)
            replies = run.store.calls([job.key for _, job in jobs])
            jobs = [(item, job) for item, job in jobs if job.key in replies]
        for item, job in jobs:
            found = judge.read(job, None if identity is None else replies[job.key])
            yield Reading(
                prompt=item.prompt,
                key=item.key,
                value=found.value,
                score=found.score,
                label=found.label,
                source=None if identity is None else job.key,
            )

    _read_all(run, f"judge {name}", reader, read)
    return reader


def _read_guard(run: Run, name: str, guard: Guard, side: Side) -> int:
    reader = run.store.add_reader("guard", name, _version(guard.reading_version, guard.call_identity), side)

    def read(chunk: list[Unread]) -> Iterator[Reading]:
        jobs = [(item, _guard_job(guard, item)) for item in chunk]
        run.store.complete("guard", [job for _, job in jobs], guard.ask)
        replies = run.store.calls([job.key for _, job in jobs])
        for item, job in jobs:
            if job.key in replies:
                found = guard.read(job, replies[job.key])
                yield Reading(
                    prompt=item.prompt,
                    key=item.key,
                    value=found.value,
                    score=found.score,
                    label=found.label,
                    source=job.key,
                )

    _read_all(run, f"guard {name} on {side}s", reader, read)
    return reader


def _read_scorer(run: Run, name: str, scorer: Scorer) -> int:
    reader = run.store.add_reader("scorer", name, scorer.reading_version)

    def read(chunk: list[Unread]) -> Iterator[Reading]:
        for item in chunk:
            yield Reading(prompt=item.prompt, key=item.key, value=None, score=scorer.score(_judge_job(item, None)))

    _read_all(run, f"score {name}", reader, read)
    return reader


def _read_all(run: Run, stage: str, reader: int, read: Read) -> None:
    unread = run.store.unread(run.study.name, reader)
    with run.progress.stage(stage, len(unread)) as advance:
        for chunk in _chunks(unread):
            run.store.add_readings(reader, read(chunk))
            advance(len(chunk))


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _judge_job(item: Unread, identity: Mapping[str, object] | None) -> JudgeJob:
    """Return what a judge sees; a call's key holds the judge's identity and everything that the judge is shown."""
    prompt, response, key = item.prompt, item.response, item.key
    assert response is not None
    assert key is not None
    if identity is not None:
        shown = [prompt.behavior, prompt.task, prompt.intent, prompt.text, prompt.reference, response.text]
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
    return reading if identity is None else f"{reading} {content_key('reader', dict(identity)).hex()}"
