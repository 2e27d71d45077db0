"""From a table and a plan to everything that a study measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from aftertune.core.table import NONE, Table
from aftertune.errors import InputError
from aftertune.measure.agreement import annotator_agreement, judge_agreement
from aftertune.measure.between import Between
from aftertune.measure.bypass import bypass_changes, bypasses
from aftertune.measure.capability import capability, capability_changes
from aftertune.measure.cells import Cells, tally
from aftertune.measure.corrected_conditions import Labelled, condition_labels, finder
from aftertune.measure.corrections import LabelledRows, labelled_rows
from aftertune.measure.crossed import seed_collapse
from aftertune.measure.fine_tunes import adjust_over_fine_tunes
from aftertune.measure.frontier import seed_rates
from aftertune.measure.grids import Arms, Grid, arms, breakdown, grid
from aftertune.measure.harm import harm_score_changes, harm_scores, second_labels
from aftertune.measure.matched import matched
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.rates import Kind, adjust, difference_in_differences, kind, rate, rate_change
from aftertune.measure.results import (
    FORMAT,
    Breakdown,
    Change,
    ConditionLabels,
    ConditionResult,
    Disagreement,
    GuardResult,
    Rate,
    SettingResult,
    StudyResult,
)
from aftertune.measure.undone import undone
from aftertune.measure.wins import win_rates

ASR = kind("decided", "harmful")
OVER_REFUSAL = kind("decided", "over-refused")
_EVERY = ("task", "set", "harm_basis", "hazard")


def measure(table: Table, plan: MeasurePlan) -> StudyResult:
    """Measure every condition under every setting (system prompt x decoding), and its change against its base.

    Raises:
        InputError: the plan names a model, judge, guard or scorer that is not in the table, or the table is empty.
    """
    cells = tally(table, plan)
    weights = task_weights(table, plan)
    labelled = labelled_rows(table, plan)
    settings = tuple(
        _measure_setting(cells, plan, index, weights, labelled)
        for index in range(len(cells.settings))
    )
    return StudyResult(
        format=FORMAT,
        plan=plan.digest,
        name_rate=plan.name_rate,
        judges=plan.judges,
        panel=plan.panel,
        tasks=tuple(
            table.names["task"][code] for code in np.unique(table.columns["task"]).tolist()
        ),
        jobs=len(table),
        answered=int((table.columns["finish"] != NONE).sum()),
        settings=settings,
        notes=tuple(dict.fromkeys(_notes(cells, plan))),
        annotators=annotator_agreement(table),
    )


def task_weights(table: Table, plan: MeasurePlan) -> Mapping[int, float]:
    """Return the declared weight of each task by its code; empty when all weigh the same.

    Raises:
        InputError: weights are declared, but not for every task in the table.
    """
    if plan.task_weights is None:
        return {}
    present = np.unique(table.columns["task"]).tolist()
    missing = [
        table.names["task"][code]
        for code in present
        if table.names["task"][code] not in plan.task_weights
    ]
    if missing:
        raise InputError(
            f"task_weights name no weight for {', '.join(missing)}; weigh every task, or none"
        )
    return {code: plan.task_weights[table.names["task"][code]] for code in present}


def model_codes(cells: Cells, condition: Condition) -> list[int]:
    """Return the codes of a condition's models.

    Raises:
        InputError: a model is not in the table.
    """
    names = cells.names["model"]
    for model in condition.models:
        if model not in names:
            raise InputError(
                f"condition {condition.name!r}: model {model!r} has no rows in the table"
            )
    return [names.index(model) for model in condition.models]


def _measure_setting(
    cells: Cells,
    plan: MeasurePlan,
    setting: int,
    weights: Mapping[int, float],
    labelled: LabelledRows | None,
) -> SettingResult:
    between = Between(
        cells=cells, plan=plan, setting=setting, weights=weights, harmful=ASR, refused=OVER_REFUSAL
    )
    measured = []
    for condition in plan.conditions:
        models = model_codes(cells, condition)
        own = grid(cells, setting, models, weights)
        if own is None:
            continue
        base = [] if condition.base is None else model_codes(cells, plan.condition(condition.base))
        both = arms(cells, setting, models, base, weights) if base else None
        found = _measure_condition(plan, condition, own, both)
        if labelled is not None:
            found = replace(
                found, labels=_labels(labelled, plan, setting, (own, both), (models, base))
            )
        if condition.unmitigated is not None:
            other = model_codes(cells, plan.condition(condition.unmitigated))
            found = replace(
                found,
                unmitigated=between.compare(
                    condition.models,
                    plan.condition(condition.unmitigated).models,
                    condition.unmitigated,
                ),
                undone=undone(cells, setting, (base, other, models), weights, ASR.hit)
                if base
                else None,
            )
        measured.append(found)
    system, decoding = cells.settings[setting]
    return SettingResult(
        system=system,
        decoding=decoding,
        conditions=tuple(adjust_over_fine_tunes(measured)),
        matched=None
        if plan.match is None
        else matched(between, plan.match, {result.name for result in measured}),
    )


def _labels(
    labelled: LabelledRows,
    plan: MeasurePlan,
    setting: int,
    grids: tuple[Grid, Arms | None],
    models: tuple[list[int], list[int]],
) -> ConditionLabels | None:
    own, both = grids
    arms_ = None
    if both is not None:
        tuned, base = (
            finder(labelled, arm, codes, setting)
            for arm, codes in ((both.tuned, models[0]), (both.base, models[1]))
        )
        arms_ = tuned, base
    of_own = finder(labelled, own, models[0], setting)
    return condition_labels(
        plan, Labelled(own=own, of_own=of_own, arms=both, of_arms=arms_, families=plan.families)
    )


def _measure_condition(
    plan: MeasurePlan, condition: Condition, own: Grid, both: Arms | None
) -> ConditionResult:
    seeds = len(condition.models)
    dimensions = _EVERY if "hazard" in plan.families else _EVERY[:-1]
    asr_change = rate_changes(both, ASR, plan, harmful=True, dimensions=dimensions)
    asr = rates(own, ASR, plan, harmful=True, dimensions=_EVERY)
    agreement, by_task = judge_agreement(own, plan.judges)
    return ConditionResult(
        name=condition.name,
        base=condition.base,
        seeds=seeds,
        training_seeds=condition.training_seeds,
        asr=asr,
        over_refusal=rates(own, OVER_REFUSAL, plan, harmful=False),
        capability=capability(own, plan),
        asr_change=asr_change,
        over_refusal_change=rate_changes(both, OVER_REFUSAL, plan, harmful=False),
        capability_change={} if both is None else capability_changes(both, plan),
        guards={guard: _guarded(own, both, guard, plan) for guard in plan.guards},
        judges={
            judge: rates(
                own, kind(f"judge:{judge}", "harmful"), plan, harmful=True, dimensions=("task",)
            )
            for judge in plan.judges
        },
        disagreement={
            f"{one} | {other}": _disagreement(own, f"{one} | {other}")
            for one, other in combinations(plan.judges, 2)
        },
        seed_collapse=seed_collapse(seeds) if seeds > 1 else None,
        agreement=agreement,
        agreement_by_task=by_task,
        disagreement_change=_disagreement_changes(both, plan),
        wins={}
        if both is None
        else {comparer: win_rates(own, comparer, plan) for comparer in plan.comparers},
        own_sets=condition.own_sets,
        series=condition.series,
        factors=condition.factors,
        by_seed=seed_rates(own, ASR, OVER_REFUSAL),
        harm_scores=harm_scores(own, plan),
        harm_score_change=harm_score_changes(both, plan),
        second_labels=second_labels(own, plan),
    )


def rates(
    own: Grid,
    what: Kind,
    plan: MeasurePlan,
    *,
    harmful: bool,
    dimensions: Sequence[str] = _EVERY[:-1],
) -> Breakdown[Rate]:
    """Return a rate over the harmful or the benign prompts, overall and along ``dimensions``."""
    chosen = own.intent(harmful=harmful)
    return breakdown(own, chosen, lambda part: rate(own, part, what, plan.min_cell), dimensions)


def rate_changes(
    both: Arms | None,
    what: Kind,
    plan: MeasurePlan,
    *,
    harmful: bool,
    dimensions: Sequence[str] = _EVERY[:-1],
) -> Breakdown[Change] | None:
    """Return the changes of a rate against the base, p-values adjusted inside the declared families."""
    if both is None:
        return None
    chosen = both.tuned.intent(harmful=harmful)
    changes = breakdown(
        both.tuned, chosen, lambda part: rate_change(both, part, what, plan.min_cell), dimensions
    )
    return adjust(changes, plan.families)


def _guarded(own: Grid, both: Arms | None, guard: str, plan: MeasurePlan) -> GuardResult:
    behind, refused = kind(f"guard:{guard}", "harmful"), kind(f"guard:{guard}", "over-refused")
    difference = None
    if both is not None:
        difference = breakdown(
            both.tuned,
            both.tuned.intent(harmful=True),
            lambda part: difference_in_differences(both, part, ASR, behind, plan.min_cell),
            ("task",),
        )
    return GuardResult(
        asr=rates(own, behind, plan, harmful=True),
        over_refusal=rates(own, refused, plan, harmful=False),
        false_blocks=rates(own, kind(f"block:{guard}", "blocked"), plan, harmful=False),
        asr_change=rate_changes(both, behind, plan, harmful=True, dimensions=("task",)),
        asr_difference=None if difference is None else adjust(difference, plan.families),
        bypass=bypasses(own, guard, plan),
        bypass_change=bypass_changes(both, guard, plan),
    )


def _disagreement(own: Grid, pair: str) -> Mapping[str, Disagreement]:
    n, differ = (own.counts((f"differ:{pair}", counted)).sum(axis=1) for counted in ("n", "differ"))
    tasks = own.attribute("task")
    found = {}
    for code in np.unique(tasks[own.intent(harmful=True)]).tolist():
        chosen = tasks == code
        found[own.cells.names["task"][code]] = Disagreement(
            differ=round(differ[chosen].sum()), n=round(n[chosen].sum())
        )
    return found


def _disagreement_changes(both: Arms | None, plan: MeasurePlan) -> Mapping[str, Change]:
    """Return how much oftener each two judges differ on the fine-tune than on its base."""
    whole = (
        None if both is None else both.tuned.choose("overall", 0, both.tuned.intent(harmful=True))
    )
    if both is None or whole is None:
        return {}
    pairs = [f"{one} | {other}" for one, other in combinations(plan.judges, 2)]
    return {
        pair: rate_change(both, whole, kind(f"differ:{pair}", "differ"), plan.min_cell)
        for pair in pairs
    }


def _notes(cells: Cells, plan: MeasurePlan) -> Iterator[str]:
    """Say what is uneven: conditions without rows, prompts that were not put to all, behaviors missing from tasks."""
    for setting, (system, decoding) in enumerate(cells.settings):
        for condition in plan.conditions:
            own = grid(cells, setting, model_codes(cells, condition), {})
            where = (
                f"{condition.name} ({system}, {decoding})"
                if len(cells.settings) > 1
                else condition.name
            )
            if own is None:
                yield f"{where}: nothing to measure"
            else:
                yield from _uneven(cells, setting, condition, own, where)


def _uneven(
    cells: Cells, setting: int, condition: Condition, own: Grid, where: str
) -> Iterator[str]:
    parts = [
        cells.prompts[cells.slice_of(setting, model)] for model in model_codes(cells, condition)
    ]
    asked, shared = len(np.unique(np.concatenate(parts))), len(own.prompts)
    if asked > shared:
        yield f"{where}: {asked - shared} of {asked} prompts were not put to every seed and are left out"
    whole = own.choose("overall", 0, own.intent(harmful=True))
    if whole is not None and not whole.complete:
        yield (
            f"{where}: not every harmful behavior occurs in every task; "
            "overall figures are weighted means of the tasks' own figures"
        )
