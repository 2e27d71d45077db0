"""Results of a measurement as typed records: every figure knows its counts, its method and its scope.

Nothing is rounded. Formats (`FORMAT`): 1, the first.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Generic, Literal, TypeVar

from aftertune.core.rounding import percent, points
from aftertune.measure.plan import RateName

FORMAT = 1
LEAST_LABELS = 50
"""Labels of a figure below which nothing is corrected by them."""
Bounds = tuple[float, float]
RuleName = Literal["fixed", "exact", "sequential"]
T = TypeVar("T")


class Scope(Enum):
    """The models and prompts that an interval speaks of. The value is its wording in results and print."""

    CHECKPOINT = "this checkpoint, prompts like these"
    CHECKPOINT_HERE = "this checkpoint, these prompts"
    CHECKPOINTS = "these checkpoints, prompts like these"
    """Several training seeds, and no word on new ones."""
    CHECKPOINTS_HERE = "these checkpoints, these prompts"
    RECIPE = "the recipe, prompts like these"
    RECIPE_HERE = "the recipe, these prompts"
    """New training seeds on the same prompts: what another lab sees that repeats the training."""
    RESPONSES = "these responses"
    """Labels by themselves speak neither of other prompts nor of other training seeds."""

    @property
    def of_recipe(self) -> bool:
        """True where the scope includes new training seeds."""
        return self in (Scope.RECIPE, Scope.RECIPE_HERE)

    @property
    def models(self) -> str:
        """The first half of the wording: ``the recipe``, ``this checkpoint``."""
        return self.value.partition(",")[0]


def scope(seeds: int) -> Scope:
    """Return the scope of an interval over behaviors and training seeds: with one seed only this checkpoint."""
    return Scope.RECIPE if seeds > 1 else Scope.CHECKPOINT


def scope_of_checkpoints(seeds: int, *, these_prompts: bool) -> Scope:
    """Return a scope without new training seeds."""
    if seeds == 1:
        return Scope.CHECKPOINT_HERE if these_prompts else Scope.CHECKPOINT
    return Scope.CHECKPOINTS_HERE if these_prompts else Scope.CHECKPOINTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval with what it may be said about."""

    low: float
    high: float
    level: float
    """Two-sided confidence level, 0.95 unless said otherwise."""
    method: str
    scope: Scope


SHARE, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)
"""The ends of a share and of a difference of shares, at which their intervals are cut."""
CHANGE_OF_CHANGE = (-2.0, 2.0)
"""The ends of a difference of two differences of shares."""


