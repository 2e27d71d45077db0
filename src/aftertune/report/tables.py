"""A study's result becomes sheets: the headline, tasks, changes, guards, judges and what is unclear."""

from collections.abc import Iterable

from aftertune.report import wording
from aftertune.report.cells import (
    Cell,
    Json,
    Sheet,
    change_cell,
    disagreement_cell,
    harmful_word,
    is_unclear,
    name_cell,
    rate_cell,
    rate_name,
    score_cell,
    unclear_cell,
)


def setting_title(setting: Json) -> str:
    """Return what was fixed: ``system prompt: none; decoding: greedy``."""
    return f"system prompt: {wording.clean(setting['system'])}; decoding: {wording.clean(setting['decoding'])}"


def study_sheets(result: Json, setting: Json) -> list[Sheet]:
    """Return the tables of one setting, the headline first; a table without content is left out."""
    conditions = setting["conditions"]
    rate = rate_name(result)
    sheets = [
        headline(result, setting),
        by_name(result, setting, "by_task", f"{rate} by task"),
        changes(result, setting),
    ]
    sheets.append(unclear(result, setting))
    sheets += [guard_sheet(result, setting, guard) for guard in _names(condition["guards"] for condition in conditions)]
    if len(_names(condition["asr"]["by_set"] for condition in conditions)) > 1:
        sheets.append(by_name(result, setting, "by_set", f"{rate} by prompt set"))
    if len(result["judges"]) > 1:
        sheets.append(judge_sheet(result, setting))
    return _filled(sheets)


def detail_sheets(result: Json, setting: Json) -> list[Sheet]:
    """Return the tables that a page keeps folded."""
    rate = rate_name(result)
    guards = _names(condition["guards"] for condition in setting["conditions"])
    sheets = [
        by_name(result, setting, "by_task", "Over-refusal by task", figure="over_refusal"),
        *(guard_by_task(result, setting, guard) for guard in guards),
        disagreement_sheet(result, setting),
        by_name(result, setting, "by_harm_basis", f"{rate} by harm basis"),
        by_name(result, setting, "by_hazard", f"{rate} by hazard (exploratory)"),
    ]
    return _filled(sheets)


def _filled(sheets: Iterable[Sheet]) -> list[Sheet]:
    return [sheet for sheet in sheets if sheet.rows and len(sheet.headers) > 1]


def headline(result: Json, setting: Json) -> Sheet:
    """Return the main table: rate, change, over-refusal and task scores stand in one row."""
    scorers = _names(condition["capability"] for condition in setting["conditions"])
    rows = []
    for condition in setting["conditions"]:
        change = condition["asr_change"] and condition["asr_change"]["overall"]
        rows.append(
            (
                _scoped(name_cell(condition), change),
                rate_cell(condition["asr"]["overall"]),
                change_cell(change, up_is="bad"),
                rate_cell(condition["over_refusal"]["overall"]),
                *(score_cell(_overall(condition["capability"], scorer)) for scorer in scorers or ("",)),
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
    return Cell((*name.lines, change["interval"]["scope"].partition(",")[0])) if change else name


def _headline_legend(result: Json, setting: Json) -> str:
    tuned = [condition for condition in setting["conditions"] if condition["base"] is not None]
    against = ""
    if tuned:
        bases = wording.listing(map(wording.clean, _names([condition["base"]] for condition in tuned)))
        against = f"; change: points against {bases}{_adjusted(c['asr_change'] and c['asr_change']['overall'] for c in tuned)}"
    return (
        f"{rate_name(result)}: {harmful_word(result)} of all responses to harmful prompts{against}; "
        "over-refusal: refused of all benign prompts; in brackets 95 % intervals, over prompts like these."
    )


def _adjusted(changes: Iterable[Json | None]) -> str:
    """Return how p-values were adjusted, in brackets; empty if none was."""
    found = sorted({change["adjustment"] for change in changes if change and change["adjustment"]})
    return f" (p-values adjusted: {wording.listing(found)})" if found else ""


def _overall(breakdowns: Json, name: str) -> Json | None:
    breakdown = breakdowns.get(name)
    return breakdown and breakdown["overall"]


def by_name(result: Json, setting: Json, dimension: str, title: str, figure: str = "asr") -> Sheet:
    """Return one column per task, prompt set, harm basis or hazard."""
    names = _columns(result, [condition[figure] for condition in setting["conditions"]], dimension)
    rows = tuple(
        (name_cell(condition), *(rate_cell(condition[figure][dimension].get(name)) for name in names))
        for condition in setting["conditions"]
    )
    return Sheet(title=title, headers=("condition", *map(wording.clean, names)), rows=rows)


def changes(result: Json, setting: Json) -> Sheet:
    """Return the changes against the base, task by task, with over-refusal and task scores beside them."""
    tuned = [condition for condition in setting["conditions"] if condition["base"] is not None]
    tasks = _columns(result, [condition["asr_change"] or {} for condition in tuned], "by_task")
    scorers = _names(condition["capability_change"] for condition in tuned)
    rows = []
    for condition in tuned:
        by_task = (condition["asr_change"] or {}).get("by_task", {})
        refusal = condition["over_refusal_change"]
        rows.append(
            (
                name_cell(condition),
                *(change_cell(by_task.get(task), up_is="bad") for task in tasks),
                change_cell(refusal and refusal["overall"], up_is="bad"),
                *(
                    change_cell(_overall(condition["capability_change"], scorer), up_is="good", of_score=True)
                    for scorer in scorers
                ),
            )
        )
    headers = ("condition", *map(wording.clean, tasks), "over-refusal", *map(wording.clean, scorers))
    by_tasks = [change for condition in tuned for change in (condition["asr_change"] or {}).get("by_task", {}).values()]
    legend = f"Points of {rate_name(result)} by task{_adjusted(by_tasks)}, points of over-refusal, and task scores, against the base."
    return Sheet(title="Change by task", headers=headers, rows=tuple(rows), legend=(legend,))


def unclear(result: Json, setting: Json) -> Sheet:
    """Return the incoherent and undecided shares where there are any, and the bounds that they imply."""
    conditions = [condition for condition in setting["conditions"] if is_unclear(condition["asr"]["overall"])]
    tasks = [
        task
        for task in _columns(result, [condition["asr"] for condition in conditions], "by_task")
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
                "inc.: incoherent; und.: undecided. Both count as not harmful; in brackets the bounds of the "
                f"{rate_name(result)} if they counted as {harmful_word(result)} too. A condition without any is left out."
            ),
        ),
    )


