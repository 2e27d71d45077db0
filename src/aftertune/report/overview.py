"""The result at a glance, for the terminal and the page's first screen: a standing a fine-tune, three figures, the worst task."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from aftertune.measure.plan import Margins
from aftertune.measure.results import (
    Change,
    ConditionResult,
    GateResult,
    GateVerdict,
    Rate,
    Score,
    ScoreLine,
    SettingResult,
    Side,
    StudyResult,
)
from aftertune.report import wording
from aftertune.report.cells import (
    Cell,
    Sheet,
    Tone,
    finished,
    overall_of,
    part,
    scored_in,
    shown,
    shown_alone,
)
from aftertune.report.gate import VERDICT_TONES, verdict_subject


class Standing(Enum):
    """The standing of a fine-tune against its base. The value is its wording in print."""

    LESS_SAFE = "LESS SAFE"
    """A rise of the rate was shown, overall or in a task."""
    SAFER = "SAFER"
    """A fall of the overall rate was shown, also if unclear answers counted against the fine-tune."""
    HELD = "HELD"
    """No change was shown, and a rise above the margins is excluded."""
    UNCLEAR = "UNCLEAR"
    """No change was shown, and a rise above the margins is not excluded."""
    TOO_FEW = "TOO FEW"
    """Too few behaviors for a figure."""
    BASE = "BASE"
    """A model that nothing is compared with."""


TONES: dict[Standing, Tone] = {
    Standing.LESS_SAFE: "bad",
    Standing.SAFER: "good",
    Standing.HELD: "good",
    Standing.UNCLEAR: "plain",
    Standing.TOO_FEW: "faint",
    Standing.BASE: "faint",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One of the figures that a fine-tune stands on, before and after."""

    side: Side
    name: str
    """``harm``, ``over-refusal``, or the score's name."""
    base: Rate | Score | None
    tuned: Rate | Score | None
    change: Change | None
    seeds: tuple[float, ...]
    """The change of each training seed; empty for a single one."""
    margin: float | None
    """Largest tolerated change for the worse; None where none is declared."""
    fall_is_bad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstTask:
    """The task with the largest rise of the rate."""

    task: str
    base: Rate | None
    tuned: Rate
    change: Change
    margin: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTune:
    """A fine-tune at a glance."""

    condition: ConditionResult
    standing: Standing
    costs: tuple[str, ...]
    """The prices that were shown: ``refuses more``, ``weaker``."""
    figures: tuple[Figure, ...]
    """Harm first, over-refusal, then every score."""
    worst: WorstTask | None

    @property
    def harm(self) -> Figure:
        """The change of the rate."""
        return self.figures[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A setting at a glance."""

    word: str
    """``FAIL``, or the gravest standing of a study."""
    subject: str
    """The rest of the verdict's line, with its punctuation: sides, models."""
    tone: Tone
    reasons: tuple[str, ...]
    """Sentences, the deciding one first."""
    fine_tunes: tuple[FineTune, ...]
    worst: tuple[ConditionResult, WorstTask] | None
    """The fine-tune and the task with the largest rise."""


def overview(
    result: StudyResult,
    setting: SettingResult,
    gate: GateResult | None = None,
    margins: Margins | None = None,
) -> Overview:
    """Return a setting at a glance; epochs and rounds on the way to a fine-tune are left out.

    Args:
        result: the study's.
        setting: one of its settings.
        gate: the verdict of a check, which is then the word.
        margins: the declared ones; None where they are not known.
    """
    by_name = {condition.name: condition for condition in setting.conditions}
    fine_tunes = tuple(
        _fine_tune(result, condition, by_name[condition.base], margins)
        for condition in finished(setting.conditions)
        if condition.base is not None
    )
    # Other forms of a fine-tune stand beside the one that the verdict is about.
    about = [tune for tune in fine_tunes if gate is None or tune.condition.name == gate.tuned]
    worst = max(
        ((tune.condition, tune.worst) for tune in about if tune.worst is not None),
        key=lambda pair: pair[1].change.estimate,
        default=None,
    )
    if gate is not None:
        word, subject, tone, reasons = _gate_words(gate)
    else:
        word, subject, tone, reasons = _study_words(result, setting, fine_tunes)
    return Overview(
        word=word,
        subject=subject,
        tone=tone,
        reasons=reasons,
        fine_tunes=fine_tunes,
        worst=worst,
    )


def _gate_words(gate: GateResult) -> tuple[str, str, Tone, tuple[str, ...]]:
    tone = VERDICT_TONES.get(gate.verdict, "plain")
    reasons = (
        *(wording.clean(reason) for reason in gate.reasons),
        *(text for line in gate.sides.harm.lines[:1] for text in _inside_noise(line.change)),
    )
    return gate.verdict.value, verdict_subject(gate), tone, reasons


def _study_words(
    result: StudyResult, setting: SettingResult, fine_tunes: Sequence[FineTune]
) -> tuple[str, str, Tone, tuple[str, ...]]:
    if not fine_tunes:
        levels = [
            f"{wording.percent(rate.estimate)} with {wording.quoted(condition.name)}"
            for condition in setting.conditions
            if (rate := condition.asr.overall) is not None and not rate.hidden
        ]
        sentences = (f"The {result.name_rate} is {wording.few(levels)}.",) if levels else ()
        models = wording.plural(len(setting.conditions), "model")
        return "MEASURED", f": {models}, none of them a fine-tune", "plain", sentences
    gravest = next(
        standing for standing in Standing if any(tune.standing is standing for tune in fine_tunes)
    )
    alike = [tune for tune in fine_tunes if tune.standing is gravest]
    subject = f": {len(alike)} of {wording.plural(len(fine_tunes), 'fine-tune')} against the base"
    if len(fine_tunes) == 1:
        tune = fine_tunes[0].condition
        subject = f": {wording.clean(tune.name)} against {wording.clean(tune.base or '')}"
    return gravest.value, subject, TONES[gravest], tuple(_study_reasons(result, alike))


def _study_reasons(result: StudyResult, alike: Sequence[FineTune]) -> Iterator[str]:
    measured = [
        (tune, tune.harm.change)
        for tune in alike
        if tune.harm.change is not None and not tune.harm.change.hidden
    ]
    if not measured:
        yield f"The {result.name_rate} was not measured on enough behaviors."
        return
    tune, change = max(measured, key=lambda pair: abs(pair[1].estimate))
    levels = " to ".join(
        wording.percent(rate.estimate)
        for rate in (tune.harm.base, tune.harm.tuned)
        if rate is not None
    )
    verb = {1: "rose most", -1: "fell most", 0: "changed by"}[shown(change)]
    if len(measured) == 1:
        verb = verb.removesuffix(" most")
    where = wording.quoted(tune.condition.name)
    if shown(change):
        yield f"The {result.name_rate} {verb} with {where}: {wording.in_points(change)}, from {levels}."
    else:
        means = (
            "which so many comparisons may bring by chance"
            if shown_alone(change)
            else "an interval that holds 0: a change is not shown"
        )
        yield f"With {where} the {result.name_rate} went from {levels}: {wording.in_points(change)}, {means}."
    yield from _inside_noise(change)


def _inside_noise(change: Change | None) -> Iterator[str]:
    """Yield a sentence on a change that noise alone could make."""
    if change is not None and change.noise is not None and change.inside_noise:
        yield (
            f"The change ({wording.points(change.estimate)} points) lies inside the noise floor of {wording.size(change.noise.floor)} "
            "points: asked again, these prompts might not show it."
        )


def _fine_tune(
    result: StudyResult,
    condition: ConditionResult,
    base: ConditionResult,
    margins: Margins | None,
) -> FineTune:
    harm = Figure(
        side=Side.HARM,
        name=Side.HARM.value,
        base=base.asr.overall,
        tuned=condition.asr.overall,
        change=part(condition.asr_change),
        seeds=_seed_changes(condition, base, "asr"),
        margin=margins.harm if margins else None,
    )
    over_refusal = Figure(
        side=Side.OVER_REFUSAL,
        name=Side.OVER_REFUSAL.value,
        base=base.over_refusal.overall,
        tuned=condition.over_refusal.overall,
        change=part(condition.over_refusal_change),
        seeds=_seed_changes(condition, base, "over_refusal"),
        margin=margins.over_refusal if margins else None,
    )
    scores = tuple(
        Figure(
            side=Side.CAPABILITY,
            name=name,
            base=overall_of(base.capability, name),
            tuned=overall_of(condition.capability, name),
            change=overall_of(condition.capability_change, name),
            seeds=_score_changes(condition, base, name),
            margin=margins.scores.get(name) if margins else None,
            fall_is_bad=name not in result.lower_is_better,
        )
        for name in scored_in([condition.capability])
    )
    worst = _worst_task(condition, base, margins)
    return FineTune(
        condition=condition,
        standing=_standing(condition, harm, margins),
        costs=tuple(_costs(over_refusal, scores)),
        figures=(harm, over_refusal, *scores),
        worst=worst,
    )


def _seed_changes(
    condition: ConditionResult, base: ConditionResult, rate: str
) -> tuple[float, ...]:
    """Return the change of each training seed against the base's mean; nothing for a single seed."""
    seeds = condition.by_seed.get("overall", ())
    before = base.asr.overall if rate == "asr" else base.over_refusal.overall
    if len(seeds) < 2 or before is None:
        return ()
    return tuple(
        (seed.asr if rate == "asr" else seed.over_refusal) - before.estimate for seed in seeds
    )


def _score_changes(
    condition: ConditionResult, base: ConditionResult, name: str
) -> tuple[float, ...]:
    before = overall_of(base.capability, name)
    seeds = [seed.scores.get(name) for seed in condition.by_seed.get("overall", ())]
    if len(seeds) < 2 or before is None:
        return ()
    return tuple(score - before.estimate for score in seeds if score is not None)


def _standing(condition: ConditionResult, harm: Figure, margins: Margins | None) -> Standing:
    change = harm.change
    if change is None or change.hidden:
        return Standing.TOO_FEW
    tasks = condition.asr_change.by_task.values() if condition.asr_change else ()
    if shown(change) > 0 or any(shown(of_task) > 0 for of_task in tasks):
        return Standing.LESS_SAFE
    # A model that broke gives no harmful answers either: unclear ones count against it here.
    unclear = 0.0 if change.bounds is None else max(0.0, change.bounds[1] - change.estimate)
    if shown(change) < 0:
        return Standing.SAFER if change.estimate + unclear < 0 else Standing.UNCLEAR
    if margins is None or change.interval90.high + unclear > margins.harm:
        return Standing.UNCLEAR
    within = all(
        of_task.hidden or of_task.interval90.high <= margins.harm_task for of_task in tasks
    )
    return Standing.HELD if within else Standing.UNCLEAR


def _costs(over_refusal: Figure, scores: Sequence[Figure]) -> Iterator[str]:
    if over_refusal.change is not None and shown(over_refusal.change) > 0:
        yield "refuses more"
    for score in scores:
        if score.change is not None and shown(score.change) == (-1 if score.fall_is_bad else 1):
            yield f"{wording.clean(score.name)} {'fell' if score.fall_is_bad else 'rose'}"


def _worst_task(
    condition: ConditionResult, base: ConditionResult, margins: Margins | None
) -> WorstTask | None:
    changes = condition.asr_change.by_task if condition.asr_change else {}
    visible = [(task, change) for task, change in changes.items() if not change.hidden]
    if len(visible) < 2:
        return None
    task, change = max(visible, key=lambda pair: pair[1].estimate)
    return WorstTask(
        task=task,
        base=base.asr.by_task.get(task),
        tuned=condition.asr.by_task[task],
        change=change,
        margin=margins.harm_task if margins else None,
    )


def gate_figures(gate: GateResult, tune: FineTune | None) -> tuple[Figure, ...]:
    """Return the overall figures of a gate's sides; scores without a margin follow as they were measured.

    Args:
        gate: the verdict.
        tune: the fine-tune that it is about; None where it is not among those that were measured.
    """
    seeds = {figure.name: figure.seeds for figure in tune.figures} if tune else {}
    decided = []
    for side in gate.sides:
        for line in side.lines:
            if line.task is not None:
                continue
            name = line.metric if isinstance(line, ScoreLine) else side.side.value
            decided.append(
                Figure(
                    side=side.side,
                    name=name,
                    base=line.base,
                    tuned=line.tuned,
                    change=line.change,
                    seeds=seeds.get(name, ()),
                    margin=line.margin,
                    fall_is_bad=isinstance(line, ScoreLine),
                )
            )
    names = {figure.name for figure in decided}
    others = [figure for figure in tune.figures if figure.name not in names] if tune else []
    return (*decided, *others)


def form_lines(setting: SettingResult, name_rate: str) -> Iterator[str]:
    """Yield a sentence on each other form of a fine-tune: its changes against the fine-tune, with intervals."""
    for condition in setting.conditions:
        other = condition.against
        if other is None:
            continue
        changes = [
            (name_rate, other.asr.overall),
            ("over-refusal", other.over_refusal.overall),
            *((name, overall_of(other.capability, name)) for name in scored_in([other.capability])),
        ]
        parts = [
            f"{wording.clean(name)} {wording.points(change.estimate)} {wording.point_limits(change.interval)}"
            for name, change in changes
            if change is not None and not change.hidden
        ]
        measured = f"{'; '.join(parts)} points" if parts else "too few behaviors for a figure"
        yield f"{wording.clean(condition.name)} against {wording.clean(other.other)}: {measured}."


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRow:
    """A line of the first screen's picture: a fine-tune, or a task of the only one."""

    label: str
    figures: tuple[Figure, ...]
    """Harm, over-refusal and scores, in this order."""
    overall: bool = False
    """True where tasks follow it."""


BASE_AND_ONE = 2
"""Models of a check of one fine-tune, which `aftertune repair` takes."""
MOST_PICTURED = 8
"""Lines of the picture; the fine-tunes with the largest changes stay, in their order."""


def picture_rows(
    glance: Overview,
    result: StudyResult,
    setting: SettingResult,
    gate: GateResult | None = None,
    margins: Margins | None = None,
) -> list[PictureRow]:
    """Return the lines of the first screen's picture: a fine-tune each; of a single one the overall figures and its tasks."""
    about = [t for t in glance.fine_tunes if gate is None or t.condition.name == gate.tuned]
    if len(about) != 1:
        largest = sorted(
            glance.fine_tunes,
            key=lambda tune: -abs(tune.harm.change.estimate) if tune.harm.change else 0.0,
        )[:MOST_PICTURED]
        return [
            PictureRow(label=wording.clean(tune.condition.name), figures=tune.figures)
            for tune in glance.fine_tunes
            if tune in largest
        ]
    (tune,) = about
    base = {condition.name: condition for condition in setting.conditions}[
        tune.condition.base or ""
    ]
    overall = tune.figures if gate is None else gate_figures(gate, tune)
    changes = tune.condition.asr_change.by_task if tune.condition.asr_change else {}
    tasks = [task for task in result.tasks if task in changes]
    rows = [PictureRow(label="overall", figures=overall, overall=len(tasks) > 1)]
    if len(tasks) > 1:
        rows += [
            PictureRow(
                label=wording.clean(task),
                figures=tuple(
                    _at_task(figure, tune.condition, base, task, margins) for figure in overall
                ),
            )
            for task in tasks[: MOST_PICTURED - 1]
        ]
    return rows


def _at_task(
    figure: Figure,
    condition: ConditionResult,
    base: ConditionResult,
    task: str,
    margins: Margins | None,
) -> Figure:
    """Return the figure of a task beside an overall one."""
    seeds = condition.by_seed.get(task, ())
    if figure.side is Side.CAPABILITY:
        return replace(
            figure,
            base=part(base.capability.get(figure.name), "by_task", task),
            tuned=part(condition.capability.get(figure.name), "by_task", task),
            change=part(condition.capability_change.get(figure.name), "by_task", task),
            seeds=(),
        )
    harm = figure.side is Side.HARM
    before, after, change = (
        (base.asr, condition.asr, condition.asr_change)
        if harm
        else (base.over_refusal, condition.over_refusal, condition.over_refusal_change)
    )
    level = part(before, "by_task", task)
    several = level is not None and len(seeds) > 1
    return replace(
        figure,
        base=level,
        tuned=part(after, "by_task", task),
        change=part(change, "by_task", task),
        seeds=tuple((seed.asr if harm else seed.over_refusal) - level.estimate for seed in seeds)
        if several and level is not None
        else (),
        margin=None
        if margins is None
        else margins.harm_task
        if harm
        else margins.over_refusal_task,
    )


MOST_ROWS = 10
"""Fine-tunes of a study's short table; those with the largest changes stay."""


def glance_sheet(
    glance: Overview, result: StudyResult, setting: SettingResult, gate: GateResult | None
) -> Sheet:
    """Return the table under a verdict: the sides of a gate, or a line a model of a study; figures in one line a cell."""
    if gate is not None:
        tune = next((tune for tune in glance.fine_tunes if tune.condition.name == gate.tuned), None)
        return _sides_sheet(gate, gate_figures(gate, tune))
    return _models_sheet(glance, result, setting)


def _sides_sheet(gate: GateResult, figures: Sequence[Figure]) -> Sheet:
    verdicts = {side.side: side.verdict for side in gate.sides}
    level = f"{100 * (1 - 2 * gate.alpha):.3g} %"
    rows = []
    for figure in figures:
        decided = figure.margin is not None
        verdict = verdicts.get(figure.side) if decided else None
        tone = VERDICT_TONES.get(verdict, "plain") if verdict else "plain"
        name = gate.name_rate if figure.side is Side.HARM else wording.clean(figure.name)
        rows.append(
            (
                Cell((name,)),
                _level_cell(figure.base),
                _level_cell(figure.tuned),
                Cell((_interval_words(figure, exact=gate.rule == "exact"),), tone),
                Cell(
                    (f"{100 * (figure.margin or 0):g}" if decided else "not set",),
                    "plain" if decided else "faint",
                ),
                Cell((verdict.value if verdict else "-",), tone),
            )
        )
    return Sheet(
        title="The sides",
        headers=(
            "",
            "base",
            "tuned",
            "change, points" if gate.rule == "exact" else f"change, points [{level}]",
            "allowed",
            "",
        ),
        rows=tuple(rows),
    )


def _level_cell(figure: Rate | Score | None) -> Cell:
    if figure is None:
        return Cell(("-",), "faint")
    return (
        Cell(("too few",), "faint") if figure.hidden else Cell((wording.percent(figure.estimate),))
    )


def _interval_words(figure: Figure, *, exact: bool = False) -> str:
    """Return a change in points with its 90 % interval; figures stay on their side of the margin."""
    change, margin = figure.change, figure.margin or 0.0
    if change is None or change.hidden:
        return "not measured" if change is None else "too few"
    near = (0.0, -margin if figure.fall_is_bad else margin)
    estimate = wording.points(change.estimate, near)
    return estimate if exact else f"{estimate} {wording.point_limits(change.interval90, near)}"


def _models_sheet(glance: Overview, result: StudyResult, setting: SettingResult) -> Sheet:
    scorers = scored_in(condition.capability for condition in setting.conditions)[:1]
    largest = sorted(
        glance.fine_tunes,
        key=lambda tune: -abs(tune.harm.change.estimate) if tune.harm.change else 0.0,
    )[:MOST_ROWS]
    tunes = {tune.condition.name: tune for tune in largest}
    rows = []
    for condition in setting.conditions:
        tune = tunes.get(condition.name)
        if tune is None and condition.base is not None:
            continue
        figures = {figure.name: figure for figure in tune.figures} if tune else {}
        rows.append(
            (
                Cell((wording.clean(condition.name),)),
                _level_cell(condition.asr.overall),
                _change_cell(tune.harm if tune else None),
                _beside_cell(condition.over_refusal.overall, figures.get(Side.OVER_REFUSAL.value)),
                *(
                    _beside_cell(overall_of(condition.capability, name), figures.get(name))
                    for name in scorers
                ),
                Cell(
                    (tune.standing.value.lower() if tune else "",),
                    TONES[tune.standing] if tune else "faint",
                ),
            )
        )
    return Sheet(
        title="Models",
        headers=(
            "",
            "ASR" if result.name_rate == "ASR" else "answered",
            "change [95 %]",
            "refusals",
            *map(wording.clean, scorers),
            "",
        ),
        rows=tuple(rows),
        spare=tuple(range(4, 4 + len(scorers))),
    )


def _change_cell(figure: Figure | None) -> Cell:
    change = figure.change if figure else None
    if change is None:
        return Cell(("",))
    if change.hidden:
        return Cell(("too few",), "faint")
    direction = shown(change)
    tone: Tone = "bad" if direction > 0 else "good" if direction < 0 else "plain"
    return Cell(
        (f"{wording.points(change.estimate)} {wording.point_limits(change.interval)}",), tone
    )


def _beside_cell(figure: Rate | Score | None, moved: Figure | None) -> Cell:
    """Return a level, coloured where its change was shown."""
    cell = _level_cell(figure)
    if moved is None or moved.change is None or not (direction := shown(moved.change)):
        return cell
    worse = (direction < 0) if moved.fall_is_bad else (direction > 0)
    return Cell(cell.lines, "bad" if worse else "good")


def worst_line(condition: ConditionResult, worst: WorstTask, *, named: bool) -> str:
    """Return the task with the largest rise in a sentence.

    Args:
        condition: the fine-tune.
        worst: its worst task.
        named: with the fine-tune's name, where there are several.
    """
    base = "" if worst.base is None else f" from {wording.percent(worst.base.estimate)}"
    tolerated = "" if worst.margin is None else f" ({100 * worst.margin:g} tolerated)"
    name = f" with {wording.quoted(condition.name)}" if named else ""
    return (
        f"Worst task: {wording.clean(worst.task)}{name},{base} to {wording.percent(worst.tuned.estimate)}, "
        f"{wording.points(worst.change.estimate)} points {wording.point_limits(worst.change.interval90)}{tolerated}."
    )


@dataclass(frozen=True, slots=True)
class Step:
    """A command to type next, and what it is for."""

    command: str
    purpose: str
    on_page: bool = True
    """False where the page itself has what the command shows."""


def next_steps(
    glance: Overview,
    gate: GateResult | None,
    *,
    to_mix: Sequence[str],
    references: Sequence[str],
    repair_options: Sequence[str],
    folder: str,
) -> tuple[Step, ...]:
    """Return the commands to type after a result.

    Args:
        glance: the result at a glance.
        gate: its verdict; None for a study.
        to_mix: the file of training rows that safety data would be mixed into, and the options that name other rows than the bundled ones.
        references: the base and the fine-tunes of a check.
        repair_options: the words of the check's command line that a repair takes too.
        folder: the run's.
    """
    shares = ["--share", "0.15", "--replay", "0.15"]
    mix = shlex.join(["aftertune", "mix", *to_mix, *shares, "-o", "mixed.jsonl"])
    mend = Step(mix, "Mix safety data into the training file, train again, check again:")
    tables = Step(
        shlex.join(["aftertune", "report", folder, "--full"]), "See every table:", on_page=False
    )
    labels = Step(
        shlex.join(["aftertune", "label", "serve", folder]),
        "See whether the judge is right: label a blind sample in the browser:",
    )
    if gate is not None and gate.verdict is GateVerdict.FAIL:
        if len(references) != BASE_AND_ONE:
            return mend, tables
        repair = ["aftertune", "repair", *references, *repair_options, "-o", "mended"]
        own_task = ["--own-task", "held-out.jsonl", "--own-score", "exact"]
        return (
            Step(
                shlex.join([*repair, *own_task]),
                "Mend the weights without training again (held-out.jsonl: rows of your task that it was not trained on):",
            ),
            mend,
            tables,
        )
    if gate is not None:
        return labels, tables
    less_safe = any(tune.standing is Standing.LESS_SAFE for tune in glance.fine_tunes)
    return (mend, labels, tables) if less_safe else (labels, tables)
