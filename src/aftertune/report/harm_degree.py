"""Tables of the degree of harm: how harmful and how toxic responses are, beside how many are harmful. No verdict hangs on them."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from aftertune.measure.results import (
    Breakdown,
    Change,
    CompliedScores,
    ConditionResult,
    Score,
    SettingResult,
    StudyResult,
    Toxicity,
    ToxicityFigures,
)
from aftertune.report import wording
from aftertune.report.cells import (
    BLANK,
    Cell,
    Sheet,
    change_cell,
    harmful_word,
    in_order,
    name_cell,
    names_in,
    overall_of,
    p_values_of,
    part,
    rate_cell,
    score_cell,
)

_RESPONSES: Mapping[str, Callable[[Toxicity], ToxicityFigures]] = {
    "all responses": lambda toxicity: toxicity.responses,
    "to harmful prompts": lambda toxicity: toxicity.harmful,
    "to benign prompts": lambda toxicity: toxicity.benign,
}
"""The responses that toxicity is measured on."""


def degree_sheets(result: StudyResult, setting: SettingResult) -> tuple[list[Sheet], list[Sheet]]:
    """Return the tables of the degree of harm: harm scores of judges, toxicity, and both of the harmful responses."""
    scoring = names_in(condition.harm_scores for condition in setting.conditions)
    classified = names_in(condition.toxicity for condition in setting.conditions)
    main = [
        harm_sheet(setting),
        *(toxicity_sheet(setting, name) for name in classified),
        complied_sheet(result, setting),
    ]
    more = [
        *(harm_by_task(result, setting, judge) for judge in scoring),
        *(toxicity_by_task(result, setting, name) for name in classified),
    ]
    return main, more


def harm_sheet(setting: SettingResult) -> Sheet:
    """Return the mean harm score of each judge that gives one, and its change against the base."""
    judges = names_in(condition.harm_scores for condition in setting.conditions)
    rows = []
    for condition in setting.conditions:
        scores, changes = condition.harm_scores, condition.harm_score_change
        cells = [
            cell
            for judge in judges
            for cell in (
                score_cell(overall_of(scores, judge)),
                change_cell(overall_of(changes, judge), up_is="bad", of_score=True),
            )
        ]
        rows.append((name_cell(condition), *cells))
    return Sheet(
        title="Mean harm score",
        headers=(
            "condition",
            *(header for judge in judges for header in (wording.clean(judge), "change")),
        ),
        rows=tuple(rows),
        legend=(
            (
                "From 0, harmless, to 1, on the judge's own scale, over the responses to harmful prompts that it scored, whatever "
                "their outcome; change: paired, against the base."
            ),
            *p_values_of(rows),
        ),
    )


def harm_by_task(result: StudyResult, setting: SettingResult, judge: str) -> Sheet:
    """Return one judge's mean harm score by task, with its changes."""
    measured = [
        (condition, condition.harm_scores[judge], condition.harm_score_change.get(judge))
        for condition in setting.conditions
        if judge in condition.harm_scores
    ]
    return _by_task(result, f"Mean harm score by task ({wording.clean(judge)})", measured)


def _by_task(
    result: StudyResult,
    title: str,
    measured: Sequence[tuple[ConditionResult, Breakdown[Score], Breakdown[Change] | None]],
) -> Sheet:
    """Return means by task, a row a condition, and a row of their changes where there are some."""
    tasks = in_order(result, (means.by_task for _, means, _ in measured))
    rows: list[tuple[Cell, ...]] = []
    for condition, means, changes in measured:
        rows.append((name_cell(condition), *(score_cell(part(means, "by_task", t)) for t in tasks)))
        if changes is not None:
            cells = (
                change_cell(part(changes, "by_task", task), up_is="bad", of_score=True)
                for task in tasks
            )
            rows.append((Cell((wording.clean(condition.name), "change")), *cells))
    return Sheet(
        title=title,
        headers=("condition", *map(wording.clean, tasks)),
        rows=tuple(rows),
        legend=p_values_of(rows),
    )


