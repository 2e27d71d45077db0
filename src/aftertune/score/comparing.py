"""The comparing stage: every answer of a fine-tune to a benign prompt against its base's, shown in both orders."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aftertune.core.counts import WINS, counted
from aftertune.core.ids import Key, content_key
from aftertune.core.protocols import Comparer
from aftertune.core.recipe import StudyModel
from aftertune.core.records import CompareJob, Intent, Preference, Prompt
from aftertune.core.table import NONE, Table
from aftertune.score.reading import BATCH_CHUNK
from aftertune.store import Answered, Reading
from aftertune.workspace import Run

ANSWERS = 8192
"""Answers that are in memory at a time, about."""
_EVEN = 0.5
_WON = {Preference.FIRST: (1.0, 0.0), Preference.SECOND: (0.0, 1.0), Preference.TIE: (_EVEN, _EVEN)}
"""What the fine-tune has won where it stands first, and where it stands second."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An answer of a fine-tune and its base's to the same prompt, both decoded alike."""

    prompt: Prompt
    key: Key
    """The fine-tune's call."""
    tuned: str
    base: str


def read_comparisons(
    run: Run,
    comparers: Mapping[str, Comparer],
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
) -> list[int]:
    """Let every comparer compare what it has not compared; return their readers."""
    return [_read(run, name, comparer, models, prompts) for name, comparer in comparers.items()]


def uncompared(
    table: Table, models: Sequence[StudyModel], comparers: Iterable[str]
) -> Iterator[str]:
    """Say which answers could not be compared, so that nobody takes their absence for a choice."""
    tuned = [table.names["model"].index(model.name) for model in models if model.base is not None]
    benign = table.columns["intent"] == list(Intent).index(Intent.BENIGN)
    due = benign & np.isin(table.columns["model"], tuned) & (table.columns["finish"] != NONE)
    for name in comparers:
        if missing := int((due & np.isnan(table.scores[f"score:{name}"])).sum()):
            yield (
                f"comparer {name}: {missing:,} of {int(due.sum()):,} answers were not compared (its calls failed, or the "
                "base has no answer); run again to ask it again"
            )


def _read(
    run: Run, name: str, comparer: Comparer, models: Sequence[StudyModel], prompts: Sequence[Prompt]
) -> int:
    """Compare with one comparer; the readings hang on the bases as well, so another base is another reader."""
    bases = {model.name: model.base for model in models if model.base is not None}
    identities = {
        base: dict(run.engines.open(_reference(models, base)).identity)
        for base in set(bases.values())
    }
    version = content_key(
        "comparer", dict(comparer.call_identity), {m: identities[b] for m, b in bases.items()}
    ).hex()
    reader = run.store.add_reader("scorer", name, f"{comparer.reading_version} {version}")
    benign = [prompt for prompt in prompts if prompt.intent is Intent.BENIGN]
    with run.progress.stage(f"comparer {name}", len(benign)) as advance:
        size = _chunk(run, models)
        for some in (benign[start : start + size] for start in range(0, len(benign), size)):
            answers = list(run.store.responses(run.study.name, [reader], some))
            _compare(run, comparer, reader, list(_pairs(answers, bases, f"score:{name}")))
            advance(len(some))
    return reader


def _reference(models: Sequence[StudyModel], name: str) -> str:
    return next(model.reference for model in models if model.name == name)


def _chunk(run: Run, models: Sequence[StudyModel]) -> int:
    keys = run.study.decoding
    each = (
        len(models)
        * len(run.study.systems)
        * keys.samples
        * len(keys.temperatures)
        * len(keys.seeds)
    )
    return max(1, (BATCH_CHUNK if run.engines.endpoints.by_batch else ANSWERS) // each)


def _pairs(answers: Sequence[Answered], bases: Mapping[str, str], column: str) -> Iterator[Pair]:
    """Pair what is not compared yet; an answer that several models share by their very weights comes once."""
    known = {(a.model, *_place(a)): a.response for a in answers}
    seen = set()
    for answer in answers:
        base = bases.get(answer.model)
        if (
            base is None
            or answer.response is None
            or answer.key is None
            or column in answer.readings
        ):
            continue
        before = known.get((base, *_place(answer)))
        if before is not None and (answer.key, answer.prompt.id) not in seen:
            seen.add((answer.key, answer.prompt.id))
            yield Pair(answer.prompt, answer.key, answer.response.text, before.text)


def _place(answer: Answered) -> tuple[str, str, str, int]:
    return answer.prompt.id, answer.system, answer.decoding, answer.sample


def _compare(run: Run, comparer: Comparer, reader: int, pairs: Sequence[Pair]) -> None:
    """Ask both orders of every pair and read them; a pair of which an order has no answer stays unread."""
    asked = {
        pair: tuple(
            compare_job(comparer, pair.prompt, *shown)
            for shown in ((pair.tuned, pair.base), (pair.base, pair.tuned))
        )
        for pair in pairs
    }
    different = {pair: jobs for pair, jobs in asked.items() if pair.tuned != pair.base}
    run.store.complete("judge", [job for jobs in different.values() for job in jobs], comparer.ask)
    replies = run.store.calls([job.key for jobs in different.values() for job in jobs])
    readings = []
    for pair in pairs:
        if pair not in different:
            readings.append(_reading(pair, (Preference.TIE, Preference.TIE)))
            continue
        jobs = different[pair]
        if all(job.key in replies for job in jobs):
            first, second = (comparer.read(job, replies[job.key]) for job in jobs)
            readings.append(_reading(pair, (first, second)))
    run.store.add_readings(reader, readings)


def compare_job(comparer: Comparer, prompt: Prompt, first: str, second: str) -> CompareJob:
    """Return the call about two answers to a prompt, in the order in which they are shown."""
    key = content_key(
        "compare", dict(comparer.call_identity), [prompt.task, prompt.text, first, second]
    )
    return CompareJob(key=key, task=prompt.task, prompt=prompt.text, first=first, second=second)


def _reading(pair: Pair, found: tuple[Preference, Preference]) -> Reading:
    """Return the share that the fine-tune won; an order that was not decided counts half, and its bounds 0 and 1."""
    won = [
        _WON[said][place] for place, said in enumerate(found) if said is not Preference.UNDECIDED
    ]
    open_ = len(found) - len(won)
    low, high = sum(won) / len(found), (sum(won) + open_) / len(found)
    label = counted(WINS, [low, high, int(open_ > 0)])
    return Reading(
        prompt=pair.prompt, key=pair.key, value=None, score=(low + high) / 2, label=label
    )
