"""Recipes make fine-tunes; cells say what the models of a study are asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Literal

from aftertune.core.keys import Key, content_key
from aftertune.core.records import Decoding, Message

Method = Literal["full", "lora", "qlora"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFile:
    """A file or hub data set of training rows, as the user names it."""

    path: str
    """A local file (JSONL with ``messages`` or ``prompt``/``completion``, CSV) or a hub data set id."""
    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """For CSV and foreign JSONL: the columns that are the ``prompt``, the ``completion`` and, if any, the ``input``; or the ``messages``."""
    limit: int | None = None
    """Use only the first rows."""
    sha256: str = ""
    """Hash of the file's bytes when the study was expanded; decides the recipe's key."""


MOST_ADDED = 0.95
"""Largest share of the final set that added rows may make: 19 rows for each of the user's. More is a slip of the pen,
and a share of 0.99999 would ask for a hundred thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTokens:
    """The constraint on the first tokens of an answer: the larger beta, the closer a token stays to the base.

    The defaults are those of Qi et al. 2025, "Safety Alignment Should Be Made More Than Just a Few Tokens Deep", section 4.
    """

    tokens: int = 5
    """The number of tokens that count as first."""
    first: float = 0.5
    """Beta of the very first token."""
    beta: float = 2.0
    """Beta of the other first tokens."""
    rest: float = 0.1
    """Beta of all tokens behind them; near 0 the loss is the ordinary one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfAnswers:
    """The decoding of the base's own answers, which take the place of those of the training rows (Fraser et al. 2025)."""

    temperature: float = 0.0
    max_new_tokens: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Mitigation:
    """Safety rows (and benign replay) mixed into the training rows, as shares of the final set; and training rules."""

    safety: tuple[TrainingFile, ...] = ()
    share: float = 0.0
    """Safety rows / all rows of the final set, in [0, 1)."""
    replay: tuple[TrainingFile, ...] = ()
    replay_share: float = 0.0
    tasks: tuple[str, ...] = ()
    """Safety rows are drawn from these tasks only; empty: from all."""
    left_out: str | None = None
    """A task whose safety rows are left out; replay rows of it stay, so that the refusals alone differ."""
    match_format: bool = False
    """Pose the added rows in the prompt format of the training rows."""
    ema: float | None = None
    """Keep the exponential moving average of the weights, with this decay a step, in place of the last ones."""
    frozen: tuple[int, ...] = ()
    """Numbers of the decoder layers that are not trained, from 0."""
    first_tokens: FirstTokens | None = None
    self_answers: SelfAnswers | None = None

    @property
    def identity(self) -> list[object]:
        """The values that decide the rows that are added, and the training rules, as far as there are any."""
        rules = {
            "ema": self.ema,
            "frozen": sorted(self.frozen) or None,
            "first tokens": self.first_tokens and _values(self.first_tokens),
            "self answers": self.self_answers and _values(self.self_answers),
        }
        return [
            [_rows_identity(file) for file in self.safety],
            self.share,
            [_rows_identity(file) for file in self.replay],
            self.replay_share,
            sorted(self.tasks),
            self.left_out,
            self.match_format,
            *([name, value] for name, value in rules.items() if value is not None),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The hyper-parameters of a fine-tune; the defaults are those of a first LoRA run on a 1-8B model."""

    epochs: float = 1.0
    learning_rate: float = 2e-4
    batch_size: int = 8
    gradient_accumulation: int = 1
    max_length: int = 1024
    schedule: str = "linear"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    adam_beta2: float = 0.999
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_targets: str = "all-linear"
    save_steps: int = 100
    """A step checkpoint (optimiser and RNG state included) every so many steps; does not change the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A fine-tune that training goes on from."""

    reference: str
    """Its folder."""
    key: str
    """Its recipe's key, in hexadecimal digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides a fine-tune. Two equal recipes give identical tensors (same machine, same threads)."""

    name: str
    """The condition's name in the study, shared by its seeds; not part of the key."""
    base: str
    """A model reference."""
    base_identity: Mapping[str, object]
    """The base's weights hash and the like, so that a changed base is another recipe."""
    data: tuple[TrainingFile, ...]
    method: Method
    training: Training
    seed: int
    """Reaches data order, initialisation, dropout and the draw of the mitigation's rows."""
    mitigation: Mitigation | None = None
    system: str | None = None
    """System prompt put before every training row that has none."""
    template_sha256: str = ""
    """Hash of the chat template that renders the rows."""
    start: Start | None = None
    """The fine-tune whose weights it goes on from, with a fresh optimiser; None starts from the base's."""
    epoch: int | None = None
    """The state after so many epochs of ``training``, on its schedule; None is the state at its end."""

    @property
    def key(self) -> Key:
        """The identity of the fine-tune: everything but names, paths and the checkpoint interval."""
        return content_key(
            "recipe",
            1,
            dict(self.base_identity),
            [_rows_identity(file) for file in self.data],
            self.method,
            {
                name: getattr(self.training, name)
                for name in Training.__slots__
                if name != "save_steps"
            },
            self.seed,
            self.mitigation and self.mitigation.identity,
            self.system,
            self.template_sha256,
            *([] if self.start is None else [["start", self.start.key]]),
            *([] if self.epoch is None else [["epoch", self.epoch]]),
        )


_PLACED = frozenset({"tokens", "first", "beta", "rest", "temperature", "max_new_tokens"})
"""Fields of training rules that have a place in the key; a later one enters with its name, where it is not its default."""


def _values(rule: FirstTokens | SelfAnswers) -> list[object]:
    return [
        getattr(rule, item.name) if item.name in _PLACED else [item.name, getattr(rule, item.name)]
        for item in fields(rule)
        if item.name in _PLACED or getattr(rule, item.name) != item.default
    ]


def _rows_identity(file: TrainingFile) -> list[object]:
    return [file.sha256 or file.path, dict(file.columns), file.limit]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyModel:
    """A model of a study: a base, or a fine-tune with its training seed."""

    name: str
    """Unique in the study, for instance ``base`` or ``code/seed1``."""
    condition: str
    """The name that its seeds share: ``base``, ``code``, ``code+multitask``."""
    reference: str
    """The model reference to open; for a recipe, the folder that `tune` fills."""
    base: str | None = None
    """The name of the study model that it is compared with; None for a base."""
    training_seed: int | None = None
    recipe: Recipe | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The models of a study, all of them on disk, and the rows that went into them."""

    models: tuple[StudyModel, ...]
    rows: Mapping[str, list[tuple[Message, ...]]]
    """All rows of every training, safety and replay file, by the file as the study names it."""
    notes: tuple[str, ...] = ()
    """Remarks on the training rows, without which the result cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The unit of work: one model asked all prompts under one system prompt and one decoding, sample by sample."""

    model: str
    system: str
    """The name of the system prompt; ``none`` for none."""
    decoding: Decoding
    samples: int = 1
