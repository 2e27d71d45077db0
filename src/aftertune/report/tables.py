"""A study's result becomes sheets: the headline, tasks, changes, guards, judges and what is unclear."""

from collections.abc import Iterable

from aftertune.measure.results import Scope
from aftertune.report import wording
from aftertune.report.beside import beside, corrected_figure, correction_legend
from aftertune.report.capability import capability_sheets, finished
from aftertune.report.cells import (
    Cell,
    Json,
    Sheet,
    adjusted,
    change_cell,
    columns_of,
    good_when_up,
    harmful_word,
    is_unclear,
    name_cell,
    names_in,
    overall_of,
    rate_cell,
    rate_name,
    score_cell,
    scored_in,
    unclear_cell,
)
from aftertune.report.corrected import (
    agreement_by_task,
    agreement_sheet,
    errors_sheet,
    has_labels,
    labels_sheet,
)
from aftertune.report.harm import harm_details, harm_sheet
from aftertune.report.instruments import (
    bypass_by_task,
    disagreement_sheet,
    guard_by_task,
    guard_sheet,
    judge_sheet,
)


def setting_title(setting: Json) -> str:
    """Return what was fixed: ``system prompt: none; decoding: greedy``."""
    return f"system prompt: {wording.clean(setting['system'])}; decoding: {wording.clean(setting['decoding'])}"


def screen_sheets(result: Json, setting: Json, *, tasks: bool = True) -> list[Sheet]:
    """Return the tables that a terminal shows: rates with what they cost, tasks, what people say; the page has the others.

    Args:
        result: the study's result.
        setting: one of its settings; epochs and rounds on the way to a fine-tune are left to the page.
        tasks: with the rates by task (a gate's own table has the tasks already).
    """
    ended = {**setting, "conditions": finished(setting)}
    by_task = [by_name(result, ended, "by_task", f"{rate_name(result)} by task")] if tasks else []
    people = [labels_sheet(result, ended)] if has_labels(ended) else []
    return _filled([headline(result, ended), *by_task, *people])


def study_sheets(result: Json, setting: Json) -> list[Sheet]:
    """Return the tables of one setting, the headline first; a table without content is left out."""
    conditions = setting["conditions"]
    rate = rate_name(result)
    sheets = [
        headline(result, setting),
        by_name(result, setting, "by_task", f"{rate} by task"),
        changes(result, setting),
    ]
    sheets += capability_sheets(result, setting)
    sheets.append(unclear(result, setting))
    sheets += [
        guard_sheet(result, setting, guard)
        for guard in names_in(condition["guards"] for condition in conditions)
    ]
    if len(names_in(condition["asr"]["by_set"] for condition in conditions)) > 1:
        sheets.append(by_name(result, setting, "by_set", f"{rate} by prompt set"))
    if len(names_in(condition["over_refusal"]["by_set"] for condition in conditions)) > 1:
        sheets.append(
            by_name(result, setting, "by_set", "Over-refusal by prompt set", figure="over_refusal")
        )
    if len(result["judges"]) > 1:
        sheets.append(judge_sheet(result, setting))
    sheets += [harm_sheet(setting), *_instruments(result, setting)]
    sheets += [
        scores_by_set(setting, scorer)
        for scorer in names_in(each["capability"] for each in conditions)
    ]
    return _filled(sheets)


def detail_sheets(result: Json, setting: Json) -> list[Sheet]:
    """Return the tables that a page keeps folded."""
    rate = rate_name(result)
    guards = names_in(condition["guards"] for condition in setting["conditions"])
    sheets = [
        by_name(result, setting, "by_task", "Over-refusal by task", figure="over_refusal"),
        *(
            scores_by_task(result, setting, scorer)
            for scorer in names_in(c["capability"] for c in setting["conditions"])
        ),
        *(guard_by_task(result, setting, guard) for guard in guards),
        *(bypass_by_task(result, setting, guard) for guard in guards),
        *harm_details(result, setting),
        disagreement_sheet(result, setting),
        agreement_by_task(setting),
        by_name(result, setting, "by_harm_basis", f"{rate} by harm basis"),
        by_name(result, setting, "by_hazard", f"{rate} by hazard (exploratory)"),
    ]
    return _filled(sheets)


