"""From a table and a plan to everything that a study measured."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np

from aftertune.core.table import NONE, Table
from aftertune.measure.agreement import annotator_agreement, judge_agreement
from aftertune.measure.arrays import Arms, Grid, Layout, Setting, model_codes, task_weights
from aftertune.measure.capability import (
    capability,
    capability_changes,
    harm_score_changes,
    harm_scores,
    metrics,
    seed_scores,
)
from aftertune.measure.changes import (
    adjust_family,
    adjust_over_fine_tunes,
    bypass_changes,
    disagreement_changes,
    guard_effects,
    rate_change,
    rate_changes,
)
from aftertune.measure.comparisons import compare, matched, undone
from aftertune.measure.corrections import LabelledCondition, condition_labels
from aftertune.measure.counts import ANSWERS, CUT, Source, SourceKind, Tally, count, pair_name
from aftertune.measure.crossed import seed_collapse
from aftertune.measure.divergence import divergences
from aftertune.measure.intervals import benjamini_hochberg
from aftertune.measure.judge_bounds import CheckedJudge, judge_bounds
from aftertune.measure.labelled import LabelledArm, LabelledRows, labelled_arm, labelled_rows
from aftertune.measure.plan import Condition, MeasurePlan
from aftertune.measure.rates import (
    ASR,
    EVERY,
    OVER_REFUSAL,
    SETS,
    TASKS,
    bypasses,
    event,
    rate,
    rates,
    second_labels,
    seed_rates,
    win_rates,
)
from aftertune.measure.results import (
    FORMAT,
    Change,
    ConditionLabels,
    ConditionResult,
    CutAnswers,
    Disagreement,
    GuardResult,
    HazardFigures,
    Rate,
    ReasoningHarm,
    SettingResult,
    StudyResult,
)
from aftertune.measure.series import OVER_HAZARDS
from aftertune.measure.style import AnswerStyles, Styles
from aftertune.measure.toxicity import complied_harm, toxicities

NOTABLE_CUT = 0.1
"""The share of cut answers, and the difference of two shares, above which a note speaks of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Evidence on the deciding judge beside its verdicts."""

    checked: CheckedJudge | None = None
    """Its errors on groups of labelled answers; they give the changes their bounds."""
    styles: AnswerStyles | None = None
    """The style of the responses; it tells whether base and fine-tune say the same in other words."""


NO_EVIDENCE = Evidence()


def measure_table(table: Table, plan: MeasurePlan, evidence: Evidence = NO_EVIDENCE) -> StudyResult:
    """Measure every condition under every setting (system prompt x decoding), and its change against its base.

    Args:
        table: the responses with their scores.
        plan: what was declared.
        evidence: what is known of the deciding judge.

    Raises:
        InputError: the plan names a model, judge, guard or scorer that is not in the table, or the table is empty.
    """
    counted, weights = count(table, plan), task_weights(table, plan)
    for condition in plan.conditions:
        model_codes(counted, condition)
    labelled = labelled_rows(table, plan)
    settings = [
        Setting(counted=counted, code=code, weights=weights)
        for code in range(len(counted.settings))
    ]
    styles = None if evidence.styles is None else Styles(table, plan, evidence.styles)
    results = tuple(
        _with_evidence(_measure_setting(setting, plan, labelled), setting, plan, evidence, styles)
        for setting in settings
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
        settings=results,
        notes=tuple(
            dict.fromkeys(
                note
                for setting, result in zip(settings, results, strict=True)
                for note in (
                    *_notes(setting, plan),
                    *_cut_notes(result, plan, len(settings)),
                    *_toxicity_notes(result, len(settings)),
                )
            )
        ),
        annotators=annotator_agreement(table),
        lower_is_better=tuple(
            metric.name
            for metric in metrics(counted, plan)
            if metric.source.kind is SourceKind.INVALID
        ),
    )


def _measure_setting(
    setting: Setting, plan: MeasurePlan, labelled: LabelledRows | None
) -> SettingResult:
    measured = []
    for condition in plan.conditions:
        own = setting.grid(condition.models)
        if own is None:
            continue
        base = () if condition.base is None else plan.condition(condition.base).models
        both = setting.arms(condition.models, base) if base else None
        result = _measure_condition(plan, condition, own, both)
        if labelled is not None:
            result = replace(result, labels=_labels(labelled, plan, setting, condition, own, both))
        if condition.against is not None:
            name, others = condition.against, plan.condition(condition.against).models
            result = replace(result, against=compare(setting, plan, condition.models, others, name))
        if condition.unmitigated is not None:
            name, others = condition.unmitigated, plan.condition(condition.unmitigated).models
            result = replace(
                result,
                unmitigated=compare(setting, plan, condition.models, others, name),
                undone=undone(setting, base, others, condition.models) if base else None,
            )
        measured.append(result)
    system, decoding = setting.counted.settings[setting.code]
    return SettingResult(
        system=system,
        decoding=decoding,
        conditions=tuple(adjust_over_fine_tunes(measured)),
        matched=None
        if plan.match is None
        else matched(setting, plan, plan.match, {result.name for result in measured}),
    )


def _with_evidence(
    result: SettingResult,
    setting: Setting,
    plan: MeasurePlan,
    evidence: Evidence,
    styles: Styles | None,
) -> SettingResult:
    """Add to every fine-tune the drift of its style, and the bounds of its change that the judge's errors leave open."""

    def known_of(condition: ConditionResult) -> ConditionResult:
        if condition.base is None:
            return condition
        tuned, base = (plan.condition(name).models for name in (condition.name, condition.base))
        codes = setting.codes(tuned), setting.codes(base)
        return replace(
            condition,
            style=None if styles is None else styles.drift(setting.code, *codes),
            judge_bounds=judge_bounds(condition, setting.arms(tuned, base), plan, evidence.checked),
        )

    return replace(result, conditions=tuple(map(known_of, result.conditions)))