def interval(
    limits: Bounds,
    method: str,
    scope: Scope,
    level: float = 0.95,
    ends: Bounds = (-math.inf, math.inf),
) -> Interval:
    """Return an interval from its limits, cut at the ends of what is possible."""
    low, high = max(limits[0], ends[0]), min(limits[1], ends[1])
    return Interval(low=low, high=high, level=level, method=method, scope=scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """The noise of a figure whose very same calls were made several times, as shares (0.01 = 1 point)."""

    replicates: int
    """The number of times, R."""
    floor: float
    """The noise floor: half width of the 95 % interval that noise alone gives the figure, a mean over all replicates, on
    these very prompts."""
    one_run: float
    """The same for a figure that is asked once."""
    run_sd: float
    """Standard deviation of the effect of a whole run; 0 where the replicates differ no more than single answers explain."""
    turned: float
    """Share of the behaviors whose value is not the same in every replicate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure that is averaged inside behaviors first, with its interval."""

    estimate: float
    behaviors: int
    seeds: int
    """Training seeds."""
    interval: Interval
    """Level 0.95."""
    hidden: bool
    """Fewer behaviors than the plan's ``min_cell``: kept in the data, hidden in print."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(Estimate):
    """A share of responses in [0, 1] (ASR, over-refusal, false blocks)."""

    k: int
    """Raw count of the responses that it counts."""
    n: int
    """Raw count of all responses, undecided and incoherent ones included."""
    samples: int
    """Responses per behavior and training seed (tasks x templates x samples x decoding seeds); the largest if unequal."""
    undecided: int
    incoherent: int
    bounds: Interval
    """From the interval's lower limit to the upper limit when undecided and incoherent responses count too."""
    unequal: bool
    """Cells or weights are unequal, so the estimate is not k / n and the count is marked raw."""
    noise: Noise | None = None
    """The noise of asking the same again; None without replicates."""

    def __str__(self) -> str:
        """Return ``15.5 % (31 of 200)``."""
        raw = "raw " if self.unequal else ""
        return f"{percent(self.estimate)} ({raw}{self.k} of {self.n})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score(Estimate):
    """A mean score in [0, 1] of benign responses."""

    n: int
    unequal: bool

    def __str__(self) -> str:
        """Return ``0.831 (n = 200)``."""
        return f"{self.estimate:.3f} (n = {self.n})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence(Estimate):
    """A mean KL divergence of the first token, base to fine-tune, on benign prompts (nats, 0 and more)."""

    prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """The 2 x 2 table of paired yes/no outcomes (a, b, c, e of the literature)."""

    both: int
    tuned_only: int
    base_only: int
    neither: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Estimate):
    """A paired change from base to fine-tune, as a difference of shares (0.21 = 21 points)."""

    interval90: Interval
    """Level 0.90."""
    p_value: float
    """Two-sided, against no change."""
    method: str
    """The test that gave the p-value."""
    pairs: Pairs | None
    """Only with one task, one template, one sample and one training seed."""
    bounds: tuple[float, float] | None
    """The change if undecided and incoherent base responses counted and tuned ones did not, and the reverse; None for
    scores."""
    p_adjusted: float | None = None
    """Adjusted over the declared family; None outside one."""
    adjustment: str | None = None
    """``Holm over tasks`` or ``Benjamini-Hochberg over hazards, exploratory``."""
    noise: Noise | None = None
    """The noise of asking the same again; None without replicates."""

    @property
    def inside_noise(self) -> bool:
        """True where noise alone could make the change: asked again, the same prompts might show none, or its opposite."""
        return self.noise is not None and 0 < abs(self.estimate) <= self.noise.floor

    def __str__(self) -> str:
        """Return ``+21.0 points [+12.4, +30.1]``."""
        return f"{points(self.estimate)} points [{points(self.interval.low)}, {points(self.interval.high)}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown(Generic[T]):
    """One figure overall and along each dimension; a name without data is absent."""

    overall: T | None
    """None when there is nothing to average."""
    by_task: Mapping[str, T] = field(default_factory=lambda: MappingProxyType({}))
    by_set: Mapping[str, T] = field(default_factory=lambda: MappingProxyType({}))
    by_harm_basis: Mapping[str, T] = field(default_factory=lambda: MappingProxyType({}))
    by_hazard: Mapping[str, T] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate(Estimate):
    """A mean share of comparisons won against the base, in [0, 1]; one half is even."""

    n: int
    """Pairs of answers."""
    undecided: int
    """Pairs of which at least one order was not decided."""
    bounds: tuple[float, float]
    """If everything undecided were lost, and if it were won."""
    p_value: float
    """Two-sided, against one half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """The share of a rise that a mitigation undoes: 1 brings the base's rate back, more goes below it."""

    estimate: float
    low: float | None
    """95 %, over behaviors and training seeds; None where it is open, as the rise may be nothing."""
    high: float | None
    behaviors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A condition against another fine-tune: differences of shares, the other one subtracted."""

    other: str
    asr: Breakdown[Change]
    over_refusal: Breakdown[Change]
    capability: Mapping[str, Breakdown[Change]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedRates:
    """The rates of one training seed."""

    asr: float
    over_refusal: float
    scores: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Metric -> the mean score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A training seed at its first epoch that reaches the target."""

    training_seed: int | None
    """None where it is not known."""
    model: str | None
    """The chosen checkpoint; None where none reaches the target."""
    epoch: float | None
    score: float | None
    """At the chosen epoch; otherwise the best of all. None where none was scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A fine-tune, each of its seeds at its first epoch that reaches the target."""

    fine_tune: str
    """The condition of its last epoch."""
    epochs: int
    """The number of epochs that were looked at."""
    seeds: tuple[Stopped, ...]
    score: float | None
    """Mean over the seeds that reach the target; otherwise the best of all. None where none was scored."""
    asr: Rate | None
    """The figure of the chosen checkpoints; None where no seed reaches the target."""
    over_refusal: Rate | None
    against: Comparison | None
    """The difference from the fine-tune without mitigation, at its own chosen checkpoints; None without such, or unless
    both reach the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """The comparison at equal capability."""

    scorer: str
    target: float
    set: str | None
    reached: tuple[Reached, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondLabels:
    """The labels that a judge gave beside its verdicts on a condition's responses to harmful prompts."""

    counts: Mapping[str, int]
    """Label -> responses, the most frequent first."""
    n: int
    """All responses, those without a label included."""


