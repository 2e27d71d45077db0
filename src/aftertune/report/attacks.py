"""Tables, a figure and sentences of a study's attacks; rates without attack stand beside them and are in none of them."""

from collections.abc import Callable, Iterator, Mapping

from aftertune.core.records import NO_ATTACK
from aftertune.measure.attack_results import (
    AttackedCondition,
    AttackedSetting,
    AttackFigures,
    WorstAttack,
)
from aftertune.measure.results import Breakdown, Change, ConditionResult, Rate, StudyResult
from aftertune.report import wording
from aftertune.report.cells import (
    BLANK,
    MISSING,
    Cell,
    Sheet,
    change_cell,
    harmful_word,
    in_order,
    part,
    rate_cell,
    shown,
    unclear_cell,
)
from aftertune.report.drawing import Colour, Drawing
from aftertune.report.plots import Row, interval_plot

TWINS = "twins refused"


def attack_sheets(result: StudyResult, setting: AttackedSetting) -> tuple[list[Sheet], list[Sheet]]:
    """Return the tables of one setting's attacks: those that stand on a page, and those that it keeps folded."""
    main = [rates_sheet(result, setting), worst_sheet(result, setting)]
    more = [by_task_sheet(result, setting), gains_sheet(result, setting), unclear_sheet(setting)]
    guards = sorted({g for c in setting.conditions for a in c.attacks.values() for g in a.guards})
    more += [guard_sheet(result, setting, guard) for guard in guards]
    return (
        [sheet for sheet in main if sheet.rows],
        [sheet for sheet in more if sheet.rows and len(sheet.headers) > 2],
    )


def _plain(result: StudyResult, setting: AttackedSetting) -> Mapping[str, ConditionResult]:
    """Return the results without attack of the same setting, by condition."""
    return {
        condition.name: condition
        for other in result.settings
        if (other.system, other.decoding) == (setting.system, setting.decoding)
        for condition in other.conditions
    }


def _under(setting: AttackedSetting) -> Iterator[tuple[str, AttackedCondition, AttackFigures]]:
    """Yield attacks with the conditions under each, in the order of the study."""
    for attack in setting.attacks:
        for condition in setting.conditions:
            if attack in condition.attacks:
                yield attack, condition, condition.attacks[attack]


def _names(attack: str, condition: str) -> tuple[Cell, Cell]:
    return Cell((wording.clean(attack),)), Cell((wording.clean(condition),))


def rates_sheet(result: StudyResult, setting: AttackedSetting) -> Sheet:
    """Return the main table: attack by condition, the prompts without attack first."""
    rate = result.name_rate
    rows = [
        (
            *_names(NO_ATTACK, condition.name),
            rate_cell(condition.asr.overall),
            change_cell(part(condition.asr_change), up_is="bad"),
            BLANK,
            BLANK,
            rate_cell(condition.over_refusal.overall),
        )
        for condition in _plain(result, setting).values()
        if condition.name in {attacked.name for attacked in setting.conditions}
    ]
    rows += [
        (
            *_names(attack, condition.name),
            rate_cell(figures.asr.overall),
            change_cell(part(figures.asr_change), up_is="bad"),
            change_cell(part(figures.effect), up_is="bad"),
            change_cell(part(figures.change_of_change), up_is="bad"),
            rate_cell(figures.over_refusal.overall),
        )
        for attack, condition, figures in _under(setting)
    ]
    return Sheet(
        title=f"{rate} under attacks",
        headers=(
            "attack",
            "condition",
            rate,
            "change",
            "attack's effect",
            "change of the change",
            TWINS,
        ),
        rows=tuple(rows),
        legend=(
            (
                f"change: points of {rate} against the base under the same attack; attack's effect: points against the same model without "
                "attack; change of the change: what fine-tuning added to that effect. p-values: Holm over the attacks of a condition. "
                f"{TWINS}: of the benign twins under the attack; in the rows of {NO_ATTACK}, of all benign prompts. The rows of {NO_ATTACK} "
                "are the headline's, in which no attack counts."
            ),
        ),
    )


def worst_sheet(result: StudyResult, setting: AttackedSetting) -> Sheet:
    """Return the worst attack of each condition, and the attack that fine-tuning helped most."""
    return Sheet(
        title="The worst attack",
        headers=("condition", f"largest {result.name_rate}", "largest change of the change"),
        rows=tuple(
            (
                Cell((wording.clean(condition.name),)),
                _worst_cell(condition.worst, points=False),
                _worst_cell(condition.worst_gain, points=True),
            )
            for condition in setting.conditions
        ),
        legend=(
            (
                "The attack with the largest figure. The interval is that of the largest true figure, whichever attack has it: its lower "
                "limit is corrected for the number of attacks (Bonferroni). The estimate was picked, and tends to be too large."
            ),
        ),
    )


def _worst_cell(worst: WorstAttack | None, *, points: bool) -> Cell:
    if worst is None:
        return MISSING
    figure = wording.points(worst.estimate) if points else wording.percent(worst.estimate)
    limits = wording.point_limits(worst.interval) if points else wording.limits(worst.interval)
    return Cell((f"{wording.clean(worst.attack)} {figure}", limits, f"of {worst.attacks}"))


def by_task_sheet(result: StudyResult, setting: AttackedSetting) -> Sheet:
    """Return the rate under each attack by task."""
    title = f"{result.name_rate} under attacks, by task"
    return _tasks_sheet(result, setting, title, lambda figures: figures.asr)


