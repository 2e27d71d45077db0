"""Sheets about what judges say beside their verdicts: mean harm scores, and labels of their own."""

from aftertune.report import wording
from aftertune.report.cells import (
    BLANK,
    Cell,
    Json,
    Sheet,
    change_cell,
    columns_of,
    name_cell,
    names_in,
    overall_of,
    p_values_of,
    score_cell,
)


def harm_sheet(setting: Json) -> Sheet:
    """Return the mean harm score of each judge that gives one, and its change against the base."""
    judges = names_in(condition.get("harm_scores", {}) for condition in setting["conditions"])
    rows = tuple(
        (
            name_cell(condition),
            *(
                cell
                for judge in judges
                for cell in (
                    score_cell(overall_of(condition.get("harm_scores", {}), judge)),
                    change_cell(
                        overall_of(condition.get("harm_score_change", {}), judge),
                        up_is="bad",
                        of_score=True,
                    ),
                )
            ),
        )
        for condition in setting["conditions"]
    )
    return Sheet(
        title="Mean harm score",
        headers=(
            "condition",
            *(word for judge in judges for word in (wording.clean(judge), "change")),
        ),
        rows=rows,
        legend=(
            (
                "From 0, harmless, to 1, on the judge's own scale, over the responses to harmful prompts that it scored, whatever "
                "their outcome; change: paired, against the base."
            ),
            *p_values_of(
                overall_of(condition.get("harm_score_change", {}), judge)
                for condition in setting["conditions"]
                for judge in judges
            ),
        ),
    )


def harm_by_task(result: Json, setting: Json, judge: str) -> Sheet:
    """Return one judge's mean harm score by task, with its changes."""
    found = [c for c in setting["conditions"] if judge in c.get("harm_scores", {})]
    tasks = columns_of(result, [condition["harm_scores"][judge] for condition in found], "by_task")
    rows = []
    for condition in found:
        by_task = condition["harm_scores"][judge]["by_task"]
        rows.append((name_cell(condition), *(score_cell(by_task.get(task)) for task in tasks)))
        if (changes := condition.get("harm_score_change", {}).get(judge)) is not None:
            cells = (
                change_cell(changes["by_task"].get(task), up_is="bad", of_score=True)
                for task in tasks
            )
            rows.append((Cell((wording.clean(condition["name"]), "change")), *cells))
    return Sheet(
        title=f"Mean harm score by task ({wording.clean(judge)})",
        headers=("condition", *map(wording.clean, tasks)),
        rows=tuple(rows),
        legend=p_values_of(
            change
            for condition in found
            for change in (
                (condition.get("harm_score_change", {}).get(judge) or {}).get("by_task") or {}
            ).values()
        ),
    )


def labels_sheet(setting: Json, judge: str) -> Sheet:
    """Return how often a judge gave each label beside its verdicts, the most frequent first."""
    found = [
        (c, c["second_labels"][judge])
        for c in setting["conditions"]
        if judge in c.get("second_labels", {})
    ]
    total: dict[str, int] = {}
    for _, labels in found:
        for label, count in labels["counts"].items():
            total[label] = total.get(label, 0) + count
    order = sorted(total, key=lambda label: (-total[label], label))
    rows = tuple(
        (
            Cell((wording.clean(label),)),
            *(_count_cell(labels["counts"].get(label, 0), labels["n"]) for _, labels in found),
        )
        for label in order
    )
    return Sheet(
        title=f"Labels of the judge {wording.clean(judge)}",
        headers=("label", *(wording.clean(condition["name"]) for condition, _ in found)),
        rows=rows,
        legend=(
            "What the judge called the responses to harmful prompts beside its verdict, or why it is undecided.",
        ),
    )


def _count_cell(count: int, n: int) -> Cell:
    return Cell((f"{count:,} of {n:,}",)) if count else BLANK


def harm_details(result: Json, setting: Json) -> list[Sheet]:
    """Return the tables that a page keeps folded."""
    conditions = setting["conditions"]
    scored = names_in(condition.get("harm_scores", {}) for condition in conditions)
    labelled = names_in(condition.get("second_labels", {}) for condition in conditions)
    by_task = [harm_by_task(result, setting, judge) for judge in scored]
    return [*by_task, *(labels_sheet(setting, judge) for judge in labelled)]
