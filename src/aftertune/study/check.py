"""The checks of a study that types cannot make: names that differ, references that exist, numbers that fit together."""

import re
from collections.abc import Iterable, Iterator

from aftertune.core.recipe import MOST_ADDED
from aftertune.core.registry import THRESHOLDS, Kind, built_in, factories, names_offered
from aftertune.study.config import CheckConfig, FineTuneKeys, MitigationKeys, Study
from aftertune.study.expand import Settled
from aftertune.study.yaml_lines import Where, nearest

Problem = tuple[Where, str]

SECRET_KEY = re.compile(
    r"^(.*[_-])?(api[_-]?key|secret([_-]key)?|password|passwd|credentials?)$"
    r"|^((access|api|auth|bearer|hf|huggingface|openai|secret)[_-])?token$|^authorization$",
    re.IGNORECASE,
)
"""Not every ``…_token``: pad_token and end_token are options of tokenizers."""
SECRET_VALUE = re.compile(
    r"^(sk-|hf_|AIza|xox[a-z]-|ghp_|Bearer )[\w\-.]{16,}|://[^/@\s]+:[^/@\s]+@"
)


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
    kinds: tuple[tuple[str, Kind], ...] = (
        ("guards", "guard"),
        ("judges", "judge"),
        ("metrics", "metric"),
        ("preferences", "preference"),
        ("reasoning_judges", "judge"),
    )
    for key, kind in kinds:
        instruments = getattr(config, key)
        yield from _twice(key, [instrument.name for instrument in instruments], "name")
        for position, instrument in enumerate(instruments):
            yield from _unknown(kind, instrument.use, (key, position))
    for key in ("temperatures", "seeds"):
        yield from _repeated(("decoding", key), getattr(config.decoding, key))
    yield from _repeated(("attacks",), config.attacks)
    yield from _repeated(("measurement", "families"), config.measurement.families)
    yield from _capability_problems(config)


def _capability_problems(config: CheckConfig) -> Iterator[Problem]:
    uses = {metric.name: metric.use for metric in config.metrics}
    metrics = {name for name, use in uses.items() if use not in THRESHOLDS}
    sets = {prompts.set for prompts in config.prompts}
    for position, preference in enumerate(config.preferences):
        if preference.name in uses:
            yield (
                ("preferences", position, "name"),
                f"a metric is called {preference.name!r} too; give one another name",
            )
    yield from _margin_problems(config, sets)
    match = config.measurement.match
    if match is None:
        return
    if match.scorer.removesuffix(" macro-F1") not in metrics:
        listed = ", ".join(sorted(metrics)) or "none"
        yield (
            ("measurement", "match", "scorer"),
            f"no metric is called {match.scorer!r} (there: {listed}); add it"
            if match.scorer not in uses
            else f"{uses[match.scorer]} is no score of the task; name another metric (there: {listed})",
        )
    if match.set is not None and match.set not in sets:
        yield (
            ("measurement", "match", "set"),
            f"no prompts are called {match.set!r} (there: {', '.join(sorted(sets))})",
        )


def _margin_problems(config: CheckConfig, sets: Iterable[str]) -> Iterator[Problem]:
    """Find margins and benign sets of the gate that nothing in the study goes with: they would come out after all answers."""
    names, uses = sorted(sets), {metric.name: metric.use for metric in config.metrics}
    for name in config.measurement.margins:
        where = ("measurement", "margins", name)
        if name not in uses:
            listed = ", ".join(sorted(uses)) or "none"
            yield where, f"no metric is called {name!r} (there: {listed}); add it"
        elif uses[name] in THRESHOLDS:
            yield where, f"{uses[name]} decides nothing and has no margin; take it out"
        elif uses[name] == "bleu":
            yield (
                where,
                "bleu scores a whole corpus, not each answer; give a margin of another metric, for instance chrf",
            )
    for name in config.measurement.over_refusal_sets:
        # A check's file may leave its prompts to the command line.
        if names and name not in names:
            yield (
                ("measurement", "over_refusal_sets"),
                f"no prompts are called {name!r} (there: {', '.join(names)})",
            )


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
    yield from _against_problems(study)
    taken = {model.condition or model.name.partition("/")[0] for model in study.models}
    for position, fine_tune in enumerate(study.fine_tunes):
        where: Where = ("fine_tunes", position)
        if fine_tune.name in taken:
            yield (
                (*where, "name"),
                f"a model is called {fine_tune.name!r} too; give one of them another name",
            )
        yield from _no_base(bases, fine_tune.base, (*where, "base"))
        yield from _repeated((*where, "seeds"), fine_tune.seeds)
        sets = sorted(prompts.set for prompts in study.prompts)
        for name in fine_tune.own_sets:
            if name not in sets:
                yield (
                    (*where, "own_sets"),
                    f"no prompts are called {name!r} (there: {', '.join(sets)}); add them",
                )
        yield from _factor_problems(fine_tune, where)
        if fine_tune.mitigation is not None:
            yield from _mitigation_problems(fine_tune.mitigation, (*where, "mitigation"))


