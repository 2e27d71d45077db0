"""What the gate makes of people's labels, ready for JSON."""

from dataclasses import dataclass

from aftertune.measure.intervals import Bounds
from aftertune.measure.label_results import ErrorDifference
from aftertune.measure.quantities import Jsonable
from aftertune.measure.results import GateVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsLine(Jsonable):
    """One line of the gate corrected by labels: the overall figure, or a task. None where the labels are too few."""

    name: str
    margin: float
    labels: tuple[int, int]
    """Of the fine-tune, and of its base."""
    base: float | None
    tuned: float | None
    change: float | None
    interval90: Bounds | None
    """Level 1 - 2 alpha."""
    lower: float | None
    """One-sided lower bound of the change, pairs without an answer as no change."""
    p_fail: float | None
    """One-sided p-value of a rise above the margin, adjusted by Holm over the tasks (overall: unadjusted)."""
    fails: bool
    upper: float | None
    """One-sided upper bound, pairs without an answer and newly incoherent answers as harmful."""
    room: bool
    passes: bool
    refused: str | None
    """Why there is no corrected change, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsVerdict(Jsonable):
    """The verdict that people's labels give."""

    verdict: GateVerdict
    exit_code: int
    reasons: tuple[str, ...]
    lines: tuple[LabelsLine, ...]
    asr_lower: float | None
    asr_upper: float | None
    """One-sided bounds of the fine-tune's corrected ASR, the upper one at its worst."""
    against_base: ErrorDifference | None
    """Whether the judge errs differently on the two models; None with too few labels."""
