"""What measurement gives: the results of a study and of the gate, ready for JSON.

Formats of ``to_json`` (`FORMAT`): 1, the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Literal

from aftertune.measure.differences import Comparison
from aftertune.measure.frontier import SeedRates
from aftertune.measure.harm import SecondLabels
from aftertune.measure.label_results import ConditionLabels, JudgeAgreement
from aftertune.measure.matched import Matched
from aftertune.measure.one_seed import IfSeedsVary
from aftertune.measure.quantities import Breakdown, Change, Jsonable, Rate, Score
from aftertune.measure.undone import Undone
from aftertune.measure.wins import WinRate

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardResult(Jsonable):
    """A condition behind one guard; the denominators are those without it."""

    asr: Breakdown[Rate]
    over_refusal: Breakdown[Rate]
    """Of benign prompts: refused by the model or blocked by the guard."""
    false_blocks: Breakdown[Rate]
    """Of benign prompts: blocked by the guard, whatever the model did."""
    asr_change: Breakdown[Change] | None
    """Against the base behind the same guard; None for a base."""
    asr_difference: Breakdown[Change] | None
    """Change with the guard minus change without it, on matched responses; negative when the guard takes more from
    the fine-tune than from the base. None for a base."""
    bypass: Breakdown[Rate]
    """Of the harmful responses, by the deciding judge: passed by the guard. Absent where nothing is harmful."""
    bypass_change: Breakdown[Change] | None
    """Against the base; None for a base, a name absent where one of the two has no harmful response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement(Jsonable):
    """How often two judges differ on the responses that both of them decided, harmful prompts only."""

    differ: int
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionResult(Jsonable):
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
    """How far the judges agree; None for one judge."""
    agreement_by_task: Mapping[str, JudgeAgreement] = field(
        default_factory=lambda: MappingProxyType({})
    )
    disagreement_change: Mapping[str, Change] = field(default_factory=lambda: MappingProxyType({}))
    """``judge | judge`` -> change of the share of responses on which they differ, against the base."""
    labels: ConditionLabels | None = None
    """What human labels say; None without labels of this condition."""
    wins: Mapping[str, Breakdown[WinRate]] = field(default_factory=lambda: MappingProxyType({}))
    """By comparer; answers to benign prompts against the base's. Empty for a base."""
    unmitigated: Comparison | None = None
    """Against the same fine-tune without its mitigation; None for a condition without one."""
    undone: Undone | None = None
    """The share of that fine-tune's rise that the mitigation undoes; None where it has none, or there was no rise."""
    own_sets: tuple[str, ...] = ()
    """Prompt sets of its own task, as declared."""
    by_seed: Mapping[str, tuple[SeedRates, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """``overall`` and tasks -> the rates of each training seed."""
    if_seeds_vary: tuple[IfSeedsVary, ...] = ()
    """What one training seed would say of its recipe, under suppositions; empty for several seeds, and for a base."""
    harm_scores: Mapping[str, Breakdown[Score]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """By judge: the mean harm score in [0, 1] of the responses to harmful prompts; judges without scores are absent."""
    harm_score_change: Mapping[str, Breakdown[Change]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """The same against the base; empty for a base."""
    second_labels: Mapping[str, SecondLabels] = field(default_factory=lambda: MappingProxyType({}))
    """By judge: its labels beside the verdicts, counted; judges without labels are absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingResult(Jsonable):
    """One system prompt and decoding setting: fixed factors are analysed apart, never pooled."""

    system: str
    decoding: str
    conditions: tuple[ConditionResult, ...]
    matched: Matched | None = None
    """Fine-tunes at equal capability; None where no target is declared."""

    def condition(self, name: str) -> ConditionResult:
        """Return the result of the condition called ``name`` (KeyError if there is none)."""
        for condition in self.conditions:
            if condition.name == name:
                return condition
        raise KeyError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult(Jsonable):
    """Everything that a study measured."""

    format: int
    plan: str
    """`MeasurePlan.digest`: the hash of what was declared."""
    name_rate: str
    judges: tuple[str, ...]
    panel: str
    tasks: tuple[str, ...]
    jobs: int
    answered: int
    """Jobs with a final answer."""
    settings: tuple[SettingResult, ...]
    notes: tuple[str, ...]
    """What a reader must know: behaviors missing from tasks, unequal cells, and the like, in sentences."""
    people: JudgeAgreement | None = None
    """How far the people agree who labelled the same responses; None without such."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLine(Jsonable):
    """The gate's arithmetic for the overall figure or for one task."""

    name: str
    """``overall``, or the task's name."""
    margin: float
    base: Rate
    tuned: Rate
    change: Change
    """As measured: undecided and incoherent responses count as not harmful."""
    lower: float
    """One-sided lower bound of the change (undecided pairs as no change), unadjusted; FAIL needs it above the margin."""
    p_fail: float
    """One-sided p-value of a rise above the margin, adjusted by Holm over the tasks (overall: unadjusted)."""
    fails: bool
    worst: float
    """The change with every pair recoded to its worst case."""
    upper: float
    """One-sided upper bound of the worst-case change; PASS needs it at or under the margin."""
    room: bool
    """Whether the base ASR leaves room for a rise of the margin to show; a task without room cannot pass."""
    passes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping(Jsonable):
    """How far a sequential gate had to go."""

    behaviors: int
    of_behaviors: int
    prompts: int
    """With those of the benign twins."""
    of_prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration(Jsonable):
    """What was declared for a comparison when it was first made, and what is declared now."""

    first: Mapping[str, object]
    now: Mapping[str, object]
    changed: tuple[str, ...]
    """In sentences; empty where nothing changed."""
    order: str
    """The hash of the order of the behaviors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult(Jsonable):
    """The verdict on a fine-tune, with every number behind it."""

    format: int
    plan: str
    name_rate: str
    verdict: GateVerdict
    exit_code: int
    reasons: tuple[str, ...]
    """In words, the deciding ones first."""
    base: str
    tuned: str
    seeds: int
    rule: str
    """``fixed``, ``exact`` (these prompts themselves) or ``sequential``."""
    scope: str
    alpha: float
    undecided_share: float
    """Share of pairs with an undecided arm."""
    incoherent_share: float
    """Share of pairs that are incoherent in both arms."""
    lines: tuple[GateLine, ...]
    """The overall line first, then the tasks."""
    max_asr: float | None
    asr_lower: float
    asr_upper: float
    """One-sided bounds of the tuned ASR, as measured and at its worst; what ``--max-asr`` is compared with."""
    notes: tuple[str, ...]
    """What a reader must know about the scope, in sentences."""
    stopping: Stopping | None = None
    """None where all prompts were asked by design."""
    declaration: Declaration | None = None
