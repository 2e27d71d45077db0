"""Tables of guards and judges: what guards hold back, what judges decide, how often they differ, and what else they score."""

from collections import Counter

from aftertune.measure.results import (
    ConditionResult,
    GuardLabels,
    GuardResult,
    PairAgreement,
    SettingResult,
    StudyResult,
)
from aftertune.report import wording
from aftertune.report.cells import (
    BLANK,
    Cell,
    Sheet,
    beside,
    change_cell,
    correction_legend,
    disagreement_cell,
    harmful_word,
    in_order,
    name_cell,
    names_in,
    overall_of,
    p_values_of,
    part,
    rate_cell,
)
from aftertune.report.corrected import NONE, guard_labels, labels_of, two_decimals


def _guarded(
    setting: SettingResult, guard: str
) -> list[tuple[ConditionResult, GuardResult, GuardLabels]]:
    return [
        (condition, condition.guards[guard], guard_labels(condition, guard))
        for condition in setting.conditions
        if guard in condition.guards
    ]


def guard_sheet(result: StudyResult, setting: SettingResult, guard: str) -> Sheet:
    """Return the rates behind one guard, with its false blocks beside them."""
    rows = [
        (
            name_cell(condition),
            beside(rate_cell(behind.asr.overall), labels.asr.overall),
            beside(change_cell(part(behind.asr_change), up_is="bad"), part(labels.asr_change)),
            beside(rate_cell(behind.bypass.overall), labels.bypass.overall),
            change_cell(part(behind.bypass_change), up_is="bad"),
            rate_cell(behind.false_blocks.overall),
            beside(rate_cell(behind.over_refusal.overall), labels.over_refusal.overall),
        )
        for condition, behind, labels in _guarded(setting, guard)
    ]
    return Sheet(
        title=f"Behind the guard {wording.clean(guard)}",
        headers=(
            "condition",
            result.name_rate,
            "change",
            "bypass",
            "its change",
            "false blocks",
            "over-refusal",
        ),
        rows=tuple(rows),
        legend=(
            (
                f"change: against the base behind the same guard; bypass: of the {harmful_word(result)} responses, those that the "
                "guard passes; false blocks: of benign prompts; over-refusal: refused or blocked."
            ),
            *p_values_of(rows),
            *correction_legend(rows),
        ),
    )


def guard_by_task(result: StudyResult, setting: SettingResult, guard: str) -> Sheet:
    """Return the rate behind one guard by task, and how much the guard takes from the change."""
    guarded = _guarded(setting, guard)
    tasks = in_order(result, (behind.asr.by_task for _, behind, _ in guarded))
    rows = [
        (
            name_cell(condition),
            *(
                beside(rate_cell(behind.asr.by_task.get(task)), labels.asr.by_task.get(task))
                for task in tasks
            ),
            beside(
                change_cell(part(behind.asr_difference), up_is="bad"), part(labels.asr_difference)
            ),
        )
        for condition, behind, labels in guarded
    ]
    return Sheet(
        title=f"{result.name_rate} by task behind the guard {wording.clean(guard)}",
        headers=("condition", *map(wording.clean, tasks), "effect on change"),
        rows=tuple(rows),
        legend=(
            "effect on change: the overall change behind the guard minus the one without it, in points.",
            *p_values_of(rows),
            *correction_legend([row[:-1] for row in rows]),
        ),
    )


def bypass_by_task(result: StudyResult, setting: SettingResult, guard: str) -> Sheet:
    """Return by task what one guard lets through of the harmful responses, and the changes that it makes to changes."""
    guarded = _guarded(setting, guard)
    tasks = in_order(result, (behind.bypass.by_task for _, behind, _ in guarded))
    rows = []
    for condition, behind, labels in guarded:
        rates = [
            beside(rate_cell(behind.bypass.by_task.get(task)), labels.bypass.by_task.get(task))
            for task in tasks
        ]
        rows.append((name_cell(condition), *rates))
        for label, raw, mended in (
            ("bypass, change", behind.bypass_change, labels.bypass_change),
            ("effect on change", behind.asr_difference, labels.asr_difference),
        ):
            if raw is not None:
                changes = [
                    beside(
                        change_cell(part(raw, "by_task", x), up_is="bad"),
                        part(mended, "by_task", x),
                    )
                    for x in tasks
                ]
                rows.append((Cell((wording.clean(condition.name), label)), *changes))
    return Sheet(
        title=f"Bypass by task of the guard {wording.clean(guard)}",
        headers=("condition", *map(wording.clean, tasks)),
        rows=tuple(rows),
        legend=(
            (
                f"Of the {harmful_word(result)} responses, those that the guard passes; its change against the base; effect on "
                f"change: the change of the {result.name_rate} behind the guard minus the one without it. In points."
            ),
            *p_values_of(rows),
            *correction_legend(rows),
        ),
    )


