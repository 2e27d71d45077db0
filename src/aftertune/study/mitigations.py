"""The mitigations that a study may name, and the shares and tasks that one entry tries one by one.

A preset is nothing but a set of the same keys that can be written out; what the entry says itself comes first.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from aftertune.core.recipe import Mitigation, TrainingFile
from aftertune.study.config import MitigationKeys, Rows

BUNDLED = "multitask-safety-v1"
"""In `safety` the refusals that the package ships, in `replay` its answers to their benign twins."""
SHARE = 0.15
"""The share of a preset, where none is given."""


@dataclass(frozen=True, slots=True)
class Preset:
    """What a name under `mitigation` stands for."""

    safety: str | None = BUNDLED
    """Rows where the entry names none; None: the entry must name them."""
    replays: bool = False
    """Whether benign rows are replayed: the bundled ones beside the bundled refusals, else those that the entry names, with
    the share of the safety rows."""
    tasks: tuple[str, ...] = ()
    match_format: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    """How the public file names its columns, where the entry does not say."""


_MULTITASKBENCH = {"prompt": "Query", "completion": "Response"}
PRESETS: Mapping[str, Preset] = {
    "text-only": Preset(tasks=("text",)),
    "safety-tuned-llamas": Preset(safety=None),
    "multitaskbench": Preset(safety=None, columns=_MULTITASKBENCH),
    "safety-tuned-llamas+replay": Preset(safety=None, replays=True),
    "multitaskbench+replay": Preset(safety=None, replays=True, columns=_MULTITASKBENCH),
    "multitask": Preset(),
    "multitask+replay": Preset(replays=True),
    "format-matched": Preset(replays=True, match_format=True),
}


@dataclass(frozen=True, slots=True)
class Settled:
    """An entry's mitigation, with what its preset says where it says nothing itself."""

    keys: MitigationKeys

    @property
    def preset(self) -> Preset:
        """The preset, or one that says nothing."""
        return PRESETS[self.keys.preset] if self.keys.preset else Preset(safety=None)

    @property
    def share(self) -> float:
        """Safety rows / all rows."""
        return SHARE if self.keys.share is None else self.keys.share

    @property
    def replay_share(self) -> float:
        """Replayed rows / all rows."""
        if self.keys.replay_share is None:
            return self.share if self.preset.replays else 0.0
        return self.keys.replay_share

    @property
    def safety(self) -> tuple[Rows, ...]:
        """The rows to draw from; none where the entry lacks them."""
        if self.keys.safety:
            named = dict(self.preset.columns)
            return tuple(
                rows.model_copy(update={"columns": named})
                if _in_columns(rows) and not rows.columns
                else rows
                for rows in self.keys.safety
            )
        return (Rows(path=self.preset.safety),) if self.preset.safety else ()

    @property
    def replay(self) -> tuple[Rows, ...]:
        """The benign rows to draw from; none where the entry lacks them."""
        bundled = self.preset.replays and not self.keys.safety
        return self.keys.replay or ((Rows(path=BUNDLED),) if bundled else ())

    def mitigation(self, training_file: Callable[[Rows], TrainingFile]) -> Mitigation:
        """Return what the recipe holds."""
        return Mitigation(
            safety=tuple(map(training_file, self.safety)),
            share=self.share,
            replay=tuple(map(training_file, self.replay)),
            replay_share=self.replay_share,
            tasks=self.keys.tasks or self.preset.tasks,
            left_out=self.keys.leave_out[0] if self.keys.leave_out else None,
            match_format=self.preset.match_format
            if self.keys.match_format is None
            else self.keys.match_format,
        )


def _in_columns(rows: Rows) -> bool:
    """Whether a file is a table as it was published; one converted to JSON lines is in a known format."""
    return rows.path.lower().removesuffix(".gz").endswith(".csv")


def one_by_one(keys: MitigationKeys) -> Iterator[tuple[str, Mapping[str, float], MitigationKeys]]:
    """Yield each share of a sweep and each task left out: what is put behind the name, the factor, and the keys."""
    for share in keys.sweep:
        yield (
            f"share{share:g}",
            {"share": share},
            keys.model_copy(update={"share": share, "sweep": ()}),
        )
    for task in keys.leave_out:
        yield f"without-{task}", {}, keys.model_copy(update={"leave_out": (task,)})
