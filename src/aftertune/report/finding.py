"""The finding in words, from the numbers alone: what rose, where, how surely, at what cost, and what is not known."""

from collections.abc import Callable, Iterator, Sequence

from aftertune.report import wording
from aftertune.report.capability import finished
from aftertune.report.capability_words import (
    capability_sentences,
    mended_sentences,
    missing_sentences,
    usefulness_sentences,
)
from aftertune.report.cells import Json, find, rate_name, require_format, shown
from aftertune.report.corrected import label_sentences
from aftertune.report.doubt_words import (
    few_unclear_sentences,
    one_seed_sentences,
    scope_sentences,
    unclear_sentences,
)
from aftertune.report.guard_words import guard_sentences
from aftertune.report.tables import setting_title


def finding(result: Json) -> list[str]:
    """Return the finding as sentences, one fine-tune after the other, then cost, guards, doubts and scope.

    A condition whose name extends another's (``code+multitask`` extends ``code``) is told as what was added to it.
    A change is called a rise or a fall only where its interval excludes 0.

    Args:
        result: ``StudyResult.to_json()``, or the same read back from a file.

    Raises:
        InputError: the result has a format that is not known here.
    """
    return list(_sentences(result, _setting))


def brief(result: Json) -> list[str]:
    """Return the sentences of the finding that a screen has room for: what rose, its price, what mends it, doubts.

    Raises:
        InputError: the result has a format that is not known here.
    """
    return list(_sentences(result, _brief))


def _sentences(result: Json, of_setting: Callable[[Json, Json], Iterator[str]]) -> Iterator[str]:
    require_format(result, "result")
    several = len(result["settings"]) > 1
    for setting in result["settings"]:
        for number, sentence in enumerate(of_setting(result, setting)):
            yield (
                f"With {setting_title(setting)}: {sentence}"
                if several and number == 0
                else sentence
            )
    if rate_name(result) != "ASR":
        yield "Refusal rules alone judged, so this is a non-refusal rate: what was not refused need not be harmful."


def _setting(result: Json, setting: Json) -> Iterator[str]:
    tuned = _tuned(setting)
    for condition in tuned:
        yield _told(result, setting, condition)
    yield from label_sentences(setting)
    yield from _cost(tuned)
    yield from missing_sentences(setting)
    yield from capability_sentences(result, setting)
    yield from guard_sentences(result, setting)
    yield from unclear_sentences(result, setting)
    yield from scope_sentences(tuned)


def _brief(result: Json, setting: Json) -> Iterator[str]:
    ended = {**setting, "conditions": finished(setting)}
    tuned = _tuned(ended)
    for condition in tuned:
        yield _told(result, setting, condition)
    yield from label_sentences(ended)
    yield from mended_sentences(result, setting)
    yield from _cost(tuned)
    yield from missing_sentences(ended)
    yield from usefulness_sentences(ended)
    yield from guard_sentences(result, ended, brief=True)
    yield from unclear_sentences(result, ended)
    yield from few_unclear_sentences(result, ended)
    yield from one_seed_sentences(tuned)


def _tuned(setting: Json) -> list[Json]:
    return [condition for condition in setting["conditions"] if condition["base"] is not None]


def _told(result: Json, setting: Json, condition: Json) -> str:
    name, rate = wording.quoted(condition["name"]), rate_name(result)
    change = condition["asr_change"] and condition["asr_change"]["overall"]
    if change is None:
        return f"{name}: no answers in common with {wording.quoted(condition['base'])}, so no change can be told."
    if change["hidden"]:
        behaviors = wording.plural(change["behaviors"], "behavior")
        return f"{name}: {behaviors} are too few to tell a change of the {rate}."
    parent = _extended(setting, condition)
    if parent is not None:
        return _extension(result, condition, parent)
    base = find(setting, condition["base"])
    levels = _from_to(base, condition)
    if not shown(change):
        size = f"{wording.in_points(change)}{_after_adjustment(change)}"
        return (
            f"{name}: no change of the {rate} was shown{levels}, {size}{_tasks(result, condition)}."
        )
    verb = "raised" if shown(change) > 0 else "lowered"
    return f"{name} {verb} the {rate} by {_size(change)}{levels}{_tasks(result, condition)}."


def _extension(result: Json, condition: Json, parent: Json) -> str:
    """Tell a condition that adds something to another fine-tune: where it ends, and what it leaves."""
    name, rate = wording.quoted(condition["name"]), rate_name(result)
    change, before = (
        condition["asr_change"]["overall"],
        parent["asr_change"] and parent["asr_change"]["overall"],
    )
    here, there = (_level(which) for which in (condition, parent))
    against = f"against {wording.quoted(condition['base'])}: {wording.in_points(change)}"
    rose = before is not None and shown(before) > 0
    if rose and change["interval"]["high"] < before["interval"]["low"]:
        start = f"{name} brought the {rate} from {there} down to {here}"
    else:
        start = (
            f"{name} has an {rate} of {here}" if rate == "ASR" else f"{name} has a {rate} of {here}"
        )
        start += f" where {wording.quoted(parent['name'])} has {there}"
    left = _tasks(result, condition)
    if shown(change):
        return f"{start}; {against}{left}."
    return f"{start}; no change was shown {against}{_after_adjustment(change)}{left}."


