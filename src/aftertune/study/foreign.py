"""The code that a study file brings along and that is not Aftertune's: a study from a stranger is a program.

Readers are told of it before anything is imported, and a dry run leaves it out.
"""

from collections.abc import Callable, Iterator

from aftertune.study.config import CheckConfig, PromptKeys, ScorerKeys, Study

SCORERS = {
    "guards": "guard",
    "judges": "judge",
    "metrics": "metric",
    "preferences": "preference",
    "reasoning_judges": "judge",
}
"""The keys under which scorers stand, and what one of each is called."""


def is_foreign(keys: ScorerKeys | PromptKeys) -> bool:
    """Return whether a scorer or prompt set is made by a function of a module that the file names itself."""
    factory = keys.loader if isinstance(keys, PromptKeys) else keys.use
    return factory is not None and ":" in factory


def named_code(config: CheckConfig) -> list[str]:
    """Return the functions that a study or configuration names itself, each with what it makes."""
    scorers = [
        f"{keys.use} ({kind} {keys.name})"
        for key, kind in SCORERS.items()
        for keys in getattr(config, key)
        if is_foreign(keys)
    ]
    return [*scorers, *(f"{p.loader} (prompts {p.set})" for p in config.prompts if is_foreign(p))]


def foreign_code_notes(config: CheckConfig) -> Iterator[str]:
    """Yield a note where running a study or configuration would run code that is not Aftertune's."""
    engine = config.engine
    parts = named_code(config)
    if engine.trust_remote_code:
        parts.append("what checkpoints bring along (engine.trust_remote_code)")
    if engine.backend == "vllm" and engine.vllm_arguments:
        parts.append("what engine.vllm_arguments make vLLM load")
    if parts:
        yield f"this runs code that is not Aftertune's: {', '.join(parts)}"


def without_foreign_code(
    study: Study, brings_code: Callable[[str], bool]
) -> tuple[Study, list[str]]:
    """Return a study without what only code that is not Aftertune's can make or load, and the names of what was left out.

    Args:
        study: what would be run.
        brings_code: whether a model reference names a checkpoint with code of its own.
    """
    trusted, left_out = study.engine.trust_remote_code, named_code(study)
    coded = {m.name for m in study.models if trusted and brings_code(m.reference)}
    models = tuple(m for m in study.models if not {m.name, m.base} & coded)
    tunes = tuple(tune for tune in study.fine_tunes if tune.base not in coded)
    left_out += [f"model {m.name}" for m in study.models if m not in models]
    left_out += [f"fine-tune {tune.name}" for tune in study.fine_tunes if tune not in tunes]
    kept: dict[str, object] = {
        "engine": study.engine.model_copy(update={"trust_remote_code": False}),
        "models": models,
        "fine_tunes": tunes,
        "prompts": tuple(prompts for prompts in study.prompts if not is_foreign(prompts)),
    }
    for key, kind in SCORERS.items():
        scorers = [keys for keys in getattr(study, key) if not is_foreign(keys)]
        asking = [
            keys
            for keys in scorers
            if trusted
            and isinstance(model := keys.options.get("model"), str)
            and brings_code(model)
        ]
        kept[key] = tuple(keys for keys in scorers if keys not in asking)
        left_out += [f"{kind} {keys.name}" for keys in asking]
    return study.model_copy(update=kept), left_out
