"""What safety was bought with: each fine-tune against what it came from, win-rates, its own task, equal capability."""

from collections.abc import Iterator, Sequence

from aftertune.report import wording
from aftertune.report.cells import (
    BLANK,
    Cell,
    Json,
    Sheet,
    change_cell,
    columns_of,
    good_when_up,
    name_cell,
    names_in,
    overall_of,
    rate_cell,
    rate_name,
    score_cell,
    scored_in,
    shown,
    too_few,
)

TRADES = {
    (-1, -1): "better on both",
    (1, 1): "worse on both",
    (-1, 1): "safer, refuses more",
    (1, -1): "less safe, refuses less",
    (-1, 0): "safer, refusals open",
    (1, 0): "less safe, refusals open",
    (0, 1): "safety open, refuses more",
    (0, -1): "safety open, refuses less",
    (0, 0): "nothing shown",
}
"""By the signs of the changes of the rate and of over-refusal that were shown."""


def finished(setting: Json) -> list[Json]:
    """Return the conditions without the epochs and rounds on the way to another one."""
    return [
        c for c in setting["conditions"] if "@epoch" not in c["name"] and "@round" not in c["name"]
    ]


def comparisons(setting: Json) -> Iterator[tuple[Json, str, Json]]:
    """Yield every finished fine-tune with what it is compared to: its base, then itself without its mitigation."""
    for condition in finished(setting):
        if condition["base"] is not None and condition["asr_change"] is not None:
            against_base = {
                "asr": condition["asr_change"],
                "over_refusal": condition["over_refusal_change"],
                "capability": condition["capability_change"],
            }
            yield condition, condition["base"], against_base
        if (unmitigated := condition.get("unmitigated")) is not None:
            yield condition, unmitigated["other"], unmitigated


def trade(comparison: Json) -> str:
    """Return whether a comparison is better on both counts: only if both paired intervals exclude 0 on that side."""
    changes = [
        comparison[figure] and comparison[figure]["overall"] for figure in ("asr", "over_refusal")
    ]
    if any(change is None or change["hidden"] for change in changes):
        return "not measured on both"
    one, other = (shown(change) for change in changes)
    return TRADES[one, other]


def trades_sheet(result: Json, setting: Json) -> Sheet:
    """Return every fine-tune against its base, and against itself without its mitigation."""
    found = list(comparisons(setting))
    scorers = scored_in(comparison["capability"] for _, _, comparison in found)
    rows = tuple(
        (
            Cell((wording.clean(condition["name"]), f"against {wording.clean(other)}")),
            change_cell(_overall(comparison["asr"]), up_is="bad"),
            change_cell(_overall(comparison["over_refusal"]), up_is="bad"),
            Cell(_folded(trade(comparison))),
            *(
                change_cell(
                    overall_of(comparison["capability"], scorer),
                    up_is=good_when_up(scorer),
                    of_score=True,
                )
                for scorer in scorers
            ),
        )
        for condition, other, comparison in found
    )
    return Sheet(
        title="Each fine-tune against what it came from",
        headers=(
            "fine-tune",
            rate_name(result),
            "over-refusal",
            "so it is",
            *map(wording.clean, scorers),
        ),
        rows=rows,
        legend=(
            (
                "Differences in points, and of task scores. Better on both: both differences were shown to lie below 0; open: no "
                "difference was shown. Against another fine-tune prompts are paired and training seeds are not."
            ),
        ),
    )


def _overall(breakdown: Json | None) -> Json | None:
    return breakdown and breakdown["overall"]


def _folded(words: str) -> tuple[str, ...]:
    """Break a verdict in two, for narrow columns."""
    head, comma, tail = words.partition(", ")
    return (f"{head},", tail) if comma else (words,)


def has_unmitigated(setting: Json) -> bool:
    """Whether a mitigated fine-tune stands beside itself without mitigation."""
    return any(condition.get("unmitigated") for condition in setting["conditions"])


def wins_sheet(result: Json, setting: Json, comparer: str) -> Sheet:
    """Return the win-rates of a comparer, overall and by task."""
    found = [
        (c, c["wins"][comparer]) for c in setting["conditions"] if comparer in c.get("wins", {})
    ]
    tasks = columns_of(result, [wins for _, wins in found], "by_task")
    rows = tuple(
        (
            name_cell(condition),
            _wins_cell(wins["overall"]),
            *(_wins_cell(wins["by_task"].get(t)) for t in tasks),
        )
        for condition, wins in found
    )
    more = tasks if len(tasks) > 1 else []
    return Sheet(
        title=f"Helpfulness against the base ({wording.clean(comparer)})",
        headers=("condition", "overall", *map(wording.clean, more)),
        rows=tuple(row[: 2 + len(more)] for row in rows),
        legend=(
            (
                "Share of benign prompts at which the answer is better than the base's, each pair shown in both orders; ties and "
                "what is undecided count half. 50 % is even; p against that. und.: pairs of which an order was not decided, with what "
                "the share could be if all of them were lost or won."
            ),
        ),
    )