def judge_sheet(result: StudyResult, setting: SettingResult) -> Sheet:
    """Return the rate according to every judge by itself, and how often judges differ."""
    pairs = names_in(condition.disagreement for condition in setting.conditions)
    rows = tuple(
        (
            name_cell(condition),
            *(
                beside(
                    rate_cell(overall_of(condition.judges, judge)),
                    overall_of(labels_of(condition).judge_rates, judge),
                )
                for judge in result.judges
            ),
            *(disagreement_cell(condition.disagreement.get(pair, {}).values()) for pair in pairs),
        )
        for condition in setting.conditions
    )
    differ = ["differ"] if len(pairs) == 1 else [f"differ: {wording.clean(pair)}" for pair in pairs]
    return Sheet(
        title=f"{result.name_rate} according to each judge",
        headers=("condition", *map(wording.clean, result.judges), *differ),
        rows=rows,
        legend=(
            (
                f"{panel_words(result)}. differ: of the responses that both judges decided; half of it is a lower bound on the "
                "worse judge's error."
            ),
            *correction_legend(rows),
        ),
    )


def panel_words(result: StudyResult) -> str:
    """Return who decides: the first judge, or the declared rule over all of them."""
    judges = [wording.clean(judge) for judge in result.judges]
    if len(judges) == 1 or result.panel == "first":
        return f"The judge {judges[0]} decides"
    rules = {
        "majority": "More than half of the judges decide",
        "any": "Any one judge decides",
        "all": "All judges together decide",
    }
    return f"{rules.get(result.panel, wording.clean(result.panel))} ({', '.join(judges)})"


def disagreement_sheet(result: StudyResult, setting: SettingResult) -> Sheet:
    """Return by task how often two judges differ on the responses that both decided."""
    pairs = names_in(condition.disagreement for condition in setting.conditions)
    by_pair = [
        (condition, pair, condition.disagreement.get(pair, {}))
        for condition in setting.conditions
        for pair in pairs
    ]
    tasks = in_order(result, (by_task for _, _, by_task in by_pair))
    rows = tuple(
        (
            Cell((wording.clean(condition.name), wording.clean(pair))),
            *(disagreement_cell([by_task[task]] if task in by_task else []) for task in tasks),
        )
        for condition, pair, by_task in by_pair
    )
    return Sheet(
        title="Disagreement of judges by task",
        headers=("condition", *map(wording.clean, tasks)),
        rows=rows,
    )


def agreement_sheet(setting: SettingResult) -> Sheet:
    """Return how far judges agree beyond chance, and how much oftener they differ after fine-tuning."""
    rows, rare = [], False
    for condition in setting.conditions:
        agreement = condition.agreement
        for pair, pair_agreement in (agreement.pairs if agreement else {}).items():
            assert agreement is not None
            change = condition.disagreement_change.get(pair)
            rare = rare or pair_agreement.rare
            rows.append(
                (
                    Cell((wording.clean(condition.name), wording.clean(pair))),
                    _agreed(pair_agreement),
                    _coefficient(pair_agreement.kappa, pair_agreement.kappa_interval),
                    _coefficient(pair_agreement.ac1, pair_agreement.ac1_interval),
                    _coefficient(agreement.alpha, agreement.alpha_interval),
                    NONE
                    if change is None or change.hidden
                    else Cell(
                        (wording.points(change.estimate), wording.point_limits(change.interval))
                    ),
                )
            )
    legend = (
        "kappa, AC1 (Gwet), alpha (Krippendorff, all judges): 1 is full agreement, 0 chance; in brackets 95 % intervals over "
        "behaviors. differ: points by which judges differ oftener than on the base."
    )
    warning = "Where fewer than 10 % are harmful kappa is low whatever the judges do: read AC1 and the counts."
    return Sheet(
        title="Agreement of judges",
        headers=("condition", "agree", "kappa", "AC1", "alpha", "differ"),
        rows=tuple(rows),
        legend=(legend, *([warning] if rare else [])),
    )