def _labels(
    labelled: LabelledRows,
    plan: MeasurePlan,
    setting: Setting,
    condition: Condition,
    own: Grid,
    both: Arms | None,
) -> ConditionLabels | None:
    def arm(grid: Grid, name: str) -> LabelledArm:
        codes = setting.codes(plan.condition(name).models)
        return labelled_arm(labelled, grid, codes, setting.code)

    labels = LabelledCondition(own=arm(own, condition.name), families=plan.families)
    if both is not None and condition.base is not None:
        labels = replace(
            labels,
            tuned=arm(both.tuned, condition.name),
            base=arm(both.base, condition.base),
        )
    return condition_labels(plan, labels)


def _hazards(
    plan: MeasurePlan, own: Grid, both: Arms | None
) -> Mapping[str, Mapping[str, HazardFigures]]:
    """Return the rate and its change in every hazard of every task that has enough behaviors."""
    harmful, names = own.intent(harmful=True), own.counted.names
    tasks, hazards = (np.unique(own.attribute(x)[harmful]).tolist() for x in ("task", "hazard"))
    if len(hazards) == 1:
        return {}
    measured: dict[tuple[str, str], Rate] = {}
    changes: dict[tuple[str, str], Change] = {}
    for task, hazard in product(tasks, hazards):
        cell = names["task"][task], names["hazard"][hazard]
        part = _of_hazard(own, task, hazard)
        if part is None or part.behaviors < plan.min_cell:
            continue
        measured[cell] = rate(own, part, ASR, plan.min_cell)
        compared = None if both is None else _of_hazard(both.tuned, task, hazard)
        if both is not None and compared is not None:
            changes[cell] = rate_change(both, compared, ASR, plan.min_cell)
    changes = adjust_family(changes, benjamini_hochberg, OVER_HAZARDS)
    figures: dict[str, dict[str, HazardFigures]] = {}
    for (task_name, hazard_name), figure in measured.items():
        figures.setdefault(task_name, {})[hazard_name] = HazardFigures(
            rate=figure, change=changes.get((task_name, hazard_name))
        )
    return figures


