"""Any models of a setting as the training seeds of one fine-tune, and against those of another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aftertune.measure.capability import capability_of
from aftertune.measure.cells import Cells
from aftertune.measure.differences import compare
from aftertune.measure.grids import Grid, arms, grid
from aftertune.measure.plan import MeasurePlan
from aftertune.measure.rates import Kind, rate
from aftertune.measure.results import Breakdown, Comparison, Rate, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """One setting of a study."""

    cells: Cells
    plan: MeasurePlan
    setting: int
    weights: Mapping[int, float]
    """Of the tasks, by code."""
    harmful: Kind
    refused: Kind

    def compare(self, ones: Sequence[str], others: Sequence[str], name: str) -> Comparison | None:
        """Compare models with others that are called ``name`` together; None if they share no prompts."""
        both = arms(self.cells, self.setting, self._codes(ones), self._codes(others), self.weights)
        return (
            None if both is None else compare(both, name, (self.harmful, self.refused), self.plan)
        )

    def score(self, model: str, scorer: str) -> Breakdown[Score] | None:
        """Return a task score of one model."""
        own = self._grid([model])
        return None if own is None else capability_of(own, scorer, self.plan)

    def rates(self, models: Sequence[str]) -> tuple[Rate | None, Rate | None]:
        """Return ASR and over-refusal of models; None where they were asked no such prompts."""
        own = self._grid(models)
        if own is None:
            return None, None
        return self._rate(own, self.harmful, harmful=True), self._rate(
            own, self.refused, harmful=False
        )

    def _rate(self, own: Grid, what: Kind, *, harmful: bool) -> Rate | None:
        part = own.choose("overall", 0, own.intent(harmful=harmful))
        return None if part is None else rate(own, part, what, self.plan.min_cell)

    def _grid(self, models: Sequence[str]) -> Grid | None:
        return grid(self.cells, self.setting, self._codes(models), self.weights)

    def _codes(self, models: Sequence[str]) -> list[int]:
        return [self.cells.names["model"].index(model) for model in models]