def guard_sheet(result: StudyResult, setting: AttackedSetting, guard: str) -> Sheet:
    """Return the rate under each attack behind a guard, by task."""
    title = f"{result.name_rate} under attacks behind guard {wording.clean(guard)}, by task"
    return _tasks_sheet(result, setting, title, lambda figures: figures.guards[guard])


def _tasks_sheet(
    result: StudyResult,
    setting: AttackedSetting,
    title: str,
    of: Callable[[AttackFigures], Breakdown[Rate]],
) -> Sheet:
    tasks = in_order(result, (of(figures).by_task for *_, figures in _under(setting)))
    return Sheet(
        title=title,
        headers=("attack", "condition", *map(wording.clean, tasks)),
        rows=tuple(
            (
                *_names(attack, condition.name),
                *(rate_cell(part(of(figures), "by_task", task)) for task in tasks),
            )
            for attack, condition, figures in _under(setting)
        ),
    )


def gains_sheet(result: StudyResult, setting: AttackedSetting) -> Sheet:
    """Return the change of the change by task, of the fine-tunes."""
    tuned = [
        (attack, condition, gains)
        for attack, condition, figures in _under(setting)
        if (gains := figures.change_of_change) is not None
    ]
    tasks = in_order(result, (gains.by_task for *_, gains in tuned))
    return Sheet(
        title="Change of the change, by task",
        headers=("attack", "condition", *map(wording.clean, tasks)),
        rows=tuple(
            (
                *_names(attack, condition.name),
                *(change_cell(part(gains, "by_task", task), up_is="bad") for task in tasks),
            )
            for attack, condition, gains in tuned
        ),
        legend=("p-values: Holm over the tasks of an attack, not over attacks; exploratory.",),
    )


def unclear_sheet(setting: AttackedSetting) -> Sheet:
    """Return the incoherent and undecided responses under each attack, with the bounds that they imply."""
    return Sheet(
        title="Incoherent and undecided responses under attacks",
        headers=("attack", "condition", "harmful prompts", "benign twins", "change of the change"),
        rows=tuple(
            (
                *_names(attack, condition.name),
                unclear_cell(figures.asr.overall),
                unclear_cell(figures.over_refusal.overall),
                _bounds_cell(part(figures.change_of_change)),
            )
            for attack, condition, figures in _under(setting)
        ),
        legend=(
            (
                "inc.: incoherent; und.: undecided; in brackets the interval if they counted. change of the change: its least and greatest "
                "value if they counted on one side and not on the other. An attack that a model cannot read makes it answer nonsense."
            ),
        ),
    )


def _bounds_cell(change: Change | None) -> Cell:
    if change is None or change.bounds is None:
        return BLANK
    return Cell((wording.point_limits(change.bounds),))


def attacks_picture(result: StudyResult, setting: AttackedSetting) -> Drawing | None:
    """Return the rate of every condition without attack and under each; None without figures."""
    plain = [(c.name, c.asr.overall, None) for c in _plain(result, setting).values()]
    groups = [(NO_ATTACK, [row for row in map(_picture_row, plain) if row is not None])]
    for attack in setting.attacks:
        figures = [
            (c.name, c.attacks[attack].asr.overall, part(c.attacks[attack].change_of_change))
            for c in setting.conditions
            if attack in c.attacks
        ]
        rows = [row for row in map(_picture_row, figures) if row is not None]
        groups.append((wording.clean(attack), rows))
    return interval_plot(
        "attacks",
        f"{result.name_rate} under attacks",
        f"{harmful_word(result).capitalize()} of all responses to harmful prompts, with 95 % intervals. Red: fine-tuning made the attack "
        "work better (change of the change, shown); green: worse.",
        groups,
        "percent",
    )


def _picture_row(figure: tuple[str, Rate | None, Change | None]) -> Row | None:
    name, rate, gain = figure
    if rate is None or rate.hidden:
        return None
    direction = 0 if gain is None else shown(gain)
    paint = {1: Colour.BAD, 0: Colour.OPEN, -1: Colour.GOOD}[direction]
    return Row(
        label=wording.clean(name),
        value=100 * rate.estimate,
        low=100 * rate.interval.low,
        high=100 * rate.interval.high,
        paint=paint,
        hollow=not direction,
        behind=wording.percent(rate.estimate),
    )


def attack_sentences(result: StudyResult, setting: AttackedSetting) -> Iterator[str]:
    """Yield for each fine-tune its worst attack, and the attacks that fine-tuning made work better or worse."""
    for condition in setting.conditions:
        worst = condition.worst
        if condition.base is None or worst is None:
            continue
        name, attack = wording.clean(condition.name), wording.clean(worst.attack)
        yield (
            f"Under attacks: {name} is worst under {attack}, {result.name_rate} {wording.percent(worst.estimate)} "
            f"{wording.limits(worst.interval)} (largest of {worst.attacks}). {_gains(condition)}"
        )


def _gains(condition: AttackedCondition) -> str:
    gains = {
        wording.clean(attack): gain
        for attack, figures in condition.attacks.items()
        if (gain := part(figures.change_of_change)) is not None
    }
    better = [name for name, gain in gains.items() if shown(gain) > 0]
    weaker = [name for name, gain in gains.items() if shown(gain) < 0]
    parts = [
        *([f"raised the effect of {wording.listing(better)}"] if better else []),
        *([f"lowered that of {wording.listing(weaker)}"] if weaker else []),
    ]
    if not parts:
        return "No change of an attack's effect by fine-tuning was shown."
    return f"Fine-tuning {' and '.join(parts)}."
