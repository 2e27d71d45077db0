"""Aftertune tells you what fine-tuning did to a model's safety, task by task, how sure you can be, and how to mend it.

The public names (`docs/api.md`). They load at first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aftertune.core.outcomes import Outcome, outcome
    from aftertune.core.protocols import Engine, Scorer, Tools
    from aftertune.core.recipe import Mitigation, Recipe, Training, TrainingFile
    from aftertune.core.records import (
        Attempt,
        Behavior,
        DecisionValue,
        Decoding,
        FinishReason,
        GenerateJob,
        Intent,
        LabelValue,
        Message,
        PreferenceValue,
        Prompt,
        Question,
        Response,
        Role,
        Sample,
        Score,
        Template,
        VerdictValue,
    )
    from aftertune.core.table import Table, counted
    from aftertune.data.mix import mix
    from aftertune.data.prompt_sets import load_prompts
    from aftertune.data.rows import read_rows, write_rows
    from aftertune.errors import (
        AftertuneError,
        DataError,
        EngineError,
        InputError,
        ModelError,
        PluginError,
        Stopped,
        StoreError,
        StoreLocked,
        StoreVersion,
        StudyError,
    )
    from aftertune.measure.consistency import consistency
    from aftertune.measure.gate import gate
    from aftertune.measure.judge_error import labels_needed
    from aftertune.measure.label_draw import add_labels, draw_labels
    from aftertune.measure.measure import measure as measure_table
    from aftertune.measure.plan import Condition, MeasurePlan
    from aftertune.measure.power import (
        Assumptions,
        Spread,
        assumed_spread,
        pilot_spreads,
        plateau,
        power,
        smallest_change,
    )
    from aftertune.models.open import Engines
    from aftertune.report.progress import Quiet, Screen
    from aftertune.run import Purpose, run_study
    from aftertune.store import Store
    from aftertune.study import Study, load_study
    from aftertune.train.train import train as fine_tune

__version__ = "0.1.0"

__all__ = [
    "AftertuneError",
    "Assumptions",
    "Attempt",
    "Behavior",
    "Condition",
    "DataError",
    "DecisionValue",
    "Decoding",
    "Engine",
    "EngineError",
    "Engines",
    "FinishReason",
    "GenerateJob",
    "InputError",
    "Intent",
    "LabelValue",
    "MeasurePlan",
    "Message",
    "Mitigation",
    "ModelError",
    "Outcome",
    "PluginError",
    "PreferenceValue",
    "Prompt",
    "Purpose",
    "Question",
    "Quiet",
    "Recipe",
    "Response",
    "Role",
    "Sample",
    "Score",
    "Scorer",
    "Screen",
    "Spread",
    "Stopped",
    "Store",
    "StoreError",
    "StoreLocked",
    "StoreVersion",
    "Study",
    "StudyError",
    "Table",
    "Template",
    "Tools",
    "Training",
    "TrainingFile",
    "VerdictValue",
    "__version__",
    "add_labels",
    "assumed_spread",
    "consistency",
    "counted",
    "draw_labels",
    "fine_tune",
    "gate",
    "labels_needed",
    "load_prompts",
    "load_study",
    "measure_table",
    "mix",
    "outcome",
    "pilot_spreads",
    "plateau",
    "power",
    "read_rows",
    "run_study",
    "smallest_change",
    "write_rows",
]

_ROOMS = {
    "core.outcomes": "Outcome outcome",
    "core.protocols": "Engine Scorer Tools",
    "core.recipe": "Mitigation Recipe Training TrainingFile",
    "core.records": (
        "Attempt Behavior DecisionValue Decoding FinishReason GenerateJob Intent LabelValue Message PreferenceValue Prompt "
        "Question Response Role Sample Score Template VerdictValue"
    ),
    "core.table": "Table counted",
    "models.open": "Engines",
    "errors": (
        "AftertuneError DataError EngineError InputError ModelError PluginError Stopped StoreError StoreLocked "
        "StoreVersion StudyError"
    ),
    "measure.consistency": "consistency",
    "measure.gate": "gate",
    "measure.judge_error": "labels_needed",
    "measure.label_draw": "add_labels draw_labels",
    "measure.plan": "Condition MeasurePlan",
    "measure.power": "Assumptions Spread assumed_spread pilot_spreads plateau power smallest_change",
    "run": "Purpose run_study",
    "data.prompt_sets": "load_prompts",
    "data.mix": "mix",
    "data.rows": "read_rows write_rows",
    "report.progress": "Quiet Screen",
    "store": "Store",
    "study": "Study load_study",
}
_HOMES = {name: (room, name) for room, names in _ROOMS.items() for name in names.split()}
# `measure` and `train` are rooms: importing any part of one would put the room in the function's place.
_HOMES["measure_table"] = ("measure.measure", "measure")
_HOMES["fine_tune"] = ("train.train", "train")


# A type checker sees the imports above, and would take any name for granted if it saw this.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name at its first use."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        room, attribute = _HOMES[name]
        value = getattr(import_module(f"{__name__}.{room}"), attribute)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """List the public names without importing them."""
        return sorted(__all__)
