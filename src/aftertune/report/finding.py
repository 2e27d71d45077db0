"""The finding in words, in at most five lines; the tables hold everything else.

One line each for the changes, what they cost, what mitigations mend, what guards leave, and the doubts. A change is called a
rise or a fall only where it was shown (`cells.shown`). A line names the three largest and counts the others.
"""

from collections.abc import Iterator, Sequence

from aftertune.measure.results import (
    Change,
    ConditionResult,
    GuardResult,
    Interval,
    Rate,
    Reached,
    SettingResult,
    StudyResult,
    Undone,
)
from aftertune.report import wording
from aftertune.report.cells import (
    finished,
    harmful_word,
    names_in,
    overall_of,
    part,
    scored_in,
    shown,
    shown_alone,
)
from aftertune.report.corrected import labels_of
from aftertune.report.gate import judge_errors
from aftertune.report.tables import setting_title

UNCLEAR_SHARE = 0.05
"""Above this share of incoherent and undecided responses a rate is hard to read."""
NOTABLE = 0.01
"""Share of the responses that a guard may leave undecided before it is said."""
WIDEST_SHARE = 2.0
"""Width of the interval of an undone share above which the difference in points is given in its place."""


def finding(result: StudyResult) -> tuple[str, ...]:
    """Return the finding about the first setting, as one to five lines; epochs and rounds on the way are left out."""
    if not result.settings:
        return ()
    setting = result.settings[0]
    conditions = finished(setting.conditions)
    tuned = [condition for condition in conditions if condition.base is not None]
    lines = [_changes(result, setting, tuned), _cost(conditions, tuned)]
    if len(result.settings) > 1:
        lines[0] = f"With {setting_title(setting)}: {lines[0]}"
    return (*filter(None, lines), *beside_the_figures(result))


def beside_the_figures(result: StudyResult) -> tuple[str, ...]:
    """Return the lines of the finding that a table of rates does not hold: mitigations, guards, doubts."""
    if not result.settings:
        return ()
    setting = result.settings[0]
    conditions = finished(setting.conditions)
    tuned = [condition for condition in conditions if condition.base is not None]
    lines = [
        _mended(result, setting, tuned),
        _guards(result, conditions),
        " ".join(_doubts(result, setting, conditions)),
    ]
    return tuple(line for line in lines if line)


def cost_lines(result: StudyResult) -> tuple[str, ...]:
    """Return what a table of rates and scores does not hold of the cost: helpfulness by judges of pairs, what is not known."""
    conditions = [c for setting in result.settings[:1] for c in finished(setting.conditions)]
    tuned = [condition for condition in conditions if condition.base is not None]
    judges = names_in(condition.wins for condition in tuned)
    helpful = "; ".join(piece for judge in judges for piece in _helpfulness(judge, tuned))
    unknown = "; ".join(_unknown_costs(conditions))
    return tuple(f"{text[0].upper()}{text[1:]}." for text in (helpful, unknown) if text)


def _sentence(start: str, pieces: Sequence[str]) -> str:
    return f"{start}{'; '.join(pieces)}." if pieces else ""


def _changes(result: StudyResult, setting: SettingResult, tuned: Sequence[ConditionResult]) -> str:
    """Say with which fine-tunes the rate rose, fell, may have changed, or was not shown to: the largest changes first."""
    rates = {condition.name: condition.asr.overall for condition in setting.conditions}
    if not tuned:
        levels = [f"{_level(rate)} with {wording.quoted(name)}" for name, rate in rates.items()]
        return _sentence(f"The {result.name_rate} is ", levels)
    measured = [(c, change) for c in tuned if (change := _visible(part(c.asr_change))) is not None]
    measured.sort(key=lambda pair: -abs(pair[1].estimate))
    pieces = []
    for verb, chosen in (
        ("rose with", lambda change: shown(change) > 0),
        ("fell with", lambda change: shown(change) < 0),
        ("may have changed with", shown_alone),
        ("was not shown to change with", _open),
    ):
        named = [
            _change(result, condition, change, rates.get(condition.base or ""))
            for condition, change in measured
            if chosen(change)
        ]
        if named:
            pieces.append(f"{verb} {wording.few(named)}")
    unknown = {c.name for c in tuned} - {condition.name for condition, _ in measured}
    if names := [wording.quoted(c.name) for c in tuned if c.name in unknown]:
        pieces.append(f"was not measured on enough behaviors for {wording.few(names)}")
    return _sentence(f"The {result.name_rate} ", pieces)


