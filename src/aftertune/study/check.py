"""What types cannot say: names that must differ, references that must lead somewhere, numbers that must fit together."""

import re
from collections.abc import Iterable, Iterator

from aftertune.core.registry import BUILT_IN, Kind, known
from aftertune.study.config import CheckConfig, FineTuneKeys, Study
from aftertune.study.place import Where, nearest

Problem = tuple[Where, str]

SECRET_KEY = re.compile(
    r"^(.*[_-])?(api[_-]?key|secret([_-]key)?|password|passwd|credentials?)$"
    r"|^((access|api|auth|bearer|hf|huggingface|openai|secret)[_-])?token$|^authorization$",
    re.IGNORECASE,
)
"""Not every ``…_token``: pad_token and end_token are options of tokenizers."""
SECRET_VALUE = re.compile(r"^(sk-|hf_|AIza|xox[a-z]-|ghp_|Bearer )[\w\-.]{16,}|://[^/@\s]+:[^/@\s]+@")


def secrets(data: object, where: Where = ()) -> Iterator[Problem]:
    """Find what looks like a key or password; the message never repeats it."""
    remedy = "remove it here and set it in the environment; a study file is shared and hashed"
    items: Iterable[tuple[str | int, object]] = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list | tuple):
        items = enumerate(data)
    elif isinstance(data, str) and SECRET_VALUE.search(data):
        yield where, f"this looks like a secret; {remedy}"
    for step, value in items:
        if isinstance(step, str) and SECRET_KEY.search(step) and isinstance(value, str):
            yield (*where, step), f"secrets do not belong in this file; {remedy}"
        else:
            yield from secrets(value, (*where, step))


def config_problems(config: CheckConfig) -> Iterator[Problem]:
    """Find what is wrong in the keys that studies and checks share."""
    yield from _twice("prompts", [prompts.set for prompts in config.prompts], "set")
    for position, prompts in enumerate(config.prompts):
        if prompts.file is None and prompts.loader is None:
            yield ("prompts", position), "names no prompts; give file: or loader:"
        if prompts.loader is not None:
            yield from _unknown("prompts", prompts.loader, ("prompts", position))
    kinds: tuple[tuple[str, Kind], ...] = (("guards", "guard"), ("judges", "judge"), ("scorers", "scorer"))
    for key, kind in kinds:
        instruments = getattr(config, key)
        yield from _twice(key, [instrument.name for instrument in instruments], "name")
        for position, instrument in enumerate(instruments):
            yield from _unknown(kind, instrument.use, (key, position))
    for key in ("temperatures", "seeds"):
        yield from _repeated(("decoding", key), getattr(config.decoding, key))
    yield from _repeated(("measurement", "families"), config.measurement.families)


def study_problems(study: Study) -> Iterator[Problem]:
    """Find what is wrong in a study: everything above, and its models and fine-tunes."""
    yield from config_problems(study)
    yield from _twice("models", [model.name for model in study.models], "name")
    bases = {model.name for model in study.models if model.base is None}
    for position, model in enumerate(study.models):
        if model.base is not None:
            yield from _no_base(bases, model.base, ("models", position, "base"))
        elif model.training_seed is not None:
            yield (
                ("models", position, "training_seed"),
                "a model without base has no training seed; add base: or remove it",
            )
    conditions = {model.condition or model.name.partition("/")[0] for model in study.models}
    for position, fine_tune in enumerate(study.fine_tunes):
        where: Where = ("fine_tunes", position)
        if fine_tune.name in conditions:
            yield (*where, "name"), f"a model is called {fine_tune.name!r} too; give one of them another name"
        yield from _no_base(bases, fine_tune.base, (*where, "base"))
        yield from _fine_tune_problems(fine_tune, where)


def _fine_tune_problems(fine_tune: FineTuneKeys, where: Where) -> Iterator[Problem]:
    yield from _repeated((*where, "seeds"), fine_tune.seeds)
    mitigation = fine_tune.mitigation
    if mitigation is None:
        return
    if bool(mitigation.replay) != (mitigation.replay_share > 0):
        yield (*where, "mitigation"), "replay and replay_share need each other; give both or neither"
    if mitigation.share + mitigation.replay_share >= 1:
        yield (
            (*where, "mitigation", "share"),
            (
                f"share {mitigation.share:g} and replay_share {mitigation.replay_share:g} leave no room for the task's own rows; "
                "their sum must stay under 1"
            ),
        )


def _no_base(bases: set[str], name: str, where: Where) -> Iterator[Problem]:
    if name not in bases:
        listed = ", ".join(sorted(bases)) or "none"
        yield (
            where,
            f"{nearest(name, bases)}no model without base is called {name!r} under models: (there: {listed}); add it",
        )


def _unknown(kind: Kind, name: str, where: Where) -> Iterator[Problem]:
    if ":" in name or name in BUILT_IN[kind]:
        return  # reading the installed plug-ins takes a while
    if name not in (names := known(kind)):
        listed = ", ".join(sorted(names)) or "none"
        yield (
            where,
            f"{nearest(name, names)}no {kind} is called {name!r} (known: {listed}); or give package.module:factory",
        )


def _twice(key: str, names: list[str], what: str) -> Iterator[Problem]:
    for position, name in enumerate(names):
        if name in names[:position]:
            yield (key, position), f"{what} {name!r} stands here twice; every {what} must differ"


def _repeated(where: Where, values: tuple[object, ...]) -> Iterator[Problem]:
    if len(set(values)) < len(values):
        yield where, "a value stands here twice; remove one"