def toxicity_sheet(setting: SettingResult, name: str) -> Sheet:
    """Return the mean toxicity and the share of toxic responses by one classifier, with their changes."""
    rows: list[tuple[Cell, ...]] = []
    for condition, toxicity in _classified(setting, name):
        for title, responses in _RESPONSES.items():
            figures = responses(toxicity)
            rows.append(
                (
                    Cell((wording.clean(condition.name), title)),
                    score_cell(part(figures.mean)),
                    change_cell(part(figures.mean_change), up_is="bad", of_score=True),
                    rate_cell(part(figures.share)),
                    change_cell(part(figures.share_change), up_is="bad"),
                )
            )
    return Sheet(
        title=f"Toxicity ({wording.clean(name)})",
        headers=("condition", "mean", "change", _share_title(setting, name), "change"),
        rows=tuple(rows),
        legend=(
            (
                "The probability that a text classifier gives a response to be toxic, whatever the outcome of the response; change: "
                "paired, against the base. A toxic text need not do harm, and a harmful one need not be toxic."
            ),
            *p_values_of(rows),
        ),
    )


def mean_toxicity(name: str) -> str:
    """Return what the mean toxicity over all responses by one classifier is called outside the tables of the tab."""
    return f"mean toxicity ({name})"


def toxicity_lines(conditions: Sequence[ConditionResult]) -> Iterator[str]:
    """Yield a line for each condition and classifier: the mean toxicity over all responses and its change against the base."""
    for condition in conditions:
        for name, toxicity in condition.toxicity.items():
            mean, change = (
                part(toxicity.responses.mean),
                change_cell(part(toxicity.responses.mean_change), up_is="bad", of_score=True),
            )
            if mean is None or mean.hidden:
                continue
            figure, limits, _ = score_cell(mean).lines
            against = f", change {' '.join(change.lines[:2])}" if change.change else ""
            yield f"Degree of harm: {condition.name}, {mean_toxicity(name)} {figure} {limits}{against}"


def toxicity_by_task(result: StudyResult, setting: SettingResult, name: str) -> Sheet:
    """Return the mean toxicity of all responses by task, with its changes."""
    measured = [
        (condition, toxicity.responses.mean, toxicity.responses.mean_change)
        for condition, toxicity in _classified(setting, name)
    ]
    return _by_task(result, f"Toxicity by task ({wording.clean(name)})", measured)


def complied_sheet(result: StudyResult, setting: SettingResult) -> Sheet:
    """Return harm scores and toxicity of the responses that are harmful: how far they go, described and not tested."""
    conditions = setting.conditions
    judges = names_in(condition.complied_harm for condition in conditions)
    classified = [
        name
        for name in names_in(condition.toxicity for condition in conditions)
        if any(toxicity.complied for _, toxicity in _classified(setting, name))
    ]
    rows = tuple(
        (
            name_cell(condition),
            *(_complied_cell(condition.complied_harm.get(judge)) for judge in judges),
            *(
                _complied_cell(condition.toxicity[name].complied)
                if name in condition.toxicity
                else BLANK
                for name in classified
            ),
        )
        for condition in conditions
    )
    return Sheet(
        title=f"Of the responses that were {harmful_word(result)}",
        headers=("condition", *map(wording.clean, (*judges, *classified))),
        rows=rows,
        legend=(
            (
                "Means over these responses alone. A description without test: each condition's are answers to other prompts, "
                "because the model itself chose them."
            ),
        ),
    )


def _complied_cell(scores: CompliedScores | None) -> Cell:
    if scores is None:
        return BLANK
    counts = f"n = {scores.n:,}"
    if scores.toxic is not None:
        counts = f"{scores.toxic:,} of {scores.n:,} toxic"
    return Cell((wording.score(scores.mean), counts))


def _classified(setting: SettingResult, name: str) -> list[tuple[ConditionResult, Toxicity]]:
    return [(c, c.toxicity[name]) for c in setting.conditions if name in c.toxicity]


def _share_title(setting: SettingResult, name: str) -> str:
    (_, toxicity), *_ = _classified(setting, name)
    return f"{toxicity.threshold:g} or more"
