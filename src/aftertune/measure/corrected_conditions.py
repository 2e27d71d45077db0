"""Everything that human labels say about a condition: each of its figures corrected, where enough labels stand behind it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from aftertune.measure.averaging import Layout
from aftertune.measure.cells import Tally
from aftertune.measure.corrected import (
    corrected_change,
    corrected_rate,
    error_difference,
    judge_errors,
)
from aftertune.measure.corrected_bypass import Labels, corrected_bypass, corrected_bypass_change
from aftertune.measure.corrections import HARMFUL, Figure, LabelledRows, figure
from aftertune.measure.grids import Arms, Grid, breakdown
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.rates import adjust
from aftertune.measure.results import (
    Breakdown,
    ConditionLabels,
    CorrectedChange,
    CorrectedRate,
    ErrorDifference,
    GuardLabels,
)

REFUSED: Tally = ("decided", "over-refused")
_TASKS = ("task",)
_SETS = ("task", "set", "harm_basis")
_EVERY = (*_SETS, "hazard")
T = TypeVar("T")
Finder = Callable[[Layout, Tally], Figure | None]
Comparer = Callable[[Finder, Finder, Layout, int], CorrectedChange | None]
"""Of what finds the labels of the fine-tune and of the base, the part, and the training seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A condition with what finds the labels of its figures, and the same for both arms of its comparison."""

    own: Grid
    of_own: Finder
    arms: Arms | None
    of_arms: tuple[Finder, Finder] | None
    """Of the fine-tune and of its base; None for a base."""
    families: Sequence[str]
    """In which p-values are adjusted."""

    def rates(
        self, what: Tally, dimensions: tuple[str, ...], *, harmful: bool = True
    ) -> Breakdown[CorrectedRate]:
        """Return the corrected rates of an outcome; names without a label are absent."""
        chosen = self.own.intent(harmful=harmful)
        found = breakdown(
            self.own,
            chosen,
            lambda part: corrected_rate(self.of_own(part, what), self.own.seeds),
            dimensions,
        )
        return _present(found)

    def changes(
        self, what: Tally, dimensions: tuple[str, ...], *, harmful: bool = True
    ) -> Breakdown[CorrectedChange] | None:
        """Return the corrected changes of an outcome; None for a base."""
        return self.compared(
            lambda tuned, base, part, seeds: corrected_change(
                tuned(part, what), base(part, what), seeds
            ),
            dimensions,
            harmful=harmful,
        )

    def compared(
        self, compare: Comparer, dimensions: tuple[str, ...], *, harmful: bool = True
    ) -> Breakdown[CorrectedChange] | None:
        """Return the same of anything that is made of the labels of both arms."""
        if self.arms is None or self.of_arms is None:
            return None
        (tuned, base), grid = self.of_arms, self.arms.tuned
        found = breakdown(
            grid,
            grid.intent(harmful=harmful),
            lambda part: compare(tuned, base, part, grid.seeds),
            dimensions,
        )
        return adjust(_present(found), self.families)


def finder(labelled: LabelledRows, grid: Grid, models: list[int], setting: int) -> Finder:
    """Return what finds the labels of a figure of one arm."""
    return lambda part, what: figure(
        labelled, grid, models, setting, part, (what[0], grid.counts(what))
    )


def condition_labels(plan: MeasurePlan, found: Labelled) -> ConditionLabels | None:
    """Return what human labels say about a condition; None without a label of it."""
    harmful, benign = (
        _whole(found, what, harmful=yes) for what, yes in ((HARMFUL, True), (REFUSED, False))
    )
    if harmful is None and benign is None:
        return None
    seeds = found.own.seeds
    by_hazard = _EVERY if "hazard" in plan.families else _SETS
    decided = harmful and harmful.decided()
    judged = decided is not None and decided.sample is not None
    return ConditionLabels(
        labels=0 if harmful is None else len(harmful.truth),
        benign=0 if benign is None else len(benign.truth),
        asr=found.rates(HARMFUL, _EVERY),
        asr_change=found.changes(HARMFUL, by_hazard),
        over_refusal=found.rates(REFUSED, _SETS, harmful=False),
        over_refusal_change=found.changes(REFUSED, _SETS, harmful=False),
        judges={judge: judge_errors(decided, judge, seeds) for judge in plan.judges}
        if decided and judged
        else {},
        judge_rates={
            judge: found.rates((f"judge:{judge}", "harmful"), _TASKS) for judge in plan.judges
        },
        guards={guard: _behind(found, guard) for guard in plan.guards},
        against_base=_against(found, HARMFUL, harmful=True),
        refusal_against_base=_against(found, REFUSED, harmful=False),
    )


def _whole(found: Labelled, what: Tally, *, harmful: bool) -> Figure | None:
    part = found.own.choose("overall", 0, found.own.intent(harmful=harmful))
    return None if part is None else found.of_own(part, what)


def _behind(found: Labelled, guard: str) -> GuardLabels:
    """Correct what a guard's table says: whether a response is passed is known, whether it is harmful is not."""
    behind, refused, held = (
        (f"guard:{guard}", "harmful"),
        (f"guard:{guard}", "over-refused"),
        (f"held:{guard}", "harmful"),
    )
    taken = found.changes(held, _TASKS)
    return GuardLabels(
        asr=found.rates(behind, _SETS),
        asr_change=found.changes(behind, _TASKS),
        asr_difference=None if taken is None else _turned(taken),
        over_refusal=found.rates(refused, _TASKS, harmful=False),
        bypass=_bypass(found, behind),
        bypass_change=found.compared(
            lambda tuned, base, part, seeds: corrected_bypass_change(
                _both(tuned, part, behind), _both(base, part, behind), seeds
            ),
            _TASKS,
        ),
    )