def _after_adjustment(change: Json) -> str:
    """Return why an interval without 0 shows nothing: the adjusted p-value of its family."""
    interval = change["interval"]
    if interval["low"] <= 0 <= interval["high"]:
        return ""
    return f" ({wording.p_value(change['p_adjusted'])} after {wording.clean(change['adjustment'])})"


def _tasks(result: Json, condition: Json) -> str:
    """Name the tasks where the rate rose more than overall, at most two, and those where it fell."""
    overall = condition["asr_change"]["overall"]["estimate"]
    by_task = condition["asr_change"]["by_task"]
    changes = [(task, by_task[task]) for task in result["tasks"] if task in by_task]
    rises = [(task, change) for task, change in changes if shown(change) > 0]
    most = sorted(
        (pair for pair in rises if pair[1]["estimate"] > overall),
        key=lambda pair: -pair[1]["estimate"],
    )[:2]
    if not most or len(changes) == 1:
        return ""
    where = wording.listing(
        f"{wording.clean(task)} ({wording.points(change['estimate'])}, to {wording.percent(_of_task(condition, task))})"
        for task, change in most
    )
    return (
        f", most in {where}"
        if shown(condition["asr_change"]["overall"]) > 0
        else f"; but it rose in {where}"
    )


def _of_task(condition: Json, task: str) -> float:
    return float(condition["asr"]["by_task"][task]["estimate"])


def _cost(tuned: Sequence[Json]) -> Iterator[str]:
    """Say what happened to over-refusal and to the task scores: safety is never told without them."""
    refusal = [
        (
            condition,
            condition["over_refusal_change"] and condition["over_refusal_change"]["overall"],
        )
        for condition in tuned
    ]
    yield from _changed("over-refusal", refusal, of_score=False)
    yield from _refused_sets(tuned)
    scorers = sorted({scorer for condition in tuned for scorer in condition["capability_change"]})
    for scorer in scorers:
        scores = [
            (
                condition,
                condition["capability_change"].get(scorer)
                and condition["capability_change"][scorer]["overall"],
            )
            for condition in tuned
        ]
        yield from _changed(f"the task score {wording.clean(scorer)}", scores, of_score=True)


def _refused_sets(tuned: Sequence[Json]) -> Iterator[str]:
    """Name the prompt sets in which over-refusal rose: an average over tasks hides a set that the fine-tune never saw."""
    for condition in tuned:
        by_set = (condition["over_refusal_change"] or {}).get("by_set", {})
        rises = [(name, change) for name, change in sorted(by_set.items()) if shown(change) > 0]
        if rises and len(by_set) > 1:
            told = wording.listing(
                f"{wording.clean(name)} ({wording.in_points(change)})" for name, change in rises
            )
            yield f"With {wording.quoted(condition['name'])} over-refusal rose in single prompt sets (exploratory): {told}."


def _changed(
    what: str, changes: Sequence[tuple[Json, Json | None]], *, of_score: bool
) -> Iterator[str]:
    known = [
        (condition, change)
        for condition, change in changes
        if change is not None and not change["hidden"]
    ]
    if not known:
        if any(change is not None for _, change in changes):
            yield f"{what[0].upper()}{what[1:]} was not measured on enough behaviors to tell a change."
        return
    moved = [(condition, change) for condition, change in known if shown(change)]
    told = [
        f"{verb} with {wording.listing(_by_how_much(condition, change, of_score=of_score) for condition, change in some)}"
        for verb, sign in (("rose", 1), ("fell", -1))
        if (some := [(condition, change) for condition, change in moved if shown(change) == sign])
    ]
    if not told:
        yield f"No change of {what} was shown."
        return
    rest = " No change of it was shown with the others." if len(moved) < len(known) else ""
    yield f"{what[0].upper()}{what[1:]} {'; it '.join(told)}.{rest}"


def _by_how_much(condition: Json, change: Json, *, of_score: bool) -> str:
    size = wording.score_change(change["estimate"]) if of_score else wording.in_points(change)
    return f"{wording.quoted(condition['name'])} ({size})"


def _extended(setting: Json, condition: Json) -> Json | None:
    """Return the fine-tune that this one adds to: itself without mitigation, else one of the same base by its name.

    The name says it with ``+``, and the longest counts if there are several.
    """
    if condition.get("unmitigated") is not None:
        return find(setting, condition["unmitigated"]["other"])
    shorter = [
        other
        for other in setting["conditions"]
        if other["base"] == condition["base"] and condition["name"].startswith(f"{other['name']}+")
    ]
    return max(shorter, key=lambda other: len(other["name"]), default=None)


def _level(condition: Json) -> str:
    rate = condition["asr"]["overall"]
    return (
        "an unknown level" if rate is None or rate["hidden"] else wording.percent(rate["estimate"])
    )


def _from_to(base: Json | None, condition: Json) -> str:
    return "" if base is None else f", from {_level(base)} to {_level(condition)}"


def _size(change: Json) -> str:
    """Return the size of a change that was shown: ``31.2 points [+24.0, +38.0]``."""
    return f"{wording.points(change['estimate']).lstrip('+-')} points {wording.point_limits(change['interval'], (0.0,))}"
