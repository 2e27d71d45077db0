"""Sentences of the finding on capability: safety is never told without what it cost, or that this is not known."""

from collections.abc import Iterator

from aftertune.report import wording
from aftertune.report.capability import TRADES, finished, trade
from aftertune.report.cells import Json, names_in, rate_name

EXPLAINED = {
    TRADES[-1, -1]: "it is better on both counts",
    TRADES[1, 1]: "it is worse on both counts",
    TRADES[-1, 1]: "its safety is paid for with refusals",
    TRADES[1, -1]: "it refuses less, and harms more",
}


def missing_sentences(setting: Json) -> Iterator[str]:
    """Say what was not measured of what safety costs."""
    conditions = setting["conditions"]
    if all(condition["over_refusal"]["overall"] is None for condition in conditions):
        yield "No benign prompts were asked, so over-refusal is not known: a model that refuses everything would look safe here."
    scored = [
        score
        for c in conditions
        for score in c["capability"].values()
        if score["overall"] is not None
    ]
    if not scored:
        yield "Task scores were not measured, so nothing is known about what the models still can do."


def capability_sentences(result: Json, setting: Json) -> Iterator[str]:
    """Say how mitigated fine-tunes compare with unmitigated ones, at equal capability too, and win-rates and own tasks."""
    for condition in finished(setting):
        comparison = condition.get("unmitigated")
        if comparison is not None:
            yield from _mitigated(result, condition["name"], comparison)
            if (share := _undone(condition)) is not None:
                yield (
                    f"{wording.quoted(condition['name'])} undoes {share} of the rise of the {rate_name(result)} that "
                    f"{wording.quoted(comparison['other'])} brought."
                )
    yield from _matched(result, setting)
    yield from usefulness_sentences(setting)


def usefulness_sentences(setting: Json) -> Iterator[str]:
    """Say whether fine-tunes refuse what they were tuned for, and whose answers are more helpful."""
    yield from _own(setting)
    for comparer in names_in(condition.get("wins", {}) for condition in setting["conditions"]):
        yield from _wins(setting, comparer)


def mended_sentences(result: Json, setting: Json) -> Iterator[str]:
    """Say which share of a rise each mitigation undoes, and how fine-tunes compare at equal capability."""
    undone: dict[str, list[str]] = {}
    for condition in finished(setting):
        if (share := _undone(condition)) is not None:
            undone.setdefault(condition["unmitigated"]["other"], []).append(
                f"{wording.quoted(condition['name'])} {share}"
            )
    for other, told in undone.items():
        yield f"Of the rise of the {rate_name(result)} that {wording.quoted(other)} brought is undone: by {wording.listing(told)}."
    yield from _matched(result, setting)


def _mitigated(result: Json, name: str, comparison: Json) -> Iterator[str]:
    changes = [
        comparison[figure] and comparison[figure]["overall"] for figure in ("asr", "over_refusal")
    ]
    told = [
        f"{what} {wording.in_points(change)}"
        for what, change in zip((rate_name(result), "over-refusal"), changes, strict=True)
        if change is not None and not change["hidden"]
    ]
    if told:
        verdict = EXPLAINED.get(trade(comparison))
        end = f"; {verdict}" if verdict else ""
        yield f"Mitigated against not, {wording.quoted(name)} against {wording.quoted(comparison['other'])}: {', '.join(told)}{end}."


def _undone(condition: Json) -> str | None:
    """Return the share of the rise that is undone; above 100 % the rate lies below the base's."""
    found, change = (
        condition.get("undone"),
        condition["unmitigated"] and condition["unmitigated"]["asr"]["overall"],
    )
    if not found or change is None or change["hidden"]:
        return None
    low, high = (
        "open" if end is None else f"{100 * end:.0f}" for end in (found["low"], found["high"])
    )
    return f"{100 * found['estimate']:.0f} % [{low}, {high}]"


def _matched(result: Json, setting: Json) -> Iterator[str]:
    matched = setting.get("matched")
    if not matched:
        return
    where = f" on {wording.clean(matched['set'])}" if matched["set"] else ""
    goal = f"{wording.clean(matched['scorer'])} of {wording.score(matched['target'])}{where}"
    never = [reached for reached in matched["reached"] if reached["asr"] is None]
    if never:
        names = wording.listing(
            f"{wording.quoted(each['fine_tune'])} ({'not scored' if each['score'] is None else 'best ' + wording.score(each['score'])})"
            for each in never
        )
        yield f"Never reached the {goal}, so nothing is said of their safety at equal capability: {names}."
    for reached in matched["reached"]:
        there = sum(seed["model"] is not None for seed in reached["seeds"])
        if 0 < there < len(reached["seeds"]):
            yield (
                f"Of {wording.quoted(reached['fine_tune'])} {there} of {len(reached['seeds'])} training seeds reach the {goal}: its figures at equal "
                "capability are about trainings that do."
            )
        change = reached["against"] and reached["against"]["asr"]["overall"]
        if change is not None and not change["hidden"]:
            yield (
                f"At equal capability ({goal}), {wording.quoted(reached['fine_tune'])} against "
                f"{wording.quoted(reached['against']['other'])}: {rate_name(result)} {wording.in_points(change)}."
            )


def _own(setting: Json) -> Iterator[str]:
    """Say how often a fine-tune refuses prompts of the very task that it was tuned for."""
    for condition in finished(setting):
        for name in condition.get("own_sets", ()):
            rate = condition["over_refusal"]["by_set"].get(name)
            if rate is not None and not rate["hidden"]:
                yield (
                    f"Of its own task ({wording.clean(name)}) {wording.quoted(condition['name'])} refuses "
                    f"{wording.percent(rate['estimate'])} {wording.limits(rate['interval'])}."
                )


def _wins(setting: Json, comparer: str) -> Iterator[str]:
    told: dict[str, list[str]] = {}
    for condition in setting["conditions"]:
        wins = condition.get("wins", {}).get(comparer)
        rate = wins and wins["overall"]
        if not rate or rate["hidden"]:
            continue
        interval = rate["interval"]
        word = (
            "more"
            if interval["low"] > 0.5
            else "less"
            if interval["high"] < 0.5
            else "neither more nor less"
        )
        figure = f"{wording.quoted(condition['name'])} ({wording.percent(rate['estimate'])} {wording.limits(interval)})"
        told.setdefault(word, []).append(figure)
    who = wording.clean(comparer)
    for word, figures in told.items():
        yield f"Compared with the base's answers to benign prompts ({who}), {word} helpful: {wording.listing(figures)}."
    doubted = [
        (c["name"], c["wins"][comparer]["overall"])
        for c in setting["conditions"]
        if comparer in c.get("wins", {})
    ]
    for name, rate in doubted:
        if rate and not rate["hidden"] and rate["undecided"] > 0.1 * rate["n"]:
            low, high = (wording.percent(bound) for bound in rate["bounds"])
            yield f"{who} did not decide {rate['undecided']:,} of {rate['n']:,} pairs of {wording.quoted(name)}: its share lies between {low} and {high}."
