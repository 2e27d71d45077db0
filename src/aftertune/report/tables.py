"""A study's result becomes sheets: the headline, tasks, changes, scores and unclear answers, with those of other files."""

from collections.abc import Callable, Iterable
from typing import Literal

from aftertune.measure.results import (
    ConditionResult,
    SettingResult,
    StudyResult,
)
from aftertune.report import wording
from aftertune.report.capability import capability_sheets
from aftertune.report.cells import (
    BLANK,
    Cell,
    Dimension,
    Sheet,
    adjusted,
    beside,
    change_cell,
    correction_legend,
    divergence_cell,
    good_when_up,
    harmful_word,
    in_order,
    is_unclear,
    name_cell,
    names_in,
    overall_of,
    part,
    rate_cell,
    score_cell,
    scored_in,
    unclear_cell,
)
from aftertune.report.corrected import errors_sheet, has_labels, labels_of, labels_sheet
from aftertune.report.harm_degree import degree_sheets
from aftertune.report.hazards import hazards_sheet
from aftertune.report.scorers import (
    agreement_by_task,
    agreement_sheet,
    bypass_by_task,
    disagreement_sheet,
    guard_by_task,
    guard_sheet,
    judge_sheet,
    reasoning_sheet,
    second_labels_sheet,
)
from aftertune.report.style import bounds_sheet, style_sheet

MOVED = "moved: KL divergence of the first token from the base's on benign prompts, in nats; 0 is no move at all."


def setting_title(setting: SettingResult) -> str:
    """Return the fixed factors: ``system prompt: none; decoding: greedy``."""
    return f"system prompt: {wording.clean(setting.system)}; decoding: {wording.clean(setting.decoding)}"


SheetsOf = Callable[[StudyResult, SettingResult], tuple[list[Sheet], list[Sheet]]]
"""The tables of one tab of the page: those that stand there, and those that it keeps folded."""


def study_sheets(result: StudyResult, setting: SettingResult) -> list[Sheet]:
    """Return the main tables of one setting, the headline first; a table without content is left out."""
    tasks, *scorers = (
        of_kind(result, setting)[0]
        for of_kind in (task_sheets, guard_sheets, judge_sheets, degree_sheets)
    )
    others = [sheet for sheets in scorers for sheet in sheets]
    return _filled([*tasks, *capability_sheets(result, setting), *others])


def detail_sheets(result: StudyResult, setting: SettingResult) -> list[Sheet]:
    """Return the tables of one setting that a page keeps folded."""
    return _filled(
        sheet
        for of_kind in (task_sheets, guard_sheets, judge_sheets, degree_sheets)
        for sheet in of_kind(result, setting)[1]
    )


def task_sheets(result: StudyResult, setting: SettingResult) -> tuple[list[Sheet], list[Sheet]]:
    """Return the tables of rates and scores by task, set, harm basis and hazard."""
    conditions, rate = setting.conditions, result.name_rate
    scorers = names_in(condition.capability for condition in conditions)
    main = [
        headline(result, setting),
        rates_by(result, setting, "by_task", f"{rate} by task"),
        changes(result, setting),
        rates_by(result, setting, "by_harm_basis", f"{rate} by harm basis"),
        noise_sheet(result, setting),
        unclear(result, setting),
        cut_off(setting),
    ]
    more = [
        rates_by(result, setting, "by_hazard", f"{rate} by hazard (exploratory)"),
        hazards_sheet(result, setting),
        rates_by(result, setting, "by_task", "Over-refusal by task", "over_refusal"),
        *(scores_by(result, setting, scorer, "by_task") for scorer in scorers),
    ]
    if len(names_in(condition.asr.by_set for condition in conditions)) > 1:
        more.append(rates_by(result, setting, "by_set", f"{rate} by prompt set"))
    if len(names_in(condition.over_refusal.by_set for condition in conditions)) > 1:
        title = "Over-refusal by prompt set"
        more.append(rates_by(result, setting, "by_set", title, "over_refusal"))
    more += [scores_by(result, setting, scorer, "by_set") for scorer in scorers]
    return main, more


def guard_sheets(result: StudyResult, setting: SettingResult) -> tuple[list[Sheet], list[Sheet]]:
    """Return the tables of every guard."""
    guards = names_in(condition.guards for condition in setting.conditions)
    main = [guard_sheet(result, setting, guard) for guard in guards]
    more = [
        sheet(result, setting, guard)
        for sheet in (guard_by_task, bypass_by_task)
        for guard in guards
    ]
    return main, more


