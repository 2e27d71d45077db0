"""What human labels make of a study's rates, ready for JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from aftertune.measure.quantities import Breakdown, Interval, Jsonable


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedRate(Jsonable):
    """An ASR (or a rate of over-refusal) corrected by human labels, or why it is not."""

    estimate: float | None
    """None where it was refused."""
    interval: Interval | None
    labels: int
    judged_harmful: int
    """Of them, called harmful (over-refused) by the judge, the panel or behind the guard whose rate it is."""
    labels_only: float
    """What the labels say by themselves, weighted by how they were drawn."""
    labels_only_interval: Interval
    """Of these responses: labels by themselves say nothing of other prompts and training seeds."""
    refused: str | None
    """Why there is no corrected rate, in words; None where there is one."""
    undecided: int = 0
    """Labels that left it undecided (where several people labelled a response, one of them did)."""
    bounds: Interval | None = None
    """From the lower limit to the upper one that would be if what people left undecided had been harmful; None where they
    left nothing undecided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedChange(Jsonable):
    """A change of the ASR corrected by labels of both arms, or why it is not."""

    estimate: float | None
    interval: Interval | None
    p_value: float | None
    """Two-sided, against no change."""
    labels: tuple[int, int]
    """Of the fine-tune, and of its base."""
    refused: str | None
    p_adjusted: float | None = None
    """Adjusted over the family that the judge's change belongs to; None outside one."""
    adjustment: str | None = None
    """As `quantities.Change.adjustment`."""
    bounds: tuple[float, float] | None = None
    """The change if what people left undecided had been harmful in the base alone, and in the fine-tune alone; None where
    they left nothing undecided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeErrors(Jsonable):
    """One judge against people in one condition; shares are weighted by how the labels were drawn."""

    both: int
    judge_only: int
    people_only: int
    neither: int
    """Raw counts of labels: harmful to both, to the judge alone, to people alone, to neither."""
    sensitivity: float | None
    sensitivity_interval: Interval | None
    """None without a harmful label."""
    specificity: float | None
    specificity_interval: Interval | None
    bias: float
    """The judge's rate minus the truth, as a share; equal errors bias models of different ASR differently."""
    bias_interval: Interval
    agreement: float
    kappa: float | None
    ac1: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDifference(Jsonable):
    """Whether the deciding judge errs differently on a fine-tune than on its base."""

    sensitivity: Interval | None
    specificity: Interval | None
    """Of the difference, fine-tune minus base; level 97.5 % each, so 95 % together."""
    bias: float
    bias_interval: Interval
    """Of the difference of biases: what the raw change owes to the judge."""
    differs: bool
    """One of the two intervals excludes 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLabels(Jsonable):
    """The rates behind one guard, corrected: what it passes is known, what of it is harmful people say."""

    asr: Breakdown[CorrectedRate]
    asr_change: Breakdown[CorrectedChange] | None
    """Against the base behind the same guard; None for a base."""
    asr_difference: Breakdown[CorrectedChange] | None
    """Change with the guard minus change without it; None for a base."""
    over_refusal: Breakdown[CorrectedRate]
    bypass: Breakdown[CorrectedRate]
    """Of what people call harmful: passed by the guard."""
    bypass_change: Breakdown[CorrectedChange] | None = None
    """Against the base; None for a base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionLabels(Jsonable):
    """Everything that human labels say about one condition under one setting; names without a label are absent."""

    labels: int
    """Of responses to harmful prompts."""
    asr: Breakdown[CorrectedRate]
    asr_change: Breakdown[CorrectedChange] | None
    """Against the base; None for a base, or without labels of it."""
    judges: Mapping[str, JudgeErrors]
    against_base: ErrorDifference | None
    benign: int = 0
    """Labels of responses to benign prompts."""
    over_refusal: Breakdown[CorrectedRate] = field(default_factory=lambda: Breakdown(overall=None))
    over_refusal_change: Breakdown[CorrectedChange] | None = None
    judge_rates: Mapping[str, Breakdown[CorrectedRate]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """The ASR from every judge by itself, corrected: with enough labels all of them estimate the same."""
    guards: Mapping[str, GuardLabels] = field(default_factory=lambda: MappingProxyType({}))
    refusal_against_base: ErrorDifference | None = None
    """`against_base` for over-refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairAgreement(Jsonable):
    """Two judges on the responses to harmful prompts that both decided."""

    both: int
    first_only: int
    second_only: int
    neither: int
    agreement: float
    kappa: float | None
    kappa_interval: tuple[float, float] | None
    """95 %, by resampling behaviors; None where it is not defined."""
    ac1: float | None
    ac1_interval: tuple[float, float] | None
    rare: bool
    """Fewer than 10 % (or more than 90 %) are harmful to the judges together: kappa is low whatever they do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeAgreement(Jsonable):
    """All judges of a condition, overall or in one task."""

    pairs: Mapping[str, PairAgreement]
    """By ``judge | judge``."""
    alpha: float | None
    """Krippendorff's, nominal, over all judges; responses that one of them left undecided take part with the others."""
    alpha_interval: tuple[float, float] | None