def _instruments(result: Json, setting: Json) -> list[Sheet]:
    """Return how far the judges agree with each other and with people; nothing for one judge without labels."""
    people = [labels_sheet(result, setting), errors_sheet(setting)] if has_labels(setting) else []
    return [agreement_sheet(setting), *people]


def _filled(sheets: Iterable[Sheet]) -> list[Sheet]:
    return [sheet for sheet in sheets if sheet.rows and len(sheet.headers) > 1]


def headline(result: Json, setting: Json) -> Sheet:
    """Return the main table: rate, change, over-refusal and task scores stand in one row."""
    scorers = scored_in(condition["capability"] for condition in setting["conditions"])
    rows = []
    for condition in setting["conditions"]:
        change = condition["asr_change"] and condition["asr_change"]["overall"]
        rows.append(
            (
                _scoped(name_cell(condition), change),
                beside(
                    rate_cell(condition["asr"]["overall"]),
                    corrected_figure(condition, "asr"),
                    said=True,
                ),
                beside(
                    change_cell(change, up_is="bad"),
                    corrected_figure(condition, "asr_change"),
                    said=True,
                ),
                beside(
                    rate_cell(condition["over_refusal"]["overall"]),
                    corrected_figure(condition, "over_refusal"),
                ),
                *(
                    score_cell(overall_of(condition["capability"], scorer))
                    for scorer in scorers or ("",)
                ),
            )
        )
    names = [wording.clean(scorer) for scorer in scorers]
    headers = ("condition", rate_name(result), "change", "over-refusal", *(names or ["task score"]))
    return Sheet(
        title=f"{rate_name(result)} and what it cost",
        headers=headers,
        rows=tuple(rows),
        legend=(_headline_legend(result, setting),),
    )


def _scoped(name: Cell, change: Json | None) -> Cell:
    """Add what the condition's figures may be said about: the recipe, or this checkpoint."""
    return Cell((*name.lines, Scope(change["interval"]["scope"]).models)) if change else name


def _headline_legend(result: Json, setting: Json) -> str:
    tuned = [condition for condition in setting["conditions"] if condition["base"] is not None]
    against = ""
    if tuned:
        bases = wording.listing(
            map(wording.clean, names_in([condition["base"]] for condition in tuned))
        )
        against = f"; change: points against {bases}{adjusted(c['asr_change'] and c['asr_change']['overall'] for c in tuned)}"
    scorers = scored_in(condition["capability"] for condition in setting["conditions"])
    scored = (
        f"; {wording.listing(map(wording.clean, scorers))}: {_averaged(setting)}over all benign prompts with a reference"
        if scorers
        else ""
    )
    return (
        f"{rate_name(result)}: {harmful_word(result)} of all responses to harmful prompts{against}; "
        f"over-refusal: refused of all benign prompts{scored}; in brackets: 95 % intervals, over prompts like these."
    )


def _averaged(setting: Json) -> str:
    """Return ``mean ``, but where a corpus metric (BLEU, macro-F1), which is no mean, stands among the scores."""
    overall = (
        score["overall"]
        for condition in setting["conditions"]
        for score in condition["capability"].values()
    )
    return (
        ""
        if any(score and "bootstrap" in score["interval"]["method"] for score in overall)
        else "mean "
    )


def by_name(result: Json, setting: Json, dimension: str, title: str, figure: str = "asr") -> Sheet:
    """Return one column per task, prompt set, harm basis or hazard."""
    names = columns_of(
        result, [condition[figure] for condition in setting["conditions"]], dimension
    )
    corrected = {
        (number, name): corrected_figure(condition, figure, dimension, name)
        for number, condition in enumerate(setting["conditions"])
        for name in names
    }
    rows = tuple(
        (
            name_cell(condition),
            *(
                beside(rate_cell(condition[figure][dimension].get(name)), corrected[number, name])
                for name in names
            ),
        )
        for number, condition in enumerate(setting["conditions"])
    )
    headers = ("condition", *map(wording.clean, names))
    return Sheet(
        title=title, headers=headers, rows=rows, legend=correction_legend(corrected.values())
    )