def _wins_cell(wins: Json | None) -> Cell:
    if wins is None:
        return BLANK
    if wins["hidden"]:
        return too_few(wins)
    low, high = wins["interval"]["low"], wins["interval"]["high"]
    lines = [
        wording.percent(wins["estimate"]),
        wording.limits(wins["interval"]),
        wording.p_value(wins["p_value"]),
    ]
    if wins["undecided"]:
        least, most = (wording.percent(bound, unit="") for bound in wins["bounds"])
        lines.append(f"{wins['undecided']:,} of {wins['n']:,} und. [{least}, {most}]")
    return Cell(tuple(lines), "good" if low > 0.5 else "bad" if high < 0.5 else "plain")


def own_sheet(setting: Json) -> Sheet:
    """Return refusals and scores of the fine-tunes on their own task's held-out prompts, the base's beside them."""
    by_name = {condition["name"]: condition for condition in setting["conditions"]}
    asked = [(c, name) for c in finished(setting) for name in c.get("own_sets", ())]
    scorers = sorted(
        {s for c, name in asked for s, b in c["capability"].items() if name in b["by_set"]}
    )
    rows = []
    for condition, name in asked:
        for each in filter(None, (by_name.get(condition["base"]), condition)):
            scores = (
                score_cell(each["capability"].get(s, {"by_set": {}})["by_set"].get(name))
                for s in scorers
            )
            label = (wording.clean(each["name"]), f"on {wording.clean(name)}")
            rows.append((Cell(label), rate_cell(each["over_refusal"]["by_set"].get(name)), *scores))
    unique = tuple(dict.fromkeys(rows))
    return Sheet(
        title="The fine-tunes' own tasks",
        headers=("condition", "refused", *map(wording.clean, scorers)),
        rows=unique,
        legend=(
            "Held-out prompts of the task that was trained; a base stands before each of its fine-tunes.",
        ),
    )


def matched_sheet(result: Json, setting: Json) -> Sheet:
    """Return the fine-tunes at equal capability."""
    matched = setting.get("matched")
    if not matched:
        return Sheet(title="", headers=(), rows=())
    rows = tuple(_matched_row(reached) for reached in matched["reached"])
    where = f" on {wording.clean(matched['set'])}" if matched["set"] else ""
    goal = f"{wording.clean(matched['scorer'])} {wording.score(matched['target'])}{where}"
    return Sheet(
        title=f"At equal capability: {goal}",
        headers=(
            "fine-tune",
            "reached",
            rate_name(result),
            "over-refusal",
            "against",
            f"{rate_name(result)} diff.",
        ),
        rows=rows,
        legend=(
            (
                "Each training seed at its own first epoch that reaches the target, chosen by the task score and never by safety; the "
                "intervals are over the seeds so chosen. A seed that never reaches it is left out, and a fine-tune of which none does is "
                "compared with nothing."
            ),
        ),
    )


def _matched_row(reached: Json) -> tuple[Cell, ...]:
    name = Cell((wording.clean(reached["fine_tune"]),))
    best = "not scored" if reached["score"] is None else wording.score(reached["score"])
    if reached["asr"] is None:
        return name, Cell(("never", f"best {best}"), "bad"), BLANK, BLANK, BLANK, BLANK
    against = reached["against"]
    beside = (
        (BLANK, BLANK)
        if against is None
        else (
            Cell((wording.clean(against["other"]),)),
            change_cell(_overall(against["asr"]), up_is="bad"),
        )
    )
    return (
        name,
        Cell((*_stops(reached), best)),
        rate_cell(reached["asr"]),
        rate_cell(reached["over_refusal"]),
        *beside,
    )


def _stops(reached: Json) -> Iterator[str]:
    """Yield at which epochs the seeds were stopped, and how many of them were if not all."""
    stopped = [seed for seed in reached["seeds"] if seed["model"] is not None]
    epochs = sorted({seed["epoch"] for seed in stopped if seed["epoch"] is not None})
    numbers = ", ".join(f"{epoch:g}" for epoch in epochs)
    yield (
        f"{'epoch' if len(epochs) == 1 else 'epochs'} {numbers} of {reached['epochs']}"
        if epochs
        else "at its end"
    )
    if len(stopped) < len(reached["seeds"]):
        yield f"{len(stopped)} of {wording.plural(len(reached['seeds']), 'seed')}"


def capability_sheets(result: Json, setting: Json) -> list[Sheet]:
    """Return all of these tables that have rows; the comparison of fine-tunes only where there is a mitigated one.

    Args:
        result: the study's result.
        setting: one of its settings.
    """
    comparers = names_in(condition.get("wins", {}) for condition in setting["conditions"])
    sheets: Sequence[Sheet] = [
        *([trades_sheet(result, setting)] if has_unmitigated(setting) else []),
        matched_sheet(result, setting),
        own_sheet(setting),
        *(wins_sheet(result, setting, comparer) for comparer in comparers),
    ]
    return [sheet for sheet in sheets if sheet.rows]
