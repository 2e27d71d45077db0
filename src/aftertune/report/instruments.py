"""Sheets about the instruments: what guards hold back, what judges say, and how often judges differ."""

from aftertune.report import wording
from aftertune.report.beside import beside, corrected_figure, corrected_judge, correction_legend
from aftertune.report.cells import (
    Cell,
    Json,
    Sheet,
    change_cell,
    columns_of,
    disagreement_cell,
    harmful_word,
    name_cell,
    names_in,
    overall_of,
    p_values_of,
    rate_cell,
    rate_name,
)


def guard_sheet(result: Json, setting: Json, guard: str) -> Sheet:
    """Return the rates behind one guard, with its false blocks beside them."""
    rows = (
        _behind(condition, guard)
        for condition in setting["conditions"]
        if guard in condition["guards"]
    )
    return Sheet(
        title=f"Behind the guard {wording.clean(guard)}",
        headers=(
            "condition",
            rate_name(result),
            "change",
            "bypass",
            "its change",
            "false blocks",
            "over-refusal",
        ),
        rows=tuple(rows),
        legend=(
            (
                "change: against the base behind the same guard; bypass: of the responses that are "
                f"{harmful_word(result)} by judge, those that the guard passes; false blocks: benign prompts that the guard "
                "blocks; over-refusal: benign prompts refused or blocked."
            ),
            *p_values_of(
                overall_of(condition["guards"].get(guard, {}), figure)
                for condition in setting["conditions"]
                for figure in ("asr_change", "bypass_change")
            ),
            *correction_legend(
                corrected_figure(condition, figure, guard=guard)
                for condition in setting["conditions"]
                for figure in ("asr", "asr_change", "bypass", "bypass_change", "over_refusal")
            ),
        ),
    )


def _behind(condition: Json, guard: str) -> tuple[Cell, ...]:
    behind = condition["guards"][guard]
    change, bypass, difference = (
        behind.get(key) for key in ("asr_change", "bypass", "bypass_change")
    )

    def mended(cell: Cell, figure: str) -> Cell:
        return beside(cell, corrected_figure(condition, figure, guard=guard))

    return (
        name_cell(condition),
        mended(rate_cell(behind["asr"]["overall"]), "asr"),
        mended(change_cell(change and change["overall"], up_is="bad"), "asr_change"),
        mended(rate_cell(bypass and bypass["overall"]), "bypass"),
        change_cell(difference and difference["overall"], up_is="bad"),
        rate_cell(behind["false_blocks"]["overall"]),
        mended(rate_cell(behind["over_refusal"]["overall"]), "over_refusal"),
    )


def guard_by_task(result: Json, setting: Json, guard: str) -> Sheet:
    """Return the rate behind one guard by task, and how much the guard takes from the change."""
    conditions = [condition for condition in setting["conditions"] if guard in condition["guards"]]
    tasks = columns_of(
        result, [condition["guards"][guard]["asr"] for condition in conditions], "by_task"
    )
    rows = []
    for condition in conditions:
        behind = condition["guards"][guard]
        difference = behind["asr_difference"]
        rows.append(
            (
                name_cell(condition),
                *(
                    beside(
                        rate_cell(behind["asr"]["by_task"].get(task)),
                        corrected_figure(condition, "asr", "by_task", task, guard=guard),
                    )
                    for task in tasks
                ),
                beside(
                    change_cell(difference and difference["overall"], up_is="bad"),
                    corrected_figure(condition, "asr_difference", guard=guard),
                ),
            )
        )
    return Sheet(
        title=f"{rate_name(result)} by task behind the guard {wording.clean(guard)}",
        headers=("condition", *map(wording.clean, tasks), "effect on change"),
        rows=tuple(rows),
        legend=(
            "effect on change: the overall change behind the guard minus the one without it, in points.",
            *p_values_of(
                overall_of(condition["guards"][guard], "asr_difference") for condition in conditions
            ),
            *correction_legend(
                corrected_figure(condition, "asr", "by_task", task, guard=guard)
                for condition in conditions
                for task in tasks
            ),
        ),
    )