def judge_sheets(result: StudyResult, setting: SettingResult) -> tuple[list[Sheet], list[Sheet]]:
    """Return the tables of judges: their rates, their agreement, their errors by annotators' labels."""
    conditions = setting.conditions
    labelling = names_in(condition.second_labels for condition in conditions)
    thinking = names_in(condition.reasoning for condition in conditions)
    main = [
        *([judge_sheet(result, setting)] if len(result.judges) > 1 else []),
        agreement_sheet(setting),
        *(reasoning_sheet(result, setting, judge) for judge in thinking),
        *([labels_sheet(result, setting), errors_sheet(setting)] if has_labels(setting) else []),
    ]
    more = [
        *(second_labels_sheet(setting, judge) for judge in labelling),
        disagreement_sheet(result, setting),
        agreement_by_task(setting),
        bounds_sheet(result, setting),
        style_sheet(setting),
    ]
    return main, more


def _filled(sheets: Iterable[Sheet]) -> list[Sheet]:
    return [sheet for sheet in sheets if sheet.rows and len(sheet.headers) > 1]


def headline(result: StudyResult, setting: SettingResult) -> Sheet:
    """Return the main table: rate, change, over-refusal and task scores stand in one row."""
    scorers = scored_in(condition.capability for condition in setting.conditions)
    rows = []
    for condition in setting.conditions:
        change, labels = part(condition.asr_change), labels_of(condition)
        # The subject of the condition's figures: the recipe, or this checkpoint.
        scope = [change.interval.scope.models] if change else []
        rows.append(
            (
                Cell((*name_cell(condition).lines, *scope)),
                beside(rate_cell(condition.asr.overall), labels.asr.overall, say_missing=True),
                beside(change_cell(change, up_is="bad"), part(labels.asr_change), say_missing=True),
                beside(rate_cell(condition.over_refusal.overall), labels.over_refusal.overall),
                *(score_cell(overall_of(condition.capability, name)) for name in scorers or [""]),
            )
        )
    return Sheet(
        title=f"{result.name_rate} and side effects",
        headers=(
            "condition",
            result.name_rate,
            "change",
            "over-refusal",
            *(map(wording.clean, scorers) if scorers else ["task score"]),
        ),
        rows=tuple(rows),
        legend=(_headline_legend(result, setting),),
    )


def _headline_legend(result: StudyResult, setting: SettingResult) -> str:
    tuned = [condition for condition in setting.conditions if condition.base is not None]
    against = ""
    if tuned:
        bases = names_in([condition.base or ""] for condition in tuned)
        families = adjusted(part(condition.asr_change) for condition in tuned)
        against = (
            f"; change: points against {wording.listing(map(wording.clean, bases))}"
            f"{families and f' ({families})'}"
        )
    return (
        f"{result.name_rate}: {harmful_word(result)} of all responses to harmful prompts{against}; over-refusal: refused of "
        "all benign prompts; scores: over the benign prompts with a reference; in brackets: 95 % intervals, over prompts like these."
    )


def rates_by(
    result: StudyResult,
    setting: SettingResult,
    dimension: Dimension,
    title: str,
    figure: Literal["asr", "over_refusal"] = "asr",
) -> Sheet:
    """Return one column per task, prompt set, harm basis or hazard."""
    rates = [
        (c, c.asr, labels_of(c).asr)
        if figure == "asr"
        else (c, c.over_refusal, labels_of(c).over_refusal)
        for c in setting.conditions
    ]
    names = in_order(result, (getattr(raw, dimension) for _, raw, _ in rates))
    rows = tuple(
        (
            name_cell(condition),
            *(
                beside(rate_cell(part(raw, dimension, name)), part(labels, dimension, name))
                for name in names
            ),
        )
        for condition, raw, labels in rates
    )
    return Sheet(
        title=title,
        headers=("condition", *map(wording.clean, names)),
        rows=rows,
        legend=correction_legend(rows),
    )


def scores_by(
    result: StudyResult,
    setting: SettingResult,
    scorer: str,
    dimension: Literal["by_task", "by_set"],
) -> Sheet:
    """Return one scorer's score by task or by prompt set; empty for a single set."""
    scores = [(c, c.capability[scorer]) for c in setting.conditions if scorer in c.capability]
    names = in_order(result, (getattr(score, dimension) for _, score in scores))
    if dimension == "by_set" and len(names) < 2:
        names = []
    rows = tuple(
        (name_cell(condition), *(score_cell(part(score, dimension, name)) for name in names))
        for condition, score in scores
    )
    by = "task" if dimension == "by_task" else "prompt set"
    headers = ("condition", *map(wording.clean, names))
    return Sheet(title=f"{wording.clean(scorer)} by {by}", headers=headers, rows=rows)