class Missing(Enum):
    """The thing that a correction by labels lacks."""

    LABELS = "labels"
    """The figure has too few labels."""
    BASE_LABELS = "labels of the base"
    TUNED_LABELS = "labels of the fine-tune"
    STRATUM = "stratum"
    """A kind of response that the judge tells apart has no label."""
    SLOPE = "slope"
    """The judge follows the labels too little, so that its rates do not tell how the truth varies over training seeds."""
    HARM = "harm"
    """Too few labels of harm for a share of the harmful responses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncorrected:
    """The reason for which a figure is not corrected by labels."""

    missing: Missing
    text: str
    arm: Literal["fine-tune", "base"] | None = None
    """The condition whose labels they are; None where the figure is of one condition."""

    def __str__(self) -> str:
        """Return the reason in words, with the arm."""
        return self.text if self.arm is None else f"{self.arm}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedRate:
    """An ASR (or a rate of over-refusal) corrected by human labels, or why it is not."""

    estimate: float | None
    """None where labels do not correct it."""
    interval: Interval | None
    labels: int
    judged_harmful: int
    """The number of labelled responses that are called harmful (over-refused) by the judge, the panel or behind the guard whose rate it is."""
    labels_only: float
    """The figure by the labels alone, weighted by how they were drawn."""
    labels_only_interval: Interval
    """The interval of these responses: labels by themselves say nothing of other prompts and training seeds."""
    uncorrected: Uncorrected | None
    """The reason for which there is no corrected rate; None where there is one."""
    undecided: int = 0
    """Labels that left it undecided (where several annotators labelled a response, at least one of them did)."""
    bounds: Interval | None = None
    """From the lower limit to the upper limit if the responses that annotators left undecided had been harmful; None where
    they left none undecided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedChange:
    """A change of the ASR corrected by labels of both arms, or why it is not."""

    estimate: float | None
    interval: Interval | None
    p_value: float | None
    """Two-sided, against no change."""
    labels: tuple[int, int]
    """The number of labels of the fine-tune, and of its base."""
    uncorrected: Uncorrected | None
    p_adjusted: float | None = None
    """Adjusted over the family that the judge's change belongs to; None outside one."""
    adjustment: str | None = None
    """The method of the adjustment, as `Change.adjustment`."""
    bounds: tuple[float, float] | None = None
    """The change if the responses that annotators left undecided had been harmful in the base alone, and in the fine-tune
    alone; None where they left none undecided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeErrors:
    """One judge against the annotators in one condition; shares are weighted by how the labels were drawn."""

    both: int
    judge_only: int
    annotators_only: int
    neither: int
    """Raw counts of labels: harmful to both, to the judge alone, to the annotators alone, to neither."""
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
class ErrorDifference:
    """The difference of the deciding judge's errors between a fine-tune and its base."""

    sensitivity: Interval | None
    specificity: Interval | None
    """The interval of the difference, fine-tune minus base; level 97.5 % each, so 95 % together."""
    bias: float
    bias_interval: Interval
    """The interval of the difference of biases: what the raw change owes to the judge."""
    differs: bool
    """One of the two intervals excludes 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLabels:
    """The rates behind one guard, corrected: its decision on a response is known, and labels say whether it is harmful."""

    asr: Breakdown[CorrectedRate]
    asr_change: Breakdown[CorrectedChange] | None
    """Against the base behind the same guard; None for a base."""
    asr_difference: Breakdown[CorrectedChange] | None
    """Change with the guard minus change without it; None for a base."""
    over_refusal: Breakdown[CorrectedRate]
    bypass: Breakdown[CorrectedRate]
    """The share that the guard passes of the responses that annotators call harmful."""
    bypass_change: Breakdown[CorrectedChange] | None = None
    """Against the base; None for a base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionLabels:
    """Everything that human labels say about one condition under one setting; names without a label are absent."""

    labels: int
    """The number of labels of responses to harmful prompts."""
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
class PairAgreement:
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
class JudgeAgreement:
    """All judges of a condition, overall or in one task."""

    pairs: Mapping[str, PairAgreement]
    """By ``judge | judge``."""
    alpha: float | None
    """Krippendorff's, nominal, over all judges; responses that one of them left undecided take part with the others."""
    alpha_interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardResult:
    """A condition behind one guard; the denominators are those without it."""

    asr: Breakdown[Rate]
    over_refusal: Breakdown[Rate]
    """The share of benign prompts that the model refused or the guard blocked."""
    false_blocks: Breakdown[Rate]
    """The share of benign prompts that the guard blocked, whatever the model did."""
    asr_change: Breakdown[Change] | None
    """Against the base behind the same guard; None for a base."""
    asr_difference: Breakdown[Change] | None
    """Change with the guard minus change without it, on matched responses; negative when the guard takes more from
    the fine-tune than from the base. None for a base."""
    bypass: Breakdown[Rate]
    """The share of the harmful responses (by the deciding judge) that the guard passed. Absent where nothing is harmful."""
    bypass_change: Breakdown[Change] | None
    """Against the base; None for a base, a name absent where one of the two has no harmful response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """The number of times that two judges differ on the responses that both of them decided, harmful prompts only."""

    differ: int
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CutAnswers:
    """The number of a model's answers that the token limit cut off, of all its final answers, benign prompts included."""

    cut: int
    n: int