def _of_hazard(grid: Grid, task: int, hazard: int) -> Layout | None:
    among = grid.intent(harmful=True) & (grid.attribute("task") == task)
    return grid.choose("hazard", hazard, among)


def _measure_condition(
    plan: MeasurePlan, condition: Condition, own: Grid, both: Arms | None
) -> ConditionResult:
    seeds = len(condition.models)
    by_hazard = EVERY if "hazard" in plan.families else SETS
    agreement, by_task = judge_agreement(own, plan.judges)
    return ConditionResult(
        name=condition.name,
        base=condition.base,
        seeds=seeds,
        training_seeds=condition.training_seeds,
        asr=rates(own, ASR, plan, harmful=True, dimensions=EVERY),
        over_refusal=rates(own, OVER_REFUSAL, plan, harmful=False),
        capability=capability(own, plan),
        asr_change=rate_changes(both, ASR, plan, harmful=True, dimensions=by_hazard),
        over_refusal_change=rate_changes(both, OVER_REFUSAL, plan, harmful=False),
        capability_change={} if both is None else capability_changes(both, plan),
        hazards=_hazards(plan, own, both),
        guards={guard: _guarded(own, both, guard, plan) for guard in plan.guards},
        judges={
            judge: rates(
                own,
                event(Source(SourceKind.JUDGE, judge), "harmful"),
                plan,
                harmful=True,
                dimensions=TASKS,
            )
            for judge in plan.judges
        },
        disagreement={
            pair_name(*pair): _disagreement(own, pair_name(*pair))
            for pair in combinations(plan.judges, 2)
        },
        seed_collapse=seed_collapse(seeds) if seeds > 1 else None,
        agreement=agreement,
        agreement_by_task=by_task,
        disagreement_change=disagreement_changes(both, plan),
        wins={}
        if both is None
        else {name: win_rates(own, name, plan) for name in plan.preferences},
        own_sets=condition.own_sets,
        series=condition.series,
        factors=condition.factors,
        by_seed=seed_rates(own, seed_scores(own, plan)),
        harm_scores=harm_scores(own, plan),
        harm_score_change={} if both is None else harm_score_changes(both, plan),
        complied_harm=complied_harm(own, plan),
        toxicity=toxicities(own, both, plan),
        second_labels=second_labels(own, plan),
        cut=_cut_answers(own, condition),
        divergence=divergences(both, plan),
        reasoning={
            judge: _harm_in_reasoning(own, both, judge, plan) for judge in plan.reasoning_judges
        },
    )


def _harm_in_reasoning(
    own: Grid, both: Arms | None, judge: str, plan: MeasurePlan
) -> ReasoningHarm:
    source = Source(SourceKind.REASONING, judge)
    harmful = event(source, "harmful")
    present = own.counts(Tally(source, "present"))[own.intent(harmful=True)]
    return ReasoningHarm(
        present=round(present.sum()),
        rate=rates(own, harmful, plan, harmful=True, dimensions=TASKS),
        change=rate_changes(both, harmful, plan, harmful=True, dimensions=TASKS),
    )


def _guarded(own: Grid, both: Arms | None, guard: str, plan: MeasurePlan) -> GuardResult:
    source = Source(SourceKind.GUARD, guard)
    behind, refused = event(source, "harmful"), event(source, "over-refused")
    blocked = event(Source(SourceKind.BLOCK, guard), "blocked")
    return GuardResult(
        asr=rates(own, behind, plan, harmful=True),
        over_refusal=rates(own, refused, plan, harmful=False),
        false_blocks=rates(own, blocked, plan, harmful=False),
        asr_change=rate_changes(both, behind, plan, harmful=True, dimensions=TASKS),
        asr_difference=guard_effects(both, ASR, behind, plan),
        bypass=bypasses(own, guard, plan),
        bypass_change=bypass_changes(both, guard, plan),
    )


