"""What a study costs: calls, tokens, money, time and memory, model by model."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aftertune.core.recipe import StudyModel
from aftertune.core.records import GenerateJob, Prompt
from aftertune.engine.bridge import InspectModel
from aftertune.engine.endpoint.model import EndpointModel
from aftertune.engine.size import TRAINED, generating_bytes, parameters, token_bytes
from aftertune.generate.calls import calls
from aftertune.pipeline.instruments import make_instruments
from aftertune.pipeline.run_folder import Run
from aftertune.study import cells_of
from aftertune.tune.record import finished

PER_TOKEN = 4
"""Characters of English per token, where nothing better is known."""
TIMED = 8
"""Answers of the timed pilot."""
ROWS = 32
"""Answers at a time that the memory is estimated for."""
READ = 400
"""Tokens of a judge's own words, about."""
Cost = dict[str, Any]


def cost_of(
    run: Run, models: Sequence[StudyModel], prompts: Sequence[Prompt], tokens: tuple[float, float], *, timed: bool
) -> list[Cost]:
    """Return what each model and each instrument costs that asks a model.

    Args:
        run: an open run, for its engines; nothing is written.
        models: of the study.
        prompts: before overlap with training rows is removed.
        tokens: mean tokens of a prompt and of an answer in a pilot; 0 where there is none.
        timed: ask local models a few of the prompts, and take the time.
    """
    by_name = {model.name: model for model in models}
    speeds: dict[str, float] = {}
    costs = []
    for model in models:
        there = model.recipe is None or finished(Path(model.reference), model.recipe)
        asked = model if there or model.base is None else by_name[model.base]
        found = _model_cost(run, model, asked, prompts, tokens)
        found["to_be_trained"] = not there
        if timed and not found["served"]:
            if asked.reference not in speeds:
                speeds[asked.reference] = _speed(run, asked, prompts)
            found["seconds"] = found["calls"] / speeds[asked.reference]
        costs.append(found)
    return [*costs, *_instruments(run, prompts, costs)]


def _model_cost(
    run: Run, model: StudyModel, asked: StudyModel, prompts: Sequence[Prompt], tokens: tuple[float, float]
) -> Cost:
    engine = run.engines.open(asked.reference)
    jobs = _jobs(run, asked, prompts)
    limit = run.study.decoding.max_new_tokens
    each = tokens[0] or sum(len(prompt.text) for prompt in prompts) / max(1, len(prompts)) / PER_TOKEN
    served = isinstance(engine, EndpointModel | InspectModel)
    return {
        "name": model.name,
        "kind": "model",
        "served": served,
        "calls": len(jobs),
        "tokens_in": round(each * len(jobs)),
        "tokens_out": round((tokens[1] or limit) * len(jobs)),
        "tokens_out_at_most": limit * len(jobs),
        "money_at_most": engine.most_cost(jobs) if isinstance(engine, EndpointModel | InspectModel) else 0.0,
        "currency": run.engines.endpoints.spending.prices.currency,
        "seconds": None,
        **({} if served else _memory(run, model, asked, round(each) + limit)),
    }


def _jobs(run: Run, model: StudyModel, prompts: Sequence[Prompt]) -> list[GenerateJob]:
    """Return the calls of a model that is there, or of the base in place of one that is not trained yet."""
    engine = run.engines.open(model.reference)
    return [job for _, _, job in calls(engine, cells_of(run.study, model.name), prompts, run.study.systems)]


def _memory(run: Run, model: StudyModel, asked: StudyModel, tokens: int) -> Mapping[str, float | None]:
    count = parameters(asked.reference)
    if count is None:
        return {"parameters": None, "memory_bytes": None, "training_bytes": None}
    dtype = run.engines.placement.dtype
    needed = generating_bytes(count, dtype, token_bytes(asked.reference, dtype), tokens, ROWS)
    method = None if model.recipe is None else model.recipe.method
    return {
        "parameters": count,
        "memory_bytes": needed,
        "training_bytes": None if method is None else TRAINED[method] * count,
    }


