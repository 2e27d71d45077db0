"""The judges, guards and scorers of a study, built before any work: a name mistyped must not be found out after training."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aftertune.core.protocols import Comparer, Guard, Judge, Scorer, Tools
from aftertune.core.registry import Kind, find
from aftertune.errors import AftertuneError, PluginError
from aftertune.study.config import Instrument
from aftertune.workspace import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What reads the responses, by name, in the order of the study."""

    judges: Mapping[str, Judge]
    guards: Mapping[str, Guard]
    scorers: Mapping[str, Scorer]
    comparers: Mapping[str, Comparer]


def make_instruments(run: Run) -> Instruments:
    """Build every judge, guard and scorer of the study.

    Raises:
        PluginError: one of them cannot be found, does not take its options, or fails while it is built.
    """
    study = run.study
    made = Instruments(
        judges={keys.name: _made(run.tools, "judge", keys) for keys in study.judges},
        guards={keys.name: _made(run.tools, "guard", keys) for keys in study.guards},
        scorers={keys.name: _made(run.tools, "scorer", keys) for keys in study.scorers},
        comparers={keys.name: _made(run.tools, "comparer", keys) for keys in study.comparers},
    )
    _check_apart(made)
    return made


def _check_apart(made: Instruments) -> None:
    """See that no guard is a judge as well: a model finds nothing harmful in what it has itself let through.

    Raises:
        PluginError: a guard and a judge are the same weights, or the same served model.
    """
    for judge_name, judge in made.judges.items():
        for guard_name, guard in made.guards.items():
            model = _model_of(judge.call_identity)
            if model is not None and model == _model_of(guard.call_identity):
                raise PluginError(
                    f"guard {guard_name} and judge {judge_name} are the same model: what a guard lets through must be found "
                    "by another one; name another model for one of them"
                )


def _model_of(identity: Mapping[str, object] | None) -> tuple[object, ...] | None:
    """Return what a judge's or guard's model is, by the key ``model`` of its identity; None where it has no such."""
    model = None if identity is None else identity.get("model")
    if not isinstance(model, Mapping):
        return None
    deciding = ("weights", "adapter") if "weights" in model else ("url", "model")
    return tuple(model.get(key) for key in deciding)


def _remedy(kind: Kind, keys: Instrument, wrong: str) -> str:
    if wrong == "missing a required argument: 'model'" and kind in ("judge", "guard"):
        return f"name one: options: {{model: MODEL}} in the file, or --{kind} {keys.use}=MODEL of check"
    return "check its options"


def _made(tools: Tools, kind: Kind, keys: Instrument) -> Any:
    try:
        factory = find(kind, keys.use)
        try:
            inspect.signature(factory).bind(tools, **keys.options)
        except TypeError as error:
            raise PluginError(
                f"{kind} {keys.name}: {error}; {_remedy(kind, keys, str(error))}"
            ) from error
        return factory(tools, **keys.options)
    except AftertuneError:
        raise
    except (
        Exception
    ) as error:  # other people's code: whatever it raises, the user is told whose it is
        raise PluginError(
            f"{kind} {keys.name} ({keys.use}) cannot be built: {type(error).__name__}: {error}"
        ) from error