def _both(finds: Finder, part: Layout, behind: Tally) -> Labels:
    return Labels(passed=finds(part, behind), harmful=finds(part, HARMFUL))


def _bypass(found: Labelled, behind: Tally) -> Breakdown[CorrectedRate]:
    chosen, of_own, seeds = found.own.intent(harmful=True), found.of_own, found.own.seeds
    return _present(
        breakdown(
            found.own,
            chosen,
            lambda part: corrected_bypass(_both(of_own, part, behind), seeds),
            _TASKS,
        )
    )


def _against(found: Labelled, what: Tally, *, harmful: bool) -> ErrorDifference | None:
    """Return whether the deciding judge errs differently on the fine-tune; None for a base."""
    if found.arms is None or found.of_arms is None:
        return None
    part = found.arms.tuned.choose("overall", 0, found.arms.tuned.intent(harmful=harmful))
    if part is None:
        return None
    tuned, base = (of(part, what) for of in found.of_arms)
    return error_difference(tuned, base, found.arms.tuned.seeds)


def _turned(held: Breakdown[CorrectedChange]) -> Breakdown[CorrectedChange]:
    """Return changes of what a guard holds back as what it does to the changes of what gets through."""
    return Breakdown(
        overall=None if held.overall is None else _negative(held.overall),
        by_task={name: _negative(change) for name, change in held.by_task.items()},
    )


def _negative(change: CorrectedChange) -> CorrectedChange:
    if change.estimate is None or change.interval is None:
        return change
    interval = replace(change.interval, low=-change.interval.high, high=-change.interval.low)
    return replace(change, estimate=-change.estimate, interval=interval)


def _present(parts: Breakdown[T | None]) -> Breakdown[T]:
    """Leave out the names without a label."""
    return Breakdown(
        overall=parts.overall,
        by_task=_known(parts.by_task),
        by_set=_known(parts.by_set),
        by_harm_basis=_known(parts.by_harm_basis),
        by_hazard=_known(parts.by_hazard),
    )


def _known(found: Mapping[str, T | None]) -> dict[str, T]:
    return {name: figure for name, figure in found.items() if figure is not None}