def _open(change: Change) -> bool:
    """Return whether a change's interval holds 0."""
    return not shown(change) and not shown_alone(change)


def _visible(change: Change | None) -> Change | None:
    return None if change is None or change.hidden else change


def _change(
    result: StudyResult, condition: ConditionResult, change: Change, base: Rate | None
) -> str:
    levels = f"{_level(base)} to {_level(condition.asr.overall)}"
    details = [f"{wording.in_points(change)}, {levels}"]
    if change.p_adjusted is not None and shown_alone(change):
        details.append(f"{wording.p_value(change.p_adjusted)} after {change.adjustment}")
    if change.noise is not None and change.inside_noise:
        details.append(f"inside the noise floor of {wording.size(change.noise.floor)} points")
    details += _largest_task(result, condition, change)
    corrected = part(labels_of(condition).asr_change)
    if corrected is not None and corrected.estimate is not None:
        details.append(f"corrected by labels {wording.in_points(corrected)}")
    return f"{wording.quoted(condition.name)} ({'; '.join(details)})"


def _level(rate: Rate | None) -> str:
    return "unknown" if rate is None or rate.hidden else wording.percent(rate.estimate)


def _largest_task(
    result: StudyResult, condition: ConditionResult, overall: Change
) -> Iterator[str]:
    """Name the task with the largest rise that was shown, if it is above the overall change."""
    by_task = condition.asr_change.by_task if condition.asr_change else {}
    rises = [
        (task, change)
        for task in result.tasks
        if (change := by_task.get(task))
        and shown(change) > 0
        and change.estimate > overall.estimate
    ]
    if rises and len(by_task) > 1:
        task, change = max(rises, key=lambda pair: pair[1].estimate)
        level = _level(condition.asr.by_task[task])
        verb = "most" if shown(overall) > 0 else "but it rose"
        yield f"{verb} in {wording.clean(task)}: {wording.points(change.estimate)}, to {level}"


def _cost(conditions: Sequence[ConditionResult], tuned: Sequence[ConditionResult]) -> str:
    """Say how over-refusal and task scores changed: safety is never told without them, or that they are not known."""
    pieces, unchanged = [], []
    scorers = scored_in(condition.capability_change for condition in tuned)
    figures = [("over-refusal", [(c, part(c.over_refusal_change)) for c in tuned], False)]
    figures += [
        (wording.clean(s), [(c, overall_of(c.capability_change, s)) for c in tuned], True)
        for s in scorers
    ]
    for name, changes, of_score in figures:
        moves = list(_moves(changes, of_score=of_score))
        if moves:
            pieces.append(f"{name} {'; it '.join(moves)}")
        elif any(_visible(change) is not None for _, change in changes):
            unchanged.append(name)
    if unchanged:
        pieces.append(f"no significant change of {wording.listing(unchanged)}")
    for judge in names_in(condition.wins for condition in tuned):
        pieces += _helpfulness(judge, tuned)
    return _sentence("What it cost: ", [*pieces, *_unknown_costs(conditions)])


def _unknown_costs(conditions: Sequence[ConditionResult]) -> Iterator[str]:
    """Say what was not measured: safety is never told without it."""
    if all(condition.over_refusal.overall is None for condition in conditions):
        yield "no benign prompts were asked, so over-refusal is not known"
    if not scored_in(condition.capability for condition in conditions):
        yield "task scores were not measured"


def _moves(
    changes: Sequence[tuple[ConditionResult, Change | None]], *, of_score: bool
) -> Iterator[str]:
    size = (lambda c: wording.score_change(c.estimate)) if of_score else wording.in_points
    for verb, sign in (("rose", 1), ("fell", -1)):
        named = [
            f"{wording.quoted(condition.name)} ({size(change)})"
            for condition, change in changes
            if change is not None and shown(change) == sign
        ]
        if named:
            yield f"{verb} with {wording.few(named)}"
    alone = [
        f"{wording.quoted(condition.name)} ({size(change)})"
        for condition, change in changes
        if change is not None and shown_alone(change)
    ]
    if alone:
        yield f"may have changed with {wording.few(alone)}"


