"""Tables of what safety was bought with: each fine-tune against what it came from, win-rates, its own task, equal capability."""

from collections.abc import Iterator, Mapping

from aftertune.measure.results import (
    Breakdown,
    Comparison,
    ConditionResult,
    Reached,
    SettingResult,
    StudyResult,
    WinRate,
)
from aftertune.report import wording
from aftertune.report.cells import (
    BLANK,
    Cell,
    Sheet,
    Tone,
    change_cell,
    finished,
    good_when_up,
    in_order,
    name_cell,
    names_in,
    overall_of,
    part,
    rate_cell,
    score_cell,
    scored_in,
    shown,
    too_few,
)

TRADES: Mapping[tuple[int, int], tuple[str, ...]] = {
    (-1, -1): ("better on both",),
    (1, 1): ("worse on both",),
    (-1, 1): ("safer,", "refuses more"),
    (1, -1): ("less safe,", "refuses less"),
    (-1, 0): ("safer,", "refusals open"),
    (1, 0): ("less safe,", "refusals open"),
    (0, 1): ("safety open,", "refuses more"),
    (0, -1): ("safety open,", "refuses less"),
    (0, 0): ("both open",),
}
"""In two lines, by the signs of the changes of the rate and of over-refusal that were shown."""
NOT_BOTH = ("not measured on both",)


def capability_sheets(result: StudyResult, setting: SettingResult) -> list[Sheet]:
    """Return all of these tables that have rows; the comparison of fine-tunes only where there are two to compare."""
    judges = names_in(condition.wins for condition in setting.conditions)
    mitigated = any(c.unmitigated or c.against for c in setting.conditions)
    sheets = [
        *([trades_sheet(result, setting)] if mitigated else []),
        *matched_sheet(result, setting),
        own_sheet(setting),
        *(wins_sheet(result, setting, judge) for judge in judges),
    ]
    return [sheet for sheet in sheets if sheet.rows]


def comparisons(setting: SettingResult) -> Iterator[tuple[ConditionResult, Comparison]]:
    """Yield every finished fine-tune with its base, with itself in another form, and with itself without its mitigation."""
    for condition in finished(setting.conditions):
        if condition.base is not None and condition.asr_change is not None:
            yield (
                condition,
                Comparison(
                    other=condition.base,
                    asr=condition.asr_change,
                    over_refusal=condition.over_refusal_change or Breakdown(overall=None),
                    capability=condition.capability_change,
                ),
            )
        if condition.against is not None:
            yield condition, condition.against
        if condition.unmitigated is not None:
            yield condition, condition.unmitigated


def trade(comparison: Comparison) -> tuple[str, ...]:
    """Return whether a comparison is better on both counts: only if both paired intervals exclude 0 on that side."""
    asr, over_refusal = comparison.asr.overall, comparison.over_refusal.overall
    if asr is None or over_refusal is None or asr.hidden or over_refusal.hidden:
        return NOT_BOTH
    return TRADES[shown(asr), shown(over_refusal)]


def trades_sheet(result: StudyResult, setting: SettingResult) -> Sheet:
    """Return every fine-tune against its base, and against itself without its mitigation."""
    pairs = list(comparisons(setting))
    scorers = scored_in(comparison.capability for _, comparison in pairs)
    rows = tuple(
        (
            Cell((wording.clean(condition.name), f"against {wording.clean(comparison.other)}")),
            change_cell(comparison.asr.overall, up_is="bad"),
            change_cell(comparison.over_refusal.overall, up_is="bad"),
            Cell(trade(comparison)),
            *(
                change_cell(
                    overall_of(comparison.capability, scorer),
                    up_is=good_when_up(result, scorer),
                    of_score=True,
                )
                for scorer in scorers
            ),
        )
        for condition, comparison in pairs
    )
    return Sheet(
        title="Each fine-tune against what it came from",
        headers=(
            "fine-tune",
            result.name_rate,
            "over-refusal",
            "so it is",
            *map(wording.clean, scorers),
        ),
        rows=rows,
        legend=(
            (
                "Differences in points, and of task scores. Better on both: both were shown to lie below 0; open: not shown to "
                "lie off 0, after adjustment. Against another fine-tune prompts are paired and training seeds are not."
            ),
        ),
    )


