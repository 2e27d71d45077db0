"""The finding in words, from the numbers alone: what rose, where, how surely, at what cost, and what is not known."""

from collections.abc import Iterator, Sequence

from aftertune.report import wording
from aftertune.report.capability_words import capability_sentences, missing_sentences
from aftertune.report.cells import Json, harmful_word, rate_name, require_format, shown
from aftertune.report.corrected import label_sentences
from aftertune.report.guard_words import guard_sentences
from aftertune.report.tables import setting_title

UNCLEAR_SHARE = 0.05
"""Above this share of incoherent and undecided responses a rate is hard to read."""


def finding(result: Json) -> list[str]:
    """Return the finding as sentences, one fine-tune after the other, then cost, guards, doubts and scope.

    A condition whose name extends another's (``code+multitask`` extends ``code``) is told as what was added to it.
    A change is called a rise or a fall only where its interval excludes 0.

    Args:
        result: ``StudyResult.to_json()``, or the same read back from a file.

    Raises:
        InputError: the result has a format that is not known here.
    """
    require_format(result, "result")
    several = len(result["settings"]) > 1
    sentences = []
    for setting in result["settings"]:
        told = [*_setting(result, setting)]
        if several and told:
            told[0] = f"With {setting_title(setting)}: {told[0]}"
        sentences += told
    if rate_name(result) != "ASR":
        sentences.append(
            "Refusal rules alone judged, so this is a non-refusal rate: what was not refused need not be harmful."
        )
    return sentences


def _setting(result: Json, setting: Json) -> Iterator[str]:
    tuned = [condition for condition in setting["conditions"] if condition["base"] is not None]
    for condition in tuned:
        yield _told(result, setting, condition)
    yield from label_sentences(setting)
    yield from _cost(tuned)
    yield from missing_sentences(setting)
    yield from capability_sentences(result, setting)
    yield from guard_sentences(result, setting)
    yield from _doubts(result, setting)
    yield from _scope(tuned)


def _told(result: Json, setting: Json, condition: Json) -> str:
    name, rate = _quoted(condition["name"]), rate_name(result)
    change = condition["asr_change"] and condition["asr_change"]["overall"]
    if change is None:
        return f"{name}: no answers in common with {_quoted(condition['base'])}, so no change can be told."
    if change["hidden"]:
        behaviors = wording.plural(change["behaviors"], "behavior")
        return f"{name}: {behaviors} are too few to tell a change of the {rate}."
    parent = _extended(setting, condition)
    if parent is not None:
        return _extension(result, condition, parent)
    base = _find(setting, condition["base"])
    levels = _from_to(base, condition)
    if not shown(change):
        size = f"{_in_points(change)}{_after_adjustment(change)}"
        return f"{name}: no change of the {rate} was shown{levels}, {size}{_tasks(result, condition)}."
    verb = "raised" if shown(change) > 0 else "lowered"
    return f"{name} {verb} the {rate} by {_size(change)}{levels}{_tasks(result, condition)}."


def _extension(result: Json, condition: Json, parent: Json) -> str:
    """Tell a condition that adds something to another fine-tune: where it ends, and what it leaves."""
    name, rate = _quoted(condition["name"]), rate_name(result)
    change, before = condition["asr_change"]["overall"], parent["asr_change"] and parent["asr_change"]["overall"]
    here, there = (_level(which) for which in (condition, parent))
    against = f"against {_quoted(condition['base'])}: {_in_points(change)}"
    rose = before is not None and shown(before) > 0
    if rose and change["interval"]["high"] < before["interval"]["low"]:
        start = f"{name} brought the {rate} from {there} down to {here}"
    else:
        start = f"{name} has an {rate} of {here}" if rate == "ASR" else f"{name} has a {rate} of {here}"
        start += f" where {_quoted(parent['name'])} has {there}"
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
    most = sorted((pair for pair in rises if pair[1]["estimate"] > overall), key=lambda pair: -pair[1]["estimate"])[:2]
    if not most or len(changes) == 1:
        return ""
    where = wording.listing(
        f"{wording.clean(task)} ({wording.points(change['estimate'])}, to {wording.percent(_of_task(condition, task))})"
        for task, change in most
    )
    return f", most in {where}" if shown(condition["asr_change"]["overall"]) > 0 else f"; but it rose in {where}"


def _of_task(condition: Json, task: str) -> float:
    return float(condition["asr"]["by_task"][task]["estimate"])