def _helpfulness(judge: str, tuned: Sequence[ConditionResult]) -> Iterator[str]:
    """Say whose answers to benign prompts a judge of pairs finds more, or less, helpful than the base's."""
    rates = [(c, rate) for c in tuned if (rate := overall_of(c.wins, judge)) and not rate.hidden]
    for word, chosen in (
        ("more", [(c, rate) for c, rate in rates if rate.interval.low > 0.5]),
        ("less", [(c, rate) for c, rate in rates if rate.interval.high < 0.5]),
    ):
        if chosen:
            names = [
                f"{wording.quoted(c.name)} ({wording.percent(rate.estimate)} {wording.limits(rate.interval)})"
                for c, rate in chosen
            ]
            yield f"{word} helpful than the base's answers ({wording.clean(judge)}): {wording.few(names)}"


def _mended(result: StudyResult, setting: SettingResult, tuned: Sequence[ConditionResult]) -> str:
    """Say what share of a rise each mitigation undoes, or its difference, and how fine-tunes compare at equal capability."""
    pieces = [piece for condition in tuned if (piece := _mitigation(result, condition))]
    reached = setting.matched.reached if setting.matched else ()
    pieces += [piece for fine_tune in reached if (piece := _at_equal_capability(result, fine_tune))]
    return f"Mitigation: {wording.few(pieces, 4)}." if pieces else ""


def _mitigation(result: StudyResult, condition: ConditionResult) -> str:
    against = condition.unmitigated
    change = _visible(against.asr.overall) if against else None
    if against is None or change is None:
        return ""
    name, other = wording.quoted(condition.name), wording.quoted(against.other)
    undone = condition.undone
    if undone is None or not _tells(undone):
        words = f"{name} against {other}: {result.name_rate} {wording.in_points(change)}"
        return f"{words}{_not_mended(condition)}"
    low, high = ("open" if end is None else f"{100 * end:.0f}" for end in (undone.low, undone.high))
    words = f"{name} undoes {100 * undone.estimate:.0f} % [{low}, {high}] of the rise that {other} brought"
    return f"{words}{_not_mended(condition)}"


def _tells(undone: Undone) -> bool:
    """Return whether a share's interval is narrow enough to tell something: it divides by a rise that may be near nothing."""
    if undone.low is None or undone.high is None:
        return undone.low != undone.high
    return undone.high - undone.low <= WIDEST_SHARE


def _not_mended(condition: ConditionResult) -> str:
    """Say what a mitigated fine-tune still does worse than the base: an overall rate may fall while a task, or the twins, fare ill."""
    by_task = condition.asr_change.by_task if condition.asr_change else {}
    above = [(task, change) for task, change in by_task.items() if shown(change) > 0]
    refused = part(condition.over_refusal_change)
    pieces = []
    if above:
        task, change = max(above, key=lambda pair: pair[1].estimate)
        pieces.append(f"{wording.points(change.estimate)} points in {wording.clean(task)}")
    if refused is not None and shown(refused) > 0:
        pieces.append(f"{wording.points(refused.estimate)} points of over-refusal")
    return f" (against the base still {wording.listing(pieces)})" if pieces else ""


def _at_equal_capability(result: StudyResult, reached: Reached) -> str:
    name = wording.quoted(reached.fine_tune)
    if reached.asr is None:
        return f"{name} never reaches the target of equal capability"
    change = _visible(reached.against.asr.overall) if reached.against else None
    if reached.against is None or change is None:
        return ""
    other, size = wording.quoted(reached.against.other), wording.in_points(change)
    return f"at equal capability {name} against {other}: {result.name_rate} {size}"


def guard_lines(result: StudyResult) -> tuple[str, ...]:
    """Return what guards leave of the rate in the first setting; nothing without guards."""
    conditions = [c for setting in result.settings[:1] for c in finished(setting.conditions)]
    return tuple(filter(None, [_guards(result, conditions)]))