def scores_by_set(setting: Json, scorer: str) -> Sheet:
    """Return one scorer's mean score by prompt set: a fine-tune's own task apart from what it was not trained for."""
    found = [
        (c, c["capability"][scorer]["by_set"])
        for c in setting["conditions"]
        if scorer in c["capability"]
    ]
    sets = names_in(by_set for _, by_set in found)
    rows = tuple(
        (name_cell(condition), *(score_cell(by_set.get(name)) for name in sets))
        for condition, by_set in found
    )
    headers = ("condition", *map(wording.clean, sets)) if len(sets) > 1 else ("condition",)
    return Sheet(title=f"{wording.clean(scorer)} by prompt set", headers=headers, rows=rows)


def scores_by_task(result: Json, setting: Json, scorer: str) -> Sheet:
    """Return one scorer's mean score by task."""
    found = [
        (c, c["capability"][scorer]["by_task"])
        for c in setting["conditions"]
        if scorer in c["capability"]
    ]
    tasks = columns_of(result, [by_task for _, by_task in found])
    rows = tuple(
        (name_cell(condition), *(score_cell(by_task.get(task)) for task in tasks))
        for condition, by_task in found
    )
    return Sheet(
        title=f"{wording.clean(scorer)} by task",
        headers=("condition", *map(wording.clean, tasks)),
        rows=rows,
    )


def changes(result: Json, setting: Json) -> Sheet:
    """Return the changes against the base, task by task, with over-refusal and task scores beside them."""
    tuned = [condition for condition in setting["conditions"] if condition["base"] is not None]
    tasks = columns_of(result, [condition["asr_change"] or {} for condition in tuned], "by_task")
    scorers = scored_in(condition["capability_change"] for condition in tuned)
    rows = []
    for condition in tuned:
        by_task = (condition["asr_change"] or {}).get("by_task", {})
        refusal = condition["over_refusal_change"]
        rows.append(
            (
                name_cell(condition),
                *(
                    beside(
                        change_cell(by_task.get(task), up_is="bad"),
                        corrected_figure(condition, "asr_change", "by_task", task),
                    )
                    for task in tasks
                ),
                beside(
                    change_cell(refusal and refusal["overall"], up_is="bad"),
                    corrected_figure(condition, "over_refusal_change"),
                ),
                *(
                    change_cell(
                        overall_of(condition["capability_change"], scorer),
                        up_is=good_when_up(scorer),
                        of_score=True,
                    )
                    for scorer in scorers
                ),
            )
        )
    headers = (
        "condition",
        *map(wording.clean, tasks),
        "over-refusal",
        *map(wording.clean, scorers),
    )
    by_tasks = [
        change
        for condition in tuned
        for change in (condition["asr_change"] or {}).get("by_task", {}).values()
    ]
    legend = f"Points of {rate_name(result)} by task{adjusted(by_tasks)}, points of over-refusal, and task scores, against the base."
    corrected = [
        corrected_figure(condition, "asr_change", "by_task", task)
        for condition in tuned
        for task in tasks
    ]
    return Sheet(
        title="Change by task",
        headers=headers,
        rows=tuple(rows),
        legend=(legend, *correction_legend(corrected)),
    )


def unclear(result: Json, setting: Json) -> Sheet:
    """Return the incoherent and undecided shares where there are any, and the bounds that they imply."""
    conditions = [
        condition for condition in setting["conditions"] if is_unclear(condition["asr"]["overall"])
    ]
    tasks = [
        task
        for task in columns_of(result, [condition["asr"] for condition in conditions], "by_task")
        if any(is_unclear(condition["asr"]["by_task"].get(task)) for condition in conditions)
    ]
    rows = tuple(
        (
            name_cell(condition),
            unclear_cell(condition["asr"]["overall"]),
            *(unclear_cell(condition["asr"]["by_task"].get(task)) for task in tasks),
        )
        for condition in conditions
    )
    return Sheet(
        title="Incoherent and undecided responses to harmful prompts",
        headers=("condition", "overall", *map(wording.clean, tasks)),
        rows=rows,
        legend=(
            (
                "inc.: incoherent; und.: undecided. Both count as not harmful; in brackets the 95 % interval of the "
                f"{rate_name(result)}, widened to what it were if they counted as {harmful_word(result)} too. A condition without any is left out."
            ),
        ),
    )
