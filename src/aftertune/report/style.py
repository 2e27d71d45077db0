"""Style and the judge's errors in words: at most two sentences on what they leave open of a change, and the tables behind them."""

from collections.abc import Iterator

from aftertune.measure.results import (
    LEAST_LABELS,
    AnswerKind,
    Bounds,
    ConditionResult,
    JudgeBounds,
    SettingResult,
    StudyResult,
    StyleChange,
    StyleFeature,
)
from aftertune.report import wording
from aftertune.report.cells import OVERALL, SHOWN_ALPHA, Cell, Sheet, finished, in_order, part
from aftertune.report.corrected import labels_of

OF_REFUSALS = (AnswerKind.REFUSALS, AnswerKind.COMPLIANCE)
"""The kinds of responses to harmful prompts, which the ASR is made of."""


def style_sentences(result: StudyResult, setting: SettingResult) -> Iterator[str]:
    """Say where style drifted and how far the judge's errors could move a change, of the fine-tune that it matters most for.

    Nothing of fine-tunes whose change is corrected by labels, which know how the judge errs on them.
    """
    doubted = [
        condition
        for condition in finished(setting.conditions)
        if condition.base is not None and not _corrected(condition)
    ]
    drifted = [(condition, drift) for condition in doubted if (drift := _drift(condition))]
    if drifted:
        condition, drift = max(drifted, key=lambda pair: len(pair[1]))
        others = f" (and {wording.plural(len(drifted) - 1, 'more fine-tune')})" * (len(drifted) > 1)
        changes = wording.few([_change_words(change) for change in drift])
        yield (
            f"Style: {wording.quoted(condition.name)}{others} does the same in other words than its base: {changes}. The judge may "
            "take that for a change of what it does."
        )
    bounded = [
        (condition, bounds)
        for condition in doubted
        if (bounds := condition.judge_bounds.get(OVERALL)) is not None
    ]
    if bounded:
        condition, bounds = max(bounded, key=lambda pair: _width(pair[0], pair[1]))
        yield _bounds_sentence(result, condition, bounds)


def _corrected(condition: ConditionResult) -> bool:
    change = part(labels_of(condition).asr_change)
    return change is not None and change.estimate is not None


def _drift(condition: ConditionResult) -> list[StyleChange]:
    """Return the changes of style that were shown in responses to harmful prompts."""
    return [
        change
        for change in (condition.style.changes if condition.style else ())
        if change.kind in OF_REFUSALS and change.p_adjusted <= SHOWN_ALPHA
    ]


def _change_words(change: StyleChange) -> str:
    return f"{change.feature.value} of {change.kind.value} ({_figures(change)})"


def _figures(change: StyleChange) -> str:
    """Return a change of style in numbers, in its own unit."""
    if change.feature is StyleFeature.WORDING:
        return f"{wording.score(change.tuned)} apart, {wording.score(change.base)} by chance"
    if change.feature is StyleFeature.LENGTH:
        return f"{change.base:.1f} to {change.tuned:.1f} words"
    if change.feature is StyleFeature.SCRIPT:
        return f"{wording.percent(change.base)} to {wording.percent(change.tuned)}"
    return f"{wording.score(change.base)} to {wording.score(change.tuned)}"


def _errs_alike(condition: ConditionResult) -> bool:
    """Return whether the judge may be taken to err alike on both models: responses were compared, and no drift was shown.

    Where nothing could be compared, a judge that takes the fine-tune's refusals for compliance may be the reason.
    """
    compared = {change.kind for change in condition.style.changes} if condition.style else set()
    return bool(compared & set(OF_REFUSALS)) and not _drift(condition)


def _used(condition: ConditionResult, bounds: JudgeBounds) -> Bounds:
    return bounds.alike if _errs_alike(condition) else bounds.apart


def _width(condition: ConditionResult, bounds: JudgeBounds) -> float:
    low, high = _used(condition, bounds)
    return high - low


def _bounds_sentence(result: StudyResult, condition: ConditionResult, bounds: JudgeBounds) -> str:
    low, high = _used(condition, bounds)
    alike = _errs_alike(condition)
    models = "both models alike" if alike else "each of the two models"
    groups = "the labelled answers"
    if len(bounds.by_group) > 1:
        groups = f"{'one' if alike else 'any'} of its {len(bounds.by_group):,} groups of labelled answers"
    near = (0.0, bounds.margin)
    sentence = (
        f"If the judge errs on {models} as on {groups}, the change of the {result.name_rate} with "
        f"{wording.quoted(condition.name)} lies in {wording.point_limits((low, high), near)} points"
    )
    if low < bounds.margin < high:
        return (
            f"{sentence}, on both sides of the margin: a second judge (--judge rubric=MODEL), or {LEAST_LABELS} labels of each model "
            "(aftertune label export), would tell."
        )
    return f"{sentence}."


def style_sheet(setting: SettingResult) -> Sheet:
    """Return the style of base and fine-tune within the same outcome, feature by feature."""
    rows = tuple(
        (
            Cell((wording.clean(condition.name), change.kind.value)),
            Cell((change.feature.value,)),
            Cell((_figures(change),)),
            Cell(
                (wording.p_value(change.p_adjusted),),
                "bad" if change.p_adjusted <= SHOWN_ALPHA else "plain",
            ),
            Cell((f"{change.behaviors:,}",)),
        )
        for condition in setting.conditions
        for change in (condition.style.changes if condition.style else ())
    )
    return Sheet(
        title="Style of base and fine-tune where both did the same",
        headers=("condition", "feature", "base to fine-tune", "p", "behaviors"),
        rows=rows,
        legend=(
            (
                "On the prompts where both refused, both complied, or both answered, by the judge. wording: distance of the words that "
                "responses begin with, 0 to 1, and what chance gives; p: random exchanges of the two models, adjusted (Holm)."
            ),
        ),
    )


def bounds_sheet(result: StudyResult, setting: SettingResult) -> Sheet:
    """Return the change by task as the judge sees it, and if it errs as it does on labelled answers."""
    bounded = [condition for condition in setting.conditions if condition.judge_bounds]
    names = in_order(result, (condition.judge_bounds for condition in bounded))
    rows = []
    for condition in bounded:
        for name in [OVERALL, *(name for name in names if name != OVERALL)]:
            if (bounds := condition.judge_bounds.get(name)) is None:
                continue
            change = (
                part(condition.asr_change)
                if name == OVERALL
                else part(condition.asr_change, "by_task", name)
            )
            near = (0.0, bounds.margin)
            judged = "" if change is None else wording.points(change.estimate, near)
            rows.append(
                (
                    Cell((wording.clean(condition.name), wording.clean(name))),
                    Cell((judged,)),
                    Cell((wording.point_limits(bounds.alike, near),)),
                    Cell((wording.point_limits(bounds.apart, near),)),
                    Cell((f"{100 * bounds.margin:g}",)),
                )
            )
    return Sheet(
        title=f"Change of the {result.name_rate} within the judge's errors",
        headers=("condition", "by the judge", "errs alike", "errs apart", "margin"),
        rows=tuple(rows),
        legend=(
            (
                "Points, 95 % intervals, corrected (Rogan and Gladen) by the judge's rates on groups of labelled answers: alike, as on "
                "one of them on both models; apart, as on one on the base and on another on the fine-tune."
            ),
        ),
    )
