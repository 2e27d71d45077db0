"""What a consistency report holds, ready for JSON. Formats of ``to_json`` (`FORMAT`): 1, the first."""

from collections.abc import Mapping
from dataclasses import dataclass

from aftertune.measure.components import Components, Shares
from aftertune.measure.factors import Sensitivity
from aftertune.measure.intervals import Bounds
from aftertune.measure.pooling import Flips
from aftertune.measure.results import Change, CorrectedChange, Interval, Jsonable, Rate

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(Jsonable):
    """How far two runs of the same thing on these behaviors may lie apart, as shares."""

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
    predicted_mean: Bounds | None
    """The same with as many training seeds as there are here."""
    these_prompts: Interval | None
    """Of the rate that very many training seeds would give on these very prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction(Jsonable):
    """How probably another lab finds a change again, on these behaviors, with training seeds of its own."""

    change: Change
    same_sign: float
    """With one training seed."""
    same_sign_of_means: float
    """With as many seeds as there are here."""
    significant: float | None
    """Of being significant again with as many seeds; None where the change is not significant here."""
    margin: float
    above_margin: float
    """Of being above the margin with as many seeds."""
    these_prompts: Interval
    """Of the change that very many training seeds would give on these very prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency(Jsonable):
    """One condition in one task (or overall): everything about how well its rate would come out again."""

    condition: str
    base: str | None
    task: str | None
    """None for the overall figure."""
    rate: Rate
    seed_rates: tuple[float, ...]
    """Of each training seed, in their order."""
    by_behavior: Mapping[str, tuple[float, ...]]
    """Behavior -> its rate under each training seed; empty overall where not every behavior occurs in every task."""
    templates: int
    components: Components
    shares: Shares | None
    """Of the variance of the rate as it was measured."""
    shares_of_one: Shares | None
    """Of the variance of a rate with one training seed."""
    limits: Limits
    reproduction: Reproduction | None
    """None for a base, and with one training seed."""
    flips: Flips
    sensitivity: Mapping[str, Sensitivity]
    """By factor: ``system prompt``, ``decoding``, ``template``, ``judge``."""
    redecoded: Interval | None = None
    """Of the rate that very many decodings of these checkpoints would give on these prompts; None where each was asked once."""
    redecoded_change: Interval | None = None
    """The same of the change against the base; None for a base too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking(Jsonable):
    """Whether the order of the fine-tunes would come out again."""

    task: str | None
    order: tuple[str, ...]
    """From the lowest rate to the highest."""
    dependability: float
    rank_agreement: float
    """Mean Kendall's tau of two orders from training seeds drawn anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point(Jsonable):
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
class Curve(Jsonable):
    """How the rates go along the epochs, rounds or doses of one fine-tune."""

    series: str
    axes: tuple[str, ...]
    """``epoch``; ``round``; or the doses that differ."""
    start: Point | None
    """The base."""
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(Jsonable):
    """The conditions whose model has one value of an attribute."""

    value: str
    conditions: tuple[str, ...]
    change: float
    """Mean of their overall changes."""
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupContrast(Jsonable):
    """Two groups of conditions against each other (Welch's t over conditions; exploratory)."""

    one: str
    other: str
    difference: float
    interval: Bounds | None
    """None where all conditions of both groups changed alike, which says nothing of others."""
    p_value: float
    p_adjusted: float
    """Benjamini-Hochberg over all pairs of all attributes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping(Jsonable):
    """The changes grouped by one attribute of the models; exploratory."""

    attribute: str
    groups: tuple[Group, ...]
    contrasts: tuple[GroupContrast, ...]
    """Between groups of two conditions and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HazardChange(Jsonable):
    """The change in one hazard of one task; exploratory."""

    condition: str
    task: str
    hazard: str
    change: Change
    corrected: CorrectedChange | None = None
    """By people's labels; None without any, and where several settings are taken together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyResult(Jsonable):
    """A study's consistency: all figures are means over the system prompts and decodings that all models share."""

    format: int
    plan: str
    name_rate: str
    settings: tuple[tuple[str, str], ...]
    """(system prompt, decoding)."""
    entries: tuple[Consistency, ...]
    rankings: tuple[Ranking, ...]
    """With four fine-tunes and more."""
    curves: tuple[Curve, ...]
    groupings: tuple[Grouping, ...]
    hazards: tuple[HazardChange, ...]
    """Hazards within tasks over 25 behaviors and more, if the plan declares that family."""
    notes: tuple[str, ...]