def bypass_by_task(result: Json, setting: Json, guard: str) -> Sheet:
    """Return by task what one guard lets through of the harmful responses, and the changes that it makes to changes."""
    conditions = [condition for condition in setting["conditions"] if guard in condition["guards"]]
    behind = [condition["guards"][guard] for condition in conditions]
    tasks = columns_of(result, [each.get("bypass") or {} for each in behind], "by_task")
    rows = []
    for condition, each in zip(conditions, behind, strict=True):
        bypass = each.get("bypass") or {"by_task": {}}

        def corrected(figure: str, task: str, condition: Json = condition) -> Json | None:
            return corrected_figure(condition, figure, "by_task", task, guard=guard)

        cells = [
            beside(rate_cell(bypass["by_task"].get(task)), corrected("bypass", task))
            for task in tasks
        ]
        rows.append((name_cell(condition), *cells))
        for label, key in (
            ("bypass, change", "bypass_change"),
            ("effect on change", "asr_difference"),
        ):
            if (changes := each.get(key)) is not None:
                cells = [
                    beside(
                        change_cell(changes["by_task"].get(task), up_is="bad"), corrected(key, task)
                    )
                    for task in tasks
                ]
                rows.append((Cell((wording.clean(condition["name"]), label)), *cells))
    return Sheet(
        title=f"Bypass by task of the guard {wording.clean(guard)}",
        headers=("condition", *map(wording.clean, tasks)),
        rows=tuple(rows),
        legend=(
            (
                f"Of the responses that are {harmful_word(result)} by judge, those that the guard passes; its change against the "
                f"base; effect on change: the change of the {rate_name(result)} behind the guard minus the one without it. In points."
            ),
            *p_values_of(
                change
                for each in behind
                for key in ("bypass_change", "asr_difference")
                if each.get(key)
                for change in each[key]["by_task"].values()
            ),
            *correction_legend(
                corrected_figure(condition, figure, "by_task", task, guard=guard)
                for condition in conditions
                for figure in ("bypass", "bypass_change", "asr_difference")
                for task in tasks
            ),
        ),
    )


def judge_sheet(result: Json, setting: Json) -> Sheet:
    """Return the rate according to every judge by itself, and how often judges differ."""
    pairs = names_in(condition["disagreement"] for condition in setting["conditions"])
    rows = tuple(
        (
            name_cell(condition),
            *(
                beside(
                    rate_cell(overall_of(condition["judges"], judge)),
                    corrected_judge(condition, judge),
                )
                for judge in result["judges"]
            ),
            *(
                disagreement_cell(condition["disagreement"].get(pair, {}).values())
                for pair in pairs
            ),
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
            *correction_legend(
                corrected_judge(condition, judge)
                for condition in setting["conditions"]
                for judge in result["judges"]
            ),
        ),
    )


def disagreement_sheet(result: Json, setting: Json) -> Sheet:
    """Return by task how often two judges differ on the responses that both decided."""
    pairs = names_in(condition["disagreement"] for condition in setting["conditions"])
    tasks = columns_of(
        result, [p for c in setting["conditions"] for p in c["disagreement"].values()]
    )
    rows = tuple(
        (
            Cell((wording.clean(condition["name"]), wording.clean(pair))),
            *(disagreement_cell([found] if (found := of_pair.get(task)) else []) for task in tasks),
        )
        for condition in setting["conditions"]
        for pair in pairs
        for of_pair in [condition["disagreement"].get(pair, {})]
    )
    return Sheet(
        title="Disagreement of judges by task",
        headers=("condition", *map(wording.clean, tasks)),
        rows=rows,
    )


def panel_words(result: Json) -> str:
    """Return who decides: the first judge, or the declared rule over all of them."""
    judges = [wording.clean(judge) for judge in result["judges"]]
    if len(judges) == 1 or result["panel"] == "first":
        return f"The judge {judges[0]} decides"
    rule = {
        "majority": "more than half of the judges",
        "any": "any one judge",
        "all": "all judges together",
    }
    decides = rule.get(result["panel"], wording.clean(result["panel"]))
    return f"{decides[0].upper()}{decides[1:]} decide{'s' if result['panel'] == 'any' else ''} ({', '.join(judges)})"
