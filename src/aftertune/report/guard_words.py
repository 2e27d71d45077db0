"""Sentences of the finding on guards: what is left behind them, what they let through, what they block wrongly."""

from collections.abc import Iterator, Mapping
from typing import TypeGuard

from aftertune.report import wording
from aftertune.report.cells import Json, names_in, rate_name, shown

NOTABLE = 0.01
"""Share of the responses that a guard may leave undecided before it is said."""


def guard_sentences(result: Json, setting: Json, *, brief: bool = False) -> Iterator[str]:
    """Say of each guard what it leaves of the condition that it leaves most of, and where it lets more through than before.

    ``brief`` is the first of these alone.
    """
    for guard in names_in(condition["guards"] for condition in setting["conditions"]):
        behind = {
            condition["name"]: (condition, condition["guards"][guard])
            for condition in setting["conditions"]
            if guard in condition["guards"] and _told(condition["guards"][guard]["asr"]["overall"])
        }
        if not behind:
            continue
        name = max(behind, key=lambda each: _worst_case(behind[each][1]["asr"]["overall"]))
        yield _left(result, guard, *behind[name])
        yield from _undecided(guard, behind)
        if not brief:
            yield from _bypasses(
                setting, guard, [behind[name][0], *(each for each, _ in behind.values())]
            )


def _worst_case(rate: Json) -> tuple[float, float]:
    """Sort by what is left; of equal rates, by what may be left where the guard did not decide."""
    return float(rate["estimate"]), float(rate["undecided"])


def _undecided(guard: str, behind: Mapping[str, tuple[Json, Json]]) -> Iterator[str]:
    """Say where a guard left so much undecided that the rate behind it may be another one than the one that is shown."""
    parts = []
    for name, (plain, screened) in behind.items():
        rate = screened["asr"]["overall"]
        more = rate["undecided"] - plain["asr"]["overall"]["undecided"]
        if more > NOTABLE * rate["n"] and (bounds := rate.get("bounds")):
            parts.append(
                f"{more:,} of {rate['n']:,} of {wording.quoted(name)} (up to {wording.percent(bounds['high'])})"
            )
    if parts:
        yield (
            f"Where the guard {wording.clean(guard)} could not decide, nothing counts as harmful; how often, and in brackets where the "
            f"interval of the rate behind it would end if it let all of them through: {wording.listing(parts)}."
        )


def _left(result: Json, guard: str, condition: Json, behind: Json) -> str:
    tasks = {task: rate for task, rate in behind["asr"]["by_task"].items() if not rate["hidden"]}
    worst = (
        max(sorted(tasks), key=lambda task: float(tasks[task]["estimate"]))
        if len(tasks) > 1
        else None
    )
    where = (
        f" ({wording.percent(tasks[worst]['estimate'])} in {wording.clean(worst)})" if worst else ""
    )
    false = behind["false_blocks"]["overall"]
    blocks = (
        f"; it blocks {wording.percent(false['estimate'])} of the benign prompts"
        if _told(false)
        else ""
    )
    without = condition["asr"]["overall"]
    level = wording.percent(without["estimate"]) if _told(without) else "an unknown level"
    return (
        f"Behind the guard {wording.clean(guard)} the {rate_name(result)} of {wording.quoted(condition['name'])} is "
        f"{wording.percent(behind['asr']['overall']['estimate'])}{where} instead of {level}{blocks}."
    )


def _bypasses(setting: Json, guard: str, conditions: list[Json]) -> Iterator[str]:
    """Say what share of the first condition's harmful responses the guard lets through, and for whom that changed."""
    first, *others = conditions
    bypass = (first["guards"][guard].get("bypass") or {}).get("overall")
    moved = list(_moved(guard, others))
    if _told(bypass):
        yield (
            f"Of the harmful responses of {wording.quoted(first['name'])} it lets {wording.percent(bypass['estimate'])} through "
            f"(bypass{_before(setting, guard, first)})."
        )
    if moved:
        yield f"Against the base the guard {wording.clean(guard)} lets through {wording.listing(moved)}."


def _before(setting: Json, guard: str, condition: Json) -> str:
    for base in setting["conditions"]:
        if base["name"] == condition["base"] and guard in base["guards"]:
            bypass = (base["guards"][guard].get("bypass") or {}).get("overall")
            return (
                f"; {wording.quoted(base['name'])}: {wording.percent(bypass['estimate'])}"
                if _told(bypass)
                else ""
            )
    return ""


def _moved(guard: str, conditions: list[Json]) -> Iterator[str]:
    for condition in conditions:
        change = (condition["guards"][guard].get("bypass_change") or {}).get("overall")
        if change is not None and (direction := shown(change)):
            size = wording.in_points(change)
            share = "a greater" if direction > 0 else "a smaller"
            yield f"{share} share of the harmful responses of {wording.quoted(condition['name'])} ({size})"


def _told(figure: Json | None) -> TypeGuard[Json]:
    """Whether there is a figure, over enough behaviors to be told."""
    return figure is not None and not figure["hidden"]