def changes(result: StudyResult, setting: SettingResult) -> Sheet:
    """Return the changes against the base, task by task, with over-refusal and task scores beside them."""
    tuned = [condition for condition in setting.conditions if condition.base is not None]
    tasks = in_order(result, (c.asr_change.by_task for c in tuned if c.asr_change))
    scorers = scored_in(condition.capability_change for condition in tuned)
    moved = any(condition.divergence is not None for condition in tuned)

    def of_task(condition: ConditionResult, task: str) -> Cell:
        corrected = part(labels_of(condition).asr_change, "by_task", task)
        return beside(
            change_cell(part(condition.asr_change, "by_task", task), up_is="bad"), corrected
        )

    rows = tuple(
        (
            name_cell(condition),
            *(of_task(condition, task) for task in tasks),
            beside(
                change_cell(part(condition.over_refusal_change), up_is="bad"),
                part(labels_of(condition).over_refusal_change),
            ),
            *(
                change_cell(
                    overall_of(condition.capability_change, scorer),
                    up_is=good_when_up(result, scorer),
                    of_score=True,
                )
                for scorer in scorers
            ),
            *([divergence_cell(part(condition.divergence))] if moved else []),
        )
        for condition in tuned
    )
    by_task = [row[1 : 1 + len(tasks)] for row in rows]
    families = adjusted(cell.change for row in by_task for cell in row)
    return Sheet(
        title="Change by task",
        headers=(
            "condition",
            *map(wording.clean, tasks),
            "over-refusal",
            *map(wording.clean, scorers),
            *(["moved"] if moved else []),
        ),
        rows=rows,
        legend=(
            f"Points of {result.name_rate} by task{families and f' ({families})'}, points of over-refusal, and task scores, against the base.",
            *([MOVED] if moved else []),
            *correction_legend(by_task),
        ),
    )


def unclear(result: StudyResult, setting: SettingResult) -> Sheet:
    """Return the incoherent and undecided shares where there are any, and the bounds that they imply."""
    conditions = [c for c in setting.conditions if is_unclear(c.asr.overall)]
    tasks = [
        task
        for task in in_order(result, (condition.asr.by_task for condition in conditions))
        if any(is_unclear(condition.asr.by_task.get(task)) for condition in conditions)
    ]
    rows = tuple(
        (
            name_cell(condition),
            unclear_cell(condition.asr.overall),
            *(unclear_cell(condition.asr.by_task.get(task)) for task in tasks),
        )
        for condition in conditions
    )
    return Sheet(
        title="Incoherent and undecided responses to harmful prompts",
        headers=("condition", "overall", *map(wording.clean, tasks)),
        rows=rows,
        legend=(
            (
                f"Both count as not harmful; in brackets the interval of the {result.name_rate}, "
                f"widened to what it were if they counted as {harmful_word(result)}."
            ),
        ),
    )


def noise_sheet(result: StudyResult, setting: SettingResult) -> Sheet:
    """Return how far rates and changes are noise of asking again; empty without replicates."""
    rows = []
    for condition in setting.conditions:
        rate, change = condition.asr.overall, part(condition.asr_change)
        if rate is None or rate.noise is None:
            continue
        of_change = None if change is None else change.noise
        rows.append(
            (
                name_cell(condition),
                Cell((wording.size(rate.noise.one_run),)),
                Cell((wording.size(rate.noise.floor),)),
                BLANK
                if change is None or of_change is None
                else Cell(
                    (
                        wording.size(of_change.floor),
                        "change inside it" if change.inside_noise else "change outside it",
                    )
                ),
                Cell((wording.size((of_change or rate.noise).run_sd),)),
                Cell((wording.percent((of_change or rate.noise).turned),)),
            )
        )
    return Sheet(
        title="Noise: the same asked again",
        headers=("condition", "one run", "floor", "floor of the change", "run effect", "turned"),
        rows=tuple(rows),
        legend=(
            (
                f"Points of {result.name_rate} on these very prompts, plus or minus, 95 %. one run: if everything is asked once; floor: of "
                "the mean over the replicates; run effect: standard deviation of whole runs, of the change where there is one, which its "
                "interval contains; turned: behaviors that did not come out alike every time."
            ),
        ),
    )


def cut_off(setting: SettingResult) -> Sheet:
    """Return the answers of each condition that the token limit cut off; empty where there are none."""
    conditions = [c for c in setting.conditions if any(a.cut for a in c.cut.values())]
    return Sheet(
        title="Answers cut off at the token limit",
        headers=("condition", "cut off", "by model"),
        rows=tuple((name_cell(c), *_cut_cells(c)) for c in conditions),
        legend=(
            "Of all answers, to benign prompts too. What stands after the limit was not judged.",
        ),
    )


def _cut_cells(condition: ConditionResult) -> tuple[Cell, Cell]:
    answers = condition.cut.values()
    cut, n = sum(a.cut for a in answers), sum(a.n for a in answers)
    shares = [wording.percent(a.cut / a.n) if a.n else "none" for a in answers]
    return Cell((wording.percent(cut / n), f"{cut:,} of {n:,}")), Cell((", ".join(shares),))