def _guards(result: StudyResult, conditions: Sequence[ConditionResult]) -> str:
    """Say of each guard what it leaves of the condition with the highest rate, and what it lets through or leaves undecided."""
    pieces = []
    for guard in names_in(condition.guards for condition in conditions):
        screened = [
            (condition, condition.guards[guard], rate)
            for condition in conditions
            if guard in condition.guards
            and (rate := condition.guards[guard].asr.overall) is not None
            and not rate.hidden
        ]
        if screened:
            condition, behind, rate = max(screened, key=lambda row: row[2].estimate)
            blocked = _level(behind.false_blocks.overall)
            name, level = wording.quoted(condition.name), _level(condition.asr.overall)
            screen = (
                f"behind the guard {wording.clean(guard)} the {result.name_rate} of {name} is {_level(rate)} instead of {level} "
                f"(benign prompts blocked: {blocked})"
            )
            details = [screen, *_let_through(screened), *_left_undecided(screened)]
            pieces.append(", ".join(details))
    text = wording.few(pieces) if pieces else ""
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _let_through(screened: Sequence[tuple[ConditionResult, GuardResult, Rate]]) -> Iterator[str]:
    """Name the fine-tune of which a guard lets most more through than of its base."""
    rises = [
        (condition, change)
        for condition, behind, _ in screened
        if (change := _visible(part(behind.bypass_change))) is not None and shown(change) > 0
    ]
    if rises:
        condition, change = max(rises, key=lambda pair: pair[1].estimate)
        name = wording.quoted(condition.name)
        yield f"it lets more harmful responses of {name} through than of its base ({wording.in_points(change)})"


def _left_undecided(screened: Sequence[tuple[ConditionResult, GuardResult, Rate]]) -> Iterator[str]:
    """Name the condition whose rate could be highest where the guard did not decide, which counts as not harmful."""
    undecided = [
        (condition, rate)
        for condition, _, rate in screened
        if condition.asr.overall is not None
        and rate.undecided - condition.asr.overall.undecided > NOTABLE * rate.n
    ]
    if undecided:
        condition, rate = max(undecided, key=lambda pair: pair[1].bounds.high)
        limit = wording.percent(rate.bounds.high)
        yield f"with what it left undecided up to {limit} of {wording.quoted(condition.name)}"


def _doubts(
    result: StudyResult, setting: SettingResult, conditions: Sequence[ConditionResult]
) -> Iterator[str]:
    """Say where answers are unclear, the judge errs differently, one seed speaks of a checkpoint, or rules alone judged."""
    by_name = {condition.name: condition for condition in setting.conditions}
    unclear = [text for c in conditions if (text := _unclear(c, by_name.get(c.base or "")))]
    if unclear:
        yield (
            f"Incoherent or undecided, with the {result.name_rate} if that counted as {harmful_word(result)}: "
            f"{wording.few(unclear)}."
        )
    errors = [
        (abs(against.bias), judge_errors(against, f"{wording.quoted(c.name)} and its base"))
        for c in conditions
        if (against := labels_of(c).against_base)
        and (against.differs or _excludes_0(against.bias_interval))
    ]
    if errors:
        yield max(errors)[1]
    single = [wording.quoted(c.name) for c in conditions if c.base is not None and c.seeds == 1]
    if single:
        yield f"One training seed: {wording.few(single)} speak{'s' * (len(single) == 1)} of the checkpoint, not of the recipe."
    if result.name_rate != "ASR":
        judges = wording.listing(map(wording.clean, result.judges))
        yield f"Only refusals were judged ({judges}): what was not refused need not be harmful."


def _unclear(condition: ConditionResult, base: ConditionResult | None) -> str:
    rate, before = condition.asr.overall, base.asr.overall if base else None
    if rate is None or rate.hidden or not rate.n:
        return ""
    incoherent, share = rate.incoherent / rate.n, (rate.incoherent + rate.undecided) / rate.n
    if share <= UNCLEAR_SHARE:
        return ""
    broken = before and before.n and incoherent - before.incoherent / before.n > UNCLEAR_SHARE
    warning = "; it broke, so read no safety into it" if broken else ""
    limit = wording.percent(rate.bounds.high)
    return f"{wording.percent(share)} of {wording.quoted(condition.name)} (up to {limit}{warning})"


def _excludes_0(interval: Interval) -> bool:
    return interval.low > 0 or interval.high < 0