def _disagreement(own: Grid, pair: str) -> Mapping[str, Disagreement]:
    """Return by task how often two judges differ on the responses to harmful prompts that both decided."""
    n, differ = (
        own.counts(Tally(Source(SourceKind.PAIR, pair), value)).sum(axis=1)
        for value in ("n", "differ")
    )
    tasks, names = own.attribute("task"), own.counted.names["task"]
    return {
        names[code]: Disagreement(
            differ=round(differ[tasks == code].sum()), n=round(n[tasks == code].sum())
        )
        for code in np.unique(tasks[own.intent(harmful=True)]).tolist()
    }


def _cut_answers(own: Grid, condition: Condition) -> Mapping[str, CutAnswers]:
    """Return by model how many of its answers ended at the token limit."""
    counts = (own.counts(tally).sum(axis=0).tolist() for tally in (CUT, ANSWERS))
    return {
        model: CutAnswers(cut=round(cut), n=round(n))
        for model, cut, n in zip(condition.models, *counts, strict=True)
    }


def _notes(setting: Setting, plan: MeasurePlan) -> Iterator[str]:
    """Yield what is uneven: conditions without rows, prompts that not all models have, behaviors missing from tasks."""
    system, decoding = setting.counted.settings[setting.code]
    for condition in plan.conditions:
        name = condition.name
        if len(setting.counted.settings) > 1:
            name = f"{name} ({system}, {decoding})"
        own = setting.grid(condition.models)
        if own is None:
            yield f"{name}: nothing to measure"
            continue
        prompts, shared = len(setting.prompts(condition.models)), len(own.prompts)
        if prompts > shared:
            yield (
                f"{name}: {prompts - shared} of {prompts} prompts were not put to every seed and are left out"
            )
        whole = own.overall(harmful=True)
        if whole is not None and not whole.complete:
            yield (
                f"{name}: not every harmful behavior occurs in every task; "
                "overall figures are weighted means of the tasks' own figures"
            )


def _toxicity_notes(setting: SettingResult, settings: int) -> Iterator[str]:
    """Yield the responses that were longer than a toxicity's classifier reads."""
    under = f" ({setting.system}, {setting.decoding})" if settings > 1 else ""
    for condition in setting.conditions:
        for name, toxicity in condition.toxicity.items():
            if toxicity.cut:
                yield (
                    f"{name}: of {toxicity.cut:,} responses of {condition.name}{under} the classifier read the beginning only, as "
                    "far as it reads"
                )


def _cut_notes(setting: SettingResult, plan: MeasurePlan, settings: int) -> Iterator[str]:
    """Yield the conditions whose answers the token limit cut off, and those that differ in it from their base."""
    under = f" ({setting.system}, {setting.decoding})" if settings > 1 else ""
    cut = {
        condition.name: (
            sum(answers.cut for answers in condition.cut.values()),
            sum(answers.n for answers in condition.cut.values()),
        )
        for condition in setting.conditions
        # epochs and rounds on the way to a fine-tune are left to the page
        if not {"epoch", "round"} & condition.factors.keys() or condition.name == condition.series
    }
    often = {name: (k, n) for name, (k, n) in cut.items() if k > NOTABLE_CUT * n}
    if often:
        shares = "; ".join(f"{name} {k:,} of {n:,} answers" for name, (k, n) in often.items())
        yield (
            f"cut off at the token limit{under}: {shares}. What a model would have said after it was not judged; "
            "a larger decoding.max_new_tokens shows it"
        )
    for condition in setting.conditions:
        if condition.name not in cut or condition.base not in cut:
            continue
        (k, n), (of_base, n_base) = cut[condition.name], cut[condition.base]
        if not n or not n_base or abs(k / n - of_base / n_base) <= NOTABLE_CUT:
            continue
        from scipy.stats import fisher_exact  # loads slowly

        if fisher_exact(np.array([[k, n - k], [of_base, n_base - of_base]])).pvalue < plan.alpha:
            yield (
                f"{condition.name} and {condition.base} differ in how many answers the token limit cut off{under} "
                f"({k:,} of {n:,} and {of_base:,} of {n_base:,}): whole answers are compared with cut ones; "
                "raise decoding.max_new_tokens before a change between them is trusted"
            )