class AnswerKind(Enum):
    """A kind of responses whose style is compared. The value is its wording in results and print."""

    REFUSALS = "refusals of harmful prompts"
    COMPLIANCE = "compliance with harmful prompts"
    BENIGN = "answers to benign prompts"


class StyleFeature(Enum):
    """A feature of style. The value is its wording in results and print."""

    WORDING = "wording"
    """Distance of the words that responses begin with, in [0, 1]."""
    LENGTH = "length"
    """Words of a response."""
    SCORE = "judge's score"
    """The number that the deciding judge gives beside its verdict."""
    SCRIPT = "script"
    """Share of the responses in the script that most responses of the base are written in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleChange:
    """One feature of one kind of responses, on the prompts where both models gave such a response."""

    kind: AnswerKind
    feature: StyleFeature
    behaviors: int
    base: float
    """Mean over the behaviors; of the wording, the distance that chance alone gives."""
    tuned: float
    """Mean over the behaviors; of the wording, the distance from the base."""
    p_value: float
    """The p-value of no change, by random exchanges."""
    p_adjusted: float = 1.0
    """By Holm over the features and kinds of the condition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleDrift:
    """The differences of style between the responses of a fine-tune and its base, within the same outcome."""

    changes: tuple[StyleChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeBounds:
    """The 95 % intervals of a change of the ASR, when the judge's errors run over what was measured on groups of answers."""

    margin: float
    by_group: Mapping[str, Bounds]
    """Group -> the corrected change if the judge errs as on it, on both models alike."""
    alike: Bounds
    """Over all groups."""
    apart: Bounds
    """Over pairs of groups, if it errs as on one on the base and as on another on the fine-tune."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningHarm:
    """Harm in the thinking before the responses to harmful prompts, as one judge finds it; no part of the ASR."""

    present: int
    """Responses to harmful prompts that have a thinking block."""
    rate: Breakdown[Rate]
    """Share of all responses to harmful prompts whose thinking is harmful."""
    change: Breakdown[Change] | None
    """Against the base; None for a base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HazardFigures:
    """The ASR in one hazard of one task; exploratory, since cells are many and behaviors in them few."""

    rate: Rate
    change: Change | None
    """Against the base; its p-value is adjusted by Benjamini-Hochberg over all of them. None for a base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompliedScores:
    """The scores of a condition's harmful responses: a description, without interval or test.

    Which responses are harmful is itself the model's doing, so a difference of two conditions' figures compares answers to
    different prompts.
    """

    n: int
    """Harmful responses with a score."""
    mean: float
    """Over these responses, each counting once."""
    toxic: int | None = None
    """Those that reach the threshold; None for a score without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToxicityFigures:
    """The toxicity of some responses of a condition, whatever their outcome."""

    mean: Breakdown[Score]
    """The mean, overall and by task; over the prompts with a toxicity under every model."""
    share: Breakdown[Rate]
    """The share of responses that reach the threshold; a response without a toxicity is undecided."""
    mean_change: Breakdown[Change] | None = None
    """Paired, against the base; None for a base."""
    share_change: Breakdown[Change] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxicity:
    """A condition's toxicity by one text classifier. No verdict hangs on it."""

    threshold: float
    """The probability from which on a response counts as toxic."""
    responses: ToxicityFigures
    """The figures of all responses."""
    harmful: ToxicityFigures
    """The figures of the responses to harmful prompts."""
    benign: ToxicityFigures
    """The figures of the responses to benign prompts."""
    complied: CompliedScores | None
    """The scores of the harmful responses; None where there is none."""
    cut: int
    """Responses of which the classifier read the beginning only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionResult:
    """Everything about one condition under one setting."""

    name: str
    base: str | None
    seeds: int
    training_seeds: tuple[int, ...]
    asr: Breakdown[Rate]
    over_refusal: Breakdown[Rate]
    capability: Mapping[str, Breakdown[Score]]
    """By scorer; benign prompts with a reference."""
    asr_change: Breakdown[Change] | None
    over_refusal_change: Breakdown[Change] | None
    capability_change: Mapping[str, Breakdown[Change]]
    """Changes against the base; None and empty for a base."""
    guards: Mapping[str, GuardResult]
    judges: Mapping[str, Breakdown[Rate]]
    """The ASR according to every judge by itself."""
    disagreement: Mapping[str, Mapping[str, Disagreement]]
    """``judge | judge`` -> task -> raw disagreement; half of it is a lower bound on the worse judge's error."""
    seed_collapse: float | None
    """Upper 95 % bound on the share of training seeds that collapse though none of these did; None for one seed."""
    agreement: JudgeAgreement | None = None
    """The agreement of the judges; None for one judge."""
    agreement_by_task: Mapping[str, JudgeAgreement] = field(
        default_factory=lambda: MappingProxyType({})
    )
    disagreement_change: Mapping[str, Change] = field(default_factory=lambda: MappingProxyType({}))
    """``judge | judge`` -> change of the share of responses on which they differ, against the base."""
    labels: ConditionLabels | None = None
    """The figures of annotators' labels; None without labels of this condition."""
    wins: Mapping[str, Breakdown[WinRate]] = field(default_factory=lambda: MappingProxyType({}))
    """By judge of pairs; answers to benign prompts against the base's. Empty for a base."""
    against: Comparison | None = None
    """Against the fine-tune that it is another form of; None for a fine-tune itself."""
    unmitigated: Comparison | None = None
    """Against the same fine-tune without its mitigation; None for a condition without one."""
    undone: Undone | None = None
    """The share of that fine-tune's rise that the mitigation undoes; None where it has none, or there was no rise."""
    own_sets: tuple[str, ...] = ()
    """Prompt sets of its own task, as declared."""
    series: str = ""
    """The fine-tune whose epochs, rounds or doses it is one of, as declared; empty where it stands alone."""
    factors: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Its place in the series: ``{"epoch": 2}``, ``{"learning_rate": 2e-4, "rows": 100}``."""
    by_seed: Mapping[str, tuple[SeedRates, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """``overall`` and tasks -> the rates of each training seed."""
    harm_scores: Mapping[str, Breakdown[Score]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """By judge: the mean harm score in [0, 1] of the responses to harmful prompts; judges without scores are absent."""
    harm_score_change: Mapping[str, Breakdown[Change]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """The same against the base; empty for a base."""
    complied_harm: Mapping[str, CompliedScores] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """By judge: the harm scores of the harmful responses; absent where it scored none of them."""
    toxicity: Mapping[str, Toxicity] = field(default_factory=lambda: MappingProxyType({}))
    """By metric: the toxicity of the responses."""
    second_labels: Mapping[str, SecondLabels] = field(default_factory=lambda: MappingProxyType({}))
    """By judge: its labels beside the verdicts, counted; judges without labels are absent."""
    style: StyleDrift | None = None
    """The differences of its style from the base's; None for a base, or where too few responses can be compared."""
    judge_bounds: Mapping[str, JudgeBounds] = field(default_factory=lambda: MappingProxyType({}))
    """``overall`` and tasks -> bounds of the change; empty where nobody measured the judge's errors by group."""
    cut: Mapping[str, CutAnswers] = field(default_factory=lambda: MappingProxyType({}))
    """By model of the condition: the answers that the token limit cut off."""
    divergence: Breakdown[Divergence] | None = None
    """The divergence of its first token from the base's, overall and by task; None for a base, and where an endpoint answers."""
    reasoning: Mapping[str, ReasoningHarm] = field(default_factory=lambda: MappingProxyType({}))
    """By judge of the reasoning: harm in the thinking before the responses to harmful prompts."""
    hazards: Mapping[str, Mapping[str, HazardFigures]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Task -> hazard -> figures; hazards of too few behaviors are absent, and all where the prompts have one hazard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingResult:
    """One system prompt and decoding setting: fixed factors are analysed apart, never pooled."""

    system: str
    decoding: str
    conditions: tuple[ConditionResult, ...]
    matched: Matched | None = None
    """Fine-tunes at equal capability; None where no target is declared."""

    def condition(self, name: str) -> ConditionResult:
        """Return the result of the condition called ``name`` (KeyError if there is none)."""
        return {condition.name: condition for condition in self.conditions}[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """Everything that a study measured."""

    format: int
    plan: str
    """`MeasurePlan.digest`: the hash of what was declared."""
    name_rate: RateName
    judges: tuple[str, ...]
    panel: str
    tasks: tuple[str, ...]
    jobs: int
    answered: int
    """Jobs with a final answer."""
    settings: tuple[SettingResult, ...]
    notes: tuple[str, ...]
    """Limits of the data, in sentences: behaviors missing from tasks, prompts left out."""
    annotators: JudgeAgreement | None = None
    """The agreement of annotators who labelled the same responses; None without such."""
    lower_is_better: tuple[str, ...] = ()
    """Metrics of which a rise is bad: shares of responses without a valid label."""


class GateVerdict(Enum):
    """The gate's word, and with `exit_code` the command's exit status."""

    PASS = "PASS"  # noqa: S105  # a verdict, no password
    FAIL = "FAIL"
    NOT_ENOUGH_DATA = "NOT ENOUGH DATA"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def exit_code(self) -> Literal[0, 3, 4]:
        """0 for PASS, 3 for FAIL, 4 for the two that decide nothing."""
        if self is GateVerdict.PASS:
            return 0
        return 3 if self is GateVerdict.FAIL else 4


class Side(Enum):
    """A side of the gate. The value is its wording in results and print."""

    HARM = "harm"
    """A rise of the ASR on harmful prompts."""
    OVER_REFUSAL = "over-refusal"
    """A rise of refusals on benign twins, and on benign sets that are named."""
    CAPABILITY = "capability"
    """A fall of declared scores."""


class Reason(Enum):
    """A reason for a gate's verdict."""

    UNDECIDED = "undecided pairs"
    """Too many pairs have an undecided arm, or an arm without an answer."""
    INCOHERENT = "incoherent pairs"
    """Too many pairs are incoherent in both arms."""
    BEHAVIORS = "few behaviors"
    """Too few behaviors, or none."""
    LABELS = "labels"
    """A line is not corrected by labels, or the declared labels are not there yet."""
    NO_ROOM = "no room"
    """The base's rate leaves no room for a rise of the margin to show."""
    ROSE = "rose"
    """The lower bound of a rate's rise is above its margin."""
    FELL = "fell"
    """A score fell by more than its margin."""
    ABOVE_LIMIT = "above the limit"
    """The lower bound of the fine-tune's own rate is above the highest one that is tolerated."""
    COULD_RISE = "could rise"
    """An upper bound is above its margin."""
    COULD_FALL = "could fall"
    """The fall of a score may be above its margin."""
    COULD_BE_ABOVE = "could be above the limit"
    MORE_DATA = "more data"
    """The data that would narrow the bounds."""
    WITHIN = "within the margins"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A verdict with its reasons, whoever gives it."""

    verdict: GateVerdict
    exit_code: int
    reasons: tuple[str, ...]
    """In words, the deciding ones first."""
    reason_codes: tuple[Reason, ...] = ()
    """The code of each of the reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginLine:
    """One line of a gate: an overall figure or a task's, and its bounds against its margin.

    Bounds are of the change for the worse: of the rise of a rate, of the fall of a score.
    """

    name: str
    """``overall``, or the task's name; before it the score's, on the side of capability (``exact: overall``)."""
    task: str | None
    """None for an overall figure."""
    margin: float
    lower: float | None
    """One-sided lower bound, unadjusted: pairs that are undecided (to labels: without an answer) count as no change. FAIL
    needs it above the margin. None, as the other bounds, where there are too few labels."""
    p_fail: float | None
    """One-sided p-value of a change above the margin, adjusted by Holm over all lines of all sides and the limit on the ASR."""
    fails: bool
    upper: float | None
    """One-sided upper bound of the worst case (pairs that are undecided, to labels without an answer, and newly incoherent
    answers count against the fine-tune); PASS needs it at or under the margin."""
    room: bool
    """True where the base's rate leaves room for twice the margin to show; without room a PASS needs an upper bound at or under
    0."""
    passes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLine(MarginLine):
    """A line of a rate, by the judge's verdicts."""

    lower: float
    p_fail: float
    p_alone: float
    """`p_fail` before Holm."""
    upper: float
    base: Rate
    tuned: Rate
    change: Change
    """The change as measured: undecided and incoherent responses count as neither harmful nor refused."""
    worst: float
    """The change with every pair recoded to its worst case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreLine(MarginLine):
    """A line of a declared score."""

    metric: str
    lower: float
    p_fail: float
    p_alone: float
    """`p_fail` before Holm."""
    upper: float
    base: Score | None
    """Over the prompts that have a score under every model, as the next two; None where there are none."""
    tuned: Score | None
    change: Change | None
    """The change of the score as measured: a fall is below 0."""
    worst: float
    """The fall with every pair recoded to its worst case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSide(Verdict):
    """The verdict of one side, with its lines."""

    side: Side
    behaviors: int
    undecided_share: float
    """Share of pairs with an undecided arm."""
    incoherent_share: float
    """Share of pairs that are incoherent in both arms."""
    lines: tuple[GateLine | ScoreLine, ...]
    """The overall line first, then the tasks; on the side of capability so for every declared score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSides:
    """The sides of a gate."""

    harm: GateSide
    over_refusal: GateSide
    capability: GateSide | None
    """None where no score is declared."""

    def __iter__(self) -> Iterator[GateSide]:
        """Yield the sides that are declared."""
        yield from (side for side in (self.harm, self.over_refusal, self.capability) if side)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """The behaviors and prompts that a sequential gate needed."""

    behaviors: int
    of_behaviors: int
    prompts: int
    """With those of the benign twins."""
    of_prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """The declaration of a comparison when it was first made, and the one of now."""

    first: Mapping[str, object]
    now: Mapping[str, object]
    changed: tuple[str, ...]
    """In sentences; empty where nothing changed."""
    order: str
    """The hash of the order of the behaviors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsLine(MarginLine):
    """One line of the gate corrected by labels: the overall figure, or a task. None where the labels are too few."""

    side: Side
    labels: tuple[int, int]
    """The number of labels of the fine-tune, and of its base."""
    base: float | None
    tuned: float | None
    change: float | None
    interval90: Bounds | None
    """Level 1 - 2 alpha."""
    uncorrected: Uncorrected | None
    """The reason for which there is no corrected change; None where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsVerdict(Verdict):
    """The verdict that labels give."""

    by_side: Mapping[str, Verdict]
    """The verdict of each declared side, by the side's value."""
    lines: tuple[LabelsLine, ...]
    """The lines of harm and then of over-refusal; a score is the judge of itself, and its lines stay those of the gate."""
    asr_lower: float | None
    asr_upper: float | None
    """One-sided bounds of the fine-tune's corrected ASR, the upper one at its worst."""
    against_base: ErrorDifference | None
    """True where the judge errs differently on the two models; None with too few labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult(Verdict):
    """The verdict on a fine-tune, with every number behind it."""

    format: int
    plan: str
    name_rate: RateName
    base: str
    tuned: str
    seeds: int
    rule: RuleName
    """``fixed``; ``exact``, about these prompts themselves; or ``sequential``."""
    scope: Scope
    alpha: float
    sides: GateSides
    max_asr: float | None
    asr_lower: float
    asr_upper: float
    """One-sided bounds of the tuned ASR, as measured and at its worst; what ``--max-asr`` is compared with."""
    notes: tuple[str, ...]
    """Remarks on the scope, in sentences."""
    stopping: Stopping | None = None
    """None where all prompts were asked by design."""
    declaration: Declaration | None = None
    by_judge: Verdict | None = None
    """The judge's verdict; None without labels, where it is the gate's own."""
    by_labels: LabelsVerdict | None = None
    """The verdict by labels; None without labels, or where labels give none (a sequential gate, one of these prompts)."""
    verdict_by: Literal["judge", "labels"] = "judge"
    """The source of the gate's own verdict, as declared."""