def wins_sheet(result: StudyResult, setting: SettingResult, judge: str) -> Sheet:
    """Return the win-rates by one judge of pairs, overall and by task."""
    compared = [(c, c.wins[judge]) for c in setting.conditions if judge in c.wins]
    tasks = in_order(result, (wins.by_task for _, wins in compared))
    tasks = tasks if len(tasks) > 1 else []
    rows = tuple(
        (
            name_cell(condition),
            _wins_cell(wins.overall),
            *(_wins_cell(wins.by_task.get(task)) for task in tasks),
        )
        for condition, wins in compared
    )
    return Sheet(
        title=f"Helpfulness against the base ({wording.clean(judge)})",
        headers=("condition", "overall", *map(wording.clean, tasks)),
        rows=rows,
        legend=(
            (
                "Share of benign prompts with an answer better than the base's, each pair shown in both orders; ties and undecided "
                "pairs count half. 50 % is even; p against that. Undecided: with the share if all of them were lost or won."
            ),
        ),
    )


def _wins_cell(wins: WinRate | None) -> Cell:
    if wins is None:
        return BLANK
    if wins.hidden:
        return too_few(wins)
    interval = wins.interval
    lines = [
        wording.percent(wins.estimate),
        wording.limits(interval),
        wording.p_value(wins.p_value),
    ]
    if wins.undecided:
        least, most = (wording.percent(bound, unit="") for bound in wins.bounds)
        lines.append(f"{wins.undecided:,} of {wins.n:,} undecided [{least}, {most}]")
    tone: Tone = "good" if interval.low > 0.5 else "bad" if interval.high < 0.5 else "plain"
    return Cell(tuple(lines), tone)


def own_sheet(setting: SettingResult) -> Sheet:
    """Return refusals and scores of the fine-tunes on their own task's held-out prompts, the base's before them."""
    by_name = {condition.name: condition for condition in setting.conditions}
    own = [(c, name) for c in finished(setting.conditions) for name in c.own_sets]
    scorers = names_in(
        [scorer for scorer, score in c.capability.items() if name in score.by_set]
        for c, name in own
    )
    rows = [
        (
            Cell((wording.clean(condition.name), f"on {wording.clean(name)}")),
            rate_cell(condition.over_refusal.by_set.get(name)),
            *(score_cell(part(condition.capability.get(s), "by_set", name)) for s in scorers),
        )
        for fine_tune, name in own
        for condition in (by_name.get(fine_tune.base or ""), fine_tune)
        if condition is not None
    ]
    return Sheet(
        title="The fine-tunes' own tasks",
        headers=("condition", "refused", *map(wording.clean, scorers)),
        rows=tuple(dict.fromkeys(rows)),
        legend=("Held-out prompts of the task that was trained.",),
    )


def matched_sheet(result: StudyResult, setting: SettingResult) -> list[Sheet]:
    """Return the fine-tunes at equal capability, if a target was declared."""
    matched = setting.matched
    if matched is None:
        return []
    where = f" on {wording.clean(matched.set)}" if matched.set else ""
    goal = f"{wording.clean(matched.scorer)} {wording.score(matched.target)}{where}"
    return [
        Sheet(
            title=f"At equal capability: {goal}",
            headers=(
                "fine-tune",
                "reached",
                result.name_rate,
                "over-refusal",
                "against",
                f"{result.name_rate} diff.",
            ),
            rows=tuple(_matched_row(reached) for reached in matched.reached),
            legend=(
                (
                    "Each training seed at its own first epoch that reaches the target, chosen by the task score and never by "
                    "safety; intervals over the seeds so chosen. A seed that never reaches it is left out."
                ),
            ),
        )
    ]


def _matched_row(reached: Reached) -> tuple[Cell, ...]:
    name = Cell((wording.clean(reached.fine_tune),))
    best = "not scored" if reached.score is None else wording.score(reached.score)
    if reached.asr is None:
        return name, Cell(("never", f"best {best}"), "bad"), BLANK, BLANK, BLANK, BLANK
    against = reached.against
    return (
        name,
        Cell((*_epochs(reached), best)),
        rate_cell(reached.asr),
        rate_cell(reached.over_refusal),
        BLANK if against is None else Cell((wording.clean(against.other),)),
        BLANK if against is None else change_cell(against.asr.overall, up_is="bad"),
    )


def _epochs(reached: Reached) -> Iterator[str]:
    """Yield at which epochs the seeds were stopped, and how many of them were if not all."""
    stopped = [seed for seed in reached.seeds if seed.model is not None]
    epochs = sorted({seed.epoch for seed in stopped if seed.epoch is not None})
    numbers = ", ".join(f"{epoch:g}" for epoch in epochs)
    yield (
        f"epoch{'s' * (len(epochs) > 1)} {numbers} of {reached.epochs}" if epochs else "at its end"
    )
    if len(stopped) < len(reached.seeds):
        yield f"{len(stopped)} of {wording.plural(len(reached.seeds), 'seed')}"