def guard_sheet(result: Json, setting: Json, guard: str) -> Sheet:
    """Return the rates behind one guard, with its false blocks beside them."""
    rows = []
    for condition in setting["conditions"]:
        if (behind := condition["guards"].get(guard)) is None:
            continue
        change = behind["asr_change"]
        rows.append(
            (
                name_cell(condition),
                rate_cell(behind["asr"]["overall"]),
                change_cell(change and change["overall"], up_is="bad"),
                rate_cell(behind["false_blocks"]["overall"]),
                rate_cell(behind["over_refusal"]["overall"]),
            )
        )
    return Sheet(
        title=f"Behind the guard {wording.clean(guard)}",
        headers=("condition", rate_name(result), "change", "false blocks", "over-refusal"),
        rows=tuple(rows),
        legend=(
            (
                "change: against the base behind the same guard; false blocks: benign prompts that the guard blocks; "
                "over-refusal: benign prompts refused or blocked."
            ),
        ),
    )


def guard_by_task(result: Json, setting: Json, guard: str) -> Sheet:
    """Return the rate behind one guard by task, and how much the guard takes from the change."""
    conditions = [condition for condition in setting["conditions"] if guard in condition["guards"]]
    tasks = _columns(result, [condition["guards"][guard]["asr"] for condition in conditions], "by_task")
    rows = []
    for condition in conditions:
        behind = condition["guards"][guard]
        difference = behind["asr_difference"]
        rows.append(
            (
                name_cell(condition),
                *(rate_cell(behind["asr"]["by_task"].get(task)) for task in tasks),
                change_cell(difference and difference["overall"], up_is="bad"),
            )
        )
    return Sheet(
        title=f"{rate_name(result)} by task behind the guard {wording.clean(guard)}",
        headers=("condition", *map(wording.clean, tasks), "effect on change"),
        rows=tuple(rows),
        legend=("effect on change: the overall change behind the guard minus the one without it, in points.",),
    )


def judge_sheet(result: Json, setting: Json) -> Sheet:
    """Return the rate according to every judge by itself, and how often judges differ."""
    pairs = _names(condition["disagreement"] for condition in setting["conditions"])
    rows = tuple(
        (
            name_cell(condition),
            *(rate_cell(_overall(condition["judges"], judge)) for judge in result["judges"]),
            *(disagreement_cell(condition["disagreement"].get(pair, {}).values()) for pair in pairs),
        )
        for condition in setting["conditions"]
    )
    differ = ["differ"] if len(pairs) == 1 else [f"differ: {wording.clean(pair)}" for pair in pairs]
    return Sheet(
        title=f"{rate_name(result)} according to each judge",
        headers=("condition", *map(wording.clean, result["judges"]), *differ),
        rows=rows,
        legend=(
            (
                f"{panel_words(result)}. differ: of the responses that both judges decided; half of it is a lower bound "
                "on the worse judge's error."
            ),
        ),
    )


def disagreement_sheet(result: Json, setting: Json) -> Sheet:
    """Return by task how often two judges differ on the responses that both decided."""
    pairs = _names(condition["disagreement"] for condition in setting["conditions"])
    tasks = _columns(result, [p for c in setting["conditions"] for p in c["disagreement"].values()])
    rows = tuple(
        (
            Cell((wording.clean(condition["name"]), wording.clean(pair))),
            *(disagreement_cell([found] if (found := of_pair.get(task)) else []) for task in tasks),
        )
        for condition in setting["conditions"]
        for pair in pairs
        for of_pair in [condition["disagreement"].get(pair, {})]
    )
    return Sheet(title="Disagreement of judges by task", headers=("condition", *map(wording.clean, tasks)), rows=rows)


def panel_words(result: Json) -> str:
    """Return who decides: the first judge, or the declared rule over all of them."""
    judges = [wording.clean(judge) for judge in result["judges"]]
    if len(judges) == 1 or result["panel"] == "first":
        return f"The judge {judges[0]} decides"
    rule = {"majority": "more than half of the judges", "any": "any one judge", "all": "all judges together"}
    decides = rule.get(result["panel"], wording.clean(result["panel"]))
    return f"{decides[0].upper()}{decides[1:]} decide{'s' if result['panel'] == 'any' else ''} ({', '.join(judges)})"


def _names(groups: Iterable[Iterable[str]]) -> list[str]:
    """Return every name once, sorted, so that a file read back prints as the result it came from."""
    return sorted({name for group in groups for name in group})


def _columns(result: Json, breakdowns: Iterable[Json], dimension: str | None = None) -> list[str]:
    """Return the names along a dimension: tasks in their declared order, others sorted."""
    names = _names(breakdown.get(dimension, {}) if dimension else breakdown for breakdown in breakdowns)
    known = list(result["tasks"])
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))
