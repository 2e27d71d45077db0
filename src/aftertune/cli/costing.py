"""What a study costs: calls, tokens, money, time and memory, model by model."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aftertune.core.ids import Key
from aftertune.core.recipe import Recipe, StudyModel
from aftertune.core.records import GenerateJob, Prompt
from aftertune.data.rows import Row
from aftertune.generate import calls
from aftertune.models.size import TRAINED, generating_bytes, parameters, token_bytes
from aftertune.score.estimate import Estimate, estimate
from aftertune.score.instruments import make_instruments
from aftertune.study import cells_of
from aftertune.train.stage import seconds_per_step, steps_of
from aftertune.workspace import Run

TIMED = 8
"""Answers of the timed pilot."""
CENT = 0.01
"""The least money that is printed as a number."""
ROWS = 32
"""Answers at a time that the memory is estimated for."""
Cost = dict[str, Any]


def cost_of(
    run: Run,
    models: Sequence[StudyModel],
    prompts: Sequence[Prompt],
    tokens: tuple[float, float],
    rows: Mapping[str, list[Row]],
    *,
    timed: bool,
) -> list[Cost]:
    """Return what each model and each instrument costs that asks a model, as if nothing had been asked yet.

    Args:
        run: an open run, for its engines; nothing is written.
        models: of the study.
        prompts: that will be asked.
        tokens: mean tokens of a prompt and of an answer in a pilot; 0 where there is none.
        rows: the training rows of every fine-tune, by its name.
        timed: ask local models a few of the prompts, make a few steps of each training, and take the time.
    """
    by_name = {model.name: model for model in models}
    clock, costs = _Clock(run, prompts), []
    for found in estimate(run, models, prompts, make_instruments(run), tokens=tokens, kept=False):
        cost = _told(run, found)
        costs.append(cost)
        if found.kind != "model":
            continue
        model = by_name[found.name]
        asked = by_name[model.base] if found.to_be_trained and model.base is not None else model
        each = cost["tokens_in"] / max(1, found.calls) + run.study.decoding.max_new_tokens
        cost |= {} if cost["served"] else _memory(run, model, asked, round(each))
        if timed:
            cost["seconds"] = None if cost["served"] else found.calls / clock.answers(asked)
            if found.to_be_trained and model.recipe is not None:
                cost["training_seconds"] = clock.training(model.recipe, rows[model.name])
    return costs


def _told(run: Run, found: Estimate) -> Cost:
    cost: Cost = {
        "name": found.name,
        "kind": found.kind,
        "served": found.engine is not None and found.engine.remote,
        "calls": found.calls,
        "calls_at_most": found.at_most,
        "tokens_in": round(found.tokens_in),
        "tokens_out": round(found.tokens_out),
        "tokens_out_at_most": found.tokens_out_at_most,
        "money_at_most" if found.kind == "model" else "money": found.money,
        "currency": run.engines.endpoints.prices.currency,
    }
    if found.kind == "model":
        cost |= {"seconds": None, "training_seconds": None, "to_be_trained": found.to_be_trained}
    return cost


def _memory(
    run: Run, model: StudyModel, asked: StudyModel, tokens: int
) -> Mapping[str, float | None]:
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


@dataclass(slots=True)
class _Clock:
    """Takes the time of a little of the work, once for all models that do the same."""

    run: Run
    prompts: Sequence[Prompt]
    _speeds: dict[str, float] = field(default_factory=dict)
    _steps: dict[Key, float] = field(default_factory=dict)
    _trained: set[Key] = field(default_factory=set)

    def answers(self, model: StudyModel) -> float:
        """Return the answers per second of a local model."""
        if model.reference not in self._speeds:
            self._speeds[model.reference] = _speed(self.run, model, self.prompts)
        return self._speeds[model.reference]

    def training(self, recipe: Recipe, rows: Sequence[Row]) -> float:
        """Return the seconds of a training: its steps, as long as a few of them took; its earlier epochs are part of it."""
        whole = replace(recipe, epoch=None)
        if recipe.epoch is not None or whole.key in self._trained:
            return 0.0
        self._trained.add(whole.key)
        alike = replace(whole, seed=0, start=None).key
        if alike not in self._steps:
            with self.run.progress.stage(f"timing the training of {recipe.name}", 1) as advance:
                self._steps[alike] = seconds_per_step(recipe, rows, self.run.engines)
                advance(1)
        return steps_of(recipe, len(rows)) * self._steps[alike]


def _speed(run: Run, model: StudyModel, prompts: Sequence[Prompt]) -> float:
    """Return the answers per second of a model on prompts of all lengths; loading is not counted."""
    spread = sorted(prompts, key=lambda prompt: len(prompt.text))
    chosen = spread[:: max(1, len(spread) // TIMED)][:TIMED]
    engine = run.engines.open(model.reference)
    every = calls(engine, cells_of(run.study, model.name), chosen, run.study.systems)
    jobs: list[GenerateJob] = [job for _, _, job in every][: len(chosen)]
    list(
        engine.generate(
            [replace(job, decoding=replace(job.decoding, max_new_tokens=1)) for job in jobs[:1]]
        )
    )
    began = time.monotonic()
    with run.progress.stage(f"timing {model.name}", len(jobs)) as advance:
        for _ in engine.generate(jobs):
            advance(1)
    return len(jobs) / max(time.monotonic() - began, 1e-9)


def cost_lines(costs: Sequence[Cost]) -> Iterator[str]:
    """Yield the costs in words: a line a model, a line an instrument, the sum."""
    if not costs:
        return
    yield ""
    width = max(22, *(len(cost["name"]) for cost in costs))
    yield f"{'':<{width}} {'calls':>10} {'tokens in':>10} {'out':>10} {'money':>12} {'time':>8} {'memory':>8}"
    for cost in costs:
        memory = max(
            cost.get("memory_bytes") or 0.0,
            cost.get("training_bytes") or 0.0 if cost.get("to_be_trained") else 0.0,
        )
        calls = f"{'<=' if cost['calls_at_most'] else ''}{cost['calls']:,}"
        out = f"{cost['tokens_out']:,}" if cost["tokens_out"] else "-"
        yield (
            f"{cost['name']:<{width}} {calls:>10} {cost['tokens_in']:>10,} {out:>10} {_money(cost):>12} "
            f"{_time(cost):>8} {_gib(memory):>8}"
        )
    yield (
        "Calls: <= where equal answers are read once; a reply that cannot be read is asked for again on top. Tokens: counted where the "
        "tokenizer is here, else one per four characters or the pilot's; answers as long as they may be or the pilot's were. Money: "
        "at most for models, about for judges, guards and comparers. Time: with --time, without judges and guards. Memory: "
        f"for {ROWS} answers at a time, or for training."
    )
    if any(cost.get("training_seconds") for cost in costs):
        yield "Time of training: all its steps, each as long as a few real ones took; without loading and step checkpoints."
    if any(cost["served"] and cost["kind"] == "model" for cost in costs):
        yield "Time of served models: cannot be known here; it rests with the server, and timing it would cost calls."


def _money(cost: Cost) -> str:
    money = cost["money_at_most"] if cost["kind"] == "model" else cost["money"]
    if money is None:
        return "unknown"
    if 0 < money < CENT:
        return f"< {CENT} {cost['currency']}"
    return f"{money:,.2f} {cost['currency']}" if money else "-"


def _time(cost: Cost) -> str:
    if cost["served"]:
        return "?" if cost["kind"] == "model" else "-"
    parts = [cost.get("seconds"), cost.get("training_seconds")]
    known = [seconds for seconds in parts if seconds is not None]
    return _duration(sum(known)) if known else "-"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "< 1 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _gib(size: float) -> str:
    return (
        f"{size / 2**30:.1f} GiB"
        if size >= 2**30 / 20
        else f"{size / 2**20:.0f} MiB"
        if size
        else "-"
    )