def _against_problems(study: Study) -> Iterator[Problem]:
    """Find models that are compared with a condition which is not there, is a base, or is their own."""
    tuned = {
        *(model.condition or model.name.partition("/")[0] for model in study.models if model.base),
        *(fine_tune.name for fine_tune in study.fine_tunes),
    }
    for position, model in enumerate(study.models):
        own = model.condition or model.name.partition("/")[0]
        if model.against is None:
            continue
        if model.base is None or model.against not in tuned - {own}:
            there = ", ".join(sorted(tuned - {own})) or "none"
            yield (
                ("models", position, "against"),
                f"{model.against!r} is no other fine-tune's condition (there: {there}); name one, and a base: as well",
            )


def _mitigation_problems(keys: MitigationKeys, where: Where) -> Iterator[Problem]:
    yield from _repeated((*where, "frozen"), keys.frozen)
    if Settled(keys).mixes:
        yield from _mixing_problems(keys, where)


def _mixing_problems(keys: MitigationKeys, where: Where) -> Iterator[Problem]:
    settled = Settled(keys)
    if keys.share is None and not keys.sweep and keys.preset is None:
        yield where, "names no share; give share: (of the final set), sweep: or preset:"
    for first, second in (("share", "sweep"), ("sweep", "leave_out")):
        if getattr(keys, first) and getattr(keys, second):
            yield (
                (*where, second),
                f"{first} and {second} cannot stand in one mitigation; make two fine-tunes of it with like:",
            )
    for key in ("tasks", "sweep", "leave_out"):
        yield from _repeated((*where, key), getattr(keys, key))
    if not settled.safety:
        yield (
            (*where, "safety"),
            f"the preset {keys.preset} needs a file"
            if keys.preset and settled.preset.mixes
            else "is missing; add it, or preset:",
        )
    if bool(settled.replay) != (settled.replay_share > 0):
        if settled.preset.replays and not settled.replay:
            message = (
                f"{keys.preset} needs benign rows to replay beside your own safety rows; name a file with replay: (best rows "
                "like those that the base was trained on)"
            )
        else:
            message = "replay and replay_share need each other; give both or neither"
        yield where, message
    for share in keys.sweep or (settled.share,):
        replayed = Settled(keys.model_copy(update={"share": share})).replay_share
        if share + replayed > MOST_ADDED:
            yield (
                (*where, "share"),
                (
                    f"share {share:g} and replay_share {replayed:g} leave too little room for the task's own rows; "
                    f"keep their sum at or under {MOST_ADDED:g}"
                ),
            )


def _factor_problems(fine_tune: FineTuneKeys, where: Where) -> Iterator[Problem]:
    given = [key for key in ("keep_epochs", "rounds", "doses") if getattr(fine_tune, key)]
    if len(given) > 1:
        yield (
            (*where, given[1]),
            f"{given[0]} and {given[1]} cannot stand in one fine-tune; make two of it with like:",
        )
    epochs = fine_tune.training.epochs
    if fine_tune.keep_epochs and (epochs != int(epochs) or epochs < 2):
        yield (
            (*where, "keep_epochs"),
            f"needs a whole number of epochs from 2 up; training.epochs is {epochs:g}",
        )
    if fine_tune.rounds and fine_tune.method == "qlora":
        yield (
            (*where, "rounds"),
            "go on from full fine-tunes and from LoRA adapters alone; use method lora or full",
        )
    if fine_tune.doses is not None:
        levels = {key: getattr(fine_tune.doses, key) for key in ("learning_rate", "rows", "epochs")}
        if not any(levels.values()):
            yield (
                (*where, "doses"),
                "names no doses; give lists under learning_rate, rows or epochs",
            )
        for key, values in levels.items():
            yield from _repeated((*where, "doses", key), values)


def _no_base(bases: set[str], name: str, where: Where) -> Iterator[Problem]:
    if name not in bases:
        listed = ", ".join(sorted(bases)) or "none"
        yield (
            where,
            f"{nearest(name, bases)}no model without base is called {name!r} under models: (there: {listed}); add it",
        )


def _unknown(kind: Kind, name: str, where: Where) -> Iterator[Problem]:
    if (fault := unknown_name(kind, name)) is not None:
        yield where, fault


def unknown_name(kind: Kind, name: str) -> str | None:
    """Return what is wrong with the name of a scorer or loader that nobody offers; None for one that is there."""
    # reading the installed plug-ins takes a while
    if ":" in name or name in built_in(kind) or name in factories(kind):
        return None
    return (
        f"no {kind} is called {name!r}; {names_offered(name, kind)}; or give package.module:factory"
    )


def _twice(key: str, names: list[str], what: str) -> Iterator[Problem]:
    for position, name in enumerate(names):
        if name in names[:position]:
            yield (key, position), f"{what} {name!r} stands here twice; every {what} must differ"


def _repeated(where: Where, values: tuple[object, ...]) -> Iterator[Problem]:
    if len(set(values)) < len(values):
        yield where, "a value stands here twice; remove one"