def _speed(run: Run, model: StudyModel, prompts: Sequence[Prompt]) -> float:
    """Return the answers per second of a model on prompts of all lengths; loading is not counted."""
    spread = sorted(prompts, key=lambda prompt: len(prompt.text))
    chosen = spread[:: max(1, len(spread) // TIMED)][:TIMED]
    jobs = _jobs(run, model, chosen)[: len(chosen)]
    engine = run.engines.open(model.reference)
    list(engine.generate([replace(job, decoding=replace(job.decoding, max_new_tokens=1)) for job in jobs[:1]]))
    began = time.monotonic()
    with run.progress.stage(f"timing {model.name}", len(jobs)) as advance:
        for _ in engine.generate(jobs):
            advance(1)
    return len(jobs) / max(time.monotonic() - began, 1e-9)


def _instruments(run: Run, prompts: Sequence[Prompt], costs: Sequence[Cost]) -> Iterator[Cost]:
    """Yield the judges and guards that make calls; every answer is read, and a prompt is screened once."""
    made = make_instruments(run)
    answers = sum(cost["calls"] for cost in costs)
    tokens = sum(cost["tokens_in"] + cost["tokens_out"] for cost in costs)
    asking = [(name, "judge", answers) for name, judge in made.judges.items() if judge.call_identity is not None]
    for name, guard in made.guards.items():
        asking.append((name, "guard", sum(len(prompts) if side == "prompt" else answers for side in guard.sides)))
    for name, kind, count in asking:
        yield {
            "name": name,
            "kind": kind,
            "calls": count,
            "tokens_in": tokens + READ * count,
            "money": _price(run, name, tokens + READ * count),
            "currency": run.engines.endpoints.spending.prices.currency,
        }


def _price(run: Run, name: str, tokens: int) -> float | None:
    """Return about what a judge or guard costs that names its model in its options; None where that is not known."""
    keys = next((keys for keys in (*run.study.judges, *run.study.guards) if keys.name == name), None)
    reference = None if keys is None else keys.options.get("model")
    served = [model for model in run.engines.endpoints.models if model.address.name == reference]
    if not served:
        return None if reference is None else 0.0  # a model on this machine
    price = run.engines.endpoints.spending.prices.of(served[0].address)
    return None if price is None else price.of(tokens, 0)


def cost_lines(costs: Sequence[Cost]) -> Iterator[str]:
    """Yield the costs in words: a line a model, a line an instrument, the sum."""
    if not costs:
        return
    yield ""
    yield f"{'':<28} {'calls':>9} {'tokens in':>11} {'tokens out':>11}  {'money':>12} {'time':>8} {'memory':>8}"
    for cost in costs:
        out = f"{cost['tokens_out']:,}" if "tokens_out" in cost else ""
        seconds = cost.get("seconds")
        memory = max(
            cost.get("memory_bytes") or 0.0, cost.get("training_bytes") or 0.0 if cost.get("to_be_trained") else 0.0
        )
        yield (
            f"{cost['name'][:28]:<28} {cost['calls']:>9,} {cost['tokens_in']:>11,} {out:>11}  {_money(cost):>12} "
            f"{_duration(seconds):>8} {_gib(memory):>8}"
        )
    yield (
        "About: tokens of a pilot, else a token per four characters and answers as long as they may be; money at most, judges and "
        "guards by their input; time only with --time, without training; memory for 32 answers at a time, or for training."
    )


def _money(cost: Cost) -> str:
    money = cost["money_at_most"] if cost["kind"] == "model" else cost["money"]
    if money is None:
        return "unknown"
    return f"{money:,.2f} {cost['currency']}" if money else "-"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 20 else f"{size / 2**20:.0f} MiB" if size else "-"