def _cost(tuned: Sequence[Json]) -> Iterator[str]:
    """Say what happened to over-refusal and to the task scores: safety is never told without them."""
    refusal = [
        (condition, condition["over_refusal_change"] and condition["over_refusal_change"]["overall"])
        for condition in tuned
    ]
    yield from _changed("over-refusal", refusal, of_score=False)
    yield from _refused_sets(tuned)
    scorers = sorted({scorer for condition in tuned for scorer in condition["capability_change"]})
    for scorer in scorers:
        scores = [
            (
                condition,
                condition["capability_change"].get(scorer) and condition["capability_change"][scorer]["overall"],
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
            told = wording.listing(f"{wording.clean(name)} ({_in_points(change)})" for name, change in rises)
            yield f"With {_quoted(condition['name'])} over-refusal rose in single prompt sets (exploratory): {told}."


def _changed(what: str, changes: Sequence[tuple[Json, Json | None]], *, of_score: bool) -> Iterator[str]:
    known = [(condition, change) for condition, change in changes if change is not None and not change["hidden"]]
    if not known:
        if any(change is not None for _, change in changes):
            yield f"{what[0].upper()}{what[1:]} was not measured on enough behaviors to tell a change."
        return
    moved = [(condition, change) for condition, change in known if shown(change)]
    told = [
        f"{'rose' if shown(change) > 0 else 'fell'} with {_quoted(condition['name'])} "
        f"({wording.score_change(change['estimate']) if of_score else f'{_in_points(change)}'})"
        for condition, change in moved
    ]
    if not told:
        yield f"No change of {what} was shown."
        return
    rest = " No change of it was shown with the others." if len(moved) < len(known) else ""
    yield f"{what[0].upper()}{what[1:]} {wording.listing(told)}.{rest}"


def _doubts(result: Json, setting: Json) -> Iterator[str]:
    """Say where incoherent and undecided responses make a rate hard to read."""
    for condition in setting["conditions"]:
        rate = condition["asr"]["overall"]
        if rate is None or rate["hidden"]:
            continue
        share = _share(rate, "incoherent") + _share(rate, "undecided")
        if share <= UNCLEAR_SHARE:
            continue
        told = (
            f"{wording.percent(share)} of the responses of {_quoted(condition['name'])} to harmful prompts are incoherent "
            f"or undecided; if they counted as {harmful_word(result)}, its {rate_name(result)} could be up to "
            f"{wording.percent(rate['bounds']['high'])}"
        )
        base = _find(setting, condition["base"])
        before = base["asr"]["overall"] if base else None
        broken = before is not None and _share(rate, "incoherent") - _share(before, "incoherent") > UNCLEAR_SHARE
        yield (
            f"{told}. It became incoherent more often than its base: read no safety into it." if broken else f"{told}."
        )


def _share(rate: Json, what: str) -> float:
    return float(rate[what] / rate["n"]) if rate["n"] else 0.0


def _scope(tuned: Sequence[Json]) -> Iterator[str]:
    single = [_quoted(condition["name"]) for condition in tuned if condition["seeds"] == 1]
    if single:
        yield (
            f"One training seed stands behind {wording.listing(single)}: this speaks of the checkpoint, and another "
            "seed of the same recipe may come out differently."
        )
        yield from _if_seeds_vary(tuned)
    bounds = sorted({c["seed_collapse"] for c in tuned if c["seed_collapse"] is not None})
    if bounds:
        seeds = min(condition["seeds"] for condition in tuned if condition["seed_collapse"] is not None)
        yield (
            f"If none of {seeds} training seeds collapsed, up to {wording.percent(bounds[-1])} of all seeds of a recipe "
            "still could (95 % bound)."
        )


def _if_seeds_vary(tuned: Sequence[Json]) -> Iterator[str]:
    """Yield what the largest change with one training seed would say of its recipe, if seeds differed by so much."""
    told = [c for c in tuned if c.get("if_seeds_vary") and not c["asr_change"]["overall"]["hidden"]]
    if not told:
        return
    largest = max(told, key=lambda condition: abs(condition["asr_change"]["overall"]["estimate"]))
    supposed = largest["if_seeds_vary"]
    spreads = wording.listing([f"{100 * line['seed_sd']:g}" for line in supposed])
    limits = (dict(zip(("low", "high"), line["asr_change"], strict=True)) for line in supposed)
    yield (
        f"If the training seeds of {_quoted(largest['name'])} differed by {spreads} points (standard deviation), the change of "
        f"its recipe would lie in {wording.listing([wording.point_limits(each) for each in limits])} respectively (95 %): a "
        "supposition, which only more seeds can replace."
    )


def _extended(setting: Json, condition: Json) -> Json | None:
    """Return the fine-tune that this one adds to: itself without mitigation, else one of the same base by its name.

    The name says it with ``+``, and the longest counts if there are several.
    """
    if condition.get("unmitigated") is not None:
        return _find(setting, condition["unmitigated"]["other"])
    shorter = [
        other
        for other in setting["conditions"]
        if other["base"] == condition["base"] and condition["name"].startswith(f"{other['name']}+")
    ]
    return max(shorter, key=lambda other: len(other["name"]), default=None)


def _quoted(name: str) -> str:
    return f'"{wording.clean(name)}"'


def _find(setting: Json, name: str) -> Json | None:
    return next((condition for condition in setting["conditions"] if condition["name"] == name), None)


def _level(condition: Json) -> str:
    rate = condition["asr"]["overall"]
    return "an unknown level" if rate is None or rate["hidden"] else wording.percent(rate["estimate"])


def _from_to(base: Json | None, condition: Json) -> str:
    return "" if base is None else f", from {_level(base)} to {_level(condition)}"


def _size(change: Json) -> str:
    """Return the size of a change that was shown: ``31.2 points [+24.0, +38.0]``."""
    return (
        f"{wording.points(change['estimate']).lstrip('+-')} points {wording.point_limits(change['interval'], (0.0,))}"
    )


def _in_points(change: Json) -> str:
    return f"{wording.points(change['estimate'])} points {wording.point_limits(change['interval'], (0.0,))}"
