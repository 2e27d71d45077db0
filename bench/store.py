"""Time and memory of a large synthetic store: ``python bench/store.py [RESPONSES] [FILE]`` (1,000,000 unless said).

Writes the store with the package's own calls, then opens it again in a fresh process and makes the table, so that the
peak is that of reading alone.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from aftertune.core.keys import content_key
from aftertune.core.records import (
    DecisionValue,
    Decoding,
    FinishReason,
    Intent,
    Prompt,
    Response,
    Score,
    VerdictValue,
)
from aftertune.core.table import Table
from aftertune.measure.measure import measure_table
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.store import PlannedJob, Scored, Store

TASKS = ("text", "code", "translation", "classification")
T = TypeVar("T")
MODELS, SAMPLES, TEMPLATES = 21, 5, 2


def prompts_of(responses: int) -> list[Prompt]:
    """Return as many prompts as give ``responses`` responses: harmful and benign, four tasks, two templates each."""
    behaviors = max(1, round(responses / (MODELS * SAMPLES * TEMPLATES * len(TASKS))))
    return [
        Prompt(
            behavior=f"b{behavior}",
            template=f"{task}-{template}",
            task=task,
            intent=Intent.BENIGN if behavior % 2 else Intent.HARMFUL,
            text=f"request {behavior} as {task} in template {template}",
            set="synthetic",
            hazard=f"hazard {behavior % 12}",
            pair=f"b{behavior - behavior % 2}",
        )
        for behavior in range(behaviors)
        for task in TASKS
        for template in range(TEMPLATES)
    ]


def planned(
    prompts: list[Prompt], takes: Callable[[Prompt], bool] = lambda _: True
) -> Iterator[PlannedJob]:
    """Yield the jobs of a base and its fine-tunes, five samples each, about the prompts that are taken."""
    decoding = Decoding(temperature=0.7)
    taken = [(number, prompt) for number, prompt in enumerate(prompts) if takes(prompt)]
    for model in range(MODELS):
        for sample in range(SAMPLES):
            for number, prompt in taken:
                key = content_key(model, number, sample)
                name = f"tune/seed{model}" if model else "base"
                yield PlannedJob(
                    model=name,
                    prompt=prompt,
                    system="none",
                    decoding=decoding,
                    sample=sample,
                    key=key,
                )


def synthetic(path: Path, responses: int) -> None:
    """Write a store with one study of about so many responses, two judges, a guard and the coherence scores."""
    prompts = prompts_of(responses)
    verdicts, decisions = list(VerdictValue), list(DecisionValue)
    with Store.open(path) as store:
        timed("plan", lambda: store.plan("synthetic", planned(prompts)))
        answers = ((job.key, answer(job.key)) for job in planned(prompts))
        timed("answers", lambda: store.append("generate", answers))
        for kind, name in (
            ("judge", "rules"),
            ("judge", "rubric"),
            ("guard", "guard"),
            ("coherence", "coherence"),
        ):
            scorer = store.add_scorer(kind, name, "1")
            values = {"judge": verdicts, "guard": decisions, "coherence": [True, True]}[kind]
            scores = (
                Scored(
                    prompt=job.prompt,
                    key=job.key,
                    score=Score(value=values[job.key[0] % 2], number=job.key[1] / 255),
                )
                for job in planned(prompts)
            )
            timed(
                f"scores of {name}",
                lambda scorer=scorer, scores=scores: store.add_scores(scorer, scores),
            )


def answer(key: bytes) -> Response:
    """Return an answer of about 300 characters."""
    return Response(
        text=key.hex() * 9, finish_reason=FinishReason.STOP, prompt_tokens=40, completion_tokens=60
    )


def read(path: Path) -> None:
    """Open the store, make the table and measure it: the sum of these three is what a report of the study waits for."""
    start = time.monotonic()
    with Store.open(path, write=False) as store:
        table = timed("open and join", lambda: store.table("synthetic", [1, 2, 3, 4]))
    timed("measure", lambda: measure_table(table, plan_of(table)))
    print(
        f"open, join and measure {len(table):,} responses: {time.monotonic() - start:.1f} s",
        flush=True,
    )
    report_peak()


def resume(path: Path) -> None:
    """Find out that nothing is left to do."""
    with Store.open(path, write=False) as store:
        keys = [job.key for job in planned(prompts_of(len(store.table("synthetic"))))]
        missing = timed("nothing missing", lambda: store.missing(keys))
        unscored = timed("nothing unscored", lambda: store.unscored("synthetic", 1))
    print(f"{len(missing)} missing, {len(unscored)} unscored", flush=True)


def plan_of(table: Table) -> MeasurePlan:
    """Return the declaration: one fine-tune with all its seeds against the base."""
    base, *tuned = table.names["model"]
    conditions = (
        Condition(name="base", models=(base,)),
        Condition(name="tune", models=tuple(tuned), base="base"),
    )
    return MeasurePlan(conditions=conditions, judges=("rules", "rubric"), guards=("guard",))


def timed(what: str, work: Callable[[], T]) -> T:
    """Run ``work`` and print how long it took."""
    start = time.monotonic()
    result = work()
    print(f"{what:24} {time.monotonic() - start:7.2f} s", flush=True)
    return result


def report_peak() -> None:
    """Print this process's peak memory."""
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB", flush=True)


def main() -> None:
    """Write the store, then read it in a fresh process."""
    if sys.argv[1:2] == ["read"]:
        read(Path(sys.argv[2]))
        resume(Path(sys.argv[2]))
        return
    responses = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(folder) / "store.db"
        synthetic(path, responses)
        report_peak()
        print(f"file {path.stat().st_size / 2**20:,.0f} MiB", flush=True)
        subprocess.run([sys.executable, __file__, "read", str(path)], check=True)


if __name__ == "__main__":
    main()
