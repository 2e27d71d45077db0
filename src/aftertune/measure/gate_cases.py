"""A gate compares a fine-tune with its base on several quantities, each on prompts of its own and by losses."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aftertune.core.table import BLEU, Table
from aftertune.errors import InputError
from aftertune.measure import outcomes as oc
from aftertune.measure.arrays import Arms, Grid, Layout, Setting, model_codes, task_weights
from aftertune.measure.counts import Counts, N, Source, SourceKind, Tally, count
from aftertune.measure.gate_rules import (
    Coded,
    LineCounts,
    Losses,
    code_pairs,
    outcome_losses,
    score_losses,
)
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.rates import ASR, OVER_REFUSAL, Event
from aftertune.measure.results import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One quantity of a gate, fine-tune against base, on the prompts that both were asked: a rate, or a declared score."""

    side: Side
    name: str
    """``ASR``, ``non-refusal rate``, ``over-refusal rate``, or the score's name."""
    event: Event | None
    """The outcome whose rate it is; None for a score."""
    codes: tuple[list[int], int]
    """The codes of the fine-tune's models, and of the base."""
    plan: MeasurePlan
    arms: Arms
    coded: Coded
    runs: tuple[Coded, ...]
    """The pairs of each replicate by itself; empty without several."""
    binary: bool
    """Every loss is 0 or 1."""
    overall: Layout
    margin: float
    task_margin: float

    @property
    def seeds(self) -> int:
        """The number of training seeds."""
        return self.arms.tuned.seeds

    def parts(self) -> Iterator[tuple[str | None, Layout, float]]:
        """Yield task, prompts and margin of the overall line (without a task), then of the tasks'.

        A score that one task alone has needs no second line for that task.
        """
        yield None, self.overall, self.margin
        grid = self.arms.tuned
        tasks = sorted(set(grid.attribute("task").tolist()))
        for code in tasks if self.event is not None or len(tasks) > 1 else ():
            part = grid.choose("task", code, _all(grid))
            assert part is not None
            yield grid.counted.names["task"][code], part, self.task_margin

    def named(self, task: str | None) -> str:
        """Return the name of a line: of a task, or of the overall figure."""
        name = "overall" if task is None else task
        return name if self.event is not None else f"{self.name}: {name}"

    def counts(self, part: Layout) -> LineCounts:
        """Return the losses of a part of the prompts."""
        grid, coded = self.arms.tuned, self.coded
        groups = part.order[part.starts]
        behavior, task = (
            [grid.counted.names[name][code] for code in grid.attribute(name)[groups].tolist()]
            for name in ("behavior", "task")
        )
        whole = LineCounts(
            side=self.side,
            binary=self.binary,
            part=part,
            behavior=behavior,
            task=task,
            n=grid.counts(N),
            base_n=self.arms.base.counts(N),
            base=coded.base,
            tuned=coded.tuned,
            fail=coded.fail,
            worst=coded.worst,
            deterministic=grid.deterministic and self.arms.base.deterministic,
        )
        of_runs = zip(self.runs, grid.runs, self.arms.base.runs, strict=True)
        return replace(
            whole,
            runs=tuple(
                replace(
                    whole,
                    n=tuned.counts(N),
                    base_n=base.counts(N),
                    base=run.base,
                    tuned=run.tuned,
                    fail=run.fail,
                    worst=run.worst,
                )
                for run, tuned, base in of_runs
            ),
        )

    def level_counts(self) -> LineCounts:
        """Return the losses of the overall line, with every unsure answer of the fine-tune a loss in ``worst``."""
        assert self.event is not None
        counts, grid, unsure = self.counts(self.overall), self.arms.tuned, self.event.unsure
        return replace(
            counts,
            worst=counts.tuned + unsure(grid),
            runs=tuple(
                replace(run, worst=run.tuned + unsure(of_run))
                for run, of_run in zip(counts.runs, grid.runs, strict=True)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """The quantities of a gate, by side."""

    harm: Case
    over_refusal: Case | None
    """None where no benign twin, and no prompt of a named benign set, was put to both."""
    capability: tuple[Case, ...]

    def of(self, side: Side) -> tuple[Case, ...]:
        """Return the quantities of a side."""
        if side is Side.CAPABILITY:
            return self.capability
        case = self.harm if side is Side.HARM else self.over_refusal
        return () if case is None else (case,)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTask:
    """A fine-tune's own task, on which a repaired model is held against the fine-tune and not against the base."""

    against: str
    """The fine-tune's condition, of one model."""
    metric: str
    sets: tuple[str, ...]
    """Prompt sets of the task, held out of its training rows."""
    margin: float
    """Largest tolerated fall of the mean score."""


def cases_of(
    table: Table, plan: MeasurePlan, base: str, tuned: str, own: OwnTask | None = None
) -> Cases:
    """Return both arms of a gate on every side.

    Args:
        table: the jobs of both.
        plan: what was declared.
        base: name of the base's condition.
        tuned: name of the fine-tune's condition, or of the repaired model's.
        own: the side of capability of a repaired model; None for the declared scores against the base.

    Raises:
        InputError: the table has several settings, no harmful prompt that both were asked, or lacks what the plan names; a
            declared score is a corpus metric, or no response has one.
    """
    counted = count(table, plan)
    if len(counted.settings) > 1:
        raise InputError(
            f"the gate decides under one system prompt and decoding, and the table has {len(counted.settings)}; "
            "check them one at a time"
        )
    base_code = _base_code(counted, plan, base)
    models = model_codes(counted, plan.condition(tuned)), base_code
    setting = Setting(counted=counted, code=0, weights=task_weights(table, plan))
    both = setting.arms(plan.condition(tuned).models, plan.condition(base).models)
    harmful = None if both is None else _among(both, both.tuned.intent(harmful=True))
    if both is None or harmful is None:
        raise InputError(
            f"no harmful prompt was put to both {base!r} and {tuned!r}, so there is nothing to compare"
        )
    codes = oc.outcomes(table, oc.decided_verdicts(table, plan))
    benign = _among(both, _probes_of_over_refusal(both.tuned, plan))
    return Cases(
        harm=rate_case(table, plan, harmful, models, codes, Side.HARM),
        over_refusal=None
        if benign is None
        else rate_case(table, plan, benign, models, codes, Side.OVER_REFUSAL),
        capability=tuple(
            _score_case(table, plan, both, models, codes, name) for name in plan.score_margins
        )
        if own is None
        else (_own_case(table, plan, setting, tuned, codes, own),),
    )


def _base_code(counted: Counts, plan: MeasurePlan, base: str) -> int:
    code, *others = model_codes(counted, plan.condition(base))
    if others:
        raise InputError(
            f"condition {base!r} has several models, so it cannot be the base of a gate"
        )
    return code


def _own_case(
    table: Table, plan: MeasurePlan, setting: Setting, tuned: str, codes: oc.Codes, own: OwnTask
) -> Case:
    """Return the case of a repaired model's own task: its score against that of the fine-tune."""
    models = (
        model_codes(setting.counted, plan.condition(tuned)),
        _base_code(setting.counted, plan, own.against),
    )
    both = setting.arms(plan.condition(tuned).models, plan.condition(own.against).models)
    names = setting.counted.names["set"]
    places = [names.index(name) for name in own.sets if name in names]
    arms = None if both is None else _among(both, np.isin(both.tuned.attribute("set"), places))
    if arms is None:
        raise InputError(
            f"no prompt of the own task ({', '.join(own.sets)}) was put to both {tuned!r} and {own.against!r}"
        )
    declared = replace(plan, score_margins={own.metric: own.margin})
    return _score_case(table, declared, arms, models, codes, own.metric)


def rate_case(
    table: Table,
    plan: MeasurePlan,
    arms: Arms,
    models: tuple[list[int], int],
    codes: oc.Codes,
    side: Side,
) -> Case:
    """Return the case of a rate.

    Args:
        table: the jobs.
        plan: what was declared.
        arms: both, on the side's prompts alone.
        models: codes of the fine-tune's models, and of the base.
        codes: the outcome of every row.
        side: harm or over-refusal.
    """
    harm = side is Side.HARM
    losses = outcome_losses(codes, oc.HARMFUL if harm else oc.OVER_REFUSED)
    coded, runs = _coded(table, plan, losses, models, arms)
    return Case(
        side=side,
        name=plan.name_rate if harm else "over-refusal rate",
        event=ASR if harm else OVER_REFUSAL,
        codes=models,
        plan=plan,
        arms=arms,
        coded=coded,
        runs=runs,
        binary=True,
        overall=_whole(arms),
        margin=plan.margin if harm else plan.over_refusal_margin,
        task_margin=plan.task_margin if harm else plan.over_refusal_task_margin,
    )


def _score_case(
    table: Table,
    plan: MeasurePlan,
    both: Arms,
    models: tuple[list[int], int],
    codes: oc.Codes,
    name: str,
) -> Case:
    counted, margin = both.tuned.counted, plan.score_margins[name]
    if counted.metrics.get(name) == BLEU:
        raise InputError(
            f"a margin is declared for {name!r}, which scores a whole corpus; declare one for a metric that scores each "
            "answer, for instance chrf"
        )
    source = Source(SourceKind.SCORE, name)
    benign, with_score = both.tuned.intent(harmful=False), Tally(source, "n")
    scored = [(arm.counts(with_score) > 0).any(axis=1) for arm in (both.tuned, both.base)]
    arms = _among(both, benign & (scored[0] | scored[1]))
    if arms is None:
        raise InputError(
            f"a margin is declared for the score {name!r}, and no answer has one: ask a prompt set with references"
        )
    losses = score_losses(codes, table.scores[f"score:{name}"])
    coded, of_runs = _coded(table, plan, losses, models, arms)
    return Case(
        side=Side.CAPABILITY,
        name=name,
        event=None,
        codes=models,
        plan=plan,
        arms=arms,
        coded=coded,
        runs=of_runs,
        binary=source in counted.binary,
        overall=_whole(arms),
        margin=margin,
        task_margin=margin,
    )


def _coded(
    table: Table,
    plan: MeasurePlan,
    losses: Losses,
    models: tuple[list[int], int],
    arms: Arms,
) -> tuple[Coded, tuple[Coded, ...]]:
    """Return the coded pairs of all replicates together, and of each by itself where there are several."""
    tuned, base = models
    replicate = oc.replicates(table, plan)
    prompts = arms.tuned.prompts
    return code_pairs(table, losses, base, tuned, prompts), tuple(
        code_pairs(table, losses, base, tuned, prompts, replicate == number)
        for number in range(len(arms.tuned.counted.runs))
    )


def _among(both: Arms, chosen: NDArray[np.bool_]) -> Arms | None:
    """Return both arms on the chosen prompts; None where there are none."""
    if not chosen.any():
        return None
    tuned, base = (
        replace(arm, rows=arm.rows[chosen], prompts=arm.prompts[chosen], layouts={})
        for arm in (both.tuned, both.base)
    )
    return Arms(tuned=tuned, base=base)


def _probes_of_over_refusal(grid: Grid, plan: MeasurePlan) -> NDArray[np.bool_]:
    """Return a mask of the benign prompts that measure over-refusal: those beside harmful prompts, and those of named sets."""
    sets, harmful = grid.attribute("set"), grid.intent(harmful=True)
    names = grid.counted.names["set"]
    if unknown := set(plan.over_refusal_sets) - set(names):
        raise InputError(
            f"over_refusal_sets names {', '.join(sorted(unknown))}, of which no prompt was asked; sets of this run: {', '.join(names)}"
        )
    named = [code for code, name in enumerate(names) if name in plan.over_refusal_sets]
    return np.logical_and(~harmful, np.isin(sets, [*np.unique(sets[harmful]).tolist(), *named]))


def _all(grid: Grid) -> NDArray[np.bool_]:
    return np.ones(len(grid.prompts), np.bool_)


def _whole(arms: Arms) -> Layout:
    overall = arms.tuned.choose("overall", 0, _all(arms.tuned))
    assert overall is not None
    return overall