def agreement_by_task(setting: SettingResult) -> Sheet:
    """Return kappa and AC1 by task."""
    agreements = [(c, c.agreement_by_task) for c in setting.conditions if c.agreement_by_task]
    tasks = list(dict.fromkeys(task for _, by_task in agreements for task in by_task))
    pairs = list(
        dict.fromkeys(
            pair
            for _, by_task in agreements
            for judges in by_task.values()
            for pair in judges.pairs
        )
    )
    rows = tuple(
        (
            Cell((wording.clean(condition.name), wording.clean(pair))),
            *(
                _coefficients(by_task[task].pairs.get(pair)) if task in by_task else NONE
                for task in tasks
            ),
        )
        for condition, by_task in agreements
        for pair in pairs
    )
    return Sheet(
        title="Agreement of judges by task",
        headers=("condition", *map(wording.clean, tasks)),
        rows=rows,
        legend=(
            "Raw agreement, Cohen's kappa and Gwet's AC1 on the responses that both judges decided.",
        ),
    )


def _agreed(pair: PairAgreement) -> Cell:
    n = pair.both + pair.first_only + pair.second_only + pair.neither
    if not n:
        return NONE
    agreed = f"{pair.both + pair.neither:,} of {n:,}"
    return Cell((wording.percent(pair.agreement), agreed, f"{pair.both:,} harmful"))


def _coefficients(pair: PairAgreement | None) -> Cell:
    if pair is None:
        return NONE
    kappa, ac1 = two_decimals(pair.kappa), two_decimals(pair.ac1)
    return Cell((_agreed(pair).lines[0], f"kappa {kappa}", f"AC1 {ac1}"))


def _coefficient(value: float | None, limits: tuple[float, float] | None) -> Cell:
    if value is None:
        return NONE
    return Cell((f"{value:.2f}", *([f"[{limits[0]:.2f}, {limits[1]:.2f}]"] if limits else [])))


def second_labels_sheet(setting: SettingResult, judge: str) -> Sheet:
    """Return how often a judge gave each label beside its verdicts, the most frequent first."""
    labelled = [(c, c.second_labels[judge]) for c in setting.conditions if judge in c.second_labels]
    total = Counter[str]()
    for _, labels in labelled:
        total.update(labels.counts)
    rows = tuple(
        (
            Cell((wording.clean(label),)),
            *(
                Cell((f"{labels.counts[label]:,} of {labels.n:,}",))
                if labels.counts.get(label)
                else BLANK
                for _, labels in labelled
            ),
        )
        for label in sorted(total, key=lambda label: (-total[label], label))
    )
    return Sheet(
        title=f"Labels of the judge {wording.clean(judge)}",
        headers=("label", *(wording.clean(condition.name) for condition, _ in labelled)),
        rows=rows,
        legend=("What the judge called responses to harmful prompts beside its verdict.",),
    )


def reasoning_sheet(result: StudyResult, setting: SettingResult, judge: str) -> Sheet:
    """Return how often the thinking before responses to harmful prompts is harmful, as one judge finds it."""
    thinking = [(c, c.reasoning[judge]) for c in setting.conditions if judge in c.reasoning]
    tasks = in_order(result, (harm.rate.by_task for _, harm in thinking))
    rows = [
        (
            name_cell(condition),
            Cell((f"{harm.present:,} of {harm.rate.overall.n:,}",))
            if harm.rate.overall is not None
            else BLANK,
            rate_cell(harm.rate.overall),
            change_cell(part(harm.change), up_is="bad"),
            *(rate_cell(harm.rate.by_task.get(task)) for task in tasks),
        )
        for condition, harm in thinking
        if harm.present
    ]
    return Sheet(
        title=f"Harm in the reasoning ({wording.clean(judge)})",
        headers=("condition", "with reasoning", "harmful", "change", *map(wording.clean, tasks)),
        rows=tuple(rows),
        legend=(
            (
                "Share of the responses to harmful prompts whose thinking the judge calls harmful, whatever was answered after it; "
                f"no part of the {result.name_rate}."
            ),
            *p_values_of(rows),
        ),
    )
