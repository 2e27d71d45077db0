"""Counts model work outside the store: every call, as it is made, becomes a line ``seconds kind key`` of a log file.

Python imports this module by itself in a subprocess that has its folder on PYTHONPATH. ``AFTERTUNE_CALL_LOG`` names the
log; ``AFTERTUNE_CALL_PACE`` makes batches of four rows that take so many seconds, so that there is something to kill.
"""

import os
import time
from functools import wraps
from pathlib import Path

PATH = os.environ.get("AFTERTUNE_CALL_LOG")
PACE = float(os.environ.get("AFTERTUNE_CALL_PACE", "0"))
BATCH = 4


def log(kind, *keys):
    lines = [
        f"{time.monotonic():.4f} {kind} {key.hex() if isinstance(key, bytes) else key}\n"
        for key in keys
    ]
    descriptor = os.open(PATH, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, "".join(lines).encode())
    os.close(descriptor)


def count_generations(engine, answering):
    """Log the rows of a batch as they enter it, and each answer as it is handed over."""
    entering, generated, generate = (
        answering._Running.entering,
        answering.Answering._generated,
        engine.generate,
    )

    def begun(rows):
        log("generate", *(row.job.key for row in rows if row.job.key))  # a probe has no key
        time.sleep(PACE)

    @wraps(entering)
    def entered(self, tokens):
        answers = entering(self, tokens)
        begun([answer.row for answer in answers])
        return answers

    @wraps(generated)
    def counted(self, rows, *more, **options):
        begun(rows)
        return generated(self, rows, *more, **options)

    @wraps(generate)
    def given(self, jobs):
        for key, answer in generate(self, jobs):
            yield key, answer
            log("given", key)

    answering._Running.entering = entered
    answering.Answering._generated, engine.generate = counted, given


def count_asks(module):
    """Log the calls of scorers one by one, each as it is made and again as it is handed over."""
    ask_calls = module.ask_calls

    @wraps(ask_calls)
    def counted(scorer, calls, samples):
        kind = {"preference": "compare"}.get(scorer.role, scorer.role)
        for call in calls:
            log(kind, call.key)
            time.sleep(PACE / BATCH)
            yield from ask_calls(scorer, [call], samples)
            log("given", call.key)

    module.ask_calls = counted


def count_likelihoods(engine):
    nll = engine.nll

    @wraps(nll)
    def counted(self, pairs):
        for place, _ in enumerate(pairs):
            log("nll", str(place))
            time.sleep(PACE / BATCH)
        return nll(self, pairs)

    engine.nll = counted


def log_training(module):
    fine_tune = module.fine_tune

    @wraps(fine_tune)
    def logged(recipe, rows, out, *, progress=None, **more):
        def report(step, steps):
            log("train", f"{recipe.key.hex()}:{step}")
            time.sleep(PACE / BATCH)
            return progress(step, steps)

        return fine_tune(recipe, rows, out, progress=report, **more)

    module.fine_tune = logged


def log_files(module):
    write = module.write_whole

    @wraps(write)
    def logged(path, pieces, **options):
        log("write", Path(path).name)
        time.sleep(PACE)
        write(path, pieces, **options)
        log("written", Path(path).name)

    module.write_whole = logged


def make_small_batches(capacity):
    rows = capacity.rows
    capacity.rows = lambda self, *of: min(BATCH, rows(self, *of))


if PATH:
    import aftertune.train.train

    log_training(aftertune.train.train)  # before `aftertune.run` binds the function by its name

    import aftertune.models.answering
    import aftertune.models.batching
    import aftertune.models.local
    import aftertune.report.document
    import aftertune.report.page
    import aftertune.run
    import aftertune.score.likelihood
    import aftertune.score.run

    count_generations(aftertune.models.local.LocalEngine, aftertune.models.answering)
    count_likelihoods(aftertune.models.local.LocalEngine)
    count_asks(aftertune.score.run)
    for module in (aftertune.report.document, aftertune.report.page, aftertune.run):
        log_files(module)
    if PACE:
        make_small_batches(aftertune.models.batching.Capacity)
        aftertune.score.likelihood.KEPT = BATCH
