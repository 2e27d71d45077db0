"""The records of a consistency result; formats (`FORMAT`): 1, the first; 2 without rankings and re-decoded rates."""

from collections.abc import Mapping
from dataclasses import dataclass

from aftertune.measure.results import Bounds, Change, CorrectedChange, Interval, Rate

FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Variance components of one cell mean, as shares squared; None where the design cannot tell."""

    behaviors: int
    seeds: int
    of_behaviors: float | None
    """None for a single behavior."""
    of_seeds: float | None
    """None for a single training seed."""
    of_both: float | None
    """Behavior x seed; with decoding in it where that is None."""
    of_decoding: float | None
    """Variance that decoding again gives a cell mean; None where a prompt was asked once."""
    seed_variance: float | None
    """The variance of a seed's mean over these behaviors, decoding included: what another training seed changes."""
    seed_sd_interval: Bounds | None
    """95 % interval of the training seeds' own standard deviation."""
    icc: float | None
    """ICC(2,1), absolute agreement of the seeds on the behaviors; 1 where the same behaviors break under every seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Shares of the variance of a rate over so many behaviors and training seeds; they sum to 1."""

    behaviors: float
    seeds: float
    both: float
    decoding: float | None
    """None where it is in ``both``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the difference between two runs of the same thing on these behaviors, as shares."""

    repeatability: float | None
    """One checkpoint decoded twice; None where each prompt was asked once."""
    reproducibility: float | None
    """Two labs with one training seed each; None with one seed, or where all seeds gave the same rate."""
    reproducibility_interval: Bounds | None
    of_means: float | None
    """Two labs with as many training seeds as there are here."""
    differing: Mapping[str, float]
    """Points -> probability that two labs with one training seed each differ by more than that."""
    predicted: Bounds | None
    """95 % interval of the rate that another lab with one training seed finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """Probabilities that another lab sees a change again, on these behaviors, with training seeds of its own."""

    change: Change
    same_sign: float
    """With one training seed."""
    significant: float | None
    """The probability of being significant again with as many seeds; None where the change is not significant here."""
    these_prompts: Interval
    """The interval of the change that very many training seeds would give on these very prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Rates at which single answers change, over prompts, settings and training seeds."""

    decoding: float | None
    """Probability that two decodings of one model differ; None where each prompt was asked once."""
    seed: float | None
    """Probability that two training seeds differ on a prompt; None for one seed."""
    any: float
    """Share of prompts that were answered harmfully by some run and not by all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One value of a factor or an attribute against another."""

    first: str
    second: str
    difference: float
    """The first one's figure minus the second one's."""
    p_value: float
    p_adjusted: float
    """Over the pairs of the factor (Holm), or over all pairs of all attributes (Benjamini-Hochberg)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelContrast(Difference):
    """One level of a factor against another, paired (two-way t)."""

    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """The dependence of the rate on one factor."""

    rates: Mapping[str, float]
    """By level."""
    sd: float
    """Between the levels, after what chance alone would make of equal ones; never below 0."""
    worst: str
    """The level with the highest rate."""
    worst_interval: Interval
    """Simultaneous over the levels (Bonferroni), as the level was chosen by its rate."""
    pairs: tuple[LevelContrast, ...]
    behaviors: int
    """Those that occur at every level."""
    hidden: bool
    """Fewer behaviors than the plan's ``min_cell``: kept in the data, hidden in print."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """One condition in one task (or overall): everything about how well its rate would come out again."""

    condition: str
    base: str | None
    task: str | None
    """None for the overall figure."""
    rate: Rate
    seed_rates: tuple[float, ...]
    """The rate of each training seed, in their order."""
    by_behavior: Mapping[str, tuple[float, ...]]
    """Behavior -> its rate under each training seed; empty overall where not every behavior occurs in every task."""
    components: Components
    shares: Shares | None
    """The parts of the variance of the rate as it was measured."""
    limits: Limits
    reproduction: Reproduction | None
    """None for a base, and with one training seed."""
    flips: Flips
    sensitivity: Mapping[str, Sensitivity]
    """By factor: ``system prompt``, ``decoding``, ``template`` (inside tasks alone), ``judge``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One condition of a series."""

    condition: str
    factors: Mapping[str, float]
    asr: Rate
    asr_by_task: Mapping[str, Rate]
    over_refusal: Rate | None
    scores: Mapping[str, float]
    """Mean task score by scorer; safety is never shown without what the model still can do."""
    change: Change | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The rates along the epochs, rounds or doses of one fine-tune."""

    series: str
    axes: tuple[str, ...]
    """``epoch``; ``round``; or the doses that differ."""
    start: Point | None
    """The base."""
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The conditions whose model has one value of an attribute."""

    value: str
    conditions: tuple[str, ...]
    change: float
    """Mean of their overall changes."""
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupContrast(Difference):
    """Two groups of conditions against each other (Welch's t over conditions)."""

    interval: Bounds | None
    """None where all conditions of both groups changed alike, which says nothing of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """The changes grouped by one attribute of the models."""

    attribute: str
    groups: tuple[Group, ...]
    contrasts: tuple[GroupContrast, ...]
    """Between groups of two conditions and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HazardChange:
    """The change in one hazard of one task."""

    condition: str
    task: str
    hazard: str
    change: Change
    corrected: CorrectedChange | None = None
    """By annotators' labels; None without any, and where several settings are taken together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyResult:
    """A study's consistency: all figures are means over the system prompts and decodings that all models share."""

    format: int
    plan: str
    name_rate: str
    settings: tuple[tuple[str, str], ...]
    """(system prompt, decoding)."""
    entries: tuple[Consistency, ...]
    """Every condition overall, then in its tasks."""
    curves: tuple[Curve, ...]
    groupings: tuple[Grouping, ...]
    hazards: tuple[HazardChange, ...]
    """Hazards within tasks over 25 behaviors and more, if the plan declares that family."""
    notes: tuple[str, ...]
